//! Is a store, or a dump in a foreign format, what it says it is, and does it hold what a data set needs?

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::chunks::Chunks;
use crate::convert::ConvertError;
use crate::formats::{FeatureSource, Listings, RecordError, StoreSource};
use crate::quarantine::Quarantine;
use crate::{FeatureStore, Regions, Schema, StoreError, image_sets, target};

mod check;
mod mistaken;
mod statistics;

pub(crate) use check::check_regions;
use check::{Checked, check_foreign, check_stored};
pub use statistics::Statistics;

/// Records checked in parallel at a time, and bytes of features in them, at most.
const PAGE: usize = 64;
const PAGE_BYTES: usize = 32 << 20;

/// Image sets that some use of the store needs.
#[derive(Debug, Clone)]
pub struct Coverage {
    /// What needs them ("valid").
    pub split: String,
    /// Directories of the sets, each once.
    pub sets: Vec<String>,
}

/// What to look at beyond each record by itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// Image sets that should be there.
    pub coverage: Vec<Coverage>,
    /// Look for images that are there twice under different ids, and compare statistics with those of good dumps.
    pub deep: bool,
    /// Keep bad records in this folder.
    pub quarantine: Option<std::path::PathBuf>,
    /// Findings that are listed one by one; more are only counted.
    pub listed: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { coverage: Vec::new(), deep: false, quarantine: None, listed: 100 }
    }
}

/// Ids that are kept as examples.
const EXAMPLES: usize = 3;

impl Options {
    /// Refuses to keep bad records inside what is read.
    fn check_quarantine(&self, source: &Path) -> Result<(), StoreError> {
        let folder = self.quarantine.as_deref();
        folder.map_or(Ok(()), |folder| target::check_quarantine(folder, &[source]))
    }
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
    /// Those, with what is there of each; the fullest first.
    pub missing: Vec<IncompleteSet>,
    /// What the ids of a set begin with of which there is no image at all; a number follows.
    pub looked_for: Option<String>,
}

/// An image set that lacks images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IncompleteSet {
    /// Its directory.
    pub set: String,
    /// Images of it that are there.
    pub images: usize,
    /// Images that it has.
    pub of: usize,
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
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Name of the format.
    pub format: String,
    /// What a store says about itself; foreign dumps say nothing.
    pub schema: Option<Schema>,
    /// Images that were read.
    pub images: u64,
    /// Images with something wrong.
    pub bad_images: u64,
    /// The first of them, in the order of reading.
    pub findings: Vec<Finding>,
    /// What is wrong with the store as a whole.
    pub store_findings: Vec<String>,
    /// Coverage by split.
    pub coverage: Vec<SplitReport>,
    /// Images that are in none of the sets, if coverage was asked for.
    pub superfluous: u64,
    /// The first ids, if coverage was asked for: what they look like.
    pub examples: Vec<String>,
    /// Bad records kept in quarantine.
    pub quarantined: u64,
    /// Statistics of boxes and features, if a deep look was asked for.
    pub statistics: Option<Statistics>,
}

impl Report {
    /// Whether nothing at all was found.
    pub fn is_good(&self) -> bool {
        self.bad_images == 0
            && self.store_findings.is_empty()
            && self.coverage.iter().all(|split| split.incomplete == 0)
    }

    fn note(&mut self, id: &str, what: String, listed: usize) {
        self.bad_images += 1;
        if self.findings.len() < listed {
            self.findings.push(Finding { id: id.to_owned(), what });
        }
    }
}

/// Checks every record of a store: structure, checksum, values, boxes, confidences; then counts, digest and coverage.
///
/// `progress` is told the images checked so far; `None` comes back if `cancelled` was set.
///
/// # Errors
/// If the store cannot be opened, its pages lead astray, or its pages cannot be read.
pub fn validate_store(
    path: &Path,
    options: &Options,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Report>, StoreError> {
    options.check_quarantine(path)?;
    let store = FeatureStore::open(path)?;
    store.check_whole()?;
    let mut walk = Walk::new(StoreSource::FORMAT, path, options);
    let schema = store.schema();
    let image = 4 * schema.max_regions as usize * schema.dim as usize;
    let page = (PAGE_BYTES / image.max(1)).clamp(1, PAGE);
    let mut digest = 0u64;
    let mut start = String::new();
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let ids = store.ids_from(&start, page)?;
        let keep = options.quarantine.is_some();
        let checked: Vec<_> = ids.par_iter().map(|id| check_stored(&store, id, keep)).collect();
        for (id, (part, checked)) in ids.iter().zip(checked) {
            digest = digest.wrapping_add(part);
            walk.take(id, checked)?;
        }
        progress(walk.report.images);
        match ids.last() {
            Some(last) if ids.len() == page => start = format!("{last}\0"),
            _ => break,
        }
    }
    let mut report = walk.finish(&|set| Ok(image_sets::set_images(&store, set)?.len()))?;
    if digest != schema.digest && report.bad_images == 0 {
        report.store_findings.push("its contents are not those that were written (digest)".into());
    }
    if !schema.rounding.is_possible() {
        let what = "its record of rounding is no possible one: its schema was changed";
        report.store_findings.push(what.into());
    }
    report.schema = Some(schema.clone());
    Ok(Some(report))
}

/// Checks every record of a source in any format, without converting it.
///
/// # Errors
/// If the source cannot be read at all.
pub fn validate_source(
    source: Box<dyn FeatureSource>,
    options: &Options,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Report>, ConvertError> {
    options.check_quarantine(&source.info().path)?;
    let mut walk = Walk::new(source.info().format, &source.info().path, options);
    let path = source.info().path.clone();
    // Ids are all that is kept of the images, and only to compare them with the sets.
    let mut ids = BTreeSet::new();
    let mut dim = None;
    let (source, listings) = Listings::watch(source);
    let mut chunks = Chunks::new(source.records()?);
    let look = |record| check_foreign(record, &path, options.quarantine.is_some());
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let checked =
            chunks.next(look, |checked| checked.regions.as_ref().map_or(0, Regions::bytes));
        if checked.is_empty() {
            break;
        }
        for Checked { id, mut regions, raw } in checked {
            let bad = |what: String| RecordError { raw, ..RecordError::new(&path, &id, what) };
            match &regions {
                Ok(found) if *dim.get_or_insert(found.dim) != found.dim => {
                    let first = dim.unwrap_or_default();
                    let what =
                        format!("{} values per region, the first image has {first}", found.dim);
                    regions = Err(bad(what));
                }
                Ok(_) if ids.contains(&id) => regions = Err(bad("it comes twice".into())),
                _ => {}
            }
            walk.take(&id, regions)?;
            ids.insert(id);
        }
        progress(walk.report.images);
    }
    let prefix_count = |set: &str| {
        let prefix = image_sets::id_prefix(set);
        let of_the_set = ids.range(prefix.clone()..).take_while(|id| id.starts_with(&prefix));
        Ok(of_the_set.filter(|id| id[prefix.len()..].parse::<u64>().is_ok()).count())
    };
    let mut report = walk.finish(&prefix_count)?;
    report.store_findings.extend(listings.findings());
    Ok(Some(report))
}

/// What a validation carries from image to image.
struct Walk<'a> {
    options: &'a Options,
    report: Report,
    /// What is validated.
    path: PathBuf,
    quarantine: Option<Quarantine>,
    statistics: Statistics,
    /// Hash of an image's contents and the first id they came under.
    contents: HashMap<u64, String>,
    prefixes: BTreeSet<String>,
    of_a_set: u64,
    /// Images whose boxes are in pixels, and those whose boxes are relative.
    boxes: [u64; 2],
}

impl<'a> Walk<'a> {
    fn new(format: &str, path: &Path, options: &'a Options) -> Walk<'a> {
        let sets = options.coverage.iter().flat_map(|split| &split.sets);
        Walk {
            options,
            report: Report { format: format.to_owned(), ..Report::default() },
            path: path.to_owned(),
            quarantine: options.quarantine.as_deref().map(Quarantine::new),
            statistics: Statistics::default(),
            contents: HashMap::new(),
            prefixes: sets.map(|set| image_sets::id_prefix(set)).collect(),
            of_a_set: 0,
            boxes: [0; 2],
        }
    }

    /// Takes an image, or what is wrong with it, into account.
    fn take(&mut self, id: &str, checked: Result<Regions, RecordError>) -> Result<(), StoreError> {
        self.report.images += 1;
        if self.prefixes.contains(id.trim_end_matches(|c: char| c.is_ascii_digit())) {
            self.of_a_set += 1;
        }
        if !self.prefixes.is_empty() && self.report.examples.len() < EXAMPLES {
            self.report.examples.push(id.to_owned());
        }
        if let Ok(regions) = &checked {
            self.boxes[usize::from(regions.is_relative())] += 1;
        }
        match checked {
            Err(error) => self.note(id, error)?,
            Ok(regions) if self.options.deep => {
                self.statistics.add(&regions);
                let contents = xxhash_rust::xxh3::xxh3_64(bytemuck::cast_slice(&regions.features));
                if let Some(first) = self.contents.get(&contents) {
                    let what = format!("the same features as `{first}`");
                    self.note(id, RecordError::new(&self.path, id, what))?;
                } else {
                    self.contents.insert(contents, id.to_owned());
                }
            }
            Ok(_) => {}
        }
        Ok(())
    }

    /// Notes what is wrong with an image, and keeps it if that is asked for.
    fn note(&mut self, id: &str, error: RecordError) -> Result<(), StoreError> {
        if let Some(quarantine) = &mut self.quarantine {
            quarantine.keep(&error)?;
            self.report.quarantined += 1;
        }
        self.report.note(id, error.reason, self.options.listed);
        Ok(())
    }

    fn finish(
        mut self,
        images_of: &dyn Fn(&str) -> Result<usize, StoreError>,
    ) -> Result<Report, StoreError> {
        let coverage = self.options.coverage.iter().map(|split| cover(split, images_of));
        self.report.coverage = coverage.collect::<Result<_, _>>()?;
        if self.report.images == 0 {
            self.report.store_findings.push("it holds no images".into());
        }
        let [pixels, relative] = self.boxes;
        if pixels > 0 && relative > 0 {
            let what = format!("mixed boxes: of {pixels} images in pixels, of {relative} relative");
            self.report.store_findings.push(what);
        }
        if !self.options.coverage.is_empty() {
            self.report.superfluous = self.report.images - self.of_a_set;
        }
        if self.options.deep {
            self.report.store_findings.extend(self.statistics.findings());
            self.report.statistics = (self.statistics.regions > 0).then_some(self.statistics);
        }
        Ok(self.report)
    }
}

fn cover(
    coverage: &Coverage,
    images_of: &dyn Fn(&str) -> Result<usize, StoreError>,
) -> Result<SplitReport, StoreError> {
    let (mut incomplete, mut looked_for) = (Vec::new(), None);
    for set in &coverage.sets {
        let images = images_of(set)?;
        if images == 0 {
            looked_for.get_or_insert_with(|| image_sets::id_prefix(set));
        }
        if images < image_sets::SET_SIZE {
            incomplete.push(IncompleteSet { set: set.clone(), images, of: image_sets::SET_SIZE });
        }
    }
    // Of a set that is there in part something was lost; others may never have been meant to be there.
    incomplete.sort_by_key(|set| std::cmp::Reverse(set.images));
    Ok(SplitReport {
        split: coverage.split.clone(),
        sets: coverage.sets.len(),
        incomplete: incomplete.len(),
        missing: incomplete,
        looked_for,
    })
}
