//! Descriptions to embeddings.

use tch::nn;
use tch::{Kind, Tensor};

use super::Observe;
use super::blocks::{LayerNorm, ResidualBlock, Rows};
use super::config::ClipConfig;

/// A transformer in which a position sees what lies before it; the end of the text is what is read.
#[derive(Debug)]
pub struct TextTower {
    /// `[vocabulary, width]`
    words: Tensor,
    /// `[context, width]`
    positions: Tensor,
    blocks: Vec<ResidualBlock>,
    after: LayerNorm,
    /// `[width, embed]`
    projection: Tensor,
    /// What it computes in.
    pub(super) kind: Kind,
}

impl TextTower {
    /// Creates all parameters, which are 0.
    pub(super) fn new(path: &nn::Path, config: &ClipConfig) -> TextTower {
        let text = &config.text_cfg;
        let blocks = path / "transformer" / "resblocks";
        TextTower {
            words: (path / "token_embedding").zeros("weight", &[text.vocab_size, text.width]),
            positions: path.zeros("positional_embedding", &[text.context_length, text.width]),
            blocks: (0..text.layers)
                .map(|number| ResidualBlock::new(&(&blocks / number), text.width))
                .collect(),
            after: LayerNorm::new(path / "ln_final", text.width),
            projection: path.zeros("text_projection", &[text.width, config.embed_dim]),
            kind: Kind::Float,
        }
    }

    /// Embeddings `[N, embed]`, f32 and not normalised, of tokens, i64 `[N, T]`, up to the context's length. What follows
    /// the first end of a text changes nothing.
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        self.embed(tokens, None)
    }

    /// Whether none of its parameters learns.
    pub(super) fn is_frozen(&self) -> bool {
        let own = [&self.words, &self.positions, &self.projection];
        let learns = own.into_iter().any(Tensor::requires_grad);
        !learns && !self.after.learns() && !self.blocks.iter().any(ResidualBlock::learns)
    }

    /// The same while `observe` sees values inside.
    pub fn forward_observed(&self, tokens: &Tensor, observe: Observe) -> Tensor {
        self.embed(tokens, Some(observe))
    }

    /// Without an observer the last block computes the end of the text only.
    fn embed(&self, tokens: &Tensor, mut observe: Option<Observe>) -> Tensor {
        let end = ends(tokens);
        let words = Tensor::embedding(&self.words, tokens, -1, false, false);
        let x = words + self.positions.narrow(0, 0, tokens.size()[1]);
        let mut x = x.to_kind(self.kind);
        let observed = observe.is_some();
        for (number, block) in self.blocks.iter().enumerate() {
            let is_last = number + 1 == self.blocks.len();
            let rows = if is_last && !observed { Rows::At(&end) } else { Rows::All };
            x = block.forward(&x, rows, true);
            if let (0, Some(observe)) = (number, &mut observe) {
                observe("text.block0", &x);
            }
        }
        let x = self.after.forward(&x);
        let read = match observe {
            Some(observe) => {
                observe("eot_index", &end);
                observe("text.ln_final", &x);
                let index = end.view([-1, 1, 1]).expand([-1, 1, x.size()[2]], false);
                x.gather(1, &index, false)
            }
            None => x,
        };
        read.squeeze_dim(1).matmul(&self.projection.to_kind(self.kind)).to_kind(Kind::Float)
    }
}

/// The position of the largest id, the first one if it is there more than once: i64 `[N]`.
fn ends(tokens: &Tensor) -> Tensor {
    let length = tokens.size()[1];
    let positions = Tensor::arange(length, (Kind::Int64, tokens.device()));
    // libtorch promises nothing about which of several largest values it names.
    (tokens * length - positions).argmax(1, false)
}
