//! How far two models are apart on the same inputs.

use std::path::Path;

use anyhow::Context;
use onnx::runtime::{Input, Options, Session};
use onnx::{Model, TensorData};
use serde::Serialize;

/// A file that was compared.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// What was run.
    pub compared: &'static str,
    /// What was run on the same inputs, and by what.
    pub with: &'static str,
    /// By output.
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// Of a file with the model that it was made of.
    #[cfg(feature = "torch")]
    pub fn with_libtorch(differences: Vec<crossencoders::export::Difference>) -> Comparison {
        let differences = differences.into_iter().map(|difference| {
            let crossencoders::export::Difference { output, absolute, relative } = difference;
            Difference { output, absolute, relative }
        });
        Comparison {
            compared: "the file in ONNX Runtime",
            with: "the model in libtorch",
            differences: differences.collect(),
        }
    }

    /// Whether all outputs are as near as that, relatively; what is no number is not.
    pub fn is_within(&self, tolerance: f64) -> bool {
        self.differences.iter().all(|difference| difference.relative <= tolerance)
    }

    /// Of a file with the graph that it was made of, before its numbers were rounded.
    pub fn with_graph(
        graph: &Model,
        file: &Path,
        inputs: &[(&str, TensorData)],
    ) -> anyhow::Result<Comparison> {
        Ok(Comparison {
            compared: "the file in ONNX Runtime",
            with: "its graph before writing, in f32 and in ONNX Runtime as well: whether the graph is right, the project's \
                   tests tell",
            differences: between(graph, file, inputs)?,
        })
    }
}

/// How far one output is apart.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// The output.
    pub output: String,
    /// Largest absolute difference.
    pub absolute: f64,
    /// The same as a part of the largest absolute value.
    pub relative: f64,
}

/// Runs a file; an error if it cannot be run, or gives what is no number.
pub fn run_alone(file: &Path, inputs: &[(&str, TensorData)]) -> anyhow::Result<()> {
    let inputs: Vec<(&str, Input)> =
        inputs.iter().map(|(name, data)| (*name, data.into())).collect();
    let mut session = Session::open(file, &Options::default())?;
    for output in session.run(&inputs).context("the exported file cannot be run")? {
        let finite = output.f32s()?.iter().all(|value| value.is_finite());
        anyhow::ensure!(finite, "the exported file's {} are not numbers", output.name());
    }
    Ok(())
}

/// A file against a model in memory that gives the same outputs.
fn between(
    reference: &Model,
    file: &Path,
    inputs: &[(&str, TensorData)],
) -> anyhow::Result<Vec<Difference>> {
    let inputs: Vec<(&str, Input)> =
        inputs.iter().map(|(name, data)| (*name, data.into())).collect();
    let mut found = Session::open(file, &Options::default())?;
    let found = found.run(&inputs).context("the exported file cannot be run")?;
    let mut expected = Session::from_model(reference, &Options::default())?;
    let expected = expected.run(&inputs)?;
    let pairs = expected.iter().filter_map(|expected| {
        found.iter().find(|found| found.name() == expected.name()).map(|found| (expected, found))
    });
    pairs
        .map(|(expected, found)| {
            anyhow::ensure!(expected.shape() == found.shape(), "{} has other sides", found.name());
            let (a, b) = (expected.f32s()?, found.f32s()?);
            let apart = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
            let absolute = largest(apart);
            let size = largest(a.iter().map(|a| f64::from(a.abs())));
            let relative = absolute / size.max(f64::MIN_POSITIVE);
            Ok(Difference { output: found.name().to_owned(), absolute, relative })
        })
        .collect()
}

/// The largest value; one that is no number is larger than all.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |most, value| if value > most || value.is_nan() { value } else { most })
}

/// Values between -1 and 1 without a pattern, the same every time.
pub fn noise(count: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}
