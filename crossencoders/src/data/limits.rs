//! How much of a text and of an image a model is given.

use feature_store::StoreError;
use serde::Serialize;

use super::{ImageSource, Tokenizer};

/// The limits of a recipe, and how much of a split is beyond them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Limits {
    /// Most word pieces of a text, `[CLS]` and `[SEP]` included.
    pub max_tokens: usize,
    /// Texts that have more and are cut.
    pub cut_texts: usize,
    /// Most regions of an image.
    pub max_regions: usize,
    /// Images that have more, of which only the first ones are seen.
    pub cut_images: usize,
}

impl Limits {
    /// With nothing beyond them yet.
    pub fn new(max_tokens: usize, max_regions: usize) -> Limits {
        Limits { max_tokens, max_regions, ..Limits::default() }
    }

    /// Word pieces of a text, which is counted if it is cut.
    pub(super) fn encode(&mut self, tokenizer: &Tokenizer, text: &str) -> Vec<i64> {
        let (ids, is_cut) = tokenizer.encode(text, self.max_tokens);
        self.cut_texts += usize::from(is_cut);
        ids
    }

    /// Counts those of the images that have too many regions.
    pub(super) fn count_images<I: AsRef<str> + Sync>(
        &mut self,
        source: &ImageSource,
        images: &[I],
    ) -> Result<(), StoreError> {
        if let Some(store) = source.store() {
            self.cut_images += store.count_larger(images, self.max_regions)?;
        }
        Ok(())
    }

    /// Says what is cut, if anything is; texts are called what they are ("descriptions").
    pub fn remarks(&self, texts: &str) -> Vec<String> {
        let Limits { max_tokens, cut_texts, max_regions, cut_images } = *self;
        let mut remarks = Vec::new();
        if cut_texts > 0 {
            remarks.push(format!(
                "{cut_texts} {texts} are cut at {max_tokens} word pieces (data.max_tokens)"
            ));
        }
        if cut_images > 0 {
            remarks.push(format!(
                "{cut_images} images have more than {max_regions} regions; their first ones are seen (data.max_regions)"
            ));
        }
        remarks
    }
}
