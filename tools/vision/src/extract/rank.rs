//! Zero-shot ranking with CLIP: which image of its set does a description fit best?

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use dataset::{Description, SET_SIZE, is_static, set_images};
use evaluation::{Prediction, Question, SkippedSet};
use feature_store::{FeatureStore, Regions, StoreError};

use super::ExtractError;
use crate::clip::{ClipEncoder, EncodeError, Tokenizer, cosine};

/// What CLIP makes of a split.
#[derive(Debug, Default)]
pub struct Ranking {
    /// One for each description whose set is complete, in the order of the split; scores are cosines.
    pub predictions: Vec<Prediction>,
    /// Descriptions that are longer than CLIP reads.
    pub truncated: usize,
    /// Number of sets, those skipped included.
    pub sets: usize,
    /// Sets that lack images in the store; their descriptions are left out.
    pub skipped: Vec<SkippedSet>,
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
) -> Result<Option<Ranking>, ExtractError> {
    let mut ranking = Ranking::default();
    let questions = questions(descriptions, images, &mut ranking)?;
    for chunk in questions.chunks(BATCH) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let texts: Vec<_> =
            chunk.iter().map(|question| tokenizer.tokens_truncated(&question.text)).collect();
        ranking.truncated +=
            chunk.iter().filter(|question| tokenizer.tokens(&question.text).is_err()).count();
        for (question, text) in chunk.iter().zip(encoder.texts(&texts)?) {
            let scores = score(question, images, &text)?;
            ranking.predictions.push(Prediction::new(question.clone(), scores));
        }
        progress(ranking.predictions.len());
    }
    Ok(Some(ranking))
}

/// The descriptions whose sets are complete; `ranking` learns of the others.
fn questions(
    descriptions: &[Description],
    images: &FeatureStore,
    ranking: &mut Ranking,
) -> Result<Vec<Question>, StoreError> {
    let mut sets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut unlabelled: HashMap<&str, usize> = HashMap::new();
    let mut questions = Vec::with_capacity(descriptions.len());
    for description in descriptions {
        let directory = &*description.directory;
        if !sets.contains_key(directory) {
            let found = set_images(images, directory)?;
            if found.len() != SET_SIZE {
                let (directory, found) = (directory.to_owned(), found.len());
                ranking.skipped.push(SkippedSet { directory, found, of: SET_SIZE });
            }
            sets.insert(directory, found);
        }
        let set = &sets[directory];
        if set.len() == SET_SIZE {
            let number = description.target.unwrap_or_else(|| {
                let next = unlabelled.entry(directory).or_default();
                *next += 1;
                *next - 1
            });
            questions.push(question(description, number, set));
        }
    }
    ranking.sets = sets.len();
    Ok(questions)
}

fn question(description: &Description, number: usize, set: &[String]) -> Question {
    let mut candidates: Vec<usize> = match (description.target, description.distractor) {
        (Some(target), Some(distractor)) => vec![target, distractor],
        _ => (0..SET_SIZE).collect(),
    };
    // In the order of the set, so that the position tells nothing.
    candidates.sort_unstable();
    Question {
        directory: description.directory.clone(),
        number,
        text: description.text.clone(),
        images: candidates.iter().map(|&position| set[position].clone()).collect(),
        target: description
            .target
            .and_then(|target| candidates.iter().position(|&position| position == target)),
        video: !is_static(&description.directory),
    }
}

/// Cosine of every candidate with a text; refuses what can be compared with no text of this model.
fn score(
    question: &Question,
    images: &FeatureStore,
    text: &[f32],
) -> Result<Vec<f32>, ExtractError> {
    if text.iter().any(|value| !value.is_finite()) {
        return Err(EncodeError::NotFinite.into());
    }
    let cosine_with = |id: &String| {
        let image: Regions = images.get(id)?;
        if image.len() != 1 || image.dim != text.len() {
            return Err(ExtractError::OtherEmbeddings {
                id: id.clone(),
                found: format!("{} regions of {} values", image.len(), image.dim),
                dim: text.len(),
            });
        }
        Ok(cosine(&image.features, text))
    };
    let scores: Vec<f32> = question.images.iter().map(cosine_with).collect::<Result<_, _>>()?;
    match scores.iter().all(|score| score.is_finite()) {
        true => Ok(scores),
        false => Err(ExtractError::NoLength(question.directory.clone())),
    }
}
