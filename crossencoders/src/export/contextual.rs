//! ImageCoDe's contextual module: a transformer over the candidates of a set. On a cross-encoder or on CLIP.

use onnx::{Dtype, Value};

use super::ExportError;
use super::parts::Parts;
use crate::model::{ContextConfig, Positions};

/// Whatever the configuration of the encoder says.
const HEADS: i64 = 8;

impl<C> Parts<'_, '_, C> {
    /// Scores `[sets, candidates]` of fused vectors `[sets, candidates, width]`; with `video`, bool `[sets]`, only those sets
    /// get positions.
    pub fn contextual(
        &mut self,
        context: &ContextConfig,
        width: i64,
        fused: Value,
        video: Option<Value>,
    ) -> Result<Value, ExportError> {
        let mut states = match context.positions {
            Positions::None => fused,
            _ => self.with_positions(fused, video)?,
        };
        for layer in 0..context.layers {
            states = self.context_layer(&format!("context_transformer.{layer}"), width, states)?;
        }
        if context.add_inputs {
            states = self.graph.add(fused, states)?;
        }
        let scores = self.linear("prediction_layer", states)?;
        Ok(self.graph.squeeze(scores, &[-1])?)
    }

    /// The embedding of its position added to every candidate, or to those of videos only.
    fn with_positions(&mut self, fused: Value, video: Option<Value>) -> Result<Value, ExportError> {
        let each = self.graph.slice(fused, 2, 0, 1)?;
        let each = self.graph.squeeze(each, &[2])?;
        let count = self.count(each, 1)?;
        let position = self.graph.scope("positions", |graph| {
            let one = graph.scalar(1.0)?;
            graph.sub(count, one)
        })?;
        let position = self.whole(position)?;
        let mut positions = self.embedding("positional_emb", position)?;
        if let Some(video) = video {
            let video = self.graph.cast(video, Dtype::F32)?;
            let video = self.graph.unsqueeze(video, &[1, 2])?;
            positions = self.graph.mul(positions, video)?;
        }
        Ok(self.graph.add(fused, positions)?)
    }

    /// A post-LayerNorm BERT layer over the candidates.
    fn context_layer(&mut self, path: &str, width: i64, x: Value) -> Result<Value, ExportError> {
        let own = format!("{path}.attention.self");
        let names = ["query", "key", "value"].map(|name| format!("{own}.{name}"));
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
