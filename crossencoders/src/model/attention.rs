//! The gated attention sublayer: each stream attends to itself, to the other, to both or not at all.

use tch::nn;
use tch::{Device, Kind, Tensor};

use super::layers::{Linear, Sharing, Streams, SublayerOutput, linear};
use crate::config::{AttentionSize, ModelConfig};

#[derive(Debug)]
pub(crate) struct Attention {
    /// Which stream attends to which: text→text, text→vision, vision→text, vision→vision.
    gates: [bool; 4],
    projections: Streams<Projections>,
    output: SublayerOutput,
    dropout: (f64, f64),
}

/// Queries, keys and values of one stream.
#[derive(Debug)]
struct Projections {
    query: Linear,
    key: Linear,
    value: Linear,
    heads: i64,
}

impl Projections {
    fn new(
        path: &nn::Path,
        prefix: &str,
        config: &ModelConfig,
        hidden: i64,
        size: AttentionSize,
    ) -> Self {
        let projection =
            |name: &str| linear(path / format!("{prefix}{name}"), config, hidden, size.hidden);
        let (query, key, value) = (projection("query"), projection("key"), projection("value"));
        Projections { query, key, value, heads: size.heads }
    }

    /// `[batch, length, heads * size]` to `[batch, heads, length, size]`.
    fn split_heads(&self, x: Tensor) -> Tensor {
        let (batch, length, width) = x.size3().unwrap_or_default();
        x.view([batch, length, self.heads, width / self.heads]).transpose(1, 2)
    }
}

impl Attention {
    pub(crate) fn new(path: &nn::Path, config: &ModelConfig, sublayer: i64) -> Attention {
        let gates = [
            &config.tt_attn_sublayers,
            &config.tv_attn_sublayers,
            &config.vt_attn_sublayers,
            &config.vv_attn_sublayers,
        ]
        .map(|group| group.contains(&sublayer));
        let [tt, tv, vt, vv] = gates;
        let sharing = Sharing {
            text: tt || tv,
            vision: vt || vv,
            shared: config.shared_sublayers.contains(&sublayer),
            single_norm: config.single_ln_sublayers.contains(&sublayer),
        };
        let (text, vision) = (config.text_attention(sublayer), config.vision_attention(sublayer));
        let own = path / "attention_self";
        let projections = Streams::new(
            sharing.text.then(|| Projections::new(&own, "", config, config.hidden_size, text)),
            || {
                sharing
                    .vision
                    .then(|| Projections::new(&own, "v_", config, config.v_hidden_size, vision))
            },
            sharing.shared,
        );
        let widths = (text.hidden, vision.hidden);
        let dropout = (config.attention_probs_dropout_prob, config.v_attention_probs_dropout_prob);
        Attention {
            gates,
            projections,
            output: SublayerOutput::new(&(path / "attention_output"), config, widths, sharing),
            dropout: (dropout.0, sharing.of_vision(dropout.0, dropout.1)),
        }
    }

    /// Whether words and regions go through the same layers and all attend to all.
    pub(crate) fn is_single_stream(&self) -> bool {
        self.gates == [true; 4] && self.projections.are_shared() && self.output.is_shared()
    }

    /// The next states of both streams, or of the one that holds words and regions; one without queries here comes back unchanged. With `First`, only the states of
    /// position 0 are computed, `[batch, 1, width]`: all positions are attended to, but only those attend.
    pub(crate) fn forward(
        &self,
        text: &Stream,
        vision: Option<&Stream>,
        queries: Queries,
        train: bool,
    ) -> (Tensor, Option<Tensor>) {
        let [tt, tv, vt, vv] = self.gates;
        let text_keys = Keys::new(self.projections.text(), text, tt || vt);
        let vision_keys =
            vision.and_then(|vision| Keys::new(self.projections.vision(), vision, tv || vv));
        let text = queries.of(&text.states);
        let vision = vision.map(|vision| queries.of(&vision.states));
        let attend = |projections: Option<&Projections>,
                      x: &Tensor,
                      keys: [Option<&Keys>; 2],
                      dropout: f64| {
            let keys: Vec<&Keys> = keys.into_iter().flatten().collect();
            projections
                .filter(|_| !keys.is_empty())
                .map(|p| attend(p, x, &keys, if train { dropout } else { 0.0 }))
        };
        let from_text = [text_keys.as_ref().filter(|_| tt), vision_keys.as_ref().filter(|_| tv)];
        let from_vision = [text_keys.as_ref().filter(|_| vt), vision_keys.as_ref().filter(|_| vv)];
        let next_text = (tt || tv)
            .then(|| attend(self.projections.text(), &text, from_text, self.dropout.0))
            .flatten()
            .and_then(|context| self.output.text(&context, &text, train));
        let next_vision = vision.map(|vision| {
            (vt || vv)
                .then(|| attend(self.projections.vision(), &vision, from_vision, self.dropout.1))
                .flatten()
                .and_then(|context| self.output.vision(&context, &vision, train))
                .unwrap_or(vision)
        });
        (next_text.unwrap_or(text), next_vision)
    }
}

/// States of a stream, `[batch, length, width]`, and its additive mask, `[batch, 1, 1, length]`.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) states: Tensor,
    pub(crate) mask: Tensor,
}

impl Stream {
    pub(crate) fn shallow_clone(&self) -> Stream {
        Stream { states: self.states.shallow_clone(), mask: self.mask.shallow_clone() }
    }
}

/// Which positions attend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queries {
    All,
    /// Position 0, which is all that poolers look at.
    First,
}

impl Queries {
    fn of(self, states: &Tensor) -> Tensor {
        match self {
            Queries::All => states.shallow_clone(),
            Queries::First => states.narrow(1, 0, 1),
        }
    }
}

/// What a stream offers to those who attend to it.
struct Keys {
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
}

impl Keys {
    fn new(projections: Option<&Projections>, stream: &Stream, wanted: bool) -> Option<Keys> {
        let projections = projections.filter(|_| wanted)?;
        Some(Keys {
            keys: projections.split_heads(projections.key.forward(&stream.states)),
            values: projections.split_heads(projections.value.forward(&stream.states)),
            mask: stream.mask.shallow_clone(),
        })
    }
}

/// One softmax over the keys of all attended streams together: `[batch, length, width]`.
fn attend(projections: &Projections, x: &Tensor, attended: &[&Keys], dropout: f64) -> Tensor {
    let join = |part: fn(&Keys) -> &Tensor, dim: i64| match attended {
        [one] => part(one).shallow_clone(),
        many => {
            let parts: Vec<&Tensor> = many.iter().map(|keys| part(keys)).collect();
            Tensor::cat(&parts, dim)
        }
    };
    let query = projections.split_heads(projections.query.forward(x));
    let (keys, values) = (join(|k| &k.keys, 2), join(|k| &k.values, 2));
    let mask = join(|k| &k.mask, 3);
    let context = dot_product_attention(&query, &keys, &values, &mask, dropout);
    // [batch, heads, length, size] to [batch, length, heads * size]
    context.transpose(1, 2).flatten(2, 3)
}

/// `[batch, heads, length, size]` from queries like that, keys and values `[batch, heads, keys, size]` and an additive
/// mask `[batch, 1, 1, keys]`.
fn dot_product_attention(
    query: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    mask: &Tensor,
    dropout: f64,
) -> Tensor {
    if dropout > 0.0 && query.device() == Device::Cpu {
        // libtorch's fused attention has no dropout on the processor, and its unfused one draws masks slowly.
        return attention_with_dropout(query, keys, values, mask, dropout);
    }
    Tensor::scaled_dot_product_attention(
        query,
        keys,
        values,
        Some(mask),
        dropout,
        false,
        None,
        false,
    )
}

fn attention_with_dropout(
    query: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    mask: &Tensor,
    p: f64,
) -> Tensor {
    let (batch, heads, length, size) = query.size4().unwrap_or_default();
    let count = keys.size()[2];
    // [batch, heads, …] to [batch * heads, …]
    let flat = |x: &Tensor| x.flatten(0, 1);
    let mask = flat(&mask.expand([batch, heads, 1, count], false));
    let scale = 1.0 / (size as f64).sqrt();
    let scores = mask.baddbmm(&flat(query), &flat(keys).transpose(1, 2), 1.0, scale);
    let weights = super::dropout::dropout(&scores.softmax(-1, query.kind()), p, true);
    weights.bmm(&flat(values)).view([batch, heads, length, size])
}

/// Looking into a sublayer: fused attention gives no weights, so they are computed step by step here.
impl Attention {
    /// Whether the text attends to regions here.
    pub(crate) fn reads_regions(&self) -> bool {
        self.gates[1]
    }

    /// How much every word attends to every region, mean over heads: `[batch, tokens, regions]`; `None` if the text does
    /// not attend to regions here. Where the text attends to itself in the same softmax, the rest of a row is there.
    pub(crate) fn words_to_regions(&self, text: &Stream, vision: &Stream) -> Option<Tensor> {
        let [tt, tv, ..] = self.gates;
        let (of_text, of_vision) =
            (self.projections.text().filter(|_| tv)?, self.projections.vision()?);
        let query = of_text.split_heads(of_text.query.forward(&text.states));
        let scale = (query.size()[3] as f64).sqrt();
        let scores = |projections: &Projections, x: &Stream| {
            let keys = projections.split_heads(projections.key.forward(&x.states));
            query.matmul(&keys.transpose(2, 3)) / scale + &x.mask
        };
        let to_regions = scores(of_vision, vision);
        let regions = to_regions.size()[3];
        let all = match tt {
            true => Tensor::cat(&[scores(of_text, text), to_regions], 3),
            false => to_regions,
        };
        // [batch, heads, tokens, keys], regions last
        let weights = all.softmax(3, Kind::Float);
        let first = weights.size()[3] - regions;
        Some(weights.narrow(3, first, regions).mean_dim(1, false, Kind::Float))
    }
}
