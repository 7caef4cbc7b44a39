//! The whole detector: a preprocessed picture in, its regions out.

use std::path::Path;

use feature_store::{Labels, Regions};
use onnx::Model;
use onnx::runtime::{Device, Input, Options, RuntimeError, Session, Tensor};

use super::boxes::{Box4, is_empty, rescale};
use super::graph::{self, Part, Pooling};
use super::selection::largest;
use super::{Architecture, Candidates, NetworkImage, ProposalRule, SelectionRule, Sizing, softmax};
use crate::network::{self, NetworkError};
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
    /// An exported model of something else, which its metadata names.
    #[error("{model} is no detector: its metadata says that it is {is}")]
    OtherNetwork {
        /// The file.
        model: String,
        /// What it is.
        is: &'static str,
    },
    /// A model of something else.
    #[error("{model} is no detector: it has no {what}")]
    OtherModel {
        /// The file.
        model: String,
        /// What is missing.
        what: String,
    },
    /// A model whose outputs have shapes that no detector's have.
    #[error("{model} is no detector: its output `{output}` is {found:?}, not {wanted}")]
    OtherShape {
        /// The file.
        model: String,
        /// The output.
        output: String,
        /// Its shape.
        found: Vec<usize>,
        /// What a detector gives.
        wanted: String,
    },
    /// No region at all.
    #[error("no region was found")]
    Nothing,
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
    /// A given box without an inside, which features and boxes would have to disagree about.
    #[error(
        "box {0} has no area, or lies outside the picture: corners are left, top, right, bottom"
    )]
    EmptyBox(usize),
    /// A given box of which a part is of no picture.
    #[error("box {0} reaches out of the picture by more than a pixel")]
    OuterBox(usize),
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
    #[error("the network gave NaN or infinite numbers: its weights are broken")]
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
    /// The file, for errors.
    model: String,
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
    /// [`DetectError::Runtime`], [`DetectError::OtherNetwork`], [`DetectError::OtherModel`].
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
        if let Some(is) = network::another(&session, "detector") {
            return Err(DetectError::OtherNetwork { model: model.to_owned(), is });
        }
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
        let model = model.to_owned();
        Ok(Detector { session, model, settings, takes_boxes, longest })
    }

    /// Whether boxes have to be given.
    pub fn takes_boxes(&self) -> bool {
        self.takes_boxes
    }

    /// How many objects and how many attributes it tells apart, as far as the model says so.
    pub fn classes(&self) -> [Option<usize>; 2] {
        ["class_logits", "attribute_logits"].map(|output| {
            let found = self.session.outputs().iter().find(|(name, ..)| name == output);
            let (_, _, shape) = found?;
            // One more is the background.
            shape.0.last()?.fixed()?.checked_sub(1)
        })
    }

    /// What it runs on.
    pub fn device(&self) -> Device {
        self.session.device()
    }

    /// The regions of a picture, by descending confidence: features, boxes in pixels of the picture, objects, attributes.
    ///
    /// # Errors
    /// [`DetectError::TooFew`] (unless fewer are accepted), [`DetectError::Nothing`], [`DetectError::NotFinite`];
    /// [`DetectError::OtherShape`], [`DetectError::Runtime`].
    pub fn detect(&mut self, image: &NetworkImage) -> Result<Regions, DetectError> {
        self.check_size(image)?;
        let shape = [1, 3, image.height, image.width];
        let tensors = self.session.run(&[("image", Input::Slice(&shape, &image.tensor))])?;
        let outputs = Outputs { tensors: &tensors, model: &self.model };
        let proposals = outputs.proposals()?;
        let heads = Heads::of(&outputs, proposals.len())?;
        let network = (image.height, image.width);
        let deltas = outputs.deltas(&heads)?;
        let candidates = Candidates::new(&proposals, &heads.probabilities, deltas, network);
        if candidates.boxes.as_flattened().iter().any(|side| !side.is_finite()) {
            return Err(DetectError::NotFinite);
        }
        let raw = (image.raw_height, image.raw_width);
        let in_picture = |of: Box4| rescale(of, network, raw);
        // Beyond the border a box has no inside; the next best takes its place.
        let rule = &self.settings.selection;
        let selection = candidates.select_among(rule, |of| !is_empty(in_picture(of)));
        if selection.kept.is_empty() {
            return Err(DetectError::Nothing);
        }
        if !selection.reached && !self.settings.accept_fewer {
            let (found, wanted) = (selection.kept.len(), self.settings.selection.min);
            return Err(DetectError::TooFew { found, wanted });
        }
        let boxes = selection.kept.iter().map(|&n| in_picture(candidates.boxes[n])).collect();
        let objects = Labels {
            ids: selection.kept.iter().map(|&n| candidates.classes[n] as i64).collect(),
            confidences: selection.kept.iter().map(|&n| candidates.confidences[n]).collect(),
        };
        heads.regions(image, boxes, objects, &selection.kept)
    }

    /// Features, objects and attributes of boxes that are given in pixels of the picture; they keep their order.
    ///
    /// # Errors
    /// [`DetectError::Nothing`] without boxes, [`DetectError::EmptyBox`] for one outside the picture,
    /// [`DetectError::OuterBox`] for one that reaches out of it, [`DetectError::NotFinite`]; [`DetectError::OtherShape`], [`DetectError::Runtime`].
    pub fn describe(
        &mut self,
        image: &NetworkImage,
        boxes: &[Box4],
    ) -> Result<Regions, DetectError> {
        self.check_size(image)?;
        let raw = (image.raw_height, image.raw_width);
        let network = (image.height, image.width);
        let scaled: Vec<Box4> = boxes.iter().map(|&of| rescale(of, raw, network)).collect();
        if boxes.is_empty() {
            return Err(DetectError::Nothing);
        }
        if let Some(empty) = scaled.iter().position(|of| is_empty(*of)) {
            return Err(DetectError::EmptyBox(empty));
        }
        if let Some(outer) = boxes.iter().position(|of| reaches_out(*of, raw)) {
            return Err(DetectError::OuterBox(outer));
        }
        let shape = [1, 3, image.height, image.width];
        let flat = scaled.as_flattened();
        let tensors = self.session.run(&[
            ("image", Input::Slice(&shape, &image.tensor)),
            ("boxes", Input::Slice(&[boxes.len(), 4], flat)),
        ])?;
        let outputs = Outputs { tensors: &tensors, model: &self.model };
        let heads = Heads::of(&outputs, boxes.len())?;
        let best = heads.probabilities.chunks_exact(heads.classes + 1);
        let best = best.map(|row| largest(&row[..heads.classes]));
        let (ids, confidences) = best.map(|(class, value)| (class as i64, value)).unzip();
        let kept: Vec<usize> = (0..boxes.len()).collect();
        heads.regions(image, boxes.to_vec(), Labels { ids, confidences }, &kept)
    }

    fn check_size(&self, image: &NetworkImage) -> Result<(), DetectError> {
        let (height, width, longest) = (image.height, image.width, self.longest);
        if height.max(width) > longest {
            return Err(DetectError::TooLong { height, width, longest });
        }
        Ok(())
    }
}

/// Whether a box reaches out of a picture of this height and width, but for the pixel that detectors round outwards.
fn reaches_out([x1, y1, x2, y2]: Box4, (height, width): (usize, usize)) -> bool {
    !(x1 >= -1.0 && y1 >= -1.0 && x2 <= width as f32 + 1.0 && y2 <= height as f32 + 1.0)
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
    if architecture.anchors != rule.anchors.per_cell() {
        let (found, wanted) = (architecture.anchors, rule.anchors.per_cell());
        return Err(DetectError::Weights(WeightsError::Misfit {
            path: weights.path().to_owned(),
            model: "the region detector".to_owned(),
            problems: vec![format!("it has {found} anchors where {wanted} are needed")],
        }));
    }
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

/// The outputs of a run by name. A file may give others than a detector does, so that every shape is checked.
struct Outputs<'a> {
    tensors: &'a [Tensor],
    model: &'a str,
}

impl<'a> Outputs<'a> {
    fn find(&self, name: &str) -> Option<&'a Tensor> {
        self.tensors.iter().find(|tensor| tensor.name() == name)
    }

    /// The numbers of a matrix, and how many columns it has.
    fn matrix(
        &self,
        name: &str,
        wanted: &str,
        fits: impl FnOnce(usize, usize) -> bool,
    ) -> Result<(&'a [f32], usize), DetectError> {
        let tensor = self.find(name).ok_or_else(|| DetectError::OtherModel {
            model: self.model.to_owned(),
            what: format!("output `{name}`"),
        })?;
        match tensor.shape()[..] {
            [rows, columns] if fits(rows, columns) => Ok((tensor.f32s()?, columns)),
            _ => Err(DetectError::OtherShape {
                model: self.model.to_owned(),
                output: name.to_owned(),
                found: tensor.shape(),
                wanted: wanted.to_owned(),
            }),
        }
    }

    fn proposals(&self) -> Result<Vec<Box4>, DetectError> {
        let (values, _) = self.matrix("proposals", "[proposals, 4]", |_, columns| columns == 4)?;
        Ok(values.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect())
    }

    /// Of each class's box, or of one box whatever the class.
    fn deltas(&self, heads: &Heads) -> Result<&'a [f32], DetectError> {
        let (rows, sides) = (heads.rows, 4 * heads.classes);
        let wanted = format!("[{rows}, {sides}]");
        let fits = |found, columns| found == rows && (columns == sides || columns == 4);
        Ok(self.matrix("box_deltas", &wanted, fits)?.0)
    }
}

/// What the heads say of each box.
struct Heads<'a> {
    rows: usize,
    features: &'a [f32],
    dim: usize,
    /// Object classes, the background not among them.
    classes: usize,
    /// `[rows, classes + 1]`.
    probabilities: Vec<f32>,
    /// Logits and their number in a row, "none" included.
    attributes: Option<(&'a [f32], usize)>,
}

impl<'a> Heads<'a> {
    fn of(outputs: &Outputs<'a>, rows: usize) -> Result<Heads<'a>, DetectError> {
        let matrix = |name: &str, least: usize| {
            let wanted = format!("[{rows}, {least} or more]");
            outputs.matrix(name, &wanted, |found, columns| found == rows && columns >= least)
        };
        let (features, dim) = matrix("features", 1)?;
        let (logits, columns) = matrix("class_logits", 2)?;
        let attributes = match outputs.find("attribute_logits") {
            Some(_) => Some(matrix("attribute_logits", 2)?),
            None => None,
        };
        let mut probabilities = logits.to_vec();
        probabilities.chunks_exact_mut(columns).for_each(softmax);
        Ok(Heads { rows, features, dim, classes: columns - 1, probabilities, attributes })
    }

    /// The rows `kept` as regions.
    fn regions(
        &self,
        image: &NetworkImage,
        boxes: Vec<Box4>,
        objects: Labels,
        kept: &[usize],
    ) -> Result<Regions, DetectError> {
        let dim = self.dim;
        let features: Vec<f32> =
            kept.iter().flat_map(|&n| &self.features[n * dim..(n + 1) * dim]).copied().collect();
        let attributes = self.attributes(kept);
        let sure = attributes.iter().chain([&objects]).flat_map(|labels| &labels.confidences);
        if features.iter().chain(sure).any(|value| !value.is_finite()) {
            return Err(DetectError::NotFinite);
        }
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
    fn attributes(&self, kept: &[usize]) -> Option<Labels> {
        let (logits, columns) = self.attributes?;
        let mut labels = Labels::default();
        for &row in kept {
            let mut scores = logits[row * columns..(row + 1) * columns - 1].to_vec();
            softmax(&mut scores);
            let (id, confidence) = largest(&scores);
            labels.ids.push(id as i64);
            labels.confidences.push(confidence);
        }
        Some(labels)
    }
}
