//! What the builder refuses, and what it makes.

use onnx::{BuildFault, Dtype, GraphBuilder, TensorData, kernels};

use crate::{noise, run};

#[test]
fn what_does_not_fit_is_refused_where_it_stands() {
    let mut graph = GraphBuilder::new("wrong");
    let x = graph.input("x", Dtype::F32, &["batch".into(), 3.into()]).unwrap();
    let ids = graph.input("ids", Dtype::I64, &["batch".into()]).unwrap();
    let weight = graph.constant("weight", noise(&[4, 2], 1)).unwrap();
    let error = graph
        .scope("layer.3", |graph| graph.scope("query", |graph| graph.matmul(x, weight)))
        .unwrap_err();
    assert_eq!(error.to_string(), "layer.3/query/MatMul: shapes [batch, 3] and [4, 2] do not fit");
    assert!(matches!(
        graph.add(x, ids).unwrap_err().fault,
        BuildFault::Dtypes(Dtype::F32, Dtype::I64)
    ));
    assert!(matches!(graph.relu(ids).unwrap_err().fault, BuildFault::Dtype { .. }));
    assert!(matches!(graph.argmax(ids, 0, true).unwrap_err().fault, BuildFault::Dtype { .. }));
    assert!(matches!(graph.softmax(x, 2).unwrap_err().fault, BuildFault::Axis { axis: 2, .. }));
    assert!(matches!(graph.reshape(x, &[0, 4]).unwrap_err().fault, BuildFault::Reshape { .. }));
    assert!(matches!(graph.transpose(x, &[0, 0]).unwrap_err().fault, BuildFault::Attribute(_)));
    assert!(matches!(graph.split(x, 1, &[1, 1]).unwrap_err().fault, BuildFault::Attribute(_)));
    assert!(matches!(graph.gather(x, x, 0).unwrap_err().fault, BuildFault::Dtype { .. }));
    assert!(matches!(graph.unsqueeze(x, &[0, 0]).unwrap_err().fault, BuildFault::Attribute(_)));
    assert!(matches!(graph.input("x", Dtype::F32, &[]).unwrap_err().fault, BuildFault::Name(_)));
    assert!(matches!(graph.concat(&[], 0).unwrap_err().fault, BuildFault::Attribute(_)));
    assert!(matches!(
        GraphBuilder::new("empty").finish().unwrap_err().fault,
        BuildFault::Attribute(_)
    ));
}

#[test]
fn equal_constants_are_stored_once_and_unused_ones_not_at_all() {
    let mut graph = GraphBuilder::new("shared");
    let x = graph.input("x", Dtype::F32, &[2.into()]).unwrap();
    let one = graph.constant("one", noise(&[2], 1)).unwrap();
    let same = graph.constant("same", noise(&[2], 1)).unwrap();
    let other = graph.constant("one", noise(&[2], 2)).unwrap();
    let shape = graph
        .constant("shape", TensorData::new([1, 2], noise(&[2], 1).into_parts().1).unwrap())
        .unwrap();
    assert_eq!(one, same);
    assert!(one != other && one != shape);
    let unused = graph.add(x, shape).unwrap();
    graph.relu(unused).unwrap();
    let sum = graph.add(x, one).unwrap();
    let sum = graph.add(sum, other).unwrap();
    graph.output("y", sum).unwrap();
    let model = graph.finish().unwrap();
    let proto = model.proto().graph.as_ref().unwrap();
    assert_eq!(proto.node.len(), 2);
    let names: Vec<_> = proto.initializer.iter().map(|constant| constant.name.as_str()).collect();
    assert_eq!(names, ["one", "one_1"]);
}

#[test]
fn outputs_have_their_names_whatever_they_are() {
    let mut graph = GraphBuilder::new("names");
    let x = graph.input("x", Dtype::F32, &["n".into()]).unwrap();
    let constant = graph.constant("Relu", noise(&[2], 1)).unwrap();
    let y = graph.relu(x).unwrap();
    for (name, value) in [("again", x), ("Relu", y), ("twice", y), ("constant", constant)] {
        graph.output(name, value).unwrap();
    }
    assert!(matches!(graph.output("twice", x).unwrap_err().fault, BuildFault::Name(_)));
    let model = graph.finish().unwrap();
    let names: Vec<_> = model.outputs().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["again", "Relu", "twice", "constant"]);
    let x = TensorData::new([2], vec![-1.0f32, 2.0]).unwrap();
    let relu = TensorData::new([2], vec![0.0f32, 2.0]).unwrap();
    assert_eq!(run(&model, &[("x", &x)]), [x, relu.clone(), relu, noise(&[2], 1)]);
}

#[test]
fn operators_without_a_cuda_kernel_are_named() {
    let mut graph = GraphBuilder::new("cpu only");
    let map = graph.input("map", Dtype::F32, &[1.into(), 2.into(), 4.into(), 4.into()]).unwrap();
    let regions = graph.input("regions", Dtype::F32, &["n".into(), 5.into()]).unwrap();
    let pooled = graph.max_roi_pool(map, regions, 2, 1.0).unwrap();
    let pooled = graph.relu(pooled).unwrap();
    graph.output("pooled", pooled).unwrap();
    assert_eq!(kernels::without_cuda(&graph.finish().unwrap()), ["MaxRoiPool (f32)"]);
}
