//! CLIP's towers: preprocessed pictures and tokens in, embeddings out.

use std::path::Path;

use onnx::runtime::{Device, Input, Options, RuntimeError, Session};
use onnx::{Dim, Shape, TensorData, TensorError};

use super::graph::{self, Towers};
use super::{Architecture, CONTEXT, Preprocess};
use crate::network::{self, NetworkError};
use crate::weights::{Weights, WeightsError};

/// A CLIP that cannot be made or run.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The graph.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// ONNX Runtime, or the model file.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A batch that does not add up.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// An exported model of something else, which its metadata names.
    #[error("{model} is no CLIP: its metadata says that it is {is}")]
    OtherNetwork {
        /// The file.
        model: String,
        /// What it is.
        is: &'static str,
    },
    /// A model of something else, or of the other tower.
    #[error("{model} is no CLIP with {what}")]
    OtherModel {
        /// The file.
        model: String,
        /// What is missing.
        what: &'static str,
    },
    /// A model whose features have a shape that no CLIP's have.
    #[error("{model} is no CLIP: its features of {rows} inputs are {found:?}")]
    OtherShape {
        /// The file.
        model: String,
        /// Pictures or texts that it was given.
        rows: usize,
        /// Shape of what it gave.
        found: Vec<usize>,
    },
    /// Texts of another tokenizer.
    #[error(
        "{model} knows the {vocabulary} tokens from 0 on, the tokenizer gave {token}: name the vocabulary that belongs to it"
    )]
    OtherVocabulary {
        /// The file.
        model: String,
        /// Tokens of its text tower.
        vocabulary: i64,
        /// A token beyond.
        token: i64,
    },
    /// Features that are not numbers.
    #[error("the network gave NaN or infinite features: its weights are broken")]
    NotFinite,
}

/// Largest side of a picture that a model may ask for; that of the largest CLIP is 448.
const MAX_SIDE: usize = 4096;

/// One or both towers, ready to run.
pub struct ClipEncoder {
    session: Session,
    model: String,
    /// Pixels of a side; 0 without an image tower.
    image_size: usize,
    has_text: bool,
}

impl ClipEncoder {
    /// Opens an exported CLIP (`xenc export clip`), of which one or both towers are there.
    ///
    /// # Errors
    /// [`EncodeError::Runtime`], [`EncodeError::OtherNetwork`], [`EncodeError::OtherModel`].
    pub fn open(model: &Path, options: &Options) -> Result<ClipEncoder, EncodeError> {
        ClipEncoder::new(Session::open(model, options)?, model.display().to_string())
    }

    /// Makes one tower of weights, without a file in between.
    ///
    /// # Errors
    /// Weights that do not fit, or a device that cannot be used.
    pub fn from_weights(
        weights: &Weights,
        towers: Towers,
        options: &Options,
    ) -> Result<ClipEncoder, EncodeError> {
        let expected = Architecture::of_file(weights)?.expected();
        let loaded = weights.load(&expected, "CLIP")?;
        let model = graph::build(&loaded, graph::Options { towers, outputs: &[] })?;
        drop(loaded);
        let session = Session::from_model(&model, options)?;
        ClipEncoder::new(session, weights.path().display().to_string())
    }

    fn new(session: Session, model: String) -> Result<ClipEncoder, EncodeError> {
        if let Some(is) = network::another(&session, "clip") {
            return Err(EncodeError::OtherNetwork { model, is });
        }
        let input = |wanted: &str| session.inputs().iter().find(|(name, ..)| name == wanted);
        let has_text = input("tokens").is_some();
        let image_size = match input("image") {
            Some((_, _, shape)) => match side(shape) {
                Some(side) => side,
                None => return Err(EncodeError::OtherModel { model, what: SQUARE }),
            },
            None if has_text => 0,
            None => {
                return Err(EncodeError::OtherModel { model, what: "an image or a text tower" });
            }
        };
        Ok(ClipEncoder { session, model, image_size, has_text })
    }

    /// How pictures are preprocessed for it; `None` without an image tower.
    pub fn preprocess(&self) -> Option<Preprocess> {
        (self.image_size > 0).then(|| Preprocess::new(self.image_size))
    }

    /// The digest of its image tower, where an exported model says so, also of one that holds only the text tower beside it;
    /// see [`image_tower_digest`](super::image_tower_digest).
    pub fn image_tower(&self) -> Option<String> {
        self.session.metadata(graph::IMAGE_TOWER)
    }

    /// What it runs on.
    pub fn device(&self) -> Device {
        self.session.device()
    }

    /// Embeddings of preprocessed pictures, each `[3, n, n]`; not normalised.
    ///
    /// # Errors
    /// [`EncodeError::OtherModel`] without an image tower; [`EncodeError::OtherShape`], [`EncodeError::Runtime`].
    pub fn images(&mut self, pictures: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, EncodeError> {
        if self.image_size == 0 {
            return Err(EncodeError::OtherModel {
                model: self.model.clone(),
                what: "an image tower",
            });
        }
        let flat: Vec<f32> = pictures.concat();
        let shape = [pictures.len(), 3, self.image_size, self.image_size];
        let image = TensorData::new(shape, flat)?;
        // A model of both towers wants a text as well: the shortest there is, whatever the vocabulary.
        let text = TensorData::new([1, 2], vec![0i64, 1])?;
        let mut inputs = vec![("image", Input::Host(&image))];
        if self.has_text {
            inputs.push(("tokens", Input::Host(&text)));
        }
        self.run("image_features", &inputs, pictures.len())
    }

    /// Embeddings of texts as ids from [`Tokenizer::tokens`](super::Tokenizer::tokens); not normalised. What is padding in
    /// all of them is not computed.
    ///
    /// # Errors
    /// [`EncodeError::OtherModel`] without a text tower; [`EncodeError::OtherShape`], [`EncodeError::Runtime`].
    pub fn texts(&mut self, tokens: &[[i64; CONTEXT]]) -> Result<Vec<Vec<f32>>, EncodeError> {
        if !self.has_text {
            return Err(EncodeError::OtherModel {
                model: self.model.clone(),
                what: "a text tower",
            });
        }
        self.check_tokens(tokens)?;
        let ends =
            tokens.iter().map(|ids| ids.iter().rposition(|&id| id != 0).map_or(1, |n| n + 1));
        let longest = ends.max().unwrap_or(1);
        let flat: Vec<i64> = tokens.iter().flat_map(|ids| &ids[..longest]).copied().collect();
        let text = TensorData::new([tokens.len(), longest], flat)?;
        let n = self.image_size;
        let image = TensorData::new([1, 3, n, n], vec![0.0f32; 3 * n * n])?;
        let mut inputs = vec![("tokens", Input::Host(&text))];
        if n > 0 {
            inputs.push(("image", Input::Host(&image)));
        }
        self.run("text_features", &inputs, tokens.len())
    }

    /// Refuses tokens beyond the text tower's, where an exported model says how many those are.
    fn check_tokens(&self, tokens: &[[i64; CONTEXT]]) -> Result<(), EncodeError> {
        let known = self.session.metadata(graph::VOCABULARY).and_then(|count| count.parse().ok());
        let Some(vocabulary) = known else { return Ok(()) };
        match tokens.as_flattened().iter().find(|&&token| token >= vocabulary) {
            Some(&token) => {
                Err(EncodeError::OtherVocabulary { model: self.model.clone(), vocabulary, token })
            }
            None => Ok(()),
        }
    }

    fn run(
        &mut self,
        output: &str,
        inputs: &[(&str, Input)],
        rows: usize,
    ) -> Result<Vec<Vec<f32>>, EncodeError> {
        if rows == 0 {
            return Ok(Vec::new());
        }
        let outputs = self.session.run(inputs)?;
        let features = outputs.iter().find(|tensor| tensor.name() == output);
        let missing = || EncodeError::OtherModel { model: self.model.clone(), what: "features" };
        let features = features.ok_or_else(missing)?;
        let columns = match features.shape()[..] {
            [found, columns] if found == rows && columns > 0 => columns,
            _ => {
                let (model, found) = (self.model.clone(), features.shape());
                return Err(EncodeError::OtherShape { model, rows, found });
            }
        };
        let values = features.f32s()?;
        Ok(values.chunks_exact(columns).map(<[f32]>::to_vec).collect())
    }
}

const SQUARE: &str = "square pictures of three colours";

/// The side of the square pictures that a shape asks for.
fn side(shape: &Shape) -> Option<usize> {
    let [_, colours, height, width] = &shape.0[..] else { return None };
    let side = width.fixed().filter(|side| (1..=MAX_SIDE).contains(side))?;
    (colours.may_equal(&Dim::Fixed(3)) && height.fixed() == Some(side)).then_some(side)
}

/// The cosine of two embeddings; NaN if one of them is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    product(a, b) / (product(a, a).sqrt() * product(b, b).sqrt())
}
