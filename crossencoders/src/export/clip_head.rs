//! ImageCoDe's heads on CLIP as a graph of embeddings: the towers are graphs of their own, whose results can be kept.

use onnx::{Dtype, GraphBuilder, Model, Value};

use super::parts::Parts;
use super::{ExportError, Weights};
use crate::clip::{ClipHead, ContextualHeadConfig, Fusion};
use crate::model::Positions;

/// The parameter of the towers that the cosine is multiplied by, as a logarithm.
const LOGIT_SCALE: &str = "clip.logit_scale";

/// The graph of a head on embeddings of so many values. Inputs: `image_features` f32 `[sets, candidates, embed]` and
/// `text_features` f32 `[sets, embed]`, as the towers give them, and for positions of video frames `video`, bool `[sets]`;
/// output: `scores` f32 `[sets, candidates]`. Sets and candidates are free; positions in time are known up to ten.
///
/// # Errors
/// [`ExportError`].
pub fn build_clip_head(
    weights: &Weights,
    head: &ClipHead,
    embed: i64,
) -> Result<Model, ExportError> {
    let mut graph = GraphBuilder::new("clip_head");
    let width = embed as usize;
    let images = ["sets".into(), "candidates".into(), width.into()];
    let images = graph.input("image_features", Dtype::F32, &images)?;
    let texts = graph.input("text_features", Dtype::F32, &["sets".into(), width.into()])?;
    let mut parts = Parts { graph: &mut graph, weights, config: head };
    let images = parts.normalised("image_features_normed", images)?;
    let texts = parts.normalised("text_features_normed", texts)?;
    let texts = parts.graph.unsqueeze(texts, &[1])?;
    let scores = match head {
        ClipHead::Cosine => parts.cosines(images, texts)?,
        ClipHead::Contextual(head) => {
            let fused = parts.fuse_embeddings(head, images, texts)?;
            let at_frames = head.context.positions == Positions::Video;
            let video = at_frames
                .then(|| parts.graph.input("video", Dtype::Bool, &["sets".into()]))
                .transpose()?;
            parts.contextual(&head.context, head.fusion.width(embed), fused, video)?
        }
    };
    graph.output("scores", scores)?;
    graph.metadata("network", "clip_head");
    graph.metadata("embed", embed.to_string());
    Ok(graph.finish()?)
}

impl Parts<'_, '_, &ClipHead> {
    /// Each embedding divided by its length.
    fn normalised(&mut self, name: &str, embeddings: Value) -> Result<Value, ExportError> {
        Ok(self.graph.scope(name, |graph| {
            let length = graph.reduce_l2(embeddings, &[-1], true)?;
            graph.div(embeddings, length)
        })?)
    }

    /// Scaled cosines `[sets, candidates]` of pictures `[sets, candidates, embed]` and descriptions `[sets, 1, embed]`.
    fn cosines(&mut self, images: Value, texts: Value) -> Result<Value, ExportError> {
        let fault = |what: String| ExportError::Parameter { name: LOGIT_SCALE.to_owned(), what };
        let scale = self.parameter(LOGIT_SCALE)?;
        let values = scale.f32s().map_err(|error| fault(error.to_string()))?;
        let &[scale] = values else {
            return Err(fault(format!("it holds {} numbers", values.len())));
        };
        let products = self.graph.mul(images, texts)?;
        let cosines = self.graph.reduce_sum(products, &[-1], false)?;
        Ok(self.graph.scale(cosines, scale.exp())?)
    }

    /// Fused vectors `[sets, candidates, width]`.
    fn fuse_embeddings(
        &mut self,
        head: &ContextualHeadConfig,
        images: Value,
        texts: Value,
    ) -> Result<Value, ExportError> {
        Ok(self.graph.scope("fusion", |graph| match head.fusion {
            Fusion::Mult => {
                let scaled = graph.scale(images, head.logit_scale as f32)?;
                graph.mul(scaled, texts)
            }
            Fusion::Concat => {
                // As many descriptions as candidates.
                let zeros = graph.sub(images, images)?;
                let texts = graph.add(texts, zeros)?;
                graph.concat(&[images, texts], -1)
            }
        })?)
    }
}
