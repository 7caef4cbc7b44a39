//! Zero-shot ranking with CLIP: which image of its set does a description fit best?

use std::sync::atomic::{AtomicBool, Ordering};

use feature_store::dataset::{Description, SET_SIZE, is_static, set_images};
use feature_store::{FeatureStore, Regions, StoreError};
use serde::Serialize;

use super::ExtractError;
use crate::clip::{ClipEncoder, EncodeError, Tokenizer, cosine};

/// One description's candidates, scored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// Directory of the image set.
    pub directory: String,
    /// The description.
    pub text: String,
    /// Position of the described image, if it is known.
    pub target: Option<usize>,
    /// Cosine of each candidate; by position in the set, or of ImageCoDe-simple's pair the described one first.
    pub scores: Vec<f32>,
    /// Where the described image is ranked, from 1, if it is known. Of equals the first counts as better.
    pub rank: Option<usize>,
}

impl Ranked {
    /// Position of the best candidate; of equals the first.
    pub fn best(&self) -> usize {
        let better =
            |best: usize, n: usize| if self.scores[n] > self.scores[best] { n } else { best };
        (0..self.scores.len()).fold(0, better)
    }
}

/// How well descriptions are ranked.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RankReport {
    /// Descriptions with a known image.
    pub descriptions: usize,
    /// Part of them, 0 to 1, whose image is ranked first.
    pub accuracy: f64,
    /// The same for sets of video frames.
    pub video: f64,
    /// The same for sets of photographs.
    #[serde(rename = "static")]
    pub photographs: f64,
    /// Mean reciprocal rank.
    pub mrr: f64,
    /// Descriptions that are longer than CLIP reads.
    pub truncated: usize,
    /// Sets that lack images in the store; their descriptions are left out.
    pub incomplete: Vec<String>,
}

/// Texts embedded at a time.
const BATCH: usize = 32;

/// Ranks the candidates of every description by CLIP's cosine; `images` is a store of embeddings. `None` if `stop` was set.
///
/// # Errors
/// [`ExtractError`]: the store, or CLIP.
pub fn rank(
    descriptions: &[Description],
    images: &FeatureStore,
    encoder: &mut ClipEncoder,
    tokenizer: &Tokenizer,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<(RankReport, Vec<Ranked>)>, ExtractError> {
    let mut report = RankReport::default();
    let mut ranked = Vec::with_capacity(descriptions.len());
    for chunk in descriptions.chunks(BATCH) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut known = Vec::new();
        for description in chunk {
            match candidates(images, description)? {
                Some(candidates) => known.push((description, candidates)),
                None if report.incomplete.contains(&description.directory) => {}
                None => report.incomplete.push(description.directory.clone()),
            }
        }
        let tokens: Vec<_> = known
            .iter()
            .map(|(description, _)| {
                report.truncated += usize::from(tokenizer.tokens(&description.text).is_err());
                tokenizer.tokens_truncated(&description.text)
            })
            .collect();
        let texts = encoder.texts(&tokens)?;
        for ((description, candidates), text) in known.into_iter().zip(texts) {
            check(&candidates, &text)?;
            ranked.push(score(description, &candidates, &text)?);
        }
        progress(ranked.len());
    }
    report.summarise(&ranked);
    Ok(Some((report, ranked)))
}

/// Images of a set by their ids.
type Candidates = Vec<(String, Regions)>;

/// A description's candidates; `None` if the store lacks one.
fn candidates(images: &FeatureStore, of: &Description) -> Result<Option<Candidates>, StoreError> {
    let ids = set_images(images, &of.directory)?;
    if ids.len() != SET_SIZE {
        return Ok(None);
    }
    let positions: Vec<usize> = match (of.target, of.distractor) {
        (Some(target), Some(distractor)) => vec![target, distractor],
        _ => (0..SET_SIZE).collect(),
    };
    let embeddings = positions.iter().map(|&n| Ok((ids[n].clone(), images.get(&ids[n])?)));
    embeddings.collect::<Result<Vec<_>, StoreError>>().map(Some)
}

/// Refuses what can be compared with no text of this model.
fn check(candidates: &Candidates, text: &[f32]) -> Result<(), ExtractError> {
    if text.iter().any(|value| !value.is_finite()) {
        return Err(EncodeError::NotFinite.into());
    }
    let other = candidates.iter().find(|(_, image)| image.len() != 1 || image.dim != text.len());
    match other {
        Some((id, image)) => Err(ExtractError::OtherEmbeddings {
            id: id.clone(),
            found: format!("{} regions of {} values", image.len(), image.dim),
            dim: text.len(),
        }),
        None => Ok(()),
    }
}

fn score(
    description: &Description,
    candidates: &Candidates,
    text: &[f32],
) -> Result<Ranked, ExtractError> {
    let scores: Vec<f32> =
        candidates.iter().map(|(_, image)| cosine(&image.features, text)).collect();
    if scores.iter().any(|score| !score.is_finite()) {
        return Err(ExtractError::NoLength(description.directory.clone()));
    }
    let target = match description.distractor {
        Some(_) => description.target.map(|_| 0),
        None => description.target,
    };
    let rank = target.map(|target| {
        let better = |(n, score): (usize, &f32)| {
            *score > scores[target] || (*score == scores[target] && n < target)
        };
        1 + scores.iter().enumerate().filter(|pair| better(*pair)).count()
    });
    Ok(Ranked {
        directory: description.directory.clone(),
        text: description.text.clone(),
        target: description.target,
        scores,
        rank,
    })
}

impl RankReport {
    fn summarise(&mut self, ranked: &[Ranked]) {
        let ranks = |wanted: &dyn Fn(&Ranked) -> bool| -> Vec<usize> {
            ranked.iter().filter(|one| wanted(one)).filter_map(|one| one.rank).collect()
        };
        let share = |ranks: &[usize]| {
            let first = ranks.iter().filter(|&&rank| rank == 1).count();
            first as f64 / ranks.len().max(1) as f64
        };
        let all = ranks(&|_| true);
        self.descriptions = all.len();
        self.accuracy = share(&all);
        self.photographs = share(&ranks(&|one| is_static(&one.directory)));
        self.video = share(&ranks(&|one| !is_static(&one.directory)));
        self.mrr = all.iter().map(|&rank| 1.0 / rank as f64).sum::<f64>() / all.len().max(1) as f64;
    }
}
