//! A graph with all that ranking needs besides: recipe, configuration and tokenizer lie in its metadata.

use std::path::{Path, PathBuf};

use feature_store::BatchSpec;
use onnx::Model;
use onnx::runtime::{Options, RuntimeError, Session};
use tch::Kind;
use vision::network::{NETWORK, in_words};

use super::verify::run;
use super::{ExportError, Form, build, build_clip_head, check_finite, weights};
use crate::config::{Config, ModelConfig};
use crate::data::{Batch, BatchImages, ImageSets, ImageSource, Tokenizer};
use crate::eval::{EvalError, Scorer};
use crate::ranker::{self, Ranker, RankerError};
use crate::train::{Recipe, RecipeError};

const CONFIG: &str = "config";
const RECIPE: &str = "recipe";
const TOKENIZER: &str = "tokenizer";
const TOKENIZER_FILE: &str = "tokenizer_file";
const WEIGHTS_HASH: &str = "weights_xxh3";

/// The graph of a model, with all that [`ExportedRanker`] needs in its metadata.
///
/// # Errors
/// [`ExportError`].
pub fn export(ranker: &Ranker, form: Form) -> Result<Model, ExportError> {
    let config = ranker.config.cross_encoder().ok_or(ExportError::Clip)?;
    let parameters = weights(&ranker.variables);
    check_finite(&parameters)?;
    let mut model = build(&parameters, config, &ranker.recipe.head(), form, &[])?;
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for (name, tensor) in &parameters {
        hash.update(name.as_bytes());
        hash.update(tensor.as_bytes());
    }
    let (file, contents) = ranker.tokenizer.file();
    let config = serde_json::to_string(config).unwrap_or_default();
    for (key, value) in [
        (CONFIG, config),
        (RECIPE, ranker.recipe.to_toml()),
        (TOKENIZER_FILE, file.to_owned()),
        (TOKENIZER, String::from_utf8_lossy(contents).into_owned()),
        (WEIGHTS_HASH, format!("{:016x}", hash.digest())),
    ] {
        model.set_metadata(key, value);
    }
    Ok(model)
}

/// The graph of a CLIP's head on embeddings; see [`build_clip_head`].
///
/// # Errors
/// [`ExportError`]; [`ExportError::NoClip`] for a cross-encoder.
pub fn export_clip_head(ranker: &Ranker) -> Result<Model, ExportError> {
    let Config::Clip(config) = &ranker.config else { return Err(ExportError::NoClip) };
    let head = ranker.recipe.clip_head();
    let parameters = weights(&ranker.variables);
    check_finite(&parameters)?;
    let mut model = build_clip_head(&parameters, &head, config.embed_dim)?;
    model.set_metadata(RECIPE, ranker.recipe.to_toml());
    Ok(model)
}

/// Why a file cannot be ranked with.
#[derive(Debug, thiserror::Error)]
pub enum ExportedError {
    /// ONNX Runtime, or the file.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Its recipe, or the overrides of it.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A file that this program has not exported, or not for ranking.
    #[error("{path} is no cross-encoder that `xenc export` has written for ranking: {what}")]
    Other {
        /// The file.
        path: PathBuf,
        /// What is missing in its metadata, or wrong with it.
        what: String,
    },
}

/// What a file says that it is instead.
fn kind(session: &Session) -> String {
    let kind = session.metadata(NETWORK).and_then(|network| in_words(&network));
    kind.map_or_else(String::new, |kind| format!("; that says that it is {kind}"))
}

/// Ranks with an exported graph, through ONNX Runtime.
pub struct ExportedRanker {
    /// The recipe that it was trained by.
    pub recipe: Recipe,
    /// The encoder's configuration.
    pub config: ModelConfig,
    /// The tokenizer it was trained with.
    pub tokenizer: Tokenizer,
    session: Session,
}

impl ExportedRanker {
    /// Opens a file that [`export`] has made, with overrides of its recipe; see [`Recipe::parse_exported`].
    ///
    /// # Errors
    /// [`ExportedError`].
    pub fn open(
        path: &Path,
        overrides: &[String],
        options: &Options,
    ) -> Result<ExportedRanker, ExportedError> {
        let session = Session::open(path, options)?;
        let other = |what: String| ExportedError::Other { path: path.to_owned(), what };
        let text = |key: &str| {
            session
                .metadata(key)
                .ok_or_else(|| other(format!("its metadata has no `{key}`{}", kind(&session))))
        };
        let config: ModelConfig = serde_json::from_str(&text(CONFIG)?)
            .map_err(|error| other(format!("`{CONFIG}`: {error}")))?;
        let recipe = Recipe::parse_exported(&text(RECIPE)?, path, overrides)?;
        let tokenizer = Tokenizer::parse(&text(TOKENIZER_FILE)?, text(TOKENIZER)?.into_bytes())
            .map_err(|error| other(format!("`{TOKENIZER}`: {error}")))?;
        let by_sets = |wanted: &str| {
            let input = session.inputs().iter().find(|(name, ..)| name == wanted);
            input.is_some_and(|(_, _, shape)| shape.rank() == 4)
        };
        if !by_sets("features") {
            return Err(other("it takes pairs; export it with `--form sets`".into()));
        }
        Ok(ExportedRanker { recipe, config, tokenizer, session })
    }

    /// Opens a store, by default the recipe's, and makes sure that the model can read its features.
    ///
    /// # Errors
    /// [`RankerError::FeatureDim`], or the store's own.
    pub fn open_images(&self, path: Option<&Path>) -> Result<ImageSource, RankerError> {
        Ok(ranker::open_store(path, &self.recipe.data, &self.config)?.into())
    }

    /// Reads a split for this model.
    ///
    /// # Errors
    /// [`RankerError`].
    pub fn image_sets(&self, path: &Path, images: &ImageSource) -> Result<ImageSets, RankerError> {
        let data = &self.recipe.data;
        ranker::image_sets(path, images, &self.tokenizer, data, data.limits())
    }
}

impl Scorer for ExportedRanker {
    fn batch_spec(&self) -> BatchSpec {
        self.config.batch_spec(self.recipe.data.max_regions)
    }

    fn score(&mut self, batch: Batch) -> Result<Vec<Vec<f32>>, EvalError> {
        let Batch { text, images, video, .. } = &batch;
        let BatchImages::Regions(candidates) = images else {
            unreachable!("`open_images` gives a cross-encoder a store of regions")
        };
        let video = video.to_kind(Kind::Bool);
        let scores = run(&mut self.session, Form::Sets, text, candidates, &video)?;
        let width = scores.shape().last().copied().unwrap_or(1).max(1);
        Ok(scores.f32s()?.chunks(width).map(<[f32]>::to_vec).collect())
    }
}
