//! How a dataset's values lie in the file: what cannot be read at all, and what must be kept of it so that nothing is
//! unpacked for every image anew.

use hdf5_pure::{ChunkCacheConfig, ChunkIndex, Dataset, Layout};

use super::numbers::explain;
use crate::formats::MAX_ARRAY_BYTES;

/// Bytes of unpacked chunks that are kept of a dataset, at most.
const MAX_KEPT: u64 = 8 * MAX_ARRAY_BYTES as u64;
/// Chunks that are kept, at most: each is looked for among all.
const MAX_CHUNKS: u64 = 1 << 12;

/// The chunks of a dataset that the values of one row lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Band {
    chunks: u64,
    bytes: u64,
    /// Whether other rows lie in them, too.
    is_shared: bool,
}

/// Refuses a dataset whose values lie in a way that is not read here, and chunks beyond all reason, which are unpacked
/// as a whole whatever is asked of them.
///
/// # Errors
/// What is wrong, and what writes the same in another way.
pub(super) fn check(dataset: &Dataset, name: &str) -> Result<(), String> {
    let failed = |error| format!("`{name}`: {}", explain(&error));
    let shape = dataset.shape().map_err(failed)?;
    let chunk_shape = match dataset.layout().map_err(failed)? {
        Layout::Chunked { index: ChunkIndex::BTreeV2, .. } => {
            return Err(format!(
                "`{name}` can grow in several directions and was written for HDF5 1.10 or later: its list of chunks, a \
                 version 2 B-tree, cannot be read here; {} writes the same with one that can",
                one_chunk_a_row(name, &shape)
            ));
        }
        Layout::Virtual => {
            return Err(format!(
                "`{name}` is a virtual dataset, whose values are in other files; `h5repack -l {name}:CONTI OLD NEW`, of a \
                 release as new as the file, puts them into one"
            ));
        }
        Layout::Chunked { chunk_shape, .. } => chunk_shape,
        _ => return Ok(()),
    };
    let bytes = product(&chunk_shape, dataset.element_size().map_err(failed)?);
    match bytes <= MAX_ARRAY_BYTES as u64 {
        true => Ok(()),
        false => Err(format!(
            "`{name}` has chunks of {bytes} bytes, more than {MAX_ARRAY_BYTES}; {} writes smaller ones",
            one_chunk_a_row(name, &shape)
        )),
    }
}

/// What to keep of a dataset that is read row by row: all chunks that a row lies in if the next row lies in them, too.
///
/// # Errors
/// Rows that lie in more than can be kept.
pub(super) fn cache(dataset: &Dataset, name: &str) -> Result<ChunkCacheConfig, String> {
    let failed = |error| format!("`{name}`: {}", explain(&error));
    let Some(chunk) = dataset.chunk_shape().map_err(failed)? else {
        return Ok(ChunkCacheConfig::new());
    };
    let (shape, size) = (dataset.shape().map_err(failed)?, dataset.element_size().map_err(failed)?);
    let band = band(&shape, &chunk, size);
    if !band.is_shared {
        return Ok(ChunkCacheConfig::new());
    }
    if band.bytes > MAX_KEPT || band.chunks > MAX_CHUNKS {
        return Err(format!(
            "a row of `{name}` lies in {} chunks of {} bytes together, which are unpacked as a whole: that would be done \
             for every image; {} writes one chunk a row",
            band.chunks,
            band.bytes,
            one_chunk_a_row(name, &shape)
        ));
    }
    // Rows are read in parallel, some of them in the next band already.
    let bytes = (2 * band.bytes).clamp(1 << 20, MAX_KEPT);
    let slots = (2 * band.chunks).max(16);
    Ok(ChunkCacheConfig::new().with_max_bytes(bytes as usize).with_max_slots(slots as usize))
}

/// The command that writes a dataset of this shape anew, a chunk for each row.
fn one_chunk_a_row(name: &str, shape: &[u64]) -> String {
    let sides = std::iter::once(&1).chain(shape.iter().skip(1));
    let sides: Vec<String> = sides.map(u64::to_string).collect();
    format!("`h5repack -l {name}:CHUNK={} OLD NEW`", sides.join("x"))
}

fn band(shape: &[u64], chunk: &[u64], size: u64) -> Band {
    let pairs = shape.iter().zip(chunk).skip(1);
    let chunks = pairs.fold(1u64, |n, (&all, &one)| n.saturating_mul(all.div_ceil(one.max(1))));
    let bytes = product(chunk, size).saturating_mul(chunks);
    Band { chunks, bytes, is_shared: chunk.first().is_some_and(|&rows| rows > 1) }
}

fn product(sizes: &[u64], size: u64) -> u64 {
    sizes.iter().fold(size, |bytes, &n| bytes.saturating_mul(n))
}

#[cfg(test)]
mod tests {
    use hdf5_pure::{DatasetAccessProperties, File, FileBuilder};

    use super::*;

    /// A file of rows `[40, 32]` in chunks of so many rows, one value wide: more across than are kept by default.
    fn narrow_chunks(path: &std::path::Path, rows: u64) -> Dataset {
        let mut file = FileBuilder::new();
        let values: Vec<f32> = (0..1280u16).map(f32::from).collect();
        file.create_dataset("a")
            .with_f32_data(&values)
            .with_shape(&[40, 32])
            .with_chunks(&[rows, 1]);
        std::fs::write(path, file.finish().unwrap()).unwrap();
        let file = File::open_streaming(path).unwrap();
        let cache = cache(&file.dataset("a").unwrap(), "a").unwrap();
        let access = DatasetAccessProperties::new().with_chunk_cache(cache);
        file.dataset_with_options("a", access).unwrap()
    }

    #[test]
    fn nothing_is_unpacked_for_every_row_anew() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = narrow_chunks(&folder.path().join("a.h5"), 10);
        for row in 0..40 {
            let there: Vec<f32> = (32 * row..32 * row + 32).map(|x| x as f32).collect();
            assert_eq!(dataset.read_f32_rows(row, 1).unwrap(), there);
        }
        let stats = dataset.chunk_cache_stats();
        // Four times 32 chunks, each once.
        assert_eq!((stats.misses(), stats.hits()), (128, 40 * 32 - 128));
    }

    #[test]
    fn a_row_lies_in_all_chunks_across_it() {
        // What h5py makes of 20,000 images by itself.
        let typical = band(&[20_000, 36, 2048], &[625, 2, 64], 4);
        assert_eq!(typical, Band { chunks: 576, bytes: 184_320_000, is_shared: true });
        assert!(typical.bytes <= MAX_KEPT && typical.chunks <= MAX_CHUNKS);
        assert!(!band(&[9, 36, 2048], &[1, 36, 2048], 4).is_shared);
        let hostile = band(&[9, u64::MAX], &[2, 1], 4);
        assert_eq!((hostile.chunks, hostile.bytes), (u64::MAX, u64::MAX));
        assert_eq!(band(&[9, 3], &[2, 0], 4).chunks, 3);
    }
}
