//! From fused vectors to scores.

use onnx::{Dtype, Value};

use super::parts::Parts;
use super::{ExportError, Inputs};
use crate::model::{ContextConfig, Positions, RankingHead};

/// Of the contextual module, whatever the configuration of the encoder says.
const HEADS: i64 = 8;

impl Parts<'_, '_> {
    /// Scores `[sets, candidates]` of fused vectors `[sets, candidates, pooler]`.
    pub(super) fn scores(
        &mut self,
        head: &RankingHead,
        fused: Value,
        inputs: &Inputs,
    ) -> Result<Value, ExportError> {
        let scores = match head {
            RankingHead::Alignment => {
                let logits = self.linear("cls.bi_seq_relationship", fused)?;
                let shares = self.graph.softmax(logits, -1)?;
                self.graph.slice(shares, -1, 0, 1)?
            }
            RankingHead::Linear => self.linear("clfs_dict.TASK3", fused)?,
            RankingHead::Contextual(context) => {
                let states = self.contextual(context, fused, inputs)?;
                self.linear("prediction_layer", states)?
            }
        };
        Ok(self.graph.squeeze(scores, &[-1])?)
    }

    fn contextual(
        &mut self,
        context: &ContextConfig,
        fused: Value,
        inputs: &Inputs,
    ) -> Result<Value, ExportError> {
        let mut states = match context.positions {
            Positions::None => fused,
            _ => self.with_positions(fused, inputs)?,
        };
        for layer in 0..context.layers {
            states = self.context_layer(&format!("context_transformer.{layer}"), states)?;
        }
        Ok(if context.add_inputs { self.graph.add(fused, states)? } else { states })
    }

    /// The embedding of its position added to every candidate, or to those of videos only.
    fn with_positions(&mut self, fused: Value, inputs: &Inputs) -> Result<Value, ExportError> {
        let each = self.graph.slice(inputs.region_mask, 2, 0, 1)?;
        let each = self.graph.squeeze(each, &[2])?;
        let count = self.count(each, 1)?;
        let position = self.graph.scope("positions", |graph| {
            let one = graph.scalar(1.0)?;
            graph.sub(count, one)
        })?;
        let position = self.whole(position)?;
        let mut positions = self.embedding("positional_emb", position)?;
        if let Some(video) = inputs.video {
            let video = self.graph.cast(video, Dtype::F32)?;
            let video = self.graph.unsqueeze(video, &[1, 2])?;
            positions = self.graph.mul(positions, video)?;
        }
        Ok(self.graph.add(fused, positions)?)
    }

    /// A post-LayerNorm BERT layer over the candidates.
    fn context_layer(&mut self, path: &str, x: Value) -> Result<Value, ExportError> {
        let own = format!("{path}.attention.self");
        let names = ["query", "key", "value"].map(|name| format!("{own}.{name}"));
        let width = self.config.pooler_size;
        let factor = 1.0 / ((width / HEADS) as f32).sqrt();
        let projected = self.linears(&names, x, factor)?;
        let context = self.graph.scope(&own, |graph| {
            let mut heads = |x, order: &[usize]| {
                let split = graph.reshape(x, &[0, 0, HEADS, width / HEADS])?;
                graph.transpose(split, order)
            };
            let query = heads(projected[0], &[0, 2, 1, 3])?;
            let keys = heads(projected[1], &[0, 2, 3, 1])?;
            let values = heads(projected[2], &[0, 2, 1, 3])?;
            let scores = graph.matmul(query, keys)?;
            let shares = graph.softmax(scores, -1)?;
            let context = graph.matmul(shares, values)?;
            let context = graph.transpose(context, &[0, 2, 1, 3])?;
            graph.reshape(context, &[0, 0, width])
        })?;
        let output = format!("{path}.attention.output");
        let attended = self.linear(&format!("{output}.dense"), context)?;
        let sum = self.graph.scope(&output, |graph| graph.add(x, attended))?;
        let x = self.layer_norm(&format!("{output}.LayerNorm"), sum)?;
        let inner = self.linear(&format!("{path}.intermediate.dense"), x)?;
        let inner = self.graph.gelu(inner)?;
        let outer = self.linear(&format!("{path}.output.dense"), inner)?;
        let sum = self.graph.scope(path, |graph| graph.add(x, outer))?;
        self.layer_norm(&format!("{path}.output.LayerNorm"), sum)
    }
}
