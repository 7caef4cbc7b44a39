//! HDF5 files: VOLTA's group per image, and the older layout of one big dataset per field with an index.
//!
//! Read with `hdf5-pure`, which fetches what is asked for and never the whole file; written by
//! [`Hdf5Sink`] and [`IndexedHdf5Sink`].

mod grouped;
mod ids;
mod indexed;
mod numbers;
mod out;
mod storage;
mod write;
mod write_indexed;

use std::path::Path;

use hdf5_pure::{Dataset, File};

use super::{FeatureSource, FormatError, MAX_ARRAY_BYTES, Records, SourceInfo};

pub use write::Hdf5Sink;
pub use write_indexed::IndexedHdf5Sink;

/// An HDF5 file of region features.
pub struct Hdf5Source {
    info: SourceInfo,
    file: File,
    layout: Layout,
}

enum Layout {
    Grouped,
    Indexed(Box<indexed::Index>),
}

impl Hdf5Source {
    /// Opens a file and finds its layout.
    ///
    /// # Errors
    /// What is no HDF5, or holds neither groups of images nor known datasets.
    pub fn open(path: &Path) -> Result<Hdf5Source, FormatError> {
        let malformed = |error: hdf5_pure::Error| FormatError::Malformed {
            path: path.to_owned(),
            what: numbers::explain(&error),
        };
        let file = File::open_streaming(path).map_err(malformed)?;
        let datasets = file.root().datasets().map_err(malformed)?;
        let layout = match indexed::Index::find(path, &file, &datasets)? {
            Some(index) => Layout::Indexed(Box::new(index)),
            None => {
                // What cannot be read in one group, for the file's version, cannot in any.
                let first = file.root().iter_groups().map_err(malformed)?.next();
                let features = first.and_then(|(_, group)| group.dataset("features").ok());
                let readable = |found| storage::check(&found, "features");
                features
                    .map_or(Ok(()), readable)
                    .map_err(|what| FormatError::Malformed { path: path.to_owned(), what })?;
                Layout::Grouped
            }
        };
        let count = match &layout {
            Layout::Indexed(index) => Some(index.len()),
            Layout::Grouped => None,
        };
        let mut fingerprint = super::fingerprint(path)?;
        if let Layout::Indexed(_) = layout
            && let Some(index) = ids::index_beside(path)
        {
            fingerprint += &format!("+{}", super::fingerprint(&index)?);
        }
        let path = path.to_owned();
        Ok(Hdf5Source {
            info: SourceInfo { format: "hdf5", path, count, fingerprint },
            file,
            layout,
        })
    }
}

impl FeatureSource for Hdf5Source {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn records(self: Box<Self>) -> Result<Records, FormatError> {
        match self.layout {
            Layout::Grouped => grouped::records(self.info.path, &self.file),
            Layout::Indexed(index) => Ok(index.records(self.info.path)),
        }
    }
}

/// The library replaces what is not UTF-8 in names and texts by a mark: several ids would become one.
fn check_text(id: &str) -> Result<(), &'static str> {
    match id.contains(char::REPLACEMENT_CHARACTER) {
        true => Err("its id is not UTF-8"),
        false => Ok(()),
    }
}

/// Refuses a dataset that claims more than one image can have, before anything is allocated for it.
fn checked(dataset: &Dataset, name: &str) -> Result<Vec<usize>, String> {
    let failed = |error| format!("`{name}`: {}", numbers::explain(&error));
    let (shape, size) = (dataset.shape().map_err(failed)?, dataset.element_size().map_err(failed)?);
    let bytes = shape.iter().try_fold(size, |bytes, &n| bytes.checked_mul(n));
    if bytes.is_none_or(|bytes| bytes > MAX_ARRAY_BYTES as u64) {
        return Err(format!("`{name}` has the shape {shape:?}, too much for one image"));
    }
    storage::check(dataset, name)?;
    Ok(shape.into_iter().map(|n| n as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::FeatureSink;
    use crate::{Regions, formats};

    /// Two boxes, three features of each, written by a sink; the first of all shapes `[a, b]` is made `[b, a]`.
    fn turned(sink: fn(&Path) -> Box<dyn FeatureSink>, shape: [u64; 2]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h5");
        let mut sink = sink(&path);
        let regions = Regions {
            width: 9,
            height: 9,
            boxes: vec![[0.0, 0.0, 5.0, 5.0], [1.0, 1.0, 2.0, 2.0]],
            features: vec![1.0; 6],
            dim: 3,
            ..Regions::default()
        };
        sink.append("a", &regions).unwrap();
        sink.finish().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let [a, b] = shape.map(u64::to_le_bytes);
        let there = [a, b].concat();
        let at = bytes.windows(16).position(|window| window == there).unwrap();
        bytes[at..at + 16].copy_from_slice(&[b, a].concat());
        std::fs::write(&path, bytes).unwrap();
        let record = formats::open(&path).and_then(|source| source.records());
        let record = record.map(|mut records| records.next().unwrap().unwrap().decode());
        match record {
            Ok(record) => record.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn datasets_are_read_in_their_own_shape_only() {
        let grouped: fn(&Path) -> Box<dyn FeatureSink> = |p| Box::new(Hdf5Sink::create(p).unwrap());
        let boxes = turned(grouped, [2, 4]);
        assert!(boxes.contains("`boxes` have the shape [4, 2]"), "{boxes}");
        assert!(turned(grouped, [2, 3]).contains("for 3 regions"));
        let boxes = turned(|p| Box::new(IndexedHdf5Sink::create(p).unwrap()), [2, 4]);
        assert!(boxes.contains("`image_bb` has the shape [4, 2]"), "{boxes}");
    }
}
