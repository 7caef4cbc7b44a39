//! Every operator's shape is the one that ONNX Runtime computes, whatever sides are named instead of fixed.

use onnx::{BuildError, ConvOptions, Dim, Dtype, GraphBuilder, PoolOptions, TensorData, Value};

use crate::{noise, run};

/// Builds with an input of this shape, fixed or with all sides named, and compares the shape foretold with the one computed.
fn shape_holds(
    shape: &[usize],
    build: impl Fn(&mut GraphBuilder, Value) -> Result<Value, BuildError>,
) -> TensorData {
    let fixed: Vec<_> = shape.iter().map(|side| Dim::Fixed(*side)).collect();
    let mut batch = fixed.clone();
    batch[0] = "batch".into();
    let mut results = Vec::new();
    for dims in [fixed.clone(), batch] {
        let mut graph = GraphBuilder::new("operator");
        let x = graph.input("x", Dtype::F32, &dims).unwrap();
        let y = build(&mut graph, x).unwrap();
        let foretold = graph.shape(y).clone();
        let dtype = graph.dtype(y);
        graph.output("y", y).unwrap();
        let found = run(&graph.finish().unwrap(), &[("x", &noise(shape, 7))]).remove(0);
        assert_eq!(found.dtype(), dtype);
        assert_eq!(found.shape().len(), foretold.rank(), "{foretold}");
        for (dim, side) in foretold.0.iter().zip(found.shape()) {
            assert!(
                dim.may_equal(&Dim::Fixed(*side)),
                "foretold {foretold}, found {:?}",
                found.shape()
            );
            assert!(
                dims != fixed || dim.fixed().is_some() || dtype == Dtype::I64,
                "{foretold} could be known"
            );
        }
        results.push(found);
    }
    // As text, for which NaN equals NaN.
    assert_eq!(format!("{:?}", results[0]), format!("{:?}", results[1]));
    results.remove(0)
}

#[test]
fn of_elements() {
    for binary in [
        GraphBuilder::add,
        GraphBuilder::sub,
        GraphBuilder::mul,
        GraphBuilder::div,
        GraphBuilder::pow,
        GraphBuilder::min,
        GraphBuilder::max,
        GraphBuilder::equal,
        GraphBuilder::greater,
        GraphBuilder::greater_or_equal,
        GraphBuilder::less,
        GraphBuilder::less_or_equal,
    ] {
        shape_holds(&[2, 1, 3], |graph, x| {
            let row = graph.constant("row", noise(&[4, 1], 1))?;
            binary(graph, x, row)
        });
    }
    for unary in [
        GraphBuilder::relu,
        GraphBuilder::sigmoid,
        GraphBuilder::tanh,
        GraphBuilder::erf,
        GraphBuilder::exp,
        GraphBuilder::log,
        GraphBuilder::sqrt,
        GraphBuilder::neg,
        GraphBuilder::floor,
        GraphBuilder::ceil,
        GraphBuilder::abs,
        GraphBuilder::sign,
        GraphBuilder::gelu,
        GraphBuilder::quick_gelu,
    ] {
        shape_holds(&[2, 3], unary);
    }
    let chosen = shape_holds(&[2, 3], |graph, x| {
        let zero = graph.scalar(0.0)?;
        let positive = graph.greater(x, zero)?;
        let negative = graph.not(positive)?;
        let both = graph.and(positive, negative)?;
        let either = graph.or(both, positive)?;
        let at_most = graph.at_most(x, 0.5)?;
        graph.select(either, at_most, zero)
    });
    let wanted: Vec<_> = noise(&[2, 3], 7)
        .f32s()
        .unwrap()
        .iter()
        .map(|x| if *x > 0.0 { x.min(0.5) } else { 0.0 })
        .collect();
    assert_eq!(chosen.f32s().unwrap(), wanted);
    shape_holds(&[2, 3], |graph, x| graph.cast(x, Dtype::I64));
}

#[test]
fn of_matrices() {
    shape_holds(&[2, 3, 4], |graph, x| {
        let matrix = graph.constant("m", noise(&[4, 5], 2))?;
        graph.matmul(x, matrix)
    });
    let linear = shape_holds(&[1, 2], |graph, x| {
        let weight = TensorData::new([3, 2], vec![1.0f32, 0.0, 0.0, 1.0, 2.0, 2.0]).unwrap();
        graph.linear(x, &weight, Some(&TensorData::new([3], vec![0.0f32, 0.0, 10.0]).unwrap()))
    });
    let input = noise(&[1, 2], 7);
    let [a, b] = input.f32s().unwrap()[..] else { panic!() };
    assert_eq!(linear.f32s().unwrap(), [a, b, 2.0 * a + 2.0 * b + 10.0]);
    shape_holds(&[2, 3, 4], |graph, x| graph.layer_norm(x, &noise(&[4], 3), &noise(&[4], 4), 1e-5));
    shape_holds(&[2, 3, 4], |graph, x| graph.softmax(x, -1));
    shape_holds(&[2, 3, 4], |graph, x| {
        let other = graph.constant("other", noise(&[5, 4], 3))?;
        graph.einsum("bij,kj->bik", &[x, other])
    });
}

#[test]
fn of_reductions() {
    for keep in [true, false] {
        for reduce in [
            GraphBuilder::reduce_mean,
            GraphBuilder::reduce_max,
            GraphBuilder::reduce_l2,
            GraphBuilder::reduce_sum,
        ] {
            shape_holds(&[2, 3, 4], |graph, x| reduce(graph, x, &[-1, 1], keep));
        }
        shape_holds(&[2, 3, 4], |graph, x| graph.argmax(x, -1, keep));
    }
    shape_holds(&[2, 3], |graph, x| graph.cumulative_sum(x, 1));
}

#[test]
fn of_maps() {
    for (stride, padding, dilation) in [(1, 0, 1), (2, 1, 1), (1, 2, 2), (2, 3, 1)] {
        shape_holds(&[1, 3, 13, 10], |graph, x| {
            let weight = graph.constant("weight", noise(&[5, 3, 3, 3], 3))?;
            let bias = graph.constant("bias", noise(&[5], 4))?;
            graph.conv(x, weight, Some(bias), ConvOptions { stride, padding, dilation })
        });
    }
    for side in [5, 6, 7, 8, 9] {
        for ceil in [true, false] {
            let options = PoolOptions { window: [3, 2], stride: 2, padding_end: [0, 0], ceil };
            shape_holds(&[1, 2, side, side + 1], |graph, x| graph.max_pool(x, options));
        }
    }
    let options = PoolOptions { window: [2, 4], stride: 1, padding_end: [1, 3], ceil: false };
    shape_holds(&[1, 2, 6, 7], |graph, x| graph.max_pool(x, options));
    shape_holds(&[1, 2, 6, 7], |graph, x| graph.average_pool(x, 2));
    shape_holds(&[1, 2, 6, 7], |graph, x| {
        let regions = graph.constant(
            "regions",
            TensorData::new([1, 5], vec![0.0f32, 0.0, 0.0, 50.0, 50.0]).unwrap(),
        )?;
        graph.max_roi_pool(x, regions, 3, 1.0 / 16.0)
    });
}

#[test]
fn of_structure() {
    shape_holds(&[2, 3, 8], |graph, x| graph.reshape(x, &[0, 0, 2, -1]));
    shape_holds(&[2, 3, 8], |graph, x| graph.reshape(x, &[-1, 8]));
    shape_holds(&[2, 3, 4], |graph, x| graph.transpose(x, &[2, 0, 1]));
    shape_holds(&[2, 3], |graph, x| graph.unsqueeze(x, &[0, -1]));
    shape_holds(&[2, 1, 3, 1], |graph, x| graph.squeeze(x, &[1, -1]));
    shape_holds(&[2, 3], |graph, x| graph.concat(&[x, x, x], 1));
    shape_holds(&[2, 5], |graph, x| Ok(graph.split(x, -1, &[2, 3])?[1]));
    for (start, end) in [(0, 2), (-2, i64::MAX), (1, -1), (3, 1)] {
        shape_holds(&[2, 5], |graph, x| graph.slice(x, 1, start, end));
    }
    shape_holds(&[2, 5], |graph, x| graph.pad(x, 1, 1, 2));
}

#[test]
fn of_choice() {
    shape_holds(&[4, 3, 2], |graph, x| {
        let rows = graph.constant("rows", TensorData::new([2, 2], vec![0i64, 2, 1, 1]).unwrap())?;
        graph.gather(x, rows, 1)
    });
    let rows = shape_holds(&[2, 3, 2], |graph, x| {
        let rows = graph.constant("rows", TensorData::new([2, 1], vec![2i64, 0]).unwrap())?;
        graph.gather_row(x, rows)
    });
    let all = noise(&[2, 3, 2], 7);
    let all = all.f32s().unwrap();
    assert_eq!(rows.f32s().unwrap(), [all[4], all[5], all[6], all[7]]);
    shape_holds(&[2, 3, 4], |graph, x| {
        let places = graph
            .constant("places", TensorData::new([3, 1, 2], vec![0i64, 2, 1, 1, 0, 0]).unwrap())?;
        graph.gather_nd(x, places)
    });
    shape_holds(&[2, 6], |graph, x| Ok(graph.top_k(x, 4)?.0));
    shape_holds(&[1, 2, 4], |graph, boxes| {
        let scores = graph.constant("scores", noise(&[1, 1, 2], 5))?;
        graph.non_max_suppression(boxes, scores, 5, 0.5, -9.0)
    });
}
