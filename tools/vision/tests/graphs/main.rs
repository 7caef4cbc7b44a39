//! The graphs of CLIP and the detector, run by ONNX Runtime, against the reference fixtures: every value that they compute.

mod clip;
mod detector;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use half::f16;
use onnx::runtime::{Input, Options, Session};
use onnx::{Elements, Model, TensorData};
use safetensors::{Dtype, SafeTensors};

/// A file of the fixtures: `XENC_FIXTURES`, or those of the repository.
fn path(name: &str) -> PathBuf {
    let root = std::env::var_os("XENC_FIXTURES").map(PathBuf::from);
    root.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/fixtures"))
        .join(name)
}

/// Tensors of a fixture by name.
fn tensors(name: &str) -> BTreeMap<String, TensorData> {
    let bytes = std::fs::read(path(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |view: &safetensors::tensor::TensorView| -> TensorData {
        let words = |size: usize| view.data().chunks_exact(size);
        let elements: Elements = match view.dtype() {
            Dtype::F32 => words(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect::<Vec<_>>()
                .into(),
            Dtype::F16 => words(2)
                .map(|b| f16::from_le_bytes(b.try_into().unwrap()))
                .collect::<Vec<_>>()
                .into(),
            Dtype::I64 => words(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
                .collect::<Vec<_>>()
                .into(),
            Dtype::U8 => view.data().to_vec().into(),
            other => panic!("{other:?}"),
        };
        TensorData::new(view.shape(), elements).unwrap()
    };
    file.iter().map(|(name, view)| (name.to_owned(), read(&view))).collect()
}

/// The weights of a fixture. The counters of batch normalisation are no weights.
fn weights(name: &str) -> BTreeMap<String, TensorData> {
    let mut weights = tensors(name);
    weights.retain(|name, _| !name.ends_with("num_batches_tracked"));
    weights
}

fn run(model: &Model, inputs: &[(&str, &TensorData)]) -> BTreeMap<String, TensorData> {
    let mut session = Session::from_model(model, &Options::default()).unwrap();
    let inputs: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, Input::Host(tensor))).collect();
    let outputs = session.run(&inputs).unwrap();
    outputs.iter().map(|tensor| (tensor.name().to_owned(), tensor.to_host().unwrap())).collect()
}

fn largest_difference(name: &str, one: &TensorData, two: &TensorData) -> f32 {
    assert_eq!(one.shape(), two.shape(), "{name}");
    if let (Ok(one), Ok(two)) = (one.i64s(), two.i64s()) {
        return one.iter().zip(two).map(|(one, two)| one.abs_diff(*two) as f32).fold(0.0, f32::max);
    }
    let pairs = one.f32s().unwrap().iter().zip(two.f32s().unwrap());
    // Unlike `max`, this keeps a NaN.
    pairs.map(|(one, two)| (one - two).abs()).fold(0.0, |largest, difference| {
        if difference > largest || difference.is_nan() { difference } else { largest }
    })
}

/// Names of a fixture that nothing was compared with.
fn left_over(
    expected: &BTreeMap<String, TensorData>,
    compared: &BTreeSet<String>,
    others: &[&str],
) -> Vec<String> {
    let known = |name: &&String| compared.contains(*name) || others.contains(&name.as_str());
    expected.keys().filter(|name| !known(name)).cloned().collect()
}
