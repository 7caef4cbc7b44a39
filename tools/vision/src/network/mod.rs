//! What the builders of CLIP's and the detector's graphs have in common: weights by name, folded normalisation, and values
//! inside a graph made outputs by name.

use std::collections::{BTreeMap, BTreeSet};

use onnx::runtime::Session;
use onnx::{BuildError, ConvOptions, GraphBuilder, TensorData, TensorError, Value};

/// Weights by name: f32 or f16.
pub type Weights = BTreeMap<String, TensorData>;

/// What can be wrong with weights, or with what is asked of a graph.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// A tensor that the network needs.
    #[error("the weights hold no `{0}`")]
    Missing(String),
    /// A tensor of another shape.
    #[error("`{name}` is {found:?}; {wanted} is needed")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What would do.
        wanted: String,
    },
    /// A tensor that is not floating point.
    #[error("`{name}`: {source}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        source: TensorError,
    },
    /// A batch normalisation that cannot be: its variance is below zero.
    #[error("{}", negative_variance(.name, *.value))]
    Variance {
        /// The tensor.
        name: String,
        /// Its lowest value.
        value: f32,
    },
    /// A convolution that is not finite together with its batch normalisation.
    #[error(
        "`{name}` and the normalisation behind it, `{norm}`, give values beyond f32's range; the weights are broken: fetch them again"
    )]
    Folded {
        /// The convolution's weight.
        name: String,
        /// What the names of the normalisation's tensors begin with.
        norm: String,
    },
    /// Weights of another network.
    #[error("these are no weights of {network}: {what}")]
    Unknown {
        /// The network.
        network: &'static str,
        /// What is wrong.
        what: String,
    },
    /// An output that the graph does not have.
    #[error("the graph has no value `{0}`")]
    Output(String),
    /// The graph cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Where the metadata of exported models says what they are: `clip`, `detector`, `crossencoder`, `clip_head`.
pub const NETWORK: &str = "network";

/// What an exported model is, in words, by what its metadata says under [`NETWORK`]; `None` for a model that other programs
/// have made.
pub fn in_words(network: &str) -> Option<&'static str> {
    match network {
        "clip" => Some("a CLIP (`xenc export clip`)"),
        "detector" => Some("a region detector (`xenc export detector`)"),
        "crossencoder" => Some("a cross-encoder (`xenc export crossencoder`)"),
        "clip_head" => Some("a head on CLIP's towers (`xenc export clip --towers head`)"),
        _ => None,
    }
}

/// What a model says it is, in words, where that is another than the one wanted.
pub(crate) fn another(session: &Session, wanted: &str) -> Option<&'static str> {
    session
        .metadata(NETWORK)
        .filter(|network| network != wanted)
        .and_then(|network| in_words(&network))
}

/// What knows the shapes of tensors by their names: tensors in memory, or a file of them.
pub trait Shapes {
    /// A tensor's shape; `None` if there is no such tensor.
    fn shape_of(&self, name: &str) -> Option<&[usize]>;

    /// Whether there is such a tensor.
    fn has(&self, name: &str) -> bool {
        self.shape_of(name).is_some()
    }

    /// The sides of a tensor of this rank.
    ///
    /// # Errors
    /// [`NetworkError::Missing`], [`NetworkError::Shape`].
    fn sides<const RANK: usize>(&self, name: &str) -> Result<[usize; RANK], NetworkError> {
        let found = self.shape_of(name).ok_or_else(|| NetworkError::Missing(name.to_owned()))?;
        found.try_into().map_err(|_| NetworkError::Shape {
            name: name.to_owned(),
            found: found.to_vec(),
            wanted: format!("a tensor of {RANK} sides"),
        })
    }

    /// How many of `{prefix}{0, 1, …}{suffix}` there are.
    fn count(&self, prefix: &str, suffix: &str) -> usize {
        (0..).take_while(|index| self.has(&format!("{prefix}{index}{suffix}"))).count()
    }
}

impl Shapes for Weights {
    fn shape_of(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(TensorData::shape)
    }
}

/// Weights by name, with the shapes that are needed.
#[derive(Clone, Copy)]
pub(crate) struct Tensors<'a>(pub &'a Weights);

impl<'a> Tensors<'a> {
    pub(crate) fn has(self, name: &str) -> bool {
        self.0.has(name)
    }

    pub(crate) fn shape(self, name: &str) -> Result<&'a [usize], NetworkError> {
        self.0.shape_of(name).ok_or_else(|| NetworkError::Missing(name.to_owned()))
    }

    /// The sides of a tensor of this rank.
    pub(crate) fn sides<const RANK: usize>(
        self,
        name: &str,
    ) -> Result<[usize; RANK], NetworkError> {
        self.0.sides(name)
    }

    /// A tensor of this shape, in f32.
    pub(crate) fn get(self, name: &str, shape: &[usize]) -> Result<TensorData, NetworkError> {
        let found = self.shape(name)?;
        if found != shape {
            let (name, found, wanted) = (name.to_owned(), found.to_vec(), format!("{shape:?}"));
            return Err(NetworkError::Shape { name, found, wanted });
        }
        let tensor = self.0[name].to_f32();
        tensor.f32s().map_err(|source| NetworkError::Tensor { name: name.to_owned(), source })?;
        Ok(tensor)
    }

    /// The numbers of a tensor of this shape.
    pub(crate) fn numbers(self, name: &str, shape: &[usize]) -> Result<Vec<f32>, NetworkError> {
        let tensor = self.get(name, shape)?;
        let numbers = tensor
            .f32s()
            .map_err(|source| NetworkError::Tensor { name: name.to_owned(), source })?;
        Ok(numbers.to_vec())
    }

    /// How many of `{prefix}{0, 1, …}{suffix}` there are.
    pub(crate) fn count(self, prefix: &str, suffix: &str) -> usize {
        self.0.count(prefix, suffix)
    }
}

/// The ending of the names of batch normalisations' variances.
pub(crate) const VARIANCE: &str = ".running_var";

/// The lowest value of a variance, if that is below zero: its root is no number.
pub(crate) fn below_zero(variance: &[f32]) -> Option<f32> {
    variance.iter().copied().filter(|value| *value < 0.0).min_by(f32::total_cmp)
}

/// What is said of a variance below zero.
pub(crate) fn negative_variance(name: &str, value: f32) -> String {
    format!(
        "`{name}` holds {value}, and no variance is below zero; the weights are broken: fetch them again"
    )
}

/// A convolution `[out, in, h, w]` without bias and the batch normalisation behind it, as one convolution with bias.
///
/// y = (conv(x) - mean) × weight / √(variance + 1e-5) + bias, folded in f64 and rounded once.
pub(crate) fn folded_conv(
    graph: &mut GraphBuilder,
    weights: Tensors,
    x: Value,
    [conv, norm]: [&str; 2],
    options: ConvOptions,
) -> Result<Value, NetworkError> {
    let name = format!("{conv}.weight");
    let shape: [usize; 4] = weights.sides(&name)?;
    let out = shape[0];
    let part = |part: &str| weights.numbers(&format!("{norm}.{part}"), &[out]);
    let (scale, shift, mean, variance) =
        (part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?);
    if let Some(value) = below_zero(&variance) {
        return Err(NetworkError::Variance { name: format!("{norm}{VARIANCE}"), value });
    }
    let factors: Vec<f64> =
        (0..out).map(|i| f64::from(scale[i]) / (f64::from(variance[i]) + 1e-5).sqrt()).collect();
    let biases = (0..out)
        .map(|i| (f64::from(shift[i]) - f64::from(mean[i]) * factors[i]) as f32)
        .collect::<Vec<_>>();
    let mut kernel = weights.numbers(&name, &shape)?;
    let size = kernel.len() / out.max(1);
    for (channel, factor) in kernel.chunks_exact_mut(size.max(1)).zip(&factors) {
        channel.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
    }
    if kernel.iter().chain(&biases).any(|value| !value.is_finite()) {
        return Err(NetworkError::Folded { name, norm: norm.to_owned() });
    }
    let kernel = constant(graph, &name, &shape, kernel)?;
    let bias = constant(graph, &format!("{conv}.bias"), &[out], biases)?;
    Ok(graph.conv(x, kernel, Some(bias), options)?)
}

/// A constant of numbers that were computed.
pub(crate) fn constant(
    graph: &mut GraphBuilder,
    name: &str,
    shape: &[usize],
    numbers: Vec<f32>,
) -> Result<Value, NetworkError> {
    let tensor = TensorData::new(shape, numbers)
        .map_err(|source| NetworkError::Tensor { name: name.to_owned(), source })?;
    Ok(graph.constant(name, tensor)?)
}

/// Outputs asked for by name; each is made one where its value is computed.
pub(crate) struct Taps<'a> {
    wanted: BTreeSet<&'a str>,
}

impl<'a> Taps<'a> {
    pub(crate) fn new(wanted: &[&'a str]) -> Taps<'a> {
        Taps { wanted: wanted.iter().copied().collect() }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wanted.contains(name)
    }

    pub(crate) fn tap(
        &mut self,
        graph: &mut GraphBuilder,
        name: &str,
        value: Value,
    ) -> Result<(), NetworkError> {
        if self.wanted.remove(name) {
            graph.output(name, value)?;
        }
        Ok(())
    }

    /// What was asked for but never computed is an error.
    pub(crate) fn finish(self) -> Result<(), NetworkError> {
        match self.wanted.first() {
            Some(name) => Err(NetworkError::Output((*name).to_owned())),
            None => Ok(()),
        }
    }
}
