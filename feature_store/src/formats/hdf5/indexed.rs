//! The older layout: one big dataset per field, images along the first dimension, and an index from ids to rows.
//!
//! Two kinds: `[images, regions, …]` (`train36.hdf5`), or all regions of all images in a row, `[regions, …]`, with
//! `pos_boxes` `[images, 2]` holding the first and one past the last of each image (the "adaptive" files). The index is
//! a dataset of ids, or a pickled or JSON dictionary `{id: row}` beside the file (`train36_imgid2idx.pkl`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdf5_pure::{Dataset, File};

use crate::formats::{FormatError, MAX_ARRAY_BYTES, RecordError, Records, SourceRecord};
use crate::{Regions, text};

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
    ) -> Result<Option<Field>, hdf5_pure::Error> {
        let Some(name) = names.iter().copied().find(|name| datasets.iter().any(|d| d == name))
        else {
            return Ok(None);
        };
        let dataset = file.dataset(name)?;
        let shape = dataset.shape()?;
        let (rows, inner) =
            shape.split_first().map_or((0, Vec::new()), |(n, rest)| (*n, rest.to_vec()));
        Ok(Some(Field { dataset, rows, inner, name }))
    }

    /// Values of some rows.
    fn floats(&self, first: u64, count: u64) -> Result<Vec<f32>, String> {
        self.check(first, count)?;
        self.dataset
            .read_f32_rows(first, count)
            .map_err(|error| format!("`{}`: {error}", self.name))
    }

    fn integers(&self, first: u64, count: u64) -> Result<Vec<i64>, String> {
        self.check(first, count)?;
        self.dataset
            .read_i64_rows(first, count)
            .map_err(|error| format!("`{}`: {error}", self.name))
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
}

impl Index {
    /// The index, if the file's root holds datasets as this layout has them.
    pub(super) fn find(
        path: &Path,
        file: &File,
        datasets: &[String],
    ) -> Result<Option<Index>, FormatError> {
        let malformed = |what: String| FormatError::Malformed { path: path.to_owned(), what };
        let find = |names: &[&'static str]| {
            Field::find(file, datasets, names).map_err(|error| malformed(error.to_string()))
        };
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
        let ids = match find(&["image_ids", "image_id", "img_id", "ids"])? {
            Some(ids) => ids_in(&ids.dataset).map_err(malformed)?,
            None => ids_beside(path)?,
        };
        Ok(Some(Index { fields, ids }))
    }

    pub(super) fn len(&self) -> u64 {
        self.ids.len() as u64
    }

    pub(super) fn records(self, path: PathBuf) -> Records {
        let fields = Arc::new(self.fields);
        Box::new(self.ids.into_iter().map(move |(id, row)| {
            let (path, fields) = (path.clone(), fields.clone());
            Ok(Box::new(RowRecord { path, fields, id, row }) as Box<dyn SourceRecord>)
        }))
    }
}

/// Ids from a dataset of numbers or text; position is the row.
fn ids_in(dataset: &Dataset) -> Result<Vec<(String, u64)>, String> {
    let ids: Vec<String> = match dataset.read_string() {
        Ok(texts) => texts.iter().map(|text| text.trim_end_matches('\0').to_owned()).collect(),
        Err(_) => {
            let numbers =
                dataset.read_i64().map_err(|error| format!("the dataset of ids: {error}"))?;
            numbers.iter().map(i64::to_string).collect()
        }
    };
    Ok(ids.into_iter().zip(0..).collect())
}

/// The files that may hold the index of another.
fn spellings(path: &Path) -> [PathBuf; 3] {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    ["_imgid2idx.pkl", "_imgid2img.pkl", "_imgid2idx.json"]
        .map(|end| path.with_file_name(format!("{stem}{end}")))
}

/// The one that is there.
pub(super) fn index_beside(path: &Path) -> Option<PathBuf> {
    spellings(path).into_iter().find(|file| file.is_file())
}

/// Ids from a dictionary in a file beside this one, whose name begins like this one's or alone fits.
fn ids_beside(path: &Path) -> Result<Vec<(String, u64)>, FormatError> {
    let Some(file) = index_beside(path) else {
        let files = spellings(path).map(|file| file.display().to_string());
        let what = format!("it has no dataset of ids, and there is no {}", files.join(" or "));
        return Err(FormatError::Malformed { path: path.to_owned(), what });
    };
    let bytes = text::read(&file).map_err(FormatError::io(&file))?;
    let malformed =
        |what: &str| FormatError::Malformed { path: file.clone(), what: what.to_owned() };
    let mut ids: Vec<(String, u64)> = if file.extension().is_some_and(|end| end == "json") {
        let map: std::collections::BTreeMap<String, u64> =
            serde_json::from_slice(&bytes).map_err(|error| malformed(&error.to_string()))?;
        map.into_iter().collect()
    } else {
        let value = unpickle::read(&bytes).map_err(|error| malformed(&error.to_string()))?;
        let unpickle::Value::Dict(pairs) = value else {
            return Err(malformed("it holds no dictionary"));
        };
        let pair = |(key, row): (unpickle::Value, unpickle::Value)| {
            let id = match key.as_str() {
                Some(text) => text.to_owned(),
                None => key.as_int()?.to_string(),
            };
            Some((id, u64::try_from(row.as_int()?).ok()?))
        };
        let ids: Option<Vec<_>> = pairs.into_iter().map(pair).collect();
        ids.ok_or_else(|| malformed("it holds something else than ids and rows"))?
    };
    // Neighbouring rows are read one after the other.
    ids.sort_by_key(|(_, row)| *row);
    Ok(ids)
}

impl Fields {
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
        let features = self.features.floats(first, count)?;
        let dim = self.features.inner.last().copied().unwrap_or(0) as usize;
        let stored = features.len().checked_div(dim).unwrap_or(0);
        let n = match &self.counts {
            Some(counts) => match counts.integers(row, 1)?.first() {
                Some(&n) if 0 < n && n as usize <= stored => n as usize,
                other => return Err(format!("its `num_boxes` is {other:?}, of {stored} stored")),
            },
            None => stored,
        };
        let mut regions = Regions { features, dim, ..Regions::default() };
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
