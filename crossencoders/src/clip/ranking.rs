//! Ranking the candidates of a set with CLIP.

use std::cell::RefCell;
use std::collections::HashMap;

use tch::nn;
use tch::{Kind, Tensor};
use vision::clip::{MEAN, STD};

use super::{Clip, ClipConfig, ContextualHead, ContextualHeadConfig, normalised};
use crate::config::ConfigError;
use crate::model::ContextConfig;

/// What turns embeddings into scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClipHead {
    /// The cosine, scaled.
    Cosine,
    /// The contextual module.
    Contextual(ContextualHeadConfig),
}

/// What is known of candidates.
#[derive(Debug, Clone, Copy)]
pub enum ClipImages<'a> {
    /// Embeddings, f32 `[sets, candidates, embed]`, as the image tower gives them.
    Embeddings(&'a Tensor),
    /// Pictures.
    Pictures {
        /// Cropped, red, green, blue: u8 `[pictures, 3, n, n]`.
        pixels: &'a Tensor,
        /// Which of them each candidate is, i64 `[sets, candidates]`.
        rows: &'a Tensor,
    },
}

/// Both towers and a head.
#[derive(Debug)]
pub struct ClipRanking {
    clip: Clip,
    head: Option<ContextualHead>,
    /// Embeddings of descriptions, by their tokens, that a frozen text tower has made.
    remembered: RefCell<HashMap<Vec<i64>, Tensor>>,
}

impl ClipRanking {
    /// Creates all parameters; those of the towers are 0.
    ///
    /// # Errors
    /// [`ConfigError::Size`] if the contextual module's 8 heads do not divide the fused vectors.
    pub fn new(
        root: &nn::Path,
        config: &ClipConfig,
        head: &ClipHead,
    ) -> Result<ClipRanking, ConfigError> {
        let head = match *head {
            ClipHead::Cosine => None,
            ClipHead::Contextual(head)
                if !ContextConfig::fits(head.fusion.width(config.embed_dim)) =>
            {
                let (key, value) = ("embed_dim", config.embed_dim);
                return Err(ConfigError::Size { key, value, what: "8 heads do not divide it" });
            }
            ClipHead::Contextual(head) => Some(ContextualHead::new(root, config.embed_dim, head)),
        };
        let clip = Clip::new(root, config);
        Ok(ClipRanking { clip, head, remembered: RefCell::default() })
    }

    /// Chooses what the towers compute in; see [`Clip::set_kind`].
    pub fn set_kind(&mut self, kind: Kind) {
        self.clip.set_kind(kind);
    }

    /// Scores `[sets, candidates]`, higher is better, of descriptions as tokens, i64 `[sets, T]`; `video` is bool `[sets]`.
    /// Dropout acts in the contextual module if `train` is set; CLIP has none.
    pub fn forward(
        &self,
        tokens: &Tensor,
        images: ClipImages,
        video: &Tensor,
        train: bool,
    ) -> Tensor {
        self.scores_of(&self.images(images), &self.texts(tokens), video, train)
    }

    /// Scores `[sets, candidates]` of embeddings of pictures `[sets, candidates, embed]` and of descriptions `[sets, embed]`.
    pub fn scores_of(
        &self,
        images: &Tensor,
        texts: &Tensor,
        video: &Tensor,
        train: bool,
    ) -> Tensor {
        match &self.head {
            Some(head) => head.forward(images, texts, video, train, &mut |_| {}),
            None => {
                let texts = normalised(texts).unsqueeze(2);
                normalised(images).matmul(&texts).squeeze_dim(2) * self.clip.scale()
            }
        }
    }

    /// `[sets, candidates, embed]`
    fn images(&self, images: ClipImages) -> Tensor {
        match images {
            ClipImages::Embeddings(embeddings) => embeddings.shallow_clone(),
            ClipImages::Pictures { pixels, rows } => {
                let embeddings = self.clip.image.forward(&as_input(pixels));
                embeddings.index_select(0, &rows.flatten(0, 1)).unflatten(0, rows.size())
            }
        }
    }

    /// `[sets, embed]`
    fn texts(&self, tokens: &Tensor) -> Tensor {
        if !self.clip.text.is_frozen() {
            return self.clip.text.forward(tokens);
        }
        let rows = Vec::<Vec<i64>>::try_from(tokens).unwrap_or_default();
        let texts: Vec<Tensor> = rows.into_iter().map(|row| self.remembered(row, tokens)).collect();
        Tensor::cat(&texts, 0)
    }

    /// The embedding `[1, embed]` of a description by a frozen tower. It is computed once and alone, so that it does not
    /// depend on what it was first seen with, which differs in a run that was interrupted.
    fn remembered(&self, mut ids: Vec<i64>, like: &Tensor) -> Tensor {
        let end = ids.iter().rposition(|&id| id != 0).map_or(1, |last| last + 1);
        ids.truncate(end);
        if let Some(known) = self.remembered.borrow().get(&ids) {
            return known.shallow_clone();
        }
        let tokens = Tensor::from_slice(&ids).unsqueeze(0).to_device(like.device());
        let text = tch::no_grad(|| self.clip.text.forward(&tokens));
        self.remembered.borrow_mut().insert(ids, text.shallow_clone());
        text
    }
}

/// Preprocessed pictures, f32, of cropped ones, u8: the arithmetic of [`vision::clip::Preprocess`], in its order.
fn as_input(pixels: &Tensor) -> Tensor {
    let of = |values: &[f32]| Tensor::from_slice(values).view([3, 1, 1]).to_device(pixels.device());
    (pixels.to_kind(Kind::Float) / 255.0 - of(&MEAN)) / of(&STD)
}
