//! How far two models are apart on the same inputs.

use std::path::Path;

use anyhow::Context;
use onnx::runtime::{Input, Options, Session};
use onnx::{Model, TensorData};
use serde::Serialize;

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

/// A file against a model in memory that gives the same outputs.
pub fn between(
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
