//! Weights of the detector and of CLIP: named tensors, read one at a time and widened to f32, from the containers in which
//! they are published.
//!
//! | container | holds |
//! | --- | --- |
//! | TorchScript archive (`.pt`) | OpenAI's CLIP |
//! | PyTorch state dictionary, zip or legacy | CLIP, the detector of Hugging Face |
//! | safetensors | CLIP, with OpenAI's names or Hugging Face's |
//! | pickle of NumPy arrays (`.pkl`) | the detector of the detectron2 fork |
//!
//! No pickle is executed; a call that no weights need is an error that names it.

mod arrays;
mod check;
mod error;
mod float;
mod hugging_face;
mod pytorch;
mod random;
mod safetensors;
mod torchscript;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use onnx::TensorData;

pub use check::{Expected, Report};
pub use error::WeightsError;
pub(crate) use random::{Fill, random};

use crate::network;

/// One tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Its values, C order.
    pub values: Vec<f32>,
}

/// A file of weights that is open, or weights that are made on the spot.
///
/// Only names and shapes are in memory; [`Weights::read`] fetches one tensor.
pub struct Weights {
    path: PathBuf,
    source: Box<dyn Source>,
    entries: BTreeMap<String, Entry>,
    /// Tensors that are no floating point, which are not read.
    others: BTreeSet<String>,
}

/// A container that tensors can be fetched from, by their names in it.
trait Source: Send + Sync {
    /// Names and shapes of the floating-point tensors.
    fn shapes(&self) -> BTreeMap<String, Vec<usize>>;

    /// Names of the tensors that are of no floating-point type, as far as the container tells.
    fn others(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// One tensor's values, C order.
    fn values(&self, name: &str) -> Result<Vec<f32>, String>;
}

/// How a tensor is made of those of the container.
enum Entry {
    /// It is one of them.
    Same(Vec<usize>),
    /// It is another one, under another name.
    Renamed(Vec<usize>, String),
    /// It is another matrix transposed.
    Transposed([usize; 2], String),
    /// It is several others, one after the other along the first axis.
    Stacked(Vec<usize>, Vec<String>),
}

impl Entry {
    fn shape(&self) -> &[usize] {
        match self {
            Entry::Same(shape) | Entry::Renamed(shape, _) | Entry::Stacked(shape, _) => shape,
            Entry::Transposed(shape, _) => shape,
        }
    }
}

impl Weights {
    /// Opens a file; its kind is told by its content.
    ///
    /// CLIP's tensors get OpenAI's names, also from a file with Hugging Face's or with `clip.` before them, as a model
    /// with a head of its own has them. Integers (counters, position ids) are left out.
    ///
    /// # Errors
    /// [`WeightsError::Unreadable`], [`WeightsError::Refused`].
    pub fn open(path: &Path) -> Result<Weights, WeightsError> {
        let unreadable =
            |reason: String| WeightsError::Unreadable { path: path.to_owned(), reason };
        let mut start = Vec::new();
        feature_store::text::open(path)
            .and_then(|file| file.take(16).read_to_end(&mut start))
            .map_err(|error| unreadable(error.to_string()))?;
        let source: Box<dyn Source> = if start.starts_with(b"PK\x03\x04") {
            match torchscript::open(path)? {
                Some(archive) => Box::new(archive),
                None => Box::new(pytorch::open(path)?),
            }
        } else if start.get(8) == Some(&b'{') {
            Box::new(safetensors::open(path).map_err(unreadable)?)
        } else if pytorch::is_legacy(&start) {
            Box::new(pytorch::open(path)?)
        } else if start.first() == Some(&0x80) {
            Box::new(arrays::open(path)?)
        } else {
            let reason = match start.is_empty() {
                true => "it is empty",
                false if path.extension().is_some_and(|ending| ending == "onnx") => {
                    "it is an exported model; give the weights that it was made of"
                }
                false => "neither a PyTorch file, a TorchScript archive, safetensors nor a pickle",
            };
            return Err(unreadable(reason.to_owned()));
        };
        let weights = Weights::of(path, source);
        if weights.entries.is_empty() {
            return Err(unreadable("it holds no tensors".to_owned()));
        }
        Ok(weights)
    }

    fn of(path: &Path, source: Box<dyn Source>) -> Weights {
        let shapes = source.shapes();
        let entries = match hugging_face::entries(&shapes) {
            Some(entries) => entries,
            None => shapes.into_iter().map(without_prefix).collect(),
        };
        let others = source.others();
        let short = |name: &String| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
        let others = others.iter().map(short).collect();
        Weights { path: path.to_owned(), source, entries, others }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// A tensor's shape; `None` if there is no such tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(Entry::shape)
    }

    /// What is to be said of a tensor that a model needs and that has no shape here.
    pub(crate) fn lack(&self, name: &str) -> String {
        match self.others.contains(name) {
            true => {
                format!("`{name}` is of whole numbers or another type that is no floating point")
            }
            false => format!("`{name}` is missing"),
        }
    }

    /// Fetches one tensor.
    ///
    /// # Errors
    /// [`WeightsError::NoTensor`], [`WeightsError::Unreadable`].
    pub fn read(&self, name: &str) -> Result<Tensor, WeightsError> {
        let entry = self.entries.get(name).ok_or_else(|| WeightsError::NoTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })?;
        let fetch = |name: &str| {
            self.source.values(name).map_err(|reason| WeightsError::Unreadable {
                path: self.path.clone(),
                reason: format!("`{name}`: {reason}"),
            })
        };
        let values = match entry {
            Entry::Same(_) => fetch(name)?,
            Entry::Renamed(_, from) => fetch(from)?,
            Entry::Transposed([rows, columns], from) => transposed(&fetch(from)?, *rows, *columns),
            Entry::Stacked(_, parts) => {
                let mut stacked = Vec::new();
                for part in parts {
                    stacked.extend(fetch(part)?);
                }
                stacked
            }
        };
        Ok(Tensor { shape: entry.shape().to_vec(), values })
    }
}

/// What ImageCoDe's models, and ours, put before the names of CLIP's tensors.
const PREFIX: &str = "clip.";

fn without_prefix((name, shape): (String, Vec<usize>)) -> (String, Entry) {
    match name.strip_prefix(PREFIX) {
        Some(short) => (short.to_owned(), Entry::Renamed(shape, name.clone())),
        None => (name, Entry::Same(shape)),
    }
}

impl Weights {
    /// All tensors that a network needs, in memory: what the builders of graphs take.
    ///
    /// # Errors
    /// [`WeightsError::Misfit`] naming `model` if tensors are missing or have another shape; [`WeightsError::NotFinite`];
    /// [`WeightsError::Variance`]; those of [`Weights::read`].
    pub fn load(&self, expected: &Expected, model: &str) -> Result<network::Weights, WeightsError> {
        self.require(expected, model)?;
        let mut loaded = network::Weights::new();
        for (name, _) in &expected.0 {
            let Tensor { shape, values } = self.read(name)?;
            if values.iter().any(|value| !value.is_finite()) {
                return Err(WeightsError::NotFinite {
                    path: self.path.clone(),
                    name: name.clone(),
                });
            }
            if name.ends_with(network::VARIANCE)
                && let Some(value) = network::below_zero(&values)
            {
                let (path, name) = (self.path.clone(), name.clone());
                return Err(WeightsError::Variance { path, name, value });
            }
            let tensor = TensorData::new(shape, values).map_err(|error| {
                let reason = format!("`{name}`: {error}");
                WeightsError::Unreadable { path: self.path.clone(), reason }
            })?;
            loaded.insert(name.clone(), tensor);
        }
        Ok(loaded)
    }
}

impl network::Shapes for Weights {
    fn shape_of(&self, name: &str) -> Option<&[usize]> {
        self.shape(name)
    }
}

/// A matrix `[columns, rows]` as `[rows, columns]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows).flat_map(|row| (0..columns).map(move |column| values[column * rows + row])).collect()
}

/// Most bytes of f32 for each byte of a file: half precision doubles, tied tensors share, views may repeat.
const MAX_GROWTH: u64 = 16;

/// Refuses tensors that would take memory out of all proportion to their file.
fn check_growth<'a>(file: u64, shapes: impl Iterator<Item = &'a Vec<usize>>) -> Result<(), String> {
    let bytes = shapes.fold(0u64, |sum, shape| {
        sum.saturating_add(shape.iter().fold(4u64, |size, &n| size.saturating_mul(n as u64)))
    });
    if bytes > file.saturating_mul(MAX_GROWTH) {
        return Err(format!("its tensors would take {bytes} bytes, the file has {file}"));
    }
    Ok(())
}
