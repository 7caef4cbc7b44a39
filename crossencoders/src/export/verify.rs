//! The same inputs through libtorch and through ONNX Runtime.

use onnx::TensorData;
use onnx::runtime::{RuntimeError, Session};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use vision::clip::Architecture;
use vision::weights::{Weights, WeightsError};

use super::{ExportError, Form};
use crate::clip::{self, Clip, ClipConfig, normalised};
use crate::config::{Config, ModelConfig};
use crate::data::{Batch, BatchImages, Labels};
use crate::model::{Candidates, Text};
use crate::ranker::Ranker;

/// Sets, candidates, word pieces, regions of the inputs that are compared with.
const SIZE: [i64; 4] = [2, 3, 9, 7];

/// How far ONNX Runtime is from libtorch.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Difference {
    /// The output.
    pub output: String,
    /// Largest absolute difference.
    pub absolute: f64,
    /// The same as a part of the largest absolute value.
    pub relative: f64,
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// ONNX Runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A model that this graph is not of.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A CLIP's weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An output of another shape than libtorch's.
    #[error("ONNX Runtime gives {found:?}, libtorch {expected:?}")]
    Shape {
        /// ONNX Runtime's.
        found: Vec<usize>,
        /// libtorch's.
        expected: Vec<i64>,
    },
}

/// Random descriptions and images, some padded and one of a video, through a model and through its graph.
///
/// # Errors
/// [`VerifyError`].
pub fn verify(
    session: &mut Session,
    ranker: &Ranker,
    form: Form,
) -> Result<Vec<Difference>, VerifyError> {
    let config = ranker.config.cross_encoder().ok_or(ExportError::Clip)?;
    let (text, candidates, video) = inputs(config, ranker.variables.device(), form);
    let batch = Batch {
        items: Vec::new(),
        text,
        images: BatchImages::Regions(candidates),
        video,
        labels: Labels::Unknown,
    };
    let scores = tch::no_grad(|| ranker.scores(&batch, false));
    let Batch { text, images: BatchImages::Regions(candidates), video, .. } = batch else {
        unreachable!("as it was made");
    };
    let expected = if form == Form::Pairs { scores.squeeze_dim(1) } else { scores };
    let found = run(session, form, &text, &candidates, &video)?;
    Ok(vec![difference(&found, &expected)?])
}

/// Random embeddings through a CLIP's head and through its graph.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_clip_head(
    session: &mut Session,
    ranker: &Ranker,
) -> Result<Vec<Difference>, VerifyError> {
    let Config::Clip(config) = &ranker.config else { return Err(ExportError::NoClip.into()) };
    let [sets, candidates, ..] = SIZE;
    tch::manual_seed(0);
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    let images = random(&[sets, candidates, config.embed_dim]);
    let texts = random(&[sets, config.embed_dim]);
    let video = Tensor::arange(sets, (Kind::Int64, Device::Cpu)).remainder(2).eq(0);
    let on = |x: &Tensor| x.to_device(ranker.variables.device());
    let expected = tch::no_grad(|| ranker.scores_of(&on(&images), &on(&texts), &on(&video)));
    let expected = expected.ok_or(ExportError::NoClip)?;
    let (image_shape, images) = (shape(&images), floats(&images));
    let (text_shape, texts) = (shape(&texts), floats(&texts));
    let video = booleans(&video);
    let mut inputs = vec![
        ("image_features", onnx::runtime::Input::Slice(&image_shape, &images)),
        ("text_features", onnx::runtime::Input::Slice(&text_shape, &texts)),
        ("video", (&video).into()),
    ];
    inputs.retain(|(name, _)| session.inputs().iter().any(|(known, ..)| known == name));
    let found = session.run(&inputs)?.swap_remove(0);
    Ok(vec![difference(&found, &expected)?])
}

/// Random pictures and descriptions through a CLIP's towers and through their graphs: whatever the session has of them.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_clip(
    session: &mut Session,
    weights: &Weights,
) -> Result<Vec<Difference>, VerifyError> {
    const ROWS: i64 = 2;
    let config = ClipConfig::of(&Architecture::of_file(weights)?);
    let variables = VarStore::new(Device::Cpu);
    let clip = Clip::new(&variables.root(), &config);
    clip::fill(&variables, weights)?;
    tch::manual_seed(0);
    let side = config.vision_cfg.image_size;
    let pictures = Tensor::randn([ROWS, 3, side, side], (Kind::Float, Device::Cpu));
    let tokens = descriptions(config.text_cfg.vocab_size);
    let (picture_shape, values, ids) = (shape(&pictures), floats(&pictures), integers(&tokens));
    let mut inputs = vec![
        ("image", onnx::runtime::Input::Slice(&picture_shape, &values)),
        ("tokens", (&ids).into()),
    ];
    inputs.retain(|(name, _)| session.inputs().iter().any(|(known, ..)| known == name));
    let (image, text) =
        tch::no_grad(|| (clip.image.forward(&pictures), clip.text.forward(&tokens)));
    let cosines = normalised(&image).matmul(&normalised(&text).tr()) * clip.scale();
    let per_text = cosines.tr();
    let expected = [
        ("image_features", &image),
        ("text_features", &text),
        ("logits_per_image", &cosines),
        ("logits_per_text", &per_text),
    ];
    let found = session.run(&inputs)?;
    let compared = found.iter().filter_map(|found| {
        let (_, expected) = expected.iter().find(|(name, _)| *name == found.name())?;
        Some(difference(found, expected))
    });
    compared.collect()
}

/// Two descriptions between start and end, the two largest ids; the second is padded with zeros.
fn descriptions(vocabulary: i64) -> Tensor {
    let (start, end) = (vocabulary - 2, vocabulary - 1);
    Tensor::from_slice2(&[[start, 5, 17, 3, end], [start, 11, end, 0, 0]])
}

/// How far an output is from libtorch's.
fn difference(found: &onnx::runtime::Tensor, expected: &Tensor) -> Result<Difference, VerifyError> {
    let output = found.name().to_owned();
    let (shape, values) = (found.shape(), found.f32s()?);
    let found: Vec<i64> = shape.iter().map(|&side| side as i64).collect();
    if found != expected.size() {
        return Err(VerifyError::Shape { found: shape, expected: expected.size() });
    }
    let found = Tensor::from_slice(values).view(found.as_slice()).to_kind(Kind::Double);
    let expected = expected.to_kind(Kind::Double);
    let absolute = (found - &expected).abs().max().double_value(&[]);
    let size = expected.abs().max().double_value(&[]);
    Ok(Difference { output, absolute, relative: absolute / size })
}

/// Scores of a batch, through ONNX Runtime: `[sets, candidates]` or `[pairs]`.
pub(super) fn run(
    session: &mut Session,
    form: Form,
    text: &Text,
    candidates: &Candidates,
    video: &Tensor,
) -> Result<onnx::runtime::Tensor, RuntimeError> {
    let regions =
        |x: &Tensor| if form == Form::Pairs { x.squeeze_dim(1) } else { x.shallow_clone() };
    let (features, locations) = (regions(&candidates.features), regions(&candidates.locations));
    let features = (shape(&features), floats(&features));
    let locations = (shape(&locations), floats(&locations));
    let ids = [&text.input_ids, &text.token_type_ids, &text.mask].map(integers);
    let region_mask = integers(&regions(&candidates.mask));
    let video = booleans(video);
    let mut inputs = vec![
        ("input_ids", (&ids[0]).into()),
        ("token_type_ids", (&ids[1]).into()),
        ("attention_mask", (&ids[2]).into()),
        ("features", onnx::runtime::Input::Slice(&features.0, &features.1)),
        ("locations", onnx::runtime::Input::Slice(&locations.0, &locations.1)),
        ("region_mask", (&region_mask).into()),
        ("video", (&video).into()),
    ];
    // Which inputs a graph has depends on its head and its embeddings.
    inputs.retain(|(name, _)| session.inputs().iter().any(|(known, ..)| known == name));
    Ok(session.run(&inputs)?.swap_remove(0))
}

fn shape(x: &Tensor) -> Vec<usize> {
    x.size().iter().map(|&side| side as usize).collect()
}

fn floats(x: &Tensor) -> Vec<f32> {
    let x = x.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut values = vec![0f32; x.numel()];
    x.copy_data(&mut values, x.numel());
    values
}

fn integers(x: &Tensor) -> TensorData {
    let y = x.to_device(Device::Cpu).to_kind(Kind::Int64).contiguous();
    let mut values = vec![0i64; y.numel()];
    y.copy_data(&mut values, y.numel());
    tensor(shape(x), values)
}

fn booleans(x: &Tensor) -> TensorData {
    let integers = integers(x);
    let values = integers.i64s().unwrap_or_default().iter().map(|&value| value != 0);
    tensor(shape(x), values.collect::<Vec<bool>>())
}

fn tensor(shape: Vec<usize>, values: impl Into<onnx::Elements>) -> TensorData {
    match TensorData::new(shape, values) {
        Ok(tensor) => tensor,
        Err(error) => unreachable!("as many values as the tensor they were copied from: {error}"),
    }
}

/// Padded at the end: word pieces of the second description, regions of the last candidate of each.
fn inputs(config: &ModelConfig, device: Device, form: Form) -> (Text, Candidates, Tensor) {
    let [sets, candidates, tokens, regions] = SIZE;
    let (sets, candidates) = match form {
        Form::Sets => (sets, candidates),
        Form::Pairs => (sets * candidates, 1),
    };
    tch::manual_seed(0);
    let cpu = |kind| (kind, Device::Cpu);
    let mask = Tensor::ones([sets, tokens], cpu(Kind::Int64));
    let _ = mask.narrow(0, 1, 1).narrow(1, tokens - 3, 3).zero_();
    let input_ids = Tensor::randint_low(1, config.vocab_size, [sets, tokens], cpu(Kind::Int64));
    let region_mask = Tensor::ones([sets, candidates, regions], cpu(Kind::Int64));
    let _ = region_mask.narrow(1, candidates - 1, 1).narrow(2, regions - 2, 2).zero_();
    let random = |width| Tensor::rand([sets, candidates, regions, width], cpu(Kind::Float));
    let features = (random(config.v_feature_size) - 0.5).relu() * region_mask.unsqueeze(-1);
    let on = |x: Tensor| x.to_device(device);
    let text = Text {
        input_ids: on(input_ids * &mask),
        token_type_ids: on(mask.zeros_like()),
        mask: on(mask),
    };
    let candidates = Candidates {
        features: on(features),
        locations: on(random(config.num_locs)),
        mask: on(region_mask),
    };
    let video = Tensor::arange(sets, cpu(Kind::Int64)).remainder(2).eq(0);
    (text, candidates, on(video))
}
