//! Ranking a split with a model: scores, and the predictions that [`evaluation`] measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evaluation::{EvaluationError, Metrics, Prediction};
use feature_store::BatchSpec;
use tch::Kind;

use crate::data::{Batch, DataError, ImageSets, ImageSource, Item, Loader, by_length};
use crate::failure::{LibtorchError, catching};
use crate::ranker::Ranker;

/// Why a split cannot be ranked.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// Features cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A score that is no number: broken weights or features.
    #[error(
        "the model's scores for a description of {0} are not finite: its weights or the features are broken"
    )]
    NotFinite(String),
    /// libtorch cannot rank a batch, most often because memory has run out.
    #[error(
        "{error}, for {shapes}{}",
        if error.is_out_of_memory() { ": rank fewer descriptions at once (--batch-size)" } else { "" }
    )]
    Libtorch {
        /// What it says.
        error: LibtorchError,
        /// The batch's shapes.
        shapes: String,
    },
    /// ONNX Runtime cannot rank a batch.
    #[error(transparent)]
    Runtime(#[from] onnx::runtime::RuntimeError),
    /// The predictions cannot be evaluated.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
}

/// What gives batches of descriptions with candidates their scores: a model in libtorch, or its graph in ONNX Runtime.
pub trait Scorer {
    /// How batches of regions are laid out for it.
    fn batch_spec(&self) -> BatchSpec;

    /// The candidates' scores of every description of a batch, higher is better.
    ///
    /// # Errors
    /// [`EvalError`].
    fn score(&mut self, batch: Batch) -> Result<Vec<Vec<f32>>, EvalError>;
}

impl Scorer for &Ranker {
    fn batch_spec(&self) -> BatchSpec {
        Ranker::batch_spec(self)
    }

    fn score(&mut self, batch: Batch) -> Result<Vec<Vec<f32>>, EvalError> {
        let shapes = batch.shapes();
        let rows = || {
            let batch = batch.to_device(self.variables.device());
            let scores = tch::no_grad(|| self.scores(&batch, false)).to_kind(Kind::Float);
            let row = |number| Vec::try_from(scores.get(number as i64)).unwrap_or_default();
            (0..batch.items.len()).map(row).collect()
        };
        catching(rows).map_err(|error| EvalError::Libtorch { error, shapes })
    }
}

impl<T: Scorer> Scorer for &mut T {
    fn batch_spec(&self) -> BatchSpec {
        (**self).batch_spec()
    }

    fn score(&mut self, batch: Batch) -> Result<Vec<Vec<f32>>, EvalError> {
        (**self).score(batch)
    }
}

/// Scores of every description's candidates, in the order of the split; `None` if cancelled. `progress` is told how many
/// descriptions are done.
///
/// # Errors
/// [`EvalError::Data`], [`EvalError::NotFinite`], [`EvalError::Libtorch`].
pub fn score(
    scorer: &mut dyn Scorer,
    images: &ImageSource,
    sets: &Arc<ImageSets>,
    batch_size: usize,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Vec<Vec<f32>>>, EvalError> {
    let lengths = match images {
        ImageSource::Features(_) => sets.lengths(),
        // In the order of the file the descriptions of a set are neighbours: each picture is encoded once for them.
        ImageSource::Pictures(_) => vec![0; sets.examples.len()],
    };
    let batches = by_length(&lengths, batch_size)
        .into_iter()
        .map(|batch| batch.into_iter().map(Item::Set).collect())
        .collect();
    let loader = Loader::start(images.clone(), Arc::clone(sets), scorer.batch_spec(), batches);
    let mut scores = vec![Vec::new(); sets.examples.len()];
    let mut done = 0;
    for batch in loader {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let batch = batch?;
        let items = batch.items.clone();
        for (item, row) in items.iter().zip(scorer.score(batch)?) {
            let example = &sets.examples[item.example()];
            if row.len() != example.images.len() || row.iter().any(|score| !score.is_finite()) {
                return Err(EvalError::NotFinite(example.directory.clone()));
            }
            scores[item.example()] = row;
        }
        done += items.len();
        progress(done);
    }
    Ok(Some(scores))
}

/// Predictions for a labelled split, in its order; `None` if cancelled. See [`score`].
///
/// # Errors
/// [`EvalError`].
pub fn predict(
    scorer: &mut dyn Scorer,
    images: &ImageSource,
    sets: &Arc<ImageSets>,
    batch_size: usize,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Vec<Prediction>>, EvalError> {
    if sets.examples.iter().any(|example| example.target.is_none()) {
        return Err(EvaluationError::Unlabelled.into());
    }
    let scores = score(scorer, images, sets, batch_size, cancelled, progress)?;
    Ok(scores.map(|scores| predictions(sets, scores)))
}

/// Predictions from the scores of a split's candidates, both in its order.
pub fn predictions(sets: &ImageSets, scores: Vec<Vec<f32>>) -> Vec<Prediction> {
    let scored = sets.examples.iter().zip(scores);
    scored.map(|(example, scores)| Prediction::new(example.question(), scores)).collect()
}

/// Metrics of a labelled split; `None` if cancelled. See [`score`].
///
/// # Errors
/// [`EvalError`].
pub fn evaluate(
    scorer: &mut dyn Scorer,
    images: &ImageSource,
    sets: &Arc<ImageSets>,
    batch_size: usize,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Metrics>, EvalError> {
    let predictions = predict(scorer, images, sets, batch_size, cancelled, progress)?;
    Ok(predictions.as_deref().map(Metrics::new))
}
