//! What ranks: a model in libtorch, or an exported one in ONNX Runtime.

use std::path::Path;

use crossencoders::data::{ImageSets, ImageSource};
use crossencoders::device::Device;
use crossencoders::eval::Scorer;
use crossencoders::export::ExportedRanker;
use crossencoders::ranker::{Ranker, RankerError};
use crossencoders::train::Recipe;
use onnx::runtime::{Options, names_a_model};

/// What ranks.
pub enum Model {
    Torch(Box<Ranker>),
    Onnx(Box<ExportedRanker>),
}

impl Model {
    /// Opens what a path names, with overrides of its recipe.
    pub fn open(path: &Path, overrides: &[String], device: &str) -> anyhow::Result<Model> {
        if names_a_model(path) && !path.is_dir() {
            let options = Options::on(device.parse()?);
            return Ok(Model::Onnx(Box::new(ExportedRanker::open(path, overrides, &options)?)));
        }
        let device: Device = device.parse()?;
        Ok(Model::Torch(Box::new(Ranker::load(path, overrides, device.get())?)))
    }

    pub fn recipe(&self) -> &Recipe {
        match self {
            Model::Torch(ranker) => &ranker.recipe,
            Model::Onnx(ranker) => &ranker.recipe,
        }
    }

    pub fn open_images(&self, path: Option<&Path>) -> Result<ImageSource, RankerError> {
        match self {
            Model::Torch(ranker) => ranker.open_images(path),
            Model::Onnx(ranker) => ranker.open_images(path),
        }
    }

    pub fn image_sets(&self, path: &Path, images: &ImageSource) -> Result<ImageSets, RankerError> {
        match self {
            Model::Torch(ranker) => ranker.image_sets(path, images),
            Model::Onnx(ranker) => ranker.image_sets(path, images),
        }
    }

    /// The file of the weights of a model that was opened from a path.
    pub fn weights<'a>(&'a self, model: &'a Path) -> &'a Path {
        match self {
            Model::Torch(ranker) => ranker.loaded.as_ref().map_or(model, |loaded| &loaded.path),
            Model::Onnx(_) => model,
        }
    }

    /// What scores batches.
    pub fn get(&mut self) -> Box<dyn Scorer + '_> {
        match self {
            Model::Torch(ranker) => Box::new(&**ranker),
            Model::Onnx(ranker) => Box::new(&mut **ranker),
        }
    }
}
