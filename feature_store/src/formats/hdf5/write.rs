//! Writes VOLTA's layout: one group per image, in a single pass and with a few bytes of memory per image.

use std::collections::BTreeMap;
use std::path::Path;

use super::out::{FLOAT, INTEGER, Out};
use crate::Regions;
use crate::formats::{FeatureSink, FormatError, LeftOut};

/// Writes VOLTA's HDF5.
pub struct Hdf5Sink {
    out: Out,
    /// Address of each image's group, by name: links of a symbol table are sorted.
    groups: BTreeMap<String, u64>,
    left_out: LeftOut,
}

impl Hdf5Sink {
    /// Begins a file, which must not exist yet.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(path: &Path) -> Result<Hdf5Sink, FormatError> {
        let out = Out::create(path)?;
        Ok(Hdf5Sink { out, groups: BTreeMap::new(), left_out: LeftOut::new() })
    }
}

impl FeatureSink for Hdf5Sink {
    fn append(&mut self, id: &str, regions: &Regions) -> Result<(), FormatError> {
        let unwritable = |path: &Path, what: &str| FormatError::Unwritable {
            path: path.to_owned(),
            id: id.to_owned(),
            what: what.to_owned(),
        };
        if id.is_empty() || id == "." || id.contains(['/', '\0']) {
            let what = "its id is no name for a group; rename it with --rename";
            return Err(unwritable(&self.out.path, what));
        }
        if self.groups.contains_key(id) {
            return Err(unwritable(&self.out.path, "it comes twice"));
        }
        let n = regions.len() as u64;
        let mut members = BTreeMap::new();
        let mut floats = |name: &str, values: &[f32], shape: &[u64]| -> Result<(), FormatError> {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            members.insert(name.to_owned(), self.out.dataset(&bytes, shape, &FLOAT)?);
            Ok(())
        };
        floats("features", &regions.features, &[n, regions.dim as u64])?;
        floats("boxes", regions.boxes.as_flattened(), &[n, 4])?;
        for (labels, name) in [(&regions.objects, "obj_conf"), (&regions.attributes, "attr_conf")] {
            if let Some(labels) = labels.as_ref().filter(|labels| !labels.confidences.is_empty()) {
                floats(name, &labels.confidences, &[n])?;
            }
        }
        if let Some(values) = regions.class_probabilities.as_ref().filter(|_| n > 0) {
            floats("cls_prob", values, &[n, values.len() as u64 / n])?;
        }
        let mut integers = |name: &str, values: &[i64], shape: &[u64]| -> Result<(), FormatError> {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            members.insert(name.to_owned(), self.out.dataset(&bytes, shape, &INTEGER)?);
            Ok(())
        };
        integers("img_w", &[i64::from(regions.width)], &[])?;
        integers("img_h", &[i64::from(regions.height)], &[])?;
        for (labels, name) in [(&regions.objects, "obj_id"), (&regions.attributes, "attr_id")] {
            if let Some(labels) = labels.as_ref().filter(|labels| !labels.ids.is_empty()) {
                integers(name, &labels.ids, &[n])?;
            }
        }
        self.left_out.note("extents", regions.extents.is_some());
        let table = self.out.table(&members)?;
        let group = self.out.group(&table)?;
        self.groups.insert(id.to_owned(), group);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), FormatError> {
        let table = self.out.table(&self.groups)?;
        let root = self.out.group(&table)?;
        self.out.finish(root, &table)
    }

    fn left_out(&self) -> BTreeMap<&'static str, u64> {
        self.left_out.0.clone()
    }
}
