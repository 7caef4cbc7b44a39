//! Which image is in which row: a dataset of ids, or a dictionary in a file beside this one.

use std::path::{Path, PathBuf};

use hdf5_pure::{DType, Dataset, VlenStringReadOptions};

use super::numbers::{self, Rows, explain};
use crate::formats::FormatError;
use crate::text;

/// Rows that are read at a time.
const BLOCK: u64 = 1 << 12;
/// Longest text of a row; ids are shorter.
const MAX_TEXT: u64 = 1 << 12;
/// Bytes of a file that an image takes at least, however well it is packed: what a dataset of ids claims beyond that is
/// not there.
const MIN_IMAGE: u64 = 16;
/// Values that any dictionary may hold.
const FEW_VALUES: usize = 1 << 16;

/// The most images that a file of so many bytes can be about.
pub(super) fn most_images(file_size: u64) -> u64 {
    file_size / MIN_IMAGE
}

/// Ids from a dataset of numbers or text in a file of so many bytes; position is the row.
pub(super) fn ids_in(dataset: &Dataset, file_size: u64) -> Result<Vec<(String, u64)>, String> {
    let failed = |error: hdf5_pure::Error| format!("the dataset of ids: {}", explain(&error));
    let shape = dataset.shape().map_err(failed)?;
    let [rows] = shape[..] else {
        return Err(format!("the dataset of ids has the shape {shape:?}"));
    };
    let size = dataset.element_size().map_err(failed)?;
    if rows > most_images(file_size) || size > MAX_TEXT {
        return Err(format!(
            "the dataset of ids claims {rows} rows of {size} bytes, more than a file of {file_size} bytes can be about"
        ));
    }
    let mut ids = Vec::new();
    match dataset.dtype().map_err(failed)? {
        DType::VariableLengthString => {
            // Ids are different from each other, so that together they are not longer than the file.
            let limit = usize::try_from(file_size).unwrap_or(usize::MAX);
            let options = VlenStringReadOptions::new().with_max_payload_bytes(limit);
            dataset.visit_vlen_strings(options, |id| ids.push(id.to_owned())).map_err(failed)?;
        }
        DType::String => {
            for (first, count) in blocks(rows) {
                let texts = dataset.read_string_rows(first, count).map_err(failed)?;
                ids.extend(texts.iter().map(|text| text.trim_end_matches('\0').to_owned()));
            }
        }
        _ => {
            for (first, count) in blocks(rows) {
                let rows = Rows::Some { first, count };
                let numbers = numbers::integers(dataset, rows, "dataset of ids")?;
                ids.extend(numbers.iter().map(i64::to_string));
            }
        }
    }
    Ok(ids.into_iter().zip(0..).collect())
}

/// First row and number of rows of each block.
fn blocks(rows: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..rows.div_ceil(BLOCK)).map(move |block| {
        let first = block * BLOCK;
        (first, BLOCK.min(rows - first))
    })
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

/// Ids from a dictionary in a file beside this one, whose name begins like this one's or alone fits; `images` is how many
/// this one has rows for, at most.
pub(super) fn ids_beside(path: &Path, images: u64) -> Result<Vec<(String, u64)>, FormatError> {
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
        // An id and a row for each image, and what holds them together.
        let limit = usize::try_from(images.saturating_mul(2)).unwrap_or(usize::MAX);
        let value = unpickle::read_within(&bytes, limit.saturating_add(FEW_VALUES))
            .map_err(|error| malformed(&error.to_string()))?;
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
