//! The feed-forward sublayer of either stream or both.

use tch::Tensor;
use tch::nn;

use super::layers::{Linear, Sharing, Streams, SublayerOutput, activate, linear};
use crate::config::{Activation, ModelConfig};

#[derive(Debug)]
pub(crate) struct FeedForward {
    intermediate: Streams<Linear>,
    output: SublayerOutput,
    activations: (Activation, Activation),
    has: (bool, bool),
}

impl FeedForward {
    pub(crate) fn new(path: &nn::Path, config: &ModelConfig, sublayer: i64) -> FeedForward {
        let sharing = Sharing {
            text: config.t_ff_sublayers.contains(&sublayer),
            vision: config.v_ff_sublayers.contains(&sublayer),
            shared: config.shared_sublayers.contains(&sublayer),
            single_norm: config.single_ln_sublayers.contains(&sublayer),
        };
        let widths = config.intermediate(sublayer);
        let own = path / "intermediate";
        let intermediate = Streams::new(
            sharing.text.then(|| linear(&own / "dense", config, config.hidden_size, widths.0)),
            || {
                sharing
                    .vision
                    .then(|| linear(&own / "v_dense", config, config.v_hidden_size, widths.1))
            },
            sharing.shared,
        );
        FeedForward {
            intermediate,
            output: SublayerOutput::new(&(path / "output"), config, widths, sharing),
            activations: (
                config.hidden_act,
                sharing.of_vision(config.hidden_act, config.v_hidden_act),
            ),
            has: (sharing.text, sharing.vision),
        }
    }

    /// Whether words and regions go through the same layers.
    pub(crate) fn is_single_stream(&self) -> bool {
        self.has == (true, true) && self.intermediate.are_shared() && self.output.is_shared()
    }

    /// The next states of both streams, or of the one that holds words and regions; a stream without this sublayer comes
    /// back unchanged.
    pub(crate) fn forward(
        &self,
        text: &Tensor,
        vision: Option<&Tensor>,
        train: bool,
    ) -> (Tensor, Option<Tensor>) {
        let next_text = self.intermediate.text().filter(|_| self.has.0).and_then(|dense| {
            self.output.text(&activate(self.activations.0, &dense.forward(text)), text, train)
        });
        let next_vision = |vision: &Tensor| {
            let dense = self.intermediate.vision().filter(|_| self.has.1)?;
            let active = activate(self.activations.1, &dense.forward(vision));
            self.output.vision(&active, vision, train)
        };
        (
            next_text.unwrap_or_else(|| text.shallow_clone()),
            vision.map(|vision| next_vision(vision).unwrap_or_else(|| vision.shallow_clone())),
        )
    }
}
