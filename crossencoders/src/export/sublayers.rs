//! The gated sublayers, as [`model`](crate::model) has them.

use onnx::Value;

use super::ExportError;
use super::parts::Parts;

/// A stream between sublayers.
#[derive(Clone, Copy)]
pub(super) struct Stream {
    /// `[sets, candidates or 1, positions, width]`.
    pub states: Value,
    /// Added to scores: `[sets, candidates or 1, 1, 1, positions]`.
    pub mask: Value,
}

/// Text and regions.
#[derive(Clone, Copy)]
pub(super) struct Streams {
    pub text: Stream,
    pub vision: Stream,
}

/// Names of one stream's layers: those of vision begin with `v_`, unless it uses the text's.
#[derive(Clone, Copy)]
struct Names {
    dense: &'static str,
    norm: &'static str,
}

const TEXT: &str = "";
const VISION: &str = "v_";

/// Which streams a sublayer has and what they share.
struct Sharing {
    text: bool,
    vision: bool,
    shared: bool,
    single_norm: bool,
}

impl Sharing {
    fn names_of(&self, vision: bool) -> Names {
        let shared = self.shared && self.text;
        let norm = (self.shared || self.single_norm) && self.text;
        Names {
            dense: if vision && !shared { VISION } else { TEXT },
            norm: if vision && !norm { VISION } else { TEXT },
        }
    }
}

/// Keys and values of a stream: `[.., heads, size, positions]`, `[.., heads, positions, size]`.
struct Keys {
    keys: Value,
    values: Value,
    mask: Value,
}

/// What a stream's projections give.
struct Projected {
    query: Option<Value>,
    keys: Option<Keys>,
}

impl Parts<'_, '_> {
    /// The states after a sublayer; with `first`, of position 0 alone.
    pub(super) fn sublayer(
        &mut self,
        index: i64,
        streams: Streams,
        first: bool,
        zeros: Option<Value>,
    ) -> Result<(Value, Value), ExportError> {
        match self.config.is_attention(index) {
            true => self.attention(index, streams, first, zeros),
            false => self.feed_forward(index, streams),
        }
    }

    fn attention(
        &mut self,
        index: i64,
        Streams { text, vision }: Streams,
        first: bool,
        zeros: Option<Value>,
    ) -> Result<(Value, Value), ExportError> {
        let config = self.config;
        let [tt, tv, vt, vv] = [
            &config.tt_attn_sublayers,
            &config.tv_attn_sublayers,
            &config.vt_attn_sublayers,
            &config.vv_attn_sublayers,
        ]
        .map(|group| group.contains(&index));
        let sharing = self.sharing(index, tt || tv, vt || vv);
        let heads = (config.text_attention(index).heads, config.vision_attention(index).heads);
        let heads = if sharing.shared && sharing.text { (heads.0, heads.0) } else { heads };
        let projected = (
            self.project(index, &sharing, false, text, heads.0, (tt || tv, tt || vt), first)?,
            self.project(index, &sharing, true, vision, heads.1, (vt || vv, tv || vv), first)?,
        );
        let (text, vision) = if first {
            (self.graph.slice(text.states, 2, 0, 1)?, self.graph.slice(vision.states, 2, 0, 1)?)
        } else {
            (text.states, vision.states)
        };
        let (Projected { query: t, keys: tk }, Projected { query: v, keys: vk }) = projected;
        let mut attended = |query: Option<Value>, keys: [(bool, &Option<Keys>); 2]| {
            let keys: Vec<&Keys> =
                keys.into_iter().filter_map(|(is, keys)| keys.as_ref().filter(|_| is)).collect();
            match query {
                Some(query) if !keys.is_empty() => {
                    let context = self.attend(index, query, &keys, zeros)?;
                    Ok::<_, ExportError>(Some(context))
                }
                _ => Ok(None),
            }
        };
        let of_text = attended(t, [(tt, &tk), (tv, &vk)])?;
        let of_vision = attended(v, [(vt, &tk), (vv, &vk)])?;
        let output = format!("bert.encoder.layer.{index}.attention_output");
        Ok((
            self.output(&output, sharing.names_of(false), of_text, text)?,
            self.output(&output, sharing.names_of(true), of_vision, vision)?,
        ))
    }

    fn sharing(&self, index: i64, text: bool, vision: bool) -> Sharing {
        Sharing {
            text,
            vision,
            shared: self.config.shared_sublayers.contains(&index),
            single_norm: self.config.single_ln_sublayers.contains(&index),
        }
    }

    /// Queries, keys and values of a stream, as far as they are wanted, in one product.
    #[allow(clippy::too_many_arguments)]
    fn project(
        &mut self,
        index: i64,
        sharing: &Sharing,
        of_vision: bool,
        stream: Stream,
        heads: i64,
        (asks, is_asked): (bool, bool),
        first: bool,
    ) -> Result<Projected, ExportError> {
        let none = Projected { query: None, keys: None };
        let has =
            if of_vision { sharing.vision || sharing.shared && sharing.text } else { sharing.text };
        if !has {
            return Ok(none);
        }
        let prefix = sharing.names_of(of_vision).dense;
        let own = format!("bert.encoder.layer.{index}.attention_self.{prefix}");
        let name = |what: &str| format!("{own}{what}");
        let width = self.parameter(&format!("{}.weight", name("query")))?.shape()[0];
        let factor = 1.0 / ((width as i64 / heads) as f32).sqrt();
        let (mut query, mut pair) = (None, None);
        if asks && is_asked && !first {
            let names = [name("query"), name("key"), name("value")];
            let all = self.linears(&names, stream.states, factor)?;
            (query, pair) = (Some(all[0]), Some((all[1], all[2])));
        } else {
            if asks {
                let states = match first {
                    true => self.graph.slice(stream.states, 2, 0, 1)?,
                    false => stream.states,
                };
                query = Some(self.linears(&[name("query")], states, factor)?[0]);
            }
            if is_asked {
                let names = [name("key"), name("value")];
                let both = self.linears(&names, stream.states, 1.0)?;
                pair = Some((both[0], both[1]));
            }
        }
        let query = query.map(|x| self.split_heads(&own, x, heads, [0, 1, 3, 2, 4])).transpose()?;
        let keys = match pair {
            None => None,
            Some((keys, values)) => Some(Keys {
                keys: self.split_heads(&own, keys, heads, [0, 1, 3, 4, 2])?,
                values: self.split_heads(&own, values, heads, [0, 1, 3, 2, 4])?,
                mask: stream.mask,
            }),
        };
        Ok(Projected { query, keys })
    }

    /// `[sets, candidates, positions, heads * size]` to five sides in this order.
    fn split_heads(
        &mut self,
        scope: &str,
        x: Value,
        heads: i64,
        order: [usize; 5],
    ) -> Result<Value, ExportError> {
        Ok(self.graph.scope(scope, |graph| {
            let split = graph.reshape(x, &[0, 0, 0, heads, -1])?;
            graph.transpose(split, &order)
        })?)
    }

    /// One softmax over the keys of all attended streams together: `[sets, candidates or 1, positions, width]`.
    fn attend(
        &mut self,
        index: i64,
        query: Value,
        attended: &[&Keys],
        zeros: Option<Value>,
    ) -> Result<Value, ExportError> {
        let scope = format!("bert.encoder.layer.{index}.attention_self");
        Ok(self.graph.scope(&scope, |graph| {
            let (keys, values, mask) = match attended {
                [one] => (one.keys, one.values, one.mask),
                many => {
                    // What is joined must have as many candidates.
                    let mut repeated = |x| match zeros {
                        Some(zeros) if graph.shape(x).0[1] != graph.shape(zeros).0[1] => {
                            let zeros = graph.unsqueeze(zeros, &[2, 3, 4])?;
                            graph.add(x, zeros)
                        }
                        _ => Ok(x),
                    };
                    let mut parts = (Vec::new(), Vec::new(), Vec::new());
                    for keys in many {
                        parts.0.push(repeated(keys.keys)?);
                        parts.1.push(repeated(keys.values)?);
                        parts.2.push(repeated(keys.mask)?);
                    }
                    let keys = graph.concat(&parts.0, -1)?;
                    (keys, graph.concat(&parts.1, 3)?, graph.concat(&parts.2, -1)?)
                }
            };
            let scores = graph.matmul(query, keys)?;
            let scores = graph.add(scores, mask)?;
            let shares = graph.softmax(scores, -1)?;
            let context = graph.matmul(shares, values)?;
            let context = graph.transpose(context, &[0, 1, 3, 2, 4])?;
            let sides = graph.shape(context).clone();
            let width = sides.0[3].fixed().zip(sides.0[4].fixed()).map(|(h, size)| h * size);
            graph.reshape(context, &[0, 0, 0, width.map_or(-1, |width| width as i64)])
        })?)
    }

    /// What ends a sublayer: projection, residual connection, normalisation; without input, the states as they are.
    fn output(
        &mut self,
        path: &str,
        names: Names,
        x: Option<Value>,
        residual: Value,
    ) -> Result<Value, ExportError> {
        let Some(x) = x else { return Ok(residual) };
        let x = self.linear(&format!("{path}.{}dense", names.dense), x)?;
        let sum = self.graph.scope(path, |graph| graph.add(residual, x))?;
        self.layer_norm(&format!("{path}.{}LayerNorm", names.norm), sum)
    }

    fn feed_forward(
        &mut self,
        index: i64,
        streams: Streams,
    ) -> Result<(Value, Value), ExportError> {
        let config = self.config;
        let has = (config.t_ff_sublayers.contains(&index), config.v_ff_sublayers.contains(&index));
        let sharing = self.sharing(index, has.0, has.1);
        let own = |activation| match sharing.shared && sharing.text {
            true => config.hidden_act,
            false => activation,
        };
        let layer = format!("bert.encoder.layer.{index}");
        let mut next = |stream: Stream, has: bool, of_vision: bool, activation| {
            if !has {
                return Ok::<_, ExportError>(stream.states);
            }
            let names = sharing.names_of(of_vision);
            let dense = format!("{layer}.intermediate.{}dense", names.dense);
            let inner = self.linear(&dense, stream.states)?;
            let inner = self.activate(activation, inner)?;
            self.output(&format!("{layer}.output"), names, Some(inner), stream.states)
        };
        Ok((
            next(streams.text, has.0, false, config.hidden_act)?,
            next(streams.vision, has.1, true, own(config.v_hidden_act))?,
        ))
    }
}
