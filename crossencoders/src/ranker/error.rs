//! Why a model cannot be made or used.

use std::io;
use std::path::PathBuf;

use feature_store::StoreError;
use vision::clip::OtherTower;

use crate::config::ConfigError;
use crate::data::DataError;
use crate::digests::DigestError;
use crate::train::RecipeError;
use crate::weights::WeightsError;

/// Why a model cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum RankerError {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// CLIP's weights.
    #[error(transparent)]
    ClipWeights(#[from] vision::weights::WeightsError),
    /// A key of the recipe that does not go with the model.
    #[error("`{key}` {what}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A store of regions where embeddings of whole pictures are needed.
    #[error(
        "{store} holds up to {regions} regions an image, but CLIP takes the picture as a whole: `xenc clip embed` writes \
         embeddings, and `data.features` may name the pictures themselves"
    )]
    NoEmbeddings {
        /// The store.
        store: PathBuf,
        /// Most regions of an image.
        regions: u32,
    },
    /// Embeddings that another image tower has made.
    #[error(transparent)]
    OtherTower(#[from] OtherTower),
    /// Tokenizer, annotations or features.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The weights of a checkpoint are not what was written.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A folder to begin with that holds no weights.
    #[error("`init` is {0}, a folder that is neither a run with a checkpoint nor a checkpoint")]
    NoWeights(PathBuf),
    /// Nothing is there.
    #[error("{0}: no such file or folder")]
    Missing(PathBuf),
    /// A run that has not come to its first validation.
    #[error(
        "{run} has no best checkpoint yet, as no epoch is validated; {last} is what was trained so far"
    )]
    NotValidated {
        /// The run.
        run: PathBuf,
        /// Its last checkpoint.
        last: PathBuf,
    },
    /// Neither a run, nor a checkpoint, nor a recipe.
    #[error(
        "{0} is neither a training run with a checkpoint, nor a checkpoint, nor a recipe (*.toml); weights by themselves are \
         what a recipe's `init` names"
    )]
    NoModel(PathBuf),
    /// A recipe whose ranking head is still random.
    #[error(
        "{0} is a recipe to train with (`xenc train {0}`); only zero_shot recipes rank without training"
    )]
    Untrained(PathBuf),
    /// Ids of word pieces that the model has no embeddings for.
    #[error("{tokenizer} has ids up to {largest}, but the model's `vocab_size` is {vocab_size}")]
    Vocabulary {
        /// The tokenizer's file.
        tokenizer: PathBuf,
        /// Its largest id.
        largest: usize,
        /// What the configuration says.
        vocab_size: i64,
    },
    /// More word pieces than there are positions for.
    #[error(
        "`data.max_tokens` is {0}, but the model has positions for {1} (`max_position_embeddings`, with VL-BERT less the \
         regions)"
    )]
    Positions(usize, i64),
    /// Features of another width.
    #[error("features in {store} have {found} values, but the model's `{key}` is {expected}")]
    FeatureDim {
        /// The store.
        store: PathBuf,
        /// Its width.
        found: u32,
        /// The key of the model's configuration.
        key: &'static str,
        /// The model's.
        expected: i64,
    },
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl From<StoreError> for RankerError {
    fn from(error: StoreError) -> Self {
        RankerError::Data(error.into())
    }
}
