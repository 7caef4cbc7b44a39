//! The older layout: one big dataset per field, images along the first dimension, and an index from ids to rows.
//!
//! Two kinds: `[images, regions, …]` (`train36.hdf5`), or all regions of all images in a row, `[regions, …]`, with
//! `pos_boxes` `[images, 2]` holding the first and one past the last of each image (the "adaptive" files). The index is
//! a dataset of ids, or a pickled or JSON dictionary `{id: row}` beside the file (`train36_imgid2idx.pkl`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdf5_pure::{Dataset, DatasetAccessProperties, File};

use super::check_text;
use super::ids::{ids_beside, ids_in, most_images};
use super::numbers::{self, Rows, explain};
use super::storage;
use crate::Regions;
use crate::formats::{FormatError, MAX_ARRAY_BYTES, RecordError, Records, SourceRecord};

/// A field's dataset and the sizes of all its dimensions but the first.
struct Field {
    dataset: Dataset,
    rows: u64,
    inner: Vec<u64>,
    name: &'static str,
}

impl Field {
    fn find(
        file: &File,
        datasets: &[String],
        names: &[&'static str],
    ) -> Result<Option<Field>, String> {
        let failed = |error| explain(&error);
        let Some(name) = names.iter().copied().find(|name| datasets.iter().any(|d| d == name))
        else {
            return Ok(None);
        };
        let dataset = file.dataset(name).map_err(failed)?;
        storage::check(&dataset, name)?;
        let cache = storage::cache(&dataset, name)?;
        let access = DatasetAccessProperties::new().with_chunk_cache(cache);
        let dataset = file.dataset_with_options(name, access).map_err(failed)?;
        let shape = dataset.shape().map_err(failed)?;
        let (rows, inner) =
            shape.split_first().map_or((0, Vec::new()), |(n, rest)| (*n, rest.to_vec()));
        Ok(Some(Field { dataset, rows, inner, name }))
    }

    /// Values of some rows.
    fn floats(&self, first: u64, count: u64) -> Result<Vec<f32>, String> {
        self.check(first, count)?;
        numbers::floats(&self.dataset, Rows::Some { first, count }, self.name)
    }

    fn integers(&self, first: u64, count: u64) -> Result<Vec<i64>, String> {
        self.check(first, count)?;
        numbers::integers(&self.dataset, Rows::Some { first, count }, self.name)
    }

    fn check(&self, first: u64, count: u64) -> Result<(), String> {
        let end = first.checked_add(count).filter(|&end| end <= self.rows);
        let values = self.inner.iter().try_fold(count, |values, &n| values.checked_mul(n));
        match (end, values) {
            (Some(_), Some(values)) if values <= MAX_ARRAY_BYTES as u64 / 8 => Ok(()),
            (None, _) => {
                Err(format!("`{}` has {} rows, {first} + {count} wanted", self.name, self.rows))
            }
            _ => Err(format!("`{}` has too much for one image", self.name)),
        }
    }
}

/// The datasets of a file in this layout.
struct Fields {
    features: Field,
    boxes: Option<Field>,
    spatial: Option<Field>,
    positions: Option<Field>,
    counts: Option<Field>,
    width: Option<Field>,
    height: Option<Field>,
}

/// Ids and the rows they stand for.
pub(super) struct Index {
    fields: Fields,
    ids: Vec<(String, u64)>,
    unnamed: Option<Unnamed>,
}

/// Rows that no id stands for.
#[derive(Debug, PartialEq, Eq)]
struct Unnamed {
    first: u64,
    count: u64,
}

impl Unnamed {
    /// Those that are missing among ids in the order of their rows.
    fn among(ids: &[(String, u64)], images: u64) -> Option<Unnamed> {
        let (mut first, mut named) = (0, 0);
        let mut last = None;
        for &(_, row) in ids.iter().filter(|(_, row)| *row < images) {
            if last == Some(row) {
                continue;
            }
            if row == first {
                first += 1;
            }
            (last, named) = (Some(row), named + 1);
        }
        (named < images).then_some(Unnamed { first, count: images - named })
    }
}

impl Index {
    /// The index, if the file's root holds datasets as this layout has them.
    pub(super) fn find(
        path: &Path,
        file: &File,
        datasets: &[String],
    ) -> Result<Option<Index>, FormatError> {
        let malformed = |what: String| FormatError::Malformed { path: path.to_owned(), what };
        let find = |names: &[&'static str]| Field::find(file, datasets, names).map_err(malformed);
        let Some(features) = find(&["features", "image_features"])? else { return Ok(None) };
        let fields = Fields {
            features,
            boxes: find(&["boxes", "image_bb"])?,
            spatial: find(&["spatial_features"])?,
            positions: find(&["pos_boxes"])?,
            counts: find(&["num_boxes"])?,
            width: find(&["image_w", "img_w", "image_width"])?,
            height: find(&["image_h", "img_h", "image_height"])?,
        };
        fields.check().map_err(malformed)?;
        let images = fields.images();
        let ids = match find(&["image_ids", "image_id", "img_id", "ids"])? {
            Some(ids) => ids_in(&ids.dataset, file.file_size()).map_err(malformed)?,
            None => ids_beside(path, images.min(most_images(file.file_size())))?,
        };
        let unnamed = Unnamed::among(&ids, images);
        Ok(Some(Index { fields, ids, unnamed }))
    }

    pub(super) fn len(&self) -> u64 {
        self.ids.len() as u64
    }

    pub(super) fn records(self, path: PathBuf) -> Records {
        let fields = Arc::new(self.fields);
        let unnamed = self.unnamed.map(|Unnamed { first, count }| {
            let what = match count {
                1 => "no id stands for it".to_owned(),
                _ => format!("no id stands for it, or for {} more", count - 1),
            };
            Err(RecordError::new(&path, format!("row {first}"), what))
        });
        let named = self.ids.into_iter().map(move |(id, row)| {
            check_text(&id).map_err(|what| RecordError::new(&path, id.clone(), what))?;
            let (path, fields) = (path.clone(), fields.clone());
            Ok(Box::new(RowRecord { path, fields, id, row }) as Box<dyn SourceRecord>)
        });
        Box::new(named.chain(unnamed))
    }
}

impl Fields {
    /// How many images there are rows for.
    fn images(&self) -> u64 {
        self.positions.as_ref().map_or(self.features.rows, |positions| positions.rows)
    }

    fn check(&self) -> Result<(), String> {
        let dims = if self.positions.is_some() { 1 } else { 2 };
        if self.features.inner.len() != dims {
            let shape = &self.features.inner;
            return Err(format!(
                "`{}` has the shape [{}, {shape:?}]",
                self.features.name, self.features.rows
            ));
        }
        for boxes in [&self.boxes, &self.spatial].into_iter().flatten() {
            // As many regions as there are features of, and corners in the first four columns.
            let is_alike = match (&boxes.inner[..], &self.features.inner[..]) {
                ([columns], [_]) => *columns >= 4,
                ([regions, columns], [of_features, _]) => regions == of_features && *columns >= 4,
                _ => false,
            };
            if !is_alike {
                return Err(format!(
                    "an image of `{}` has the shape {:?}, one of `{}` {:?}",
                    boxes.name, boxes.inner, self.features.name, self.features.inner
                ));
            }
        }
        let sized = self.boxes.is_some() && self.width.is_some() && self.height.is_some();
        if !sized && self.spatial.is_none() {
            return Err(
                "it has neither `boxes` with `image_w` and `image_h` nor `spatial_features`".into(),
            );
        }
        Ok(())
    }

    fn regions(&self, row: u64) -> Result<Regions, String> {
        // The rows of this image, and how many of their regions are real.
        let (first, count) = match &self.positions {
            Some(positions) => match positions.integers(row, 1)?[..] {
                [first, end, ..] if 0 <= first && first < end => {
                    (first as u64, (end - first) as u64)
                }
                ref other => return Err(format!("its `pos_boxes` are {other:?}")),
            },
            None => (row, 1),
        };
        self.features.check(first, count)?;
        let rows = Rows::Some { first, count };
        let (features, rounding) =
            numbers::features(&self.features.dataset, rows, self.features.name)?;
        let dim = self.features.inner.last().copied().unwrap_or(0) as usize;
        let stored = features.len().checked_div(dim).unwrap_or(0);
        let n = match &self.counts {
            Some(counts) => match counts.integers(row, 1)?.first() {
                Some(&n) if 0 < n && n as usize <= stored => n as usize,
                Some(n) => return Err(format!("its `num_boxes` is {n}, of {stored} stored")),
                None => return Err("its `num_boxes` is nothing".into()),
            },
            None => stored,
        };
        let mut regions = Regions { features, dim, rounding, ..Regions::default() };
        regions.features.truncate(n * dim);
        match (&self.boxes, &self.width, &self.height) {
            (Some(boxes), Some(width), Some(height)) => {
                regions.boxes = corners(&boxes.floats(first, count)?, stored, n, boxes.name)?;
                let size = |field: &Field| {
                    let value = field.integers(row, 1)?.first().copied().unwrap_or(-1);
                    u32::try_from(value).map_err(|_| format!("its `{}` is {value}", field.name))
                };
                (regions.width, regions.height) = (size(width)?, size(height)?);
            }
            _ => {
                let spatial = self.spatial.as_ref().ok_or("it has no boxes")?;
                let values = spatial.floats(first, count)?;
                regions.boxes = corners(&values, stored, n, spatial.name)?;
                (regions.width, regions.height) = (1, 1);
            }
        }
        // Relative boxes have come with extents of their own; of those in pixels the corners tell as much.
        if regions.is_relative()
            && let Some(spatial) = &self.spatial
        {
            let values = spatial.floats(first, count)?;
            let columns = values.len() / stored.max(1);
            regions.extents = (columns >= 6)
                .then(|| values.chunks(columns).take(n).map(|row| [row[4], row[5]]).collect());
        }
        regions.check()?;
        Ok(regions)
    }
}

/// The first four columns of the first `n` of `rows` rows.
fn corners(values: &[f32], rows: usize, n: usize, name: &str) -> Result<Vec<[f32; 4]>, String> {
    if rows == 0 || !values.len().is_multiple_of(rows) || values.len() / rows < 4 {
        return Err(format!("its `{name}` hold {} numbers for {rows} regions", values.len()));
    }
    let columns = values.len() / rows;
    Ok(values.chunks(columns).take(n).map(|row| [row[0], row[1], row[2], row[3]]).collect())
}

struct RowRecord {
    path: PathBuf,
    fields: Arc<Fields>,
    id: String,
    row: u64,
}

impl SourceRecord for RowRecord {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        // Where an image is any number of rows, each is at least one.
        let shape = &self.fields.features.inner;
        shape.iter().fold(size_of::<f32>() as u64, |n, &m| n.saturating_mul(m)) as usize
    }

    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError> {
        match self.fields.regions(self.row) {
            Ok(regions) => Ok((self.id, regions)),
            Err(reason) => Err(RecordError::new(&self.path, self.id, reason)),
        }
    }
}
