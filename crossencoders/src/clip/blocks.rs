//! What the transformers of both towers are made of.

use tch::Tensor;
use tch::nn::{self, Init};

use super::config::HEAD;
use crate::model::layers::{Linear, linear_from};

const LAYER_NORM_EPS: f64 = 1e-5;

/// A normalisation that computes in f32 and gives what came in.
#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub fn new(path: nn::Path, width: i64) -> LayerNorm {
        LayerNorm { weight: path.zeros("weight", &[width]), bias: path.zeros("bias", &[width]) }
    }

    /// Whether a parameter of it learns.
    pub fn learns(&self) -> bool {
        self.weight.requires_grad() || self.bias.requires_grad()
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let size = self.weight.size();
        let wide = x.to_kind(self.weight.kind());
        wide.layer_norm(size, Some(&self.weight), Some(&self.bias), LAYER_NORM_EPS, false)
            .to_kind(x.kind())
    }
}

/// A projection whose parameters are 0 until they are loaded.
pub(super) fn linear(path: nn::Path, inputs: i64, outputs: i64) -> Linear {
    linear_from(path, Init::Const(0.0), inputs, outputs)
}

/// Which positions of a block's result are needed.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// All.
    All,
    /// The first of each.
    First,
    /// One of each: i64 `[N]`.
    At(&'a Tensor),
}

impl Rows<'_> {
    /// These rows of `[N, T, width]`: `[N, T or 1, width]`.
    fn of(self, x: &Tensor) -> Tensor {
        match self {
            Rows::All => x.shallow_clone(),
            Rows::First => x.narrow(1, 0, 1),
            Rows::At(rows) => {
                let index = rows.view([-1, 1, 1]).expand([-1, 1, x.size()[2]], false);
                x.gather(1, &index, false)
            }
        }
    }
}

/// x += attention(ln_1(x)); x += mlp(ln_2(x)).
#[derive(Debug)]
pub(super) struct ResidualBlock {
    attention_norm: LayerNorm,
    attention: Attention,
    mlp_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl ResidualBlock {
    pub fn new(path: &nn::Path, width: i64) -> ResidualBlock {
        let mlp = path / "mlp";
        ResidualBlock {
            attention_norm: LayerNorm::new(path / "ln_1", width),
            attention: Attention::new(&(path / "attn"), width),
            mlp_norm: LayerNorm::new(path / "ln_2", width),
            widen: linear(&mlp / "c_fc", width, 4 * width),
            narrow: linear(&mlp / "c_proj", 4 * width, width),
        }
    }

    /// Whether a parameter of it learns.
    pub fn learns(&self) -> bool {
        let Attention { weight, bias, output } = &self.attention;
        let linears = [output, &self.widen, &self.narrow];
        [weight, bias].into_iter().any(Tensor::requires_grad)
            || linears.into_iter().any(Linear::learns)
            || self.attention_norm.learns()
            || self.mlp_norm.learns()
    }

    /// Of `[N, T, width]`; with `causal` a position sees itself and what lies before it.
    pub fn forward(&self, x: &Tensor, rows: Rows, causal: bool) -> Tensor {
        let attended = self.attention.forward(&self.attention_norm.forward(x), rows, causal);
        let x = rows.of(x) + attended;
        let wide = self.widen.forward(&self.mlp_norm.forward(&x));
        // QuickGELU
        let wide = &wide * (&wide * 1.702).sigmoid();
        x + self.narrow.forward(&wide)
    }
}

#[derive(Debug)]
struct Attention {
    /// Rows of queries, keys and values, `[3 width, width]`.
    weight: Tensor,
    bias: Tensor,
    output: Linear,
}

impl Attention {
    fn new(path: &nn::Path, width: i64) -> Attention {
        Attention {
            weight: path.zeros("in_proj_weight", &[3 * width, width]),
            bias: path.zeros("in_proj_bias", &[3 * width]),
            output: linear(path / "out_proj", width, width),
        }
    }

    fn forward(&self, x: &Tensor, rows: Rows, causal: bool) -> Tensor {
        let width = x.size()[2];
        let part = |x: &Tensor, first: i64, count: i64| {
            let of = |parameter: &Tensor| {
                parameter.narrow(0, first * width, count * width).to_kind(x.kind())
            };
            x.linear(&of(&self.weight), Some(of(&self.bias)))
        };
        let [query, key, value] = match rows {
            Rows::All => thirds(&part(x, 0, 3), 3),
            Rows::First | Rows::At(_) => {
                let [key, value] = thirds(&part(x, 1, 2), 2);
                [part(&rows.of(x), 0, 1), key, value]
            }
        };
        // The one row that asks sees what does not lie behind it.
        let seen = match rows {
            Rows::At(at) if causal => {
                let columns = Tensor::arange(x.size()[1], (at.kind(), at.device()));
                Some(columns.le_tensor(&at.view([-1, 1, 1, 1])))
            }
            _ => None,
        };
        let triangle = causal && matches!(rows, Rows::All);
        self.output.forward(&attend(&query, &key, &value, seen.as_ref(), triangle))
    }
}

/// The parts of `[N, T, count width]`.
fn thirds<const N: usize>(x: &Tensor, count: i64) -> [Tensor; N] {
    let width = x.size()[2] / count;
    std::array::from_fn(|part| x.narrow(2, part as i64 * width, width))
}

/// Attention with heads of 64 values: `[N, rows, width]`.
pub(super) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Tensor>,
    causal: bool,
) -> Tensor {
    // [N, T, width] to [N, heads, T, 64]
    let heads = |x: &Tensor| x.unflatten(2, [-1, HEAD]).transpose(1, 2);
    let context = Tensor::scaled_dot_product_attention(
        &heads(query),
        &heads(key),
        &heads(value),
        mask,
        0.0,
        causal,
        None,
        false,
    );
    context.transpose(1, 2).flatten(2, 3)
}
