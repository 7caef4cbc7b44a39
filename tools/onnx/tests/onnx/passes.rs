//! Passes keep what a model computes, and change how.

use onnx::passes::{HalfOptions, PassError, QuantizeOptions, half, quantize};
use onnx::{BuildError, Dtype, Elements, GraphBuilder, Model, TensorData, Value};

use crate::{largest_difference, noise, run};

/// A little of everything: products, a normalisation, a choice by number, an output that others read on.
fn model() -> Model {
    let mut graph = GraphBuilder::new("model");
    let build = |graph: &mut GraphBuilder| -> Result<(Value, Value, Value), BuildError> {
        let ids = graph.input("ids", Dtype::I64, &["n".into(), "t".into()])?;
        let scale = graph.input("scale", Dtype::F32, &[1.into()])?;
        let table = graph.constant("table", noise(&[10, 64], 1))?;
        let x = graph.gather(table, ids, 0)?;
        let x = graph.mul(x, scale)?;
        let normed = graph
            .scope("norm", |graph| graph.layer_norm(x, &noise(&[64], 2), &noise(&[64], 3), 1e-5))?;
        let wide = graph.scope("up", |graph| {
            graph.linear(normed, &noise(&[128, 64], 4), Some(&noise(&[128], 5)))
        })?;
        let gate =
            graph.scope("gate", |graph| graph.linear(normed, &noise(&[128, 64], 9), None))?;
        let wide = graph.mul(wide, gate)?;
        let wide = graph.quick_gelu(wide)?;
        let narrow =
            graph.scope("down", |graph| graph.linear(wide, &noise(&[64, 128], 6), None))?;
        let sum = graph.add(narrow, x)?;
        let mean = graph.reduce_mean(sum, &[1], false)?;
        let best = graph.argmax(mean, -1, false)?;
        Ok((sum, mean, best))
    };
    let (sum, mean, best) = build(&mut graph).unwrap();
    graph.output("sum", sum).unwrap();
    graph.output("mean", mean).unwrap();
    graph.output("best", best).unwrap();
    graph.finish().unwrap()
}

fn inputs() -> (TensorData, TensorData) {
    let ids = TensorData::new([2, 3], vec![1i64, 2, 3, 9, 0, 4]).unwrap();
    (ids, TensorData::new([1], vec![0.7f32]).unwrap())
}

fn types(model: &Model, operator: &str) -> Vec<Dtype> {
    let graph = model.proto().graph.as_ref().unwrap();
    let nodes = graph.node.iter().filter(|node| node.op_type == operator);
    let type_of = |name: &String| {
        let info =
            graph.value_info.iter().chain(&graph.output).find(|info| info.name == *name).unwrap();
        let tensor = info.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
        Dtype::from_code(tensor.elem_type).unwrap()
    };
    nodes.map(|node| type_of(&node.output[0])).collect()
}

#[test]
fn half_precision_keeps_the_door_and_halves_the_constants() {
    let (whole, halved) = (model(), half(&model(), HalfOptions::default()).unwrap());
    assert_eq!((whole.inputs(), whole.outputs()), (halved.inputs(), halved.outputs()));
    assert!(halved.constant_bytes() * 19 < whole.constant_bytes() * 10);
    assert_eq!(types(&halved, "MatMul"), [Dtype::F16; 3]);
    assert_eq!(types(&halved, "LayerNormalization"), [Dtype::F32]);
    let (ids, scale) = inputs();
    let inputs = [("ids", &ids), ("scale", &scale)];
    let (one, two) = (run(&whole, &inputs), run(&halved, &inputs));
    let largest =
        one[0].f32s().unwrap().iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let difference = largest_difference(&one[0], &two[0]);
    assert!(difference > 0.0 && difference < 5e-3 * largest, "{difference} of {largest}");
    assert!(largest_difference(&one[1], &two[1]) < 5e-3 * largest);
    assert_eq!(one[2], two[2]);
    assert_eq!(
        half(&halved, HalfOptions::default()).unwrap().constant_bytes(),
        halved.constant_bytes()
    );
}

#[test]
fn what_is_to_stay_in_f32_stays() {
    let halved = half(&model(), HalfOptions { kept: &["up/"] }).unwrap();
    assert_eq!(types(&halved, "MatMul"), [Dtype::F32, Dtype::F16, Dtype::F16]);
    let (ids, scale) = inputs();
    run(&halved, &[("ids", &ids), ("scale", &scale)]);
}

#[test]
fn weights_beyond_f16_are_refused_and_own_constants_are_not() {
    let build = |weight: f32, mask: f32| {
        let mut graph = GraphBuilder::new("range");
        let x = graph.input("x", Dtype::F32, &[1.into(), 2.into()]).unwrap();
        let weight = TensorData::new([2, 2], vec![0.5, weight, 1e-9, 3.0]).unwrap();
        let y = graph.scope("proj", |graph| graph.linear(x, &weight, None)).unwrap();
        let mask = graph.scalar(mask).unwrap();
        let y = graph.add(y, mask).unwrap();
        graph.output("y", y).unwrap();
        graph.finish().unwrap()
    };
    // 65519 is rounded to the largest f16, 65504; 65520 would be infinite.
    for mask in [-1e9, f32::NEG_INFINITY] {
        half(&build(-65519.0, mask), HalfOptions::default()).unwrap();
    }
    for beyond in [65520.0, -3e7] {
        let error = half(&build(beyond, 0.0), HalfOptions::default()).unwrap_err();
        assert_eq!(error, PassError::Range { name: "proj/weight".into(), largest: beyond });
    }
    let error = half(&build(-3e7, 0.0), HalfOptions::default()).unwrap_err().to_string();
    assert!(error.contains("`proj/weight` holds -3e7") && error.contains("in f32"), "{error}");
    // What stays in f32 is not clipped.
    half(&build(-3e7, 0.0), HalfOptions { kept: &["proj/"] }).unwrap();
}

#[test]
fn eight_bits_come_close_and_round_each_operand_once() {
    let rounded = quantize(&model(), QuantizeOptions::default()).unwrap();
    let count =
        |operator: &str| rounded.nodes().iter().filter(|node| node.op_type == operator).count();
    assert_eq!(
        (count("MatMul"), count("MatMulInteger"), count("DynamicQuantizeLinear")),
        (0, 3, 2)
    );
    let (ids, scale) = inputs();
    let inputs = [("ids", &ids), ("scale", &scale)];
    let (one, two) = (run(&model(), &inputs), run(&rounded, &inputs));
    let largest =
        one[0].f32s().unwrap().iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let difference = largest_difference(&one[0], &two[0]);
    assert!(difference > 0.0 && difference < 0.05 * largest, "{difference} of {largest}");
    assert!(rounded.constant_bytes() * 3 < model().constant_bytes() * 2);
    let again = quantize(&model(), QuantizeOptions::default()).unwrap();
    assert_eq!(again, rounded);
}

#[test]
fn a_weight_of_two_products_is_there_once_and_runs_in_both() {
    let mut graph = GraphBuilder::new("shared");
    let [a, b] = ["a", "b"].map(|name| {
        let value = graph.input(name, Dtype::F32, &[2.into(), 64.into()]).unwrap();
        (name, value)
    });
    let values: Vec<f32> = (0..64 * 64).map(|at| ((at * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let weight = graph.constant("weight", TensorData::new([64, 64], values).unwrap()).unwrap();
    for (name, value) in [a, b] {
        let y = graph.scope(name, |graph| graph.matmul(value, weight)).unwrap();
        graph.output(&format!("{name}_out"), y).unwrap();
    }
    let whole = graph.finish().unwrap();
    let rounded = quantize(&whole, QuantizeOptions::default()).unwrap();
    assert!(rounded.constant_bytes() * 3 < whole.constant_bytes());
    let x = TensorData::new([2, 64], (0..128).map(|at| at as f32 / 64.0 - 1.0).collect::<Vec<_>>());
    let x = x.unwrap();
    let inputs = [("a", &x), ("b", &x)];
    let (exact, close) = (run(&whole, &inputs), run(&rounded, &inputs));
    let largest = exact[0].f32s().unwrap().iter().fold(0.0f32, |most, value| most.max(value.abs()));
    for (one, two) in exact.iter().zip(&close) {
        assert!(largest_difference(one, two) < 0.05 * largest);
    }
}

#[test]
fn small_and_named_products_stay_whole() {
    let none = quantize(&model(), QuantizeOptions { smallest: 1 << 20, kept: &[] }).unwrap();
    assert_eq!(none.nodes(), model().nodes());
    let some =
        quantize(&model(), QuantizeOptions { kept: &["down"], ..QuantizeOptions::default() })
            .unwrap();
    assert_eq!(some.nodes().iter().filter(|node| node.op_type == "MatMul").count(), 1);
}

#[test]
fn a_model_that_does_not_tell_its_types_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("untyped.onnx");
    let mut proto = model().proto().clone();
    proto.graph.as_mut().unwrap().value_info.clear();
    std::fs::write(&path, prost::Message::encode_to_vec(&proto)).unwrap();
    let model = onnx::file::read(&path).unwrap();
    assert!(matches!(half(&model, HalfOptions::default()), Err(PassError::Untyped(_))));
    assert!(matches!(quantize(&model, QuantizeOptions::default()), Err(PassError::Untyped(_))));
}

#[test]
fn columns_of_zeros_and_single_values_are_exact() {
    let mut graph = GraphBuilder::new("columns");
    let x = graph.input("x", Dtype::F32, &[1.into(), 2.into()]).unwrap();
    let weight = graph
        .constant("weight", TensorData::new([2, 2], vec![0.0f32, 2.0, 0.0, -2.0]).unwrap())
        .unwrap();
    let y = graph.matmul(x, weight).unwrap();
    graph.output("y", y).unwrap();
    let model =
        quantize(&graph.finish().unwrap(), QuantizeOptions { smallest: 0, kept: &[] }).unwrap();
    assert_eq!(
        *model.constant("weight/q").unwrap().unwrap().elements(),
        Elements::I8(vec![0, 127, 0, -127])
    );
    let x = TensorData::new([1, 2], vec![1.0f32, 0.0]).unwrap();
    let y = run(&model, &[("x", &x)]).remove(0);
    assert!(largest_difference(&y, &TensorData::new([1, 2], vec![0.0f32, 2.0]).unwrap()) < 1e-5);
}
