//! The `[data]` part of a recipe.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{RecipeError, expect};
use crate::data::Limits;

/// Where descriptions or captions and features come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The feature store; for CLIP a store of embeddings, or the pictures: a folder of sets, a zip or tar archive.
    pub features: PathBuf,
    /// Annotations to train on; for pre-training captions.
    pub train: PathBuf,
    /// Annotations, or captions, that choose the best checkpoint.
    pub valid: PathBuf,
    /// `vocab.txt` or `tokenizer.json`; for CLIP `bpe_simple_vocab_16e6.txt.gz`.
    pub tokenizer: PathBuf,
    /// Longer descriptions are cut, `[CLS]` and `[SEP]` included.
    #[serde(default = "defaults::max_tokens")]
    pub max_tokens: usize,
    /// Most regions of an image.
    #[serde(default = "defaults::max_regions")]
    pub max_regions: usize,
}

mod defaults {
    pub fn max_tokens() -> usize {
        120
    }
    pub fn max_regions() -> usize {
        36
    }
}

impl Data {
    /// How much of a text and of an image a model is given.
    pub fn limits(&self) -> Limits {
        Limits::new(self.max_tokens, self.max_regions)
    }

    /// The file of a split: `train` and `valid` are those of the recipe, all else is a path.
    pub fn split<'a>(&'a self, name: &'a str) -> &'a Path {
        match name {
            "train" => &self.train,
            "valid" => &self.valid,
            path => Path::new(path),
        }
    }

    /// Fails if a split is one of these, and not there.
    pub(crate) fn expect_split(&self, split: &Path) -> Result<(), RecipeError> {
        let own = [("data.train", &self.train), ("data.valid", &self.valid)];
        match own.into_iter().find(|(_, path)| *path == split) {
            Some((key, path)) => expect(key, path),
            None => Ok(()),
        }
    }

    /// What must hold, and what to say where it does not.
    pub(in crate::train) fn rules(&self) -> [(bool, &'static str); 2] {
        [
            (self.max_tokens >= 3, "`max_tokens` leaves no room for a word"),
            (
                (1..=1000).contains(&self.max_regions),
                "`max_regions` is not between 1 and 1000: all images are padded to it",
            ),
        ]
    }
}
