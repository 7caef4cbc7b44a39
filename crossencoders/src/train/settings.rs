//! The `[train]` part of a recipe.

use serde::{Deserialize, Serialize};
use tch::Kind;

use super::{AdamRule, AdamWConfig, Schedule};

/// How it is trained; the defaults are what ImageCoDe's recipes share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// Times through the data.
    pub epochs: u64,
    /// Sets (non-contrastive: pairs) a forward pass works on at once.
    pub batch_size: usize,
    /// Batches whose gradients make one step: the step of a batch that is so many times as large.
    pub accumulate: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Part of all steps over which the learning rate rises.
    pub warmup: f64,
    /// What the learning rate does afterwards.
    #[serde(skip_serializing_if = "is_default")]
    pub schedule: Schedule,
    /// Which of Adam's rules makes a step of gradients.
    #[serde(skip_serializing_if = "is_default")]
    pub optimizer: AdamRule,
    /// Decay per step, times the learning rate; of the rule `adam` what part of a weight is added to its gradient.
    pub weight_decay: f64,
    /// Decay rates of AdamW's moments.
    pub betas: (f64, f64),
    /// AdamW's epsilon.
    pub eps: f64,
    /// The largest norm of all gradients together.
    pub clip: f64,
    /// Of initialisation, order and dropout.
    pub seed: u64,
    /// Whether units are dropped, as the model's configuration says and a tenth of the fused vectors. Without, a step's
    /// result does not depend on how its rows are split into batches.
    pub dropout: bool,
    /// Steps between two lines in `metrics.jsonl`.
    pub log_steps: u64,
    /// Steps between two checkpoints within an epoch; 0: only after epochs.
    pub checkpoint_steps: u64,
    /// Numbers that linear layers and attention compute with.
    pub precision: Precision,
    /// Activations within a sublayer are not kept for the backward pass but computed again: less memory, about a third
    /// more time, the same gradients.
    pub gradient_checkpointing: bool,
    /// Training ends after so many epochs in a row that are not better than the best; never without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// A moving average of the weights is what is validated and kept as best; this part of it stays at each step, 0.999
    /// say. The first steps keep less: (1 + steps) / (10 + steps), so that the random beginning is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Each layer below the top learns at the rate of the one above times this; 1: all alike. A layer ends with a
    /// feed-forward sublayer; heads and poolers learn at the full rate, embeddings are the lowest layer.
    pub layer_decay: f64,
    /// Parameters that stay as they are, by the beginning of their names up to a dot: `bert.embeddings`. Dropout acts in
    /// their layers as in others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Parameters with a learning rate of their own; the first group that matches a parameter counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

/// Recipes of runs that were begun before there was such a key stay as they are.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Numbers that linear layers and attention compute with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of 32; weights, poolers, heads and the optimiser stay in 32.
    Bf16,
}

impl Precision {
    /// For tensors.
    pub fn kind(self) -> Kind {
        match self {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        }
    }
}

/// Parameters with a learning rate of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The beginning of the parameters' names, up to a dot: `bert.embeddings`.
    #[serde(rename = "match")]
    pub prefix: String,
    /// Their highest learning rate, in place of `train.learning_rate` and whatever `train.layer_decay` says.
    pub learning_rate: f64,
}

impl Default for Training {
    fn default() -> Training {
        let AdamWConfig { betas, eps, weight_decay, rule } = AdamWConfig::default();
        Training {
            epochs: 25,
            batch_size: 15,
            accumulate: 1,
            learning_rate: 2e-5,
            warmup: 0.1,
            schedule: Schedule::default(),
            optimizer: rule,
            weight_decay,
            betas,
            eps,
            clip: 1.0,
            seed: 0,
            dropout: true,
            log_steps: 10,
            checkpoint_steps: 0,
            precision: Precision::F32,
            gradient_checkpointing: false,
            patience: None,
            ema: None,
            layer_decay: 1.0,
            freeze: Vec::new(),
            groups: Vec::new(),
        }
    }
}

/// Beyond it somebody has mistyped, and step numbers might not fit 64 bits.
const MOST_EPOCHS: u64 = 1_000_000;

impl Training {
    /// What must hold, and what to say where it does not.
    pub(super) fn rules(&self) -> [(bool, &'static str); 13] {
        let rate = |rate: f64| rate.is_finite() && rate >= 0.0;
        [
            (
                self.batch_size > 0 && self.accumulate > 0,
                "`batch_size` and `accumulate` begin at 1",
            ),
            (self.epochs > 0 && self.log_steps > 0, "`epochs` and `log_steps` begin at 1"),
            (self.epochs <= MOST_EPOCHS, "`epochs` is above a million"),
            (
                self.eps > 0.0
                    && [self.betas.0, self.betas.1].iter().all(|beta| (0.0..1.0).contains(beta)),
                "`eps` is above 0, and both `betas` are at least 0 and below 1",
            ),
            (
                rate(self.learning_rate) && self.clip > 0.0,
                "`learning_rate` or `clip` is negative or no number",
            ),
            (
                (0.0..=1.0).contains(&self.warmup),
                "`warmup` is a part of all steps, between 0 and 1",
            ),
            (self.patience != Some(0), "`patience` begins at 1; leave it out to train to the end"),
            (
                self.ema.is_none_or(|decay| decay > 0.0 && decay < 1.0),
                "`ema` is between 0 and 1, such as 0.999; leave it out for no average",
            ),
            (
                self.layer_decay > 0.0 && self.layer_decay <= 1.0,
                "`layer_decay` is above 0 and at most 1",
            ),
            (
                self.freeze
                    .iter()
                    .chain(self.groups.iter().map(|group| &group.prefix))
                    .all(|start| !start.is_empty()),
                "an empty name in `freeze` or in a group's `match` means every parameter",
            ),
            (
                self.groups.iter().all(|group| rate(group.learning_rate)),
                "a group's `learning_rate` is negative or no number",
            ),
            (
                self.groups.is_empty() || self.learning_rate > 0.0,
                "`groups` need a `learning_rate` above 0 for the others; `freeze` keeps those as they are",
            ),
            (self.weight_decay >= 0.0, "`weight_decay` is negative or no number"),
        ]
    }
}
