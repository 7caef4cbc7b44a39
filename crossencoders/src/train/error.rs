//! Why training stops.

use std::fmt;
use std::path::PathBuf;

use super::Recipe;
use super::distributed::CommError;
use crate::data::{DataError, ImageSets, Item};
use crate::eval::EvalError;
use crate::failure::LibtorchError;
use crate::model::pretraining::PretrainingError;
use crate::ranker::RankerError;
use crate::run::RunError;
use crate::weights::WeightsError;

/// Why training stops. The last checkpoint stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The model cannot be made or saved.
    #[error(transparent)]
    Ranker(#[from] RankerError),
    /// The optimiser's state.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Other ranks have failed, or cannot be reached.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// The run's folder.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The validation split cannot be ranked.
    #[error("validation: {0}")]
    Eval(#[from] EvalError),
    /// A recipe without anything to train.
    #[error("the variant zero_shot is not trained: give the recipe to `eval` or `predict`")]
    ZeroShot,
    /// The features have not what the model is pre-trained on.
    #[error(transparent)]
    Pretraining(#[from] PretrainingError),
    /// Pre-training of an alignment by a model that has no head for it.
    #[error(
        "the model pools nothing that tells whether image and text belong together (`fusion_method`): set \
         objective = \"no_alignment\""
    )]
    NoAlignmentHead,
    /// A tokenizer that can hide no words.
    #[error("{0} has no word piece [MASK], which hidden words become")]
    NoMask(PathBuf),
    /// An image tower that would learn, and stored embeddings that would not learn with it.
    #[error(
        "{0} holds embeddings, which do not change when the image tower learns: set train.freeze = [\"clip.visual\"] (or \
         [\"clip\"] for both towers), or let data.features name the pictures"
    )]
    StoredEmbeddings(PathBuf),
    /// A split to train on or to validate with has no answers.
    #[error("{0} is not labelled")]
    Unlabelled(PathBuf),
    /// A name that no parameter begins with.
    #[error("`{key}` names `{name}`, but no parameter begins like that; there is {}", near.join(", "))]
    UnknownParameter {
        /// The recipe's key.
        key: &'static str,
        /// What it names.
        name: String,
        /// Parameters whose names begin most alike.
        near: Vec<String>,
    },
    /// Nothing is left to train.
    #[error("`train.freeze` names every parameter: nothing is left to train")]
    AllFrozen,
    /// The loss or a gradient is no number any more. Weights are those before the step.
    #[error(
        "the loss at step {step} is {loss} and the norm of its gradients {grad_norm}{}: {cause}; checkpoints saved before it stay as they are. The step learnt from {rows}",
        first(parameter)
    )]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// Its loss, or that of its first batch whose loss is not finite.
        loss: f64,
        /// Norm of all gradients together.
        grad_norm: f64,
        /// The first parameter, by name, whose gradient is not finite.
        parameter: Option<String>,
        /// What the step learnt from: the batch whose loss is not finite, or all of its batches.
        rows: StepIds,
        /// What it comes from, and what to do.
        cause: Cause,
    },
    /// Weights that are no numbers any more: they are neither saved nor validated.
    #[error(
        "after step {step} the weights are not finite (first: {parameter}): lower train.learning_rate; checkpoints saved before it stay as they are"
    )]
    NotFiniteWeights {
        /// Steps done.
        step: u64,
        /// The first parameter, by name, that is not finite.
        parameter: String,
    },
    /// The loss of captions for validation is no number.
    #[error(
        "validation after step {step}: the loss is {loss}: {cause}; checkpoints saved before it stay as they are. It is the loss of {rows}"
    )]
    NotFinite {
        /// Steps done.
        step: u64,
        /// The loss.
        loss: f64,
        /// The captions of the batch.
        rows: StepIds,
        /// What it comes from, and what to do.
        cause: Cause,
    },
    /// Memory ran out in a step.
    #[error("step {step} needs more memory than there is ({reason}) for {shapes}; {advice}")]
    OutOfMemory {
        /// The step, from 1.
        step: u64,
        /// What libtorch says.
        reason: String,
        /// The batch's shapes.
        shapes: String,
        /// What to change in the recipe.
        advice: String,
    },
    /// libtorch cannot compute a step.
    #[error("step {step}: {reason}, for {shapes}")]
    Libtorch {
        /// The step, from 1.
        step: u64,
        /// What libtorch says.
        reason: String,
        /// The batch's shapes.
        shapes: String,
    },
    /// A run that has failed within this process.
    #[error(
        "the run has failed before, and its weights may be half changed: open it again, to go on from its last checkpoint"
    )]
    Failed,
    /// Weights to begin with that `replace` would remove.
    #[error(
        "`init` lies in {0}, the run that --force would replace: give the new run another folder (--out)"
    )]
    OwnInit(PathBuf),
    /// Other descriptions, targets or features than those that a run has begun with.
    #[error(
        "{0} has begun with other data: annotations or features have changed since. Put them back, or begin anew with --force \
         or in another folder (--out)"
    )]
    OtherData(PathBuf),
    /// A checkpoint that cannot be gone on from.
    #[error("{path}: {reason}; --force begins anew")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Where a number that is none comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// From these images: their features in the store are not finite.
    Features(Vec<String>),
    /// From the weights, as far as can be seen.
    Weights,
}

impl Cause {
    /// These images, or the weights if there are none.
    pub(super) fn of(images: Vec<String>) -> Cause {
        if images.is_empty() { Cause::Weights } else { Cause::Features(images) }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Cause::Features(images) => write!(
                out,
                "features of {} are not finite (`xenc store validate --deep` finds all such)",
                images.join(", ")
            ),
            Cause::Weights => write!(out, "try a lower learning rate"),
        }
    }
}

/// Ids of the rows of a step: directories and images; in pre-training lines of captions and their images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepIds(pub Vec<(String, Vec<String>)>);

impl StepIds {
    /// Of rows of a split.
    pub(super) fn new<'a>(sets: &ImageSets, rows: impl Iterator<Item = &'a Item>) -> StepIds {
        let ids = rows.map(|row| {
            let example = &sets.examples[row.example()];
            let images = match *row {
                Item::Set(_) => example.images.clone(),
                Item::Pair(_, candidate) => vec![example.images[candidate].clone()],
            };
            (example.directory.clone(), images)
        });
        StepIds(ids.collect())
    }
}

impl fmt::Display for StepIds {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        const NAMED: usize = 8;
        for (number, (directory, images)) in self.0.iter().take(NAMED).enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(out, "{comma}{directory} ({})", images.join(", "))?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(out, " and {more} more"),
        }
    }
}

fn first(parameter: &Option<String>) -> String {
    parameter.as_ref().map_or(String::new(), |name| format!(" (first not finite: {name})"))
}

impl TrainError {
    /// What libtorch has thrown in a step, with the shapes of its batches.
    pub(super) fn thrown(error: LibtorchError, step: u64, shapes: String, recipe: &Recipe) -> Self {
        TrainError::thrown_in(error, step, shapes, || advice(recipe))
    }

    /// The same with what to do where memory has run out.
    pub(super) fn thrown_in(
        error: LibtorchError,
        step: u64,
        shapes: String,
        advice: impl FnOnce() -> String,
    ) -> Self {
        match error {
            LibtorchError::OutOfMemory(reason) => {
                TrainError::OutOfMemory { step, reason, shapes, advice: advice() }
            }
            other => TrainError::Libtorch { step, reason: other.to_string(), shapes },
        }
    }
}

/// What to lower, from what costs nothing to what changes results.
fn advice(recipe: &Recipe) -> String {
    let settings = &recipe.train;
    let mut changes = Vec::new();
    if !settings.gradient_checkpointing {
        changes
            .push("set train.gradient_checkpointing = true (the same results, slower)".to_owned());
    }
    if settings.batch_size > 1 {
        let (size, accumulate) = (settings.batch_size, settings.accumulate);
        changes.push(format!(
            "lower train.batch_size (now {size}) and raise train.accumulate (now {accumulate}) so that their product stays (the same steps)"
        ));
    }
    let (regions, tokens) = (recipe.data.max_regions, recipe.data.max_tokens);
    changes.push(format!(
        "lower data.max_regions (now {regions}) or data.max_tokens (now {tokens}) (other results)"
    ));
    changes.join(", or ")
}

impl From<DataError> for TrainError {
    fn from(error: DataError) -> Self {
        TrainError::Ranker(error.into())
    }
}
