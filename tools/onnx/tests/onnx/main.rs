//! Graphs, files, passes and sessions through the crate's public door, against the ONNX Runtime on this machine.

mod files;
mod graphs;
mod operators;
mod passes;
mod sessions;

use onnx::runtime::{Input, Options, Session};
use onnx::{Model, TensorData};

/// Runs a model on the processor.
fn run(model: &Model, inputs: &[(&str, &TensorData)]) -> Vec<TensorData> {
    let mut session = Session::from_model(model, &Options::default()).unwrap();
    let inputs: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, Input::Host(tensor))).collect();
    session.run(&inputs).unwrap().iter().map(|tensor| tensor.to_host().unwrap()).collect()
}

/// Numbers that look random, the same every time, between -1 and 1.
fn noise(shape: &[usize], seed: u32) -> TensorData {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    let count = shape.iter().product();
    TensorData::new(shape, (0..count).map(|_| next()).collect::<Vec<f32>>()).unwrap()
}

fn largest_difference(one: &TensorData, two: &TensorData) -> f32 {
    assert_eq!(one.shape(), two.shape());
    let pairs = one.f32s().unwrap().iter().zip(two.f32s().unwrap());
    pairs.map(|(one, two)| (one - two).abs()).fold(0.0, f32::max)
}

/// Some other model.
fn other_model() -> Model {
    let mut graph = onnx::GraphBuilder::new("other");
    let x = graph.input("x", onnx::Dtype::F32, &["n".into()]).unwrap();
    let y = graph.relu(x).unwrap();
    graph.output("y", y).unwrap();
    graph.finish().unwrap()
}
