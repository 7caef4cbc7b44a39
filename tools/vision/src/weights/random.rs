//! Weights that are drawn: for demonstrations, and to measure speed without anyone's weights.

use std::collections::BTreeMap;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Expected, Source, Weights};

/// How a tensor is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fill {
    /// Everywhere the same.
    Constant(f32),
    /// Normally distributed around zero.
    Normal(f32),
}

/// How the tensor of a name and shape is drawn.
type Rule = dyn Fn(&str, &[usize]) -> Fill + Send + Sync;

struct Drawn {
    shapes: BTreeMap<String, Vec<usize>>,
    fill: Box<Rule>,
    seed: u64,
}

/// Draws the tensors of a model; the same seed gives the same tensors, each by itself.
pub(crate) fn random(
    name: &str,
    expected: Expected,
    seed: u64,
    fill: impl Fn(&str, &[usize]) -> Fill + Send + Sync + 'static,
) -> Weights {
    let shapes = expected.0.into_iter().collect();
    Weights::of(Path::new(name), Box::new(Drawn { shapes, fill: Box::new(fill), seed }))
}

impl Source for Drawn {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.shapes.clone()
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, String> {
        let shape = &self.shapes[name];
        let length = shape.iter().product();
        let deviation = match (self.fill)(name, shape) {
            Fill::Constant(value) => return Ok(vec![value; length]),
            Fill::Normal(deviation) => deviation,
        };
        // A stream of its own for every name, so that tensors do not depend on the order in which they are read.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut random = ChaCha8Rng::seed_from_u64(self.seed ^ hash);
        // The sum of three uniform numbers in -1..1 has deviation 1: near enough to a bell, and fast.
        let mut draw = || (0..3).map(|_| random.random_range(-1.0f32..1.0)).sum::<f32>();
        Ok((0..length).map(|_| deviation * draw()).collect())
    }
}
