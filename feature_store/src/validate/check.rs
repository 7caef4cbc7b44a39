//! Looking at one record.

use std::path::Path;

use super::mistaken::check_type;
use crate::formats::{RecordError, SourceRecord};
use crate::record::RecordView;
use crate::schema::image_digest;
use crate::{FeatureStore, Regions, Schema, StoreError};

/// An image's part of the digest, and its regions; the bytes of a bad record go with the error if they are to be kept.
pub(super) fn check_stored(
    store: &FeatureStore,
    id: &str,
    keep: bool,
) -> (u64, Result<Regions, RecordError>) {
    let bad = |what: String| RecordError::new(store.path(), id, what);
    let bytes = match store.record_bytes(id) {
        Ok(bytes) => bytes,
        Err(error) => return (0, Err(bad(error.reason()))),
    };
    let (part, checked) = match RecordView::parse(&bytes) {
        Ok(record) => (image_digest(id, record.checksum()), check_record(&record, store.schema())),
        Err(what) => (0, Err(format!("its record is damaged: {what}"))),
    };
    let raw = if keep { bytes } else { Vec::new() };
    (part, checked.map_err(|what| RecordError { raw, ..bad(what) }))
}

fn check_record(record: &RecordView, schema: &Schema) -> Result<Regions, String> {
    if !record.is_intact() {
        return Err("its checksum does not fit".into());
    }
    if let Some(what) = schema.disagreement(record) {
        return Err(what);
    }
    let regions = record.to_regions();
    check_regions(&regions).map(|()| regions)
}

/// A record of a dump that was looked at.
pub(super) struct Checked {
    pub(super) id: String,
    pub(super) regions: Result<Regions, RecordError>,
    /// The record's bytes, if they are to be kept and the source has them.
    pub(super) raw: Vec<u8>,
}

pub(super) fn check_foreign(
    record: Result<Box<dyn SourceRecord>, RecordError>,
    path: &Path,
    keep: bool,
) -> Checked {
    let record = match record {
        Ok(record) => record,
        Err(error) => {
            return Checked { id: error.key.clone(), regions: Err(error), raw: Vec::new() };
        }
    };
    let raw = if keep { record.raw().to_vec() } else { Vec::new() };
    let (id, regions) = match record.decode() {
        Ok(decoded) => decoded,
        Err(error) => return Checked { id: error.key.clone(), regions: Err(error), raw },
    };
    let what = if (1..=crate::MAX_ID_BYTES).contains(&id.len()) {
        check_regions(&regions).err()
    } else {
        Some(StoreError::IdLength { id: String::new(), bytes: id.len() }.reason())
    };
    match what {
        None => Checked { id, regions: Ok(regions), raw },
        Some(what) => {
            let error = RecordError { raw, ..RecordError::new(path, &id, what) };
            Checked { id, regions: Err(error), raw: Vec::new() }
        }
    }
}

/// What is wrong with a region's box, if anything.
fn check_box(regions: &Regions, region: usize) -> Result<(), String> {
    let (w, h) = (regions.width as f32, regions.height as f32);
    // Detectors round boxes outwards and count pixels from 0 or 1: one pixel over the edge is no finding.
    let over = if regions.is_relative() { 0.01 } else { 1.0 };
    let [x1, y1, x2, y2] = regions.boxes[region];
    // Corners in 16 bits can fall together where the extents beside them do not.
    let [width, height] = match &regions.extents {
        Some(extents) if x2 >= x1 && y2 >= y1 => extents[region],
        _ => [x2 - x1, y2 - y1],
    };
    let inside = x1 >= -over && y1 >= -over && x2 <= w + over && y2 <= h + over;
    let what = if [x1, y1, x2, y2].iter().any(|x| x.is_nan()) {
        "has a corner that is no number"
    } else if !(width > 0.0 && height > 0.0) {
        "has no area"
    } else if !inside {
        "reaches out of its image"
    } else {
        return Ok(());
    };
    let of = if regions.is_relative() { "1x1".into() } else { format!("{w}x{h} pixels") };
    Err(format!("the box of region {region} {what}: {x1}, {y1}, {x2}, {y2} in {of}"))
}

/// Refuses boxes in pixels of which all lie in one: no detector finds such, but numbers from 0 to 1 beside the image's size
/// look so, and whole numbers of 32 bits that are read as f32.
fn check_boxes_apart(regions: &Regions) -> Result<(), String> {
    /// Of smaller images all boxes may be as small.
    const SIDE: u32 = 16;
    let is_small = regions.width.min(regions.height) < SIDE;
    let in_a_pixel = |corner: &f32| corner.abs() <= 1.01;
    if is_small || !regions.boxes.as_flattened().iter().all(in_a_pixel) {
        return Ok(());
    }
    let [x1, y1, x2, y2] = regions.boxes[0];
    Err(format!(
        "all its boxes lie in one pixel of {}x{} (the first is {x1}, {y1}, {x2}, {y2}), as boxes do that are relative to the \
         image (0 to 1) or int32 that is read as f32; write them as f32 in pixels",
        regions.width, regions.height
    ))
}

/// What is wrong with an image's regions, if anything.
pub(crate) fn check_regions(regions: &Regions) -> Result<(), String> {
    if regions.is_empty() {
        return Err("it has no regions".into());
    }
    if regions.dim == 0 {
        return Err("its regions have no features".into());
    }
    if regions.width == 0 || regions.height == 0 {
        return Err(format!("an image of {}x{} pixels", regions.width, regions.height));
    }
    // Without a way out, the loop over all becomes vectors.
    let all_finite = regions.features.iter().fold(true, |all, x| all & x.is_finite());
    if !all_finite && let Some(at) = regions.features.iter().position(|x| !x.is_finite()) {
        return Err(format!("region {} holds a value that is not finite", at / regions.dim.max(1)));
    }
    check_type(&regions.features)?;
    (0..regions.len()).try_for_each(|region| check_box(regions, region))?;
    check_boxes_apart(regions)?;
    let labels = [&regions.objects, &regions.attributes].into_iter().flatten();
    let confidences = labels.flat_map(|labels| &labels.confidences);
    match confidences.copied().find(|c| !(0.0..=1.0).contains(c)) {
        Some(confidence) => Err(format!("a confidence of {confidence}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compression, Precision, Provenance, record};

    #[test]
    fn boxes_that_are_no_pixels_are_a_finding() {
        let said = |width, boxes: &[[f32; 4]]| {
            let (n, boxes) = (boxes.len(), boxes.to_vec());
            let features = vec![1.0; n];
            check_regions(&Regions {
                width,
                height: 480,
                boxes,
                features,
                dim: 1,
                ..Regions::default()
            })
        };
        let relative = [[0.1, 0.2, 0.5, 0.75], [0.0, 0.0, 1.0, 1.0]];
        assert!(said(640, &relative).unwrap_err().contains("all its boxes lie in one pixel"));
        let integers = [[1, 2, 300, 200], [0, 5, 7, 9]].map(|b: [u32; 4]| b.map(f32::from_bits));
        assert!(said(640, &integers).unwrap_err().contains("int32"));
        assert_eq!(said(640, &[relative[0], [0.0, 0.0, 3.0, 2.0]]), Ok(()));
        assert_eq!(said(2, &relative), Ok(()));
    }

    #[test]
    fn a_record_that_is_encoded_otherwise_than_the_store_says_is_a_finding() {
        let regions = Regions {
            width: 10,
            height: 10,
            boxes: vec![[0.0, 0.0, 5.0, 5.0]; 4],
            features: vec![0.0; 4 * 512],
            dim: 512,
            ..Regions::default()
        };
        let said = |precision, compression| {
            let stored = record::encode(&regions, Precision::F32, Compression::Lz4).unwrap();
            let record = RecordView::parse(&stored.bytes).unwrap();
            assert_eq!(record.compression, Compression::Lz4);
            let mut schema = Schema::empty(precision, compression, Provenance::default());
            schema.add("a", &record, &stored.error);
            check_record(&record, &schema).err()
        };
        assert_eq!(said(Precision::F32, Compression::Lz4), None);
        let wrong = said(Precision::F16, Compression::Lz4).unwrap();
        assert_eq!(wrong, "its features are f32; the store says f16");
        let wrong = said(Precision::F32, Compression::None).unwrap();
        assert!(wrong.starts_with("it is compressed by lz4"), "{wrong}");
    }
}
