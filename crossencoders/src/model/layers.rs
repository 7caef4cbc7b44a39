//! Layers with VOLTA's initialisation, and parameters that the two streams may share.

use tch::Tensor;
use tch::nn::{self, Init, Module};

use super::dropout::add_dropped;
use crate::config::{Activation, ModelConfig};

/// BERT's, not PyTorch's default of 1e-5.
const LAYER_NORM_EPS: f64 = 1e-12;

/// A projection that computes in the precision of what comes in; its parameters stay in theirs.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Whether a parameter of it learns.
    pub(crate) fn learns(&self) -> bool {
        self.weight.requires_grad() || self.bias.as_ref().is_some_and(Tensor::requires_grad)
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let like = |parameter: &Tensor| match parameter.kind() == x.kind() {
            true => parameter.shallow_clone(),
            false => parameter.to_kind(x.kind()),
        };
        x.linear(&like(&self.weight), self.bias.as_ref().map(like))
    }
}

pub(crate) fn linear(path: nn::Path, config: &ModelConfig, inputs: i64, outputs: i64) -> Linear {
    linear_from(path, Init::Randn { mean: 0.0, stdev: config.initializer_range }, inputs, outputs)
}

/// One whose weights begin otherwise.
pub(crate) fn linear_from(path: nn::Path, ws_init: Init, inputs: i64, outputs: i64) -> Linear {
    let bs_init = Some(Init::Const(0.0));
    let nn::Linear { ws, bs } =
        nn::linear(path, inputs, outputs, nn::LinearConfig { ws_init, bs_init, bias: true });
    Linear { weight: ws, bias: bs }
}

/// One that begins as PyTorch's own does: weights and bias uniform within 1 / √inputs.
pub(crate) fn pytorch_linear(path: nn::Path, inputs: i64, outputs: i64) -> Linear {
    let bound = 1.0 / (inputs.max(1) as f64).sqrt();
    let ws_init = Init::Uniform { lo: -bound, up: bound };
    let config = nn::LinearConfig { ws_init, bs_init: Some(ws_init), bias: true };
    let nn::Linear { ws, bs } = nn::linear(path, inputs, outputs, config);
    Linear { weight: ws, bias: bs }
}

pub(crate) fn layer_norm(path: nn::Path, size: i64) -> nn::LayerNorm {
    let config = nn::LayerNormConfig { eps: LAYER_NORM_EPS, ..Default::default() };
    nn::layer_norm(path, vec![size], config)
}

/// One whose weights begin at 0, so that at first it gives its bias, which is 0 as well.
pub(crate) fn silent_layer_norm(path: nn::Path, size: i64) -> nn::LayerNorm {
    let eps = LAYER_NORM_EPS;
    let config = nn::LayerNormConfig { eps, ws_init: Init::Const(0.0), ..Default::default() };
    nn::layer_norm(path, vec![size], config)
}

pub(crate) fn embedding(
    path: nn::Path,
    config: &ModelConfig,
    count: i64,
    size: i64,
    padding_idx: i64,
) -> nn::Embedding {
    let ws_init = Init::Randn { mean: 0.0, stdev: config.initializer_range };
    nn::embedding(
        path,
        count,
        size,
        nn::EmbeddingConfig { ws_init, padding_idx, ..Default::default() },
    )
}

pub(crate) fn activate(activation: Activation, x: &Tensor) -> Tensor {
    match activation {
        Activation::Gelu => x.gelu("none"),
        Activation::Relu => x.relu(),
        Activation::Swish => x.silu(),
    }
}

/// Layers of one kind in the two streams: either may be missing, and vision may use the text's.
#[derive(Debug)]
pub(crate) struct Streams<T> {
    text: Option<T>,
    vision: Option<T>,
    shared: bool,
}

impl<T> Streams<T> {
    pub(crate) fn new(
        text: Option<T>,
        vision: impl FnOnce() -> Option<T>,
        shared: bool,
    ) -> Streams<T> {
        let shared = shared && text.is_some();
        let vision = if shared { None } else { vision() };
        Streams { text, vision, shared }
    }

    /// Whether vision uses the text's.
    pub(crate) fn are_shared(&self) -> bool {
        self.shared
    }

    pub(crate) fn text(&self) -> Option<&T> {
        self.text.as_ref()
    }

    pub(crate) fn vision(&self) -> Option<&T> {
        if self.shared { self.text.as_ref() } else { self.vision.as_ref() }
    }
}

/// What ends every sublayer: projection, dropout, residual connection, normalisation.
#[derive(Debug)]
pub(crate) struct SublayerOutput {
    dense: Streams<Linear>,
    norm: Streams<nn::LayerNorm>,
    dropout: (f64, f64),
}

/// Which streams a sublayer has and what they share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sharing {
    pub(crate) text: bool,
    pub(crate) vision: bool,
    pub(crate) shared: bool,
    pub(crate) single_norm: bool,
}

impl Sharing {
    /// What the regions get of two settings: the text's, where they use the text's layers.
    pub(crate) fn of_vision<T>(self, text: T, vision: T) -> T {
        if self.shared && self.text { text } else { vision }
    }
}

impl SublayerOutput {
    /// `inputs` are the widths that come in: text, vision.
    pub(crate) fn new(
        path: &nn::Path,
        config: &ModelConfig,
        inputs: (i64, i64),
        sharing: Sharing,
    ) -> Self {
        let dense = Streams::new(
            sharing.text.then(|| linear(path / "dense", config, inputs.0, config.hidden_size)),
            || {
                sharing
                    .vision
                    .then(|| linear(path / "v_dense", config, inputs.1, config.v_hidden_size))
            },
            sharing.shared,
        );
        // One LayerNorm over the concatenated streams is, position by position, the same LayerNorm on each.
        let norm = Streams::new(
            sharing.text.then(|| layer_norm(path / "LayerNorm", config.hidden_size)),
            || sharing.vision.then(|| layer_norm(path / "v_LayerNorm", config.v_hidden_size)),
            sharing.shared || sharing.single_norm,
        );
        let (text, vision) = (config.hidden_dropout_prob, config.v_hidden_dropout_prob);
        SublayerOutput { dense, norm, dropout: (text, sharing.of_vision(text, vision)) }
    }

    /// Whether both streams go through the same layers.
    pub(crate) fn is_shared(&self) -> bool {
        self.dense.are_shared() && self.norm.are_shared()
    }

    pub(crate) fn text(&self, x: &Tensor, residual: &Tensor, train: bool) -> Option<Tensor> {
        let x = self.dense.text()?.forward(x);
        Some(self.norm.text()?.forward(&add_dropped(residual, &x, self.dropout.0, train)))
    }

    pub(crate) fn vision(&self, x: &Tensor, residual: &Tensor, train: bool) -> Option<Tensor> {
        let x = self.dense.vision()?.forward(x);
        Some(self.norm.vision()?.forward(&add_dropped(residual, &x, self.dropout.1, train)))
    }
}
