//! The whole detector: a preprocessed picture in, its regions out.

use std::path::Path;

use feature_store::{Labels, Regions};
use onnx::Model;
use onnx::runtime::{Device, Input, Options, RuntimeError, Session, Tensor};

use super::boxes::{Box4, is_empty, rescale};
use super::graph::{self, Part, Pooling};
use super::selection::largest;
use super::{Architecture, Candidates, NetworkImage, ProposalRule, SelectionRule, Sizing, softmax};
use crate::network::NetworkError;
use crate::weights::{Weights, WeightsError};

/// A detector that cannot be made, or a picture that it finds too little in.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The graph.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// ONNX Runtime, or the model file.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A model of something else.
    #[error("{model} is no detector: it has no {what}")]
    OtherModel {
        /// The file.
        model: String,
        /// What is missing.
        what: String,
    },
    /// Fewer regions than asked for.
    #[error(
        "only {found} regions of the {wanted} that are wanted; leave the picture out, or take what there is with \
         --accept-fewer"
    )]
    TooFew {
        /// Regions that are there.
        found: usize,
        /// Regions that are wanted.
        wanted: usize,
    },
    /// A region without an inside, which features and boxes would have to disagree about.
    #[error("region {0} lies outside the picture")]
    EmptyRegion(usize),
    /// A network image larger than the graph was made for.
    #[error(
        "an image of {height}x{width} pixels; the model was exported for at most {longest} a side"
    )]
    TooLong {
        /// Of the network's image.
        height: usize,
        /// Of the network's image.
        width: usize,
        /// What the graph is made for.
        longest: usize,
    },
    /// The network's numbers are not numbers.
    #[error("the network gave NaN or infinite features")]
    NotFinite,
}

/// What is asked of a detector.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// How regions are chosen.
    pub selection: SelectionRule,
    /// Takes what the last overlap leaves if that is fewer than wanted; otherwise it is an error.
    pub accept_fewer: bool,
}

/// A detector that is ready to run.
pub struct Detector {
    session: Session,
    settings: Settings,
    /// Boxes are given instead of proposed.
    takes_boxes: bool,
    /// Longest side of the network's image.
    longest: usize,
}

impl Detector {
    /// Opens an exported detector (`xenc export detector`).
    ///
    /// # Errors
    /// [`DetectError::Runtime`], [`DetectError::OtherModel`].
    pub fn open(
        model: &Path,
        settings: Settings,
        options: &Options,
    ) -> Result<Detector, DetectError> {
        let session = Session::open(model, options)?;
        Detector::new(session, settings, &model.display().to_string())
    }

    /// Makes a detector of weights, without a file in between; with `given_boxes` it computes features of boxes that it is
    /// given.
    ///
    /// # Errors
    /// Weights that do not fit, or a device that cannot be used.
    pub fn from_weights(
        weights: &Weights,
        sizing: Sizing,
        given_boxes: bool,
        settings: Settings,
        options: &Options,
    ) -> Result<Detector, DetectError> {
        let rule = ProposalRule::default();
        let model = build(weights, &rule, sizing, given_boxes, options.device)?;
        let session = Session::from_model(&model, options)?;
        Detector::new(session, settings, &weights.path().display().to_string())
    }

    /// Takes a model that is in memory.
    ///
    /// # Errors
    /// As [`Detector::open`].
    pub fn from_model(
        model: &Model,
        settings: Settings,
        options: &Options,
    ) -> Result<Detector, DetectError> {
        Detector::new(Session::from_model(model, options)?, settings, "the model")
    }

    fn new(session: Session, settings: Settings, model: &str) -> Result<Detector, DetectError> {
        let has = |list: &[(String, onnx::Dtype, onnx::Shape)], wanted: &str| {
            list.iter().any(|(name, ..)| name == wanted)
        };
        let missing =
            |what: &str| DetectError::OtherModel { model: model.to_owned(), what: what.to_owned() };
        if !has(session.inputs(), "image") {
            return Err(missing("input `image`"));
        }
        let takes_boxes = has(session.inputs(), "boxes");
        let outputs = ["features", "class_logits", "box_deltas"];
        let proposals = (!takes_boxes).then_some("proposals");
        for wanted in outputs.into_iter().chain(proposals) {
            if !has(session.outputs(), wanted) {
                return Err(missing(&format!("output `{wanted}`")));
            }
        }
        let longest = session.metadata("longest").and_then(|text| text.parse().ok());
        let longest = longest.unwrap_or(Sizing::default().longest);
        Ok(Detector { session, settings, takes_boxes, longest })
    }

    /// Whether boxes have to be given.
    pub fn takes_boxes(&self) -> bool {
        self.takes_boxes
    }

    /// What it runs on.
    pub fn device(&self) -> Device {
        self.session.device()
    }

    /// The regions of a picture, by descending confidence: features, boxes in pixels of the picture, objects, attributes.
    ///
    /// # Errors
    /// [`DetectError::TooFew`] (unless fewer are accepted), [`DetectError::EmptyRegion`], [`DetectError::Runtime`].
    pub fn detect(&mut self, image: &NetworkImage) -> Result<Regions, DetectError> {
        self.check_size(image)?;
        let shape = [1, 3, image.height, image.width];
        let outputs = self.session.run(&[("image", Input::Slice(&shape, &image.tensor))])?;
        let outputs = Outputs::of(&outputs);
        let proposals = boxes_of(outputs.get("proposals")?);
        let mut probabilities = outputs.get("class_logits")?.to_vec();
        softmax_rows(&mut probabilities, proposals.len());
        let network = (image.height, image.width);
        let deltas = outputs.get("box_deltas")?;
        let candidates = Candidates::new(&proposals, &probabilities, deltas, network);
        let selection = candidates.select(&self.settings.selection);
        if !selection.reached && !self.settings.accept_fewer {
            let (found, wanted) = (selection.kept.len(), self.settings.selection.min);
            return Err(DetectError::TooFew { found, wanted });
        }
        let raw = (image.raw_height, image.raw_width);
        let boxes: Vec<Box4> =
            selection.kept.iter().map(|&n| rescale(candidates.boxes[n], network, raw)).collect();
        if let Some(empty) = boxes.iter().position(|of| is_empty(*of)) {
            return Err(DetectError::EmptyRegion(empty));
        }
        let objects = Labels {
            ids: selection.kept.iter().map(|&n| candidates.classes[n] as i64).collect(),
            confidences: selection.kept.iter().map(|&n| candidates.confidences[n]).collect(),
        };
        regions(image, boxes, objects, &outputs, &selection.kept, proposals.len())
    }

    /// Features, objects and attributes of boxes that are given in pixels of the picture; they keep their order.
    ///
    /// # Errors
    /// [`DetectError::EmptyRegion`] for a box outside the picture; [`DetectError::Runtime`].
    pub fn describe(
        &mut self,
        image: &NetworkImage,
        boxes: &[Box4],
    ) -> Result<Regions, DetectError> {
        self.check_size(image)?;
        let raw = (image.raw_height, image.raw_width);
        let network = (image.height, image.width);
        let scaled: Vec<Box4> = boxes.iter().map(|&of| rescale(of, raw, network)).collect();
        if let Some(empty) = scaled.iter().position(|of| is_empty(*of)) {
            return Err(DetectError::EmptyRegion(empty));
        }
        let shape = [1, 3, image.height, image.width];
        let flat = scaled.as_flattened();
        let outputs = self.session.run(&[
            ("image", Input::Slice(&shape, &image.tensor)),
            ("boxes", Input::Slice(&[boxes.len(), 4], flat)),
        ])?;
        let outputs = Outputs::of(&outputs);
        let mut probabilities = outputs.get("class_logits")?.to_vec();
        softmax_rows(&mut probabilities, boxes.len());
        let columns = probabilities.len() / boxes.len().max(1);
        let best =
            probabilities.chunks_exact(columns.max(1)).map(|row| largest(&row[..columns - 1]));
        let (ids, confidences) = best.map(|(class, value)| (class as i64, value)).unzip();
        let kept: Vec<usize> = (0..boxes.len()).collect();
        regions(image, boxes.to_vec(), Labels { ids, confidences }, &outputs, &kept, boxes.len())
    }

    fn check_size(&self, image: &NetworkImage) -> Result<(), DetectError> {
        let (height, width, longest) = (image.height, image.width, self.longest);
        if height.max(width) > longest {
            return Err(DetectError::TooLong { height, width, longest });
        }
        Ok(())
    }
}

/// The graph of a detector with VOLTA's settings: for the CPU with its own operator for pooling regions, for a GPU with
/// those that GPUs have. With `given_boxes` it computes features of boxes that it is given.
///
/// # Errors
/// Weights that do not fit.
pub fn build(
    weights: &Weights,
    rule: &ProposalRule,
    sizing: Sizing,
    given_boxes: bool,
    device: Device,
) -> Result<Model, DetectError> {
    let architecture = Architecture::of(weights)?;
    let loaded = weights.load(&architecture.expected(), "the region detector")?;
    let anchors = rule.anchors.cell();
    let options = graph::Options {
        part: if given_boxes { Part::Given } else { Part::Whole },
        before: rule.before_nms,
        after: rule.after_nms,
        overlap: rule.overlap as f32,
        longest: sizing.longest,
        pooling: if device == Device::Cpu { Pooling::MaxRoiPool } else { Pooling::Gathers },
        ..graph::Options::new(&anchors)
    };
    Ok(graph::build(&loaded, &options)?)
}

/// The outputs of a run by name.
struct Outputs<'a>(&'a [Tensor]);

impl<'a> Outputs<'a> {
    fn of(outputs: &'a [Tensor]) -> Outputs<'a> {
        Outputs(outputs)
    }

    fn find(&self, name: &str) -> Option<&'a Tensor> {
        self.0.iter().find(|tensor| tensor.name() == name)
    }

    fn get(&self, name: &str) -> Result<&'a [f32], DetectError> {
        let tensor = self.find(name).ok_or_else(|| DetectError::OtherModel {
            model: "the model".to_owned(),
            what: format!("output `{name}`"),
        })?;
        Ok(tensor.f32s()?)
    }
}

fn boxes_of(values: &[f32]) -> Vec<Box4> {
    values.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect()
}

fn softmax_rows(values: &mut [f32], rows: usize) {
    let columns = values.len() / rows.max(1);
    values.chunks_exact_mut(columns.max(1)).for_each(softmax);
}

/// The rows `kept` of the outputs, which have `rows`, as regions.
fn regions(
    image: &NetworkImage,
    boxes: Vec<Box4>,
    objects: Labels,
    outputs: &Outputs,
    kept: &[usize],
    rows: usize,
) -> Result<Regions, DetectError> {
    let features = outputs.get("features")?;
    let dim = features.len() / rows.max(1);
    let features: Vec<f32> =
        kept.iter().flat_map(|&n| &features[n * dim..(n + 1) * dim]).copied().collect();
    if features.iter().any(|value| !value.is_finite()) {
        return Err(DetectError::NotFinite);
    }
    let attributes = match outputs.find("attribute_logits") {
        Some(_) => Some(attributes(outputs.get("attribute_logits")?, kept, rows)),
        None => None,
    };
    Ok(Regions {
        width: image.raw_width as u32,
        height: image.raw_height as u32,
        boxes,
        features,
        dim,
        objects: Some(objects),
        attributes,
        ..Regions::default()
    })
}

/// The best attribute of each kept row. "None", the last, is left out before probabilities are computed.
fn attributes(logits: &[f32], kept: &[usize], rows: usize) -> Labels {
    let columns = logits.len() / rows.max(1);
    let mut labels = Labels::default();
    for &row in kept {
        let mut scores = logits[row * columns..(row + 1) * columns - 1].to_vec();
        softmax(&mut scores);
        let (id, confidence) = largest(&scores);
        labels.ids.push(id as i64);
        labels.confidences.push(confidence);
    }
    labels
}
