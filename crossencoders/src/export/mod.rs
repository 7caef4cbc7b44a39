//! Cross-encoders as ONNX graphs, from configuration and weights.
//!
//! The graph is the encoder that [`model`](crate::model) runs, sublayer by sublayer, with a ranking head. Sides are never
//! computed in it: states are `[sets, candidates, positions, width]` from beginning to end. What depends on the text alone
//! has one candidate until it meets the images, and is repeated by broadcasting, or where texts and regions are keys of one
//! softmax, by adding zeros of the images' shape.

mod clip_head;
mod contextual;
mod embeddings;
mod encoder;
mod exported;
mod heads;
mod parts;
mod sublayers;
mod verify;

use std::collections::BTreeMap;

use onnx::{BuildError, Dtype, GraphBuilder, Model, TensorData, Value};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::config::ModelConfig;
use crate::model::{Positions, RankingHead};
use encoder::Encoder;
use parts::Parts;

pub use clip_head::build_clip_head;
pub use exported::{ExportedError, ExportedRanker, export, export_clip_head};
pub use verify::{Difference, VerifyError, verify, verify_clip, verify_clip_head};

/// Parameters by VOLTA's names, f32.
pub type Weights = BTreeMap<String, TensorData>;

/// How inputs and scores are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Descriptions with candidates: features `[sets, candidates, regions, dim]`, scores `[sets, candidates]`.
    #[default]
    Sets,
    /// Descriptions with one image each: features `[pairs, regions, dim]`, scores `[pairs]`. Not for the contextual head,
    /// whose scores depend on the other candidates.
    Pairs,
}

/// Why there is no graph.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ExportError {
    /// A parameter that the model needs.
    #[error("the weights hold no `{0}`")]
    Missing(String),
    /// A form that the head does not have.
    #[error("the contextual head scores candidates together: export it in the form of sets")]
    ContextualPairs,
    /// A model of the other family.
    #[error("it is a CLIP: `xenc export clip` exports it")]
    Clip,
    /// A model that has no head on embeddings.
    #[error("it is no CLIP: `xenc export crossencoder` exports it")]
    NoClip,
    /// A configuration that pools nothing to rank by.
    #[error("the configuration pools nothing to rank by (`fusion_method`)")]
    NothingPooled,
    /// A value that there is not.
    #[error("the graph has no value `{0}`")]
    Output(String),
    /// A parameter that is no f32, or whose shape does not fit the configuration.
    #[error("`{name}`: {what}")]
    Parameter {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The graph cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The parameters of a model, copied to main memory.
pub fn weights(variables: &VarStore) -> Weights {
    let copy = |(name, tensor): (String, Tensor)| {
        let tensor = tensor.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous();
        let mut values = vec![0f32; tensor.numel()];
        tensor.copy_data(&mut values, tensor.numel());
        let shape: Vec<usize> = tensor.size().iter().map(|&side| side as usize).collect();
        // As many values as the shape says: they were copied from it.
        TensorData::new(shape, values).ok().map(|data| (name, data))
    };
    variables.variables().into_iter().filter_map(copy).collect()
}

/// Refuses parameters that hold something else than numbers: a graph of them runs, and ranks at random.
fn check_finite(weights: &Weights) -> Result<(), ExportError> {
    let is_broken = |tensor: &TensorData| {
        tensor.f32s().is_ok_and(|values| values.iter().any(|value| !value.is_finite()))
    };
    match weights.iter().find(|(_, tensor)| is_broken(tensor)) {
        Some((name, _)) => {
            let what =
                "it holds NaN or infinite values: the training has failed, or the file is damaged"
                    .into();
            Err(ExportError::Parameter { name: name.clone(), what })
        }
        None => Ok(()),
    }
}

/// The graph of an encoder with a ranking head. Inputs: `input_ids`, `token_type_ids`, `attention_mask` (i64 `[sets,
/// tokens]`), `features` and `locations` (f32), `region_mask` (i64), and for positions of video frames `video` (bool
/// `[sets]`); output: `scores`, f32. Sides called by names are free.
///
/// `outputs` names values inside that become outputs, too, for comparisons: `emb_t`, `emb_v`, `sublayer.N.t`,
/// `sublayer.N.v`, `[sets, candidates or 1, positions, width]`, `pooled_t`, `pooled_v` and `fused`. With one of them all
/// positions are computed to the end; otherwise only those that are pooled.
///
/// # Errors
/// [`ExportError`].
pub fn build(
    weights: &Weights,
    config: &ModelConfig,
    head: &RankingHead,
    form: Form,
    outputs: &[&str],
) -> Result<Model, ExportError> {
    if form == Form::Pairs && matches!(head, RankingHead::Contextual(_)) {
        return Err(ExportError::ContextualPairs);
    }
    let mut graph = GraphBuilder::new("crossencoder");
    let inputs = Inputs::new(&mut graph, config, head, form)?;
    let mut taps: BTreeMap<String, Value> = BTreeMap::new();
    let mut parts = Parts { graph: &mut graph, weights, config };
    let all_positions = !outputs.is_empty();
    let encoder = Encoder { all_positions, repeats: form == Form::Sets };
    let pooled = encoder.build(&mut parts, &inputs, &mut |name, value| {
        taps.insert(name, value);
    })?;
    let fused = parts.fuse(pooled, &inputs)?;
    taps.insert("fused".to_owned(), fused);
    let scores = parts.scores(head, fused, &inputs)?;
    let scores = if form == Form::Pairs { graph.squeeze(scores, &[1])? } else { scores };
    graph.output("scores", scores)?;
    for &name in outputs {
        let value = taps.get(name).ok_or_else(|| ExportError::Output(name.to_owned()))?;
        graph.output(name, *value)?;
    }
    graph.metadata("network", "crossencoder");
    Ok(graph.finish()?)
}

/// The graph's inputs, in the shape that is computed with.
struct Inputs {
    /// i64 `[sets, tokens]`.
    input_ids: Value,
    token_type_ids: Value,
    attention_mask: Value,
    /// f32 `[sets, candidates, regions, dim]`.
    features: Value,
    locations: Value,
    /// f32 `[sets, candidates, regions]`.
    region_mask: Value,
    /// bool `[sets]`.
    video: Option<Value>,
}

impl Inputs {
    fn new(
        graph: &mut GraphBuilder,
        config: &ModelConfig,
        head: &RankingHead,
        form: Form,
    ) -> Result<Inputs, ExportError> {
        let rows = if form == Form::Sets { "sets" } else { "pairs" };
        let text = [rows.into(), "tokens".into()];
        let regions = |width: Option<i64>| {
            let mut shape = vec![rows.into()];
            if form == Form::Sets {
                shape.push("candidates".into());
            }
            shape.push("regions".into());
            shape.extend(width.map(|width| (width as usize).into()));
            shape
        };
        let input_ids = graph.input("input_ids", Dtype::I64, &text)?;
        let token_type_ids = graph.input("token_type_ids", Dtype::I64, &text)?;
        let attention_mask = graph.input("attention_mask", Dtype::I64, &text)?;
        let features = regions(Some(config.v_feature_size));
        let features = graph.input("features", Dtype::F32, &features)?;
        let locations = graph.input("locations", Dtype::F32, &regions(Some(config.num_locs)))?;
        let region_mask = graph.input("region_mask", Dtype::I64, &regions(None))?;
        let at_frames = |head: &RankingHead| match head {
            RankingHead::Contextual(context) => context.positions == Positions::Video,
            _ => false,
        };
        let video = at_frames(head)
            .then(|| graph.input("video", Dtype::Bool, &[rows.into()]))
            .transpose()?;
        let mut by_set = |x| match form {
            Form::Sets => Ok(x),
            Form::Pairs => graph.unsqueeze(x, &[1]),
        };
        let (features, locations) = (by_set(features)?, by_set(locations)?);
        let region_mask = by_set(region_mask)?;
        let region_mask = graph.cast(region_mask, Dtype::F32)?;
        Ok(Inputs {
            input_ids,
            token_type_ids,
            attention_mask,
            features,
            locations,
            region_mask,
            video,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_are_no_numbers_are_named() {
        let weights = |value: f32| {
            let tensor = TensorData::new(vec![2], vec![1.0, value]).unwrap();
            Weights::from([
                ("query".to_owned(), tensor),
                ("sound".to_owned(), TensorData::scalar(1.0)),
            ])
        };
        assert_eq!(check_finite(&weights(2.0)), Ok(()));
        for value in [f32::NAN, f32::NEG_INFINITY] {
            let said = check_finite(&weights(value)).unwrap_err().to_string();
            assert!(said.starts_with("`query`: it holds NaN"), "{said}");
        }
    }
}
