//! Is a store what it says it is, and does it hold what a data set needs?

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::record::RecordView;
use crate::schema::image_digest;
use crate::{FeatureStore, Schema, StoreError, dataset};

/// Findings listed one by one; more are only counted.
const LISTED: usize = 100;
/// Records checked in parallel at a time.
const PAGE: usize = 256;

/// Image sets that some use of the store needs.
#[derive(Debug, Clone)]
pub struct Coverage {
    /// What needs them ("valid").
    pub split: String,
    /// Directories of the sets, each once.
    pub sets: Vec<String>,
}

/// How much of a split is there.
#[derive(Debug, Serialize)]
pub struct SplitReport {
    /// The split's name.
    pub split: String,
    /// Sets it needs.
    pub sets: usize,
    /// Sets of those that lack images.
    pub incomplete: usize,
    /// The first of them, with what is there.
    pub first_incomplete: Vec<String>,
}

/// Something wrong with one image.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The image id.
    pub id: String,
    /// What is wrong.
    pub what: String,
}

/// The result of a validation.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What the store says about itself.
    pub schema: Schema,
    /// Images that were read.
    pub images: u64,
    /// Images with something wrong.
    pub bad_images: u64,
    /// The first of them, in the order of their ids.
    pub findings: Vec<Finding>,
    /// What is wrong with the store as a whole.
    pub store_findings: Vec<String>,
    /// Coverage by split.
    pub coverage: Vec<SplitReport>,
}

impl Report {
    /// Whether nothing at all was found.
    pub fn is_good(&self) -> bool {
        self.bad_images == 0
            && self.store_findings.is_empty()
            && self.coverage.iter().all(|split| split.incomplete == 0)
    }
}

/// Checks every record of a store: structure, checksum, values, boxes, confidences; then counts, digest and coverage.
///
/// `progress` is told the images checked so far; `None` comes back if `cancelled` was set.
///
/// # Errors
/// If the store cannot be opened or its pages cannot be read.
pub fn validate_store(
    path: &Path,
    coverage: &[Coverage],
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Report>, StoreError> {
    let store = FeatureStore::open(path)?;
    let mut report = Report {
        schema: store.schema().clone(),
        images: 0,
        bad_images: 0,
        findings: Vec::new(),
        store_findings: Vec::new(),
        coverage: Vec::new(),
    };
    let mut digest = 0u64;
    let mut start = String::new();
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let ids = store.ids_from(&start, PAGE)?;
        let checked: Vec<(u64, Option<String>)> =
            ids.par_iter().map(|id| check_image(&store, id)).collect();
        for (id, (part, finding)) in ids.iter().zip(checked) {
            digest = digest.wrapping_add(part);
            report.images += 1;
            let Some(what) = finding else { continue };
            report.bad_images += 1;
            if report.findings.len() < LISTED {
                report.findings.push(Finding { id: id.clone(), what });
            }
        }
        progress(report.images);
        match ids.last() {
            Some(last) if ids.len() == PAGE => start = format!("{last}\0"),
            _ => break,
        }
    }
    if report.images != store.len() {
        report.store_findings.push(format!(
            "it says {} images and holds {}",
            store.len(),
            report.images
        ));
    }
    if digest != store.schema().digest && report.bad_images == 0 {
        report.store_findings.push("its contents are not those that were written (digest)".into());
    }
    report.coverage =
        coverage.iter().map(|split| cover(&store, split)).collect::<Result<_, _>>()?;
    Ok(Some(report))
}

fn check_image(store: &FeatureStore, id: &str) -> (u64, Option<String>) {
    let checked = store.with_record(id, false, |record| {
        let part = image_digest(id, record.checksum());
        Ok((part, check_record(record, store.schema()).err()))
    });
    checked.unwrap_or_else(|error| (0, Some(error.to_string())))
}

fn check_record(record: &RecordView, schema: &Schema) -> Result<(), String> {
    if !record.is_intact() {
        return Err("its checksum does not fit".into());
    }
    let count = record.regions as u64;
    if count == 0 || count < u64::from(schema.min_regions) || count > u64::from(schema.max_regions)
    {
        return Err(format!(
            "{count} regions; the store says {} to {}",
            schema.min_regions, schema.max_regions
        ));
    }
    if record.width == 0 || record.height == 0 {
        return Err(format!("an image of {}x{} pixels", record.width, record.height));
    }
    let regions = record.to_regions();
    if let Some(at) = regions.features.iter().position(|x| !x.is_finite()) {
        return Err(format!("region {} holds a value that is not finite", at / record.dim.max(1)));
    }
    // Detectors round boxes outwards and count pixels from 0 or 1: one pixel over the edge is no finding.
    let (w, h) = (record.width as f32 + 1.0, record.height as f32 + 1.0);
    for (region, [x1, y1, x2, y2]) in regions.boxes.iter().copied().enumerate() {
        let inside = x1 >= -1.0 && y1 >= -1.0 && x2 <= w && y2 <= h;
        if !(inside && x2 > x1 && y2 > y1) {
            return Err(format!(
                "region {region} has the box {x1}, {y1}, {x2}, {y2} in {}x{}",
                w - 1.0,
                h - 1.0
            ));
        }
    }
    for labels in [&regions.objects, &regions.attributes].into_iter().flatten() {
        if let Some(confidence) = labels.confidences.iter().find(|c| !(0.0..=1.0).contains(*c)) {
            return Err(format!("a confidence of {confidence}"));
        }
    }
    Ok(())
}

fn cover(store: &FeatureStore, coverage: &Coverage) -> Result<SplitReport, StoreError> {
    let mut incomplete = Vec::new();
    for set in &coverage.sets {
        let images = dataset::set_images(store, set)?.len();
        if images < dataset::SET_SIZE {
            incomplete.push(format!("{set} ({images} of {} images)", dataset::SET_SIZE));
        }
    }
    Ok(SplitReport {
        split: coverage.split.clone(),
        sets: coverage.sets.len(),
        incomplete: incomplete.len(),
        first_incomplete: incomplete.into_iter().take(5).collect(),
    })
}
