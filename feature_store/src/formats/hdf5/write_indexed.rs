//! Writes the older layout: one big dataset per field, in a single pass.
//!
//! Features go straight to the file, rows of all images after each other: whether they are `[images, n, dim]` or, with
//! images of different size, `[rows, dim]` with `pos_boxes`, is only a matter of the header that is written at the end.
//! Boxes wait in a file beside it, so that memory holds no more than ids and sizes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::out::{FLOAT, INTEGER, Out, text};
use crate::Regions;
use crate::formats::{FeatureSink, FormatError, LeftOut};

/// Writes one dataset per field, with the ids in `image_ids`.
pub struct IndexedHdf5Sink {
    out: Out,
    boxes: Spool,
    spatial: Spool,
    images: Vec<Image>,
    dim: usize,
    left_out: LeftOut,
}

struct Image {
    id: String,
    regions: u64,
    width: u32,
    height: u32,
}

/// Numbers that wait in a file of their own until their place in the output is known.
struct Spool {
    path: PathBuf,
    file: BufWriter<File>,
}

impl IndexedHdf5Sink {
    /// Begins a file, which must not exist yet.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(path: &Path) -> Result<IndexedHdf5Sink, FormatError> {
        Ok(IndexedHdf5Sink {
            out: Out::create(path)?,
            boxes: Spool::create(path, "boxes")?,
            spatial: Spool::create(path, "spatial")?,
            images: Vec::new(),
            dim: 0,
            left_out: LeftOut::new(),
        })
    }

    fn unwritable(&self, id: &str, what: String) -> FormatError {
        FormatError::Unwritable { path: self.out.path.clone(), id: id.to_owned(), what }
    }
}

impl FeatureSink for IndexedHdf5Sink {
    fn append(&mut self, id: &str, regions: &Regions) -> Result<(), FormatError> {
        if self.images.is_empty() {
            self.dim = regions.dim;
        }
        if regions.dim != self.dim {
            let what = format!(
                "{} values per region, the images before it have {}",
                regions.dim, self.dim
            );
            return Err(self.unwritable(id, what));
        }
        if id.contains('\0') {
            return Err(
                self.unwritable(id, "its id holds a zero byte; rename it with --rename".into())
            );
        }
        put_floats(&regions.features, |bytes| self.out.put(bytes).map(drop))?;
        self.boxes.put(regions.boxes.as_flattened())?;
        let (w, h) = (regions.width as f32, regions.height as f32);
        for (region, [x1, y1, x2, y2]) in regions.boxes.iter().enumerate() {
            let [x1, y1, x2, y2] = [x1 / w, y1 / h, x2 / w, y2 / h];
            let stated = regions.extents.as_ref().map(|extents| extents[region]);
            let [width, height] = stated.unwrap_or([x2 - x1, y2 - y1]);
            self.spatial.put(&[x1, y1, x2, y2, width, height])?;
        }
        let Regions { width, height, .. } = *regions;
        self.images.push(Image { id: id.to_owned(), regions: regions.len() as u64, width, height });
        self.left_out.note("objects", regions.objects.is_some());
        self.left_out.note("attributes", regions.attributes.is_some());
        self.left_out.note("class probabilities", regions.class_probabilities.is_some());
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), FormatError> {
        let IndexedHdf5Sink { mut out, boxes, spatial, images, dim, .. } = *self;
        let count = images.len() as u64;
        let rows: u64 = images.iter().map(|image| image.regions).sum();
        let each = images.first().map_or(0, |image| image.regions);
        let alike = images.iter().all(|image| image.regions == each);
        let shape = |inner: u64| if alike { vec![count, each, inner] } else { vec![rows, inner] };
        let mut members = BTreeMap::new();
        // The first thing after the superblock.
        let features = rows * dim as u64 * 4;
        let header = out.dataset_at(super::out::FIRST, features, &shape(dim as u64), &FLOAT)?;
        members.insert("image_features".to_owned(), header);
        for (name, spool, columns) in [("image_bb", boxes, 4), ("spatial_features", spatial, 6)] {
            let address = out.align()?;
            spool.pour(|bytes| out.put(bytes).map(drop))?;
            let header = out.dataset_at(address, rows * columns * 4, &shape(columns), &FLOAT)?;
            members.insert(name.to_owned(), header);
        }
        let mut integers =
            |name: &str, values: Vec<i64>, shape: &[u64]| -> Result<(), FormatError> {
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                members.insert(name.to_owned(), out.dataset(&bytes, shape, &INTEGER)?);
                Ok(())
            };
        integers("image_w", images.iter().map(|i| i64::from(i.width)).collect(), &[count])?;
        integers("image_h", images.iter().map(|i| i64::from(i.height)).collect(), &[count])?;
        if !alike {
            let mut first = 0;
            let positions = images.iter().flat_map(|image| {
                first += image.regions as i64;
                [first - image.regions as i64, first]
            });
            integers("pos_boxes", positions.collect(), &[count, 2])?;
        }
        let longest = images.iter().map(|image| image.id.len()).max().unwrap_or(1);
        let mut ids = Vec::with_capacity(images.len() * longest);
        for image in &images {
            ids.extend_from_slice(image.id.as_bytes());
            ids.resize(ids.len() + longest - image.id.len(), 0);
        }
        members.insert("image_ids".to_owned(), out.dataset(&ids, &[count], &text(longest))?);
        let table = out.table(&members)?;
        let root = out.group(&table)?;
        out.finish(root, &table)
    }

    fn left_out(&self) -> BTreeMap<&'static str, u64> {
        self.left_out.0.clone()
    }
}

fn put_floats(
    values: &[f32],
    put: impl FnOnce(&[u8]) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    put(&bytes)
}

impl Spool {
    fn create(beside: &Path, name: &str) -> Result<Spool, FormatError> {
        let mut path = beside.as_os_str().to_owned();
        path.push(format!(".{name}"));
        let path = PathBuf::from(path);
        let file = File::create(&path).map_err(FormatError::io(&path))?;
        Ok(Spool { path, file: BufWriter::new(file) })
    }

    fn put(&mut self, values: &[f32]) -> Result<(), FormatError> {
        put_floats(values, |bytes| self.file.write_all(bytes).map_err(FormatError::io(&self.path)))
    }

    /// Hands all bytes on, piece by piece.
    fn pour(
        mut self,
        mut put: impl FnMut(&[u8]) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let io = || FormatError::io(&self.path);
        self.file.flush().map_err(io())?;
        let mut file = BufReader::new(File::open(&self.path).map_err(io())?);
        let mut piece = vec![0; 1 << 20];
        loop {
            match file.read(&mut piece).map_err(io())? {
                0 => return Ok(()),
                length => put(&piece[..length])?,
            }
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Nobody else needs it, whether the output was finished or not.
        let _ = std::fs::remove_file(&self.path);
    }
}
