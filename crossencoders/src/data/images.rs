//! Where candidates come from: a store of features, or the pictures themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use dataset::SET_SIZE;
use feature_store::{BatchSpec, FeatureStore, RegionBatch, StoreError};
use rayon::prelude::*;
use tch::Tensor;
use vision::clip::Preprocess;
use vision::extract::{IdRule, Pictures, PicturesError};
use vision::image::{ImageError, Limits};

use super::DataError;
use super::loader::{BatchImages, candidates};

/// Where candidates come from.
#[derive(Debug, Clone)]
pub enum ImageSource {
    /// A store: regions, or CLIP's embeddings of whole pictures.
    Features(FeatureStore),
    /// Pictures, decoded and preprocessed when they are needed.
    Pictures(PictureSource),
}

impl ImageSource {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            ImageSource::Features(store) => store.path(),
            ImageSource::Pictures(pictures) => pictures.path(),
        }
    }

    /// The store, if it is one.
    pub fn store(&self) -> Option<&FeatureStore> {
        match self {
            ImageSource::Features(store) => Some(store),
            ImageSource::Pictures(_) => None,
        }
    }

    /// Ids of the images of a set that there are, in the order of the set; see [`dataset::set_images`].
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn set_images(&self, directory: &str) -> Result<Vec<String>, StoreError> {
        match self {
            ImageSource::Features(store) => dataset::set_images(store, directory),
            ImageSource::Pictures(pictures) => Ok(pictures.set_images(directory)),
        }
    }

    /// Whether it has an image.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn contains(&self, id: &str) -> Result<bool, StoreError> {
        match self {
            ImageSource::Features(store) => store.contains(id),
            ImageSource::Pictures(pictures) => Ok(pictures.0.numbers.contains_key(id)),
        }
    }

    /// Asks for the pages of images that a coming batch needs.
    pub(super) fn prefetch(&self, ids: &[&String]) {
        if let ImageSource::Features(store) = self {
            // What cannot be read is told when it is read.
            let _ = store.prefetch(ids);
        }
    }

    /// The candidates of so many rows, as many of each.
    pub(super) fn read(
        &self,
        ids: &[&String],
        rows: usize,
        spec: &BatchSpec,
        regions: &mut RegionBatch,
    ) -> Result<BatchImages, DataError> {
        match self {
            ImageSource::Features(store) => {
                store.read_batch(ids, spec, regions)?;
                Ok(BatchImages::Regions(candidates(regions, rows)))
            }
            ImageSource::Pictures(pictures) => pictures.read(ids, rows),
        }
    }
}

impl From<FeatureStore> for ImageSource {
    fn from(store: FeatureStore) -> Self {
        ImageSource::Features(store)
    }
}

/// Pictures with ImageCoDe's ids, prepared for CLIP.
#[derive(Clone)]
pub struct PictureSource(Arc<Listed>);

struct Listed {
    pictures: Pictures,
    /// By id.
    numbers: BTreeMap<String, usize>,
    preprocess: Preprocess,
}

impl fmt::Debug for PictureSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pictures of {}", self.0.pictures.len(), self.path().display())
    }
}

impl PictureSource {
    /// Lists the pictures `SET/imgN.jpg` of a folder with all folders in it, or of a zip or tar archive, for a model that
    /// takes pictures of `size` by `size` pixels.
    ///
    /// # Errors
    /// [`PicturesError`].
    pub fn open(path: &Path, size: usize) -> Result<PictureSource, PicturesError> {
        let pictures = Pictures::open(path, IdRule::ImageCode)?;
        let numbers = (0..pictures.len()).map(|n| (pictures.id(n).to_owned(), n)).collect();
        let preprocess = Preprocess::new(size);
        Ok(PictureSource(Arc::new(Listed { pictures, numbers, preprocess })))
    }

    fn path(&self) -> &Path {
        self.0.pictures.root()
    }

    fn set_images(&self, directory: &str) -> Vec<String> {
        let from = dataset::id_prefix(directory);
        let ids = self.0.numbers.range(from..).map(|(id, _)| id.clone()).take(4 * SET_SIZE);
        dataset::first_images(directory, ids)
    }

    /// Every picture once, however many candidates it is.
    fn read(&self, ids: &[&String], rows: usize) -> Result<BatchImages, DataError> {
        let mut distinct: Vec<&String> = ids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let crops: Vec<Vec<u8>> =
            distinct.par_iter().map(|id| self.planes(id)).collect::<Result<_, _>>()?;
        let side = self.0.preprocess.size() as i64;
        let pixels = Tensor::from_slice(&crops.concat()).view([-1, 3, side, side]);
        let row = |id: &&String| distinct.binary_search(id).unwrap_or_default() as i64;
        let numbers: Vec<i64> = ids.iter().map(row).collect();
        let rows = Tensor::from_slice(&numbers).view([rows as i64, -1]);
        Ok(BatchImages::Pictures { pixels, rows })
    }

    /// Red, then green, then blue, of a picture's crop.
    fn planes(&self, id: &str) -> Result<Vec<u8>, DataError> {
        let Listed { pictures, numbers, preprocess } = &*self.0;
        let number = numbers.get(id).copied();
        let number = number.ok_or_else(|| DataError::NoPicture(id.to_owned()))?;
        let image = pictures.read(number, &Limits::default()).map_err(DataError::Picture)?;
        let crop = preprocess.crop(image);
        let crop = crop.map_err(|fault| -> ImageError { fault.of(pictures.name(number)) });
        let pixels = crop.map_err(DataError::Picture)?.data;
        Ok((0..3).flat_map(|colour| pixels.iter().skip(colour).step_by(3).copied()).collect())
    }
}
