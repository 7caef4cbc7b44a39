//! Embeddings, sublayers in order, poolers.

use onnx::{Dtype, Value};

use super::parts::Parts;
use super::sublayers::{Stream, Streams};
use super::{ExportError, Inputs};
use crate::config::FusionMethod;

/// Added to the scores of keys that are padding.
const MASKED: f32 = -10000.0;

/// How an encoder is built.
pub(super) struct Encoder {
    /// Compute all positions to the end, also those that nothing reads.
    pub all_positions: bool,
    /// There may be more than one candidate.
    pub repeats: bool,
}

/// Pooled streams, `[sets, candidates or 1, pooler]`.
pub(super) struct Pooled {
    text: Option<Value>,
    vision: Option<Value>,
}

impl Encoder {
    /// The pooled streams; `tap` is told of values by name.
    pub fn build(
        &self,
        parts: &mut Parts,
        inputs: &Inputs,
        tap: &mut dyn FnMut(String, Value),
    ) -> Result<Pooled, ExportError> {
        let zeros = self.repeats.then(|| parts.zeros(inputs)).transpose()?;
        let (text, vision) = parts.embed(inputs)?;
        let mut streams = Streams {
            text: Stream { states: text, mask: parts.text_mask(inputs)? },
            vision: Stream { states: vision, mask: parts.region_mask(inputs)? },
        };
        tap("emb_t".into(), text);
        tap("emb_v".into(), vision);
        let pools_first = parts.config.fusion_method != FusionMethod::VlBertVqa;
        let depth = parts.config.num_sublayers();
        let last = (0..depth).rfind(|&index| parts.config.is_attention(index));
        for index in 0..depth {
            let first = last == Some(index) && pools_first && !self.all_positions;
            let (text, vision) = parts.sublayer(index, streams, first, zeros)?;
            (streams.text.states, streams.vision.states) = (text, vision);
            tap(format!("sublayer.{index}.t"), text);
            tap(format!("sublayer.{index}.v"), vision);
        }
        let pooled = parts.pool(inputs, streams)?;
        for (name, value) in [("pooled_t", pooled.text), ("pooled_v", pooled.vision)] {
            value.into_iter().for_each(|value| tap(name.to_owned(), value));
        }
        Ok(pooled)
    }
}

impl Parts<'_, '_> {
    /// `[sets, 1, 1, 1, tokens]`.
    fn text_mask(&mut self, inputs: &Inputs) -> Result<Value, ExportError> {
        let mask = self.graph.cast(inputs.attention_mask, Dtype::F32)?;
        let mask = self.additive(mask)?;
        Ok(self.graph.unsqueeze(mask, &[1, 2, 3])?)
    }

    /// `[sets, candidates, 1, 1, regions]`.
    fn region_mask(&mut self, inputs: &Inputs) -> Result<Value, ExportError> {
        let mask = self.additive(inputs.region_mask)?;
        Ok(self.graph.unsqueeze(mask, &[2, 3])?)
    }

    /// 1 and 0 to 0 and a large negative number.
    fn additive(&mut self, mask: Value) -> Result<Value, ExportError> {
        Ok(self.graph.scope("mask", |graph| {
            let one = graph.scalar(1.0)?;
            let padding = graph.sub(one, mask)?;
            graph.scale(padding, MASKED)
        })?)
    }

    fn pool(&mut self, inputs: &Inputs, streams: Streams) -> Result<Pooled, ExportError> {
        let fusion = self.config.fusion_method;
        let text = match fusion {
            FusionMethod::None => None,
            FusionMethod::VlBertVqa => Some(self.last_word(inputs, streams.text.states)?),
            _ => Some(self.first(streams.text.states)?),
        };
        let vision = match fusion {
            FusionMethod::Mul | FusionMethod::Sum => Some(self.first(streams.vision.states)?),
            _ => None,
        };
        let mut pooled = |name: &str, x: Option<Value>| -> Result<Option<Value>, ExportError> {
            let Some(x) = x else { return Ok(None) };
            let x = self.linear(&format!("bert.{name}.dense"), x)?;
            Ok(Some(self.graph.relu(x)?))
        };
        Ok(Pooled { text: pooled("t_pooler", text)?, vision: pooled("v_pooler", vision)? })
    }

    /// Position 0: `[sets, candidates or 1, width]`.
    fn first(&mut self, states: Value) -> Result<Value, ExportError> {
        let first = self.graph.slice(states, 2, 0, 1)?;
        Ok(self.graph.squeeze(first, &[2])?)
    }

    /// The last word before the end, which VL-BERT reads an answer from.
    fn last_word(&mut self, inputs: &Inputs, states: Value) -> Result<Value, ExportError> {
        let end = self.text_end(inputs)?;
        let at = self.graph.scope("positions", |graph| {
            let two = graph.scalar(2.0)?;
            let at = graph.sub(end, two)?;
            graph.relu(at)
        })?;
        let at = self.whole(at)?;
        // [sets, candidates, tokens, width] to [sets, tokens, candidates, width]
        let by_word = self.graph.transpose(states, &[0, 2, 1, 3])?;
        Ok(self.graph.gather_row(by_word, at)?)
    }

    /// The pooled streams as one vector, `[sets, candidates, pooler]`.
    pub(super) fn fuse(&mut self, pooled: Pooled, inputs: &Inputs) -> Result<Value, ExportError> {
        let text = pooled.text.ok_or(ExportError::NothingPooled)?;
        let fused = match (self.config.fusion_method, pooled.vision) {
            (FusionMethod::Mul, Some(vision)) => self.graph.mul(text, vision)?,
            (FusionMethod::Sum, Some(vision)) => self.graph.add(text, vision)?,
            _ => text,
        };
        if self.graph.shape(fused).0[1] == self.graph.shape(inputs.features).0[1] {
            return Ok(fused);
        }
        let zeros = self.zeros(inputs)?;
        let zeros = self.graph.unsqueeze(zeros, &[2])?;
        Ok(self.graph.add(fused, zeros)?)
    }
}
