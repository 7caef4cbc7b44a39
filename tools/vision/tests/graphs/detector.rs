//! The detector: every stage of the tiny network, and the pooling of regions in both forms.

use std::collections::{BTreeMap, BTreeSet};

use onnx::passes::PassError;
use onnx::{TensorData, kernels};
use vision::detector::graph::{Options, Part, Pooling, build, half, pooling_graph};
use vision::network::NetworkError;

use crate::{largest_difference, left_over, run, tensors, weights};

/// Values inside the graph that the fixture has under the same name.
const INNER: [&str; 18] = [
    "stem_conv",
    "stem",
    "res2",
    "res3",
    "res4",
    "rpn.hidden",
    "rpn.objectness_logits",
    "rpn.anchor_deltas",
    "rpn.anchors",
    "rpn.decoded_boxes",
    "rpn.scores_flat",
    "rpn.topk_scores",
    "rpn.topk_index",
    "rpn.topk_boxes_clipped",
    "rpn.nms_keep",
    "rpn.proposal_logits",
    "rpn.proposal_boxes",
    "head.cls_argmax_with_bg",
];

/// Outputs, and their names in the fixture.
const HEADS: [(&str, &str); 4] = [
    ("features", "roi.feature"),
    ("class_logits", "head.cls_logits"),
    ("box_deltas", "head.bbox_deltas"),
    ("attribute_logits", "head.attr_logits"),
];

/// What no graph computes: pixels, probabilities, and the choice of boxes.
const ELSEWHERE: [&str; 16] = [
    "image",
    "image_u8_bgr",
    "rpn.nonempty",
    "head.class_probs",
    "head.attr_probs",
    "head.boxes_decoded",
    "select.keep",
    "select.max_boxes_clipped",
    "select.max_classes",
    "select.max_scores",
    "final.features",
    "final.boxes",
    "final.boxes_net",
    "final.classes",
    "final.conf",
    "final.attrs",
];

fn expected() -> BTreeMap<String, TensorData> {
    tensors("detector/tiny_io.safetensors")
}

/// The tiny network's anchors.
fn anchors() -> Vec<[f32; 4]> {
    let around = |size: f32, ratio: f32| {
        let width = (size * size / ratio).sqrt();
        let height = ratio * width;
        [-width / 2.0, -height / 2.0, width / 2.0, height / 2.0]
    };
    [32.0, 64.0, 128.0, 256.0]
        .into_iter()
        .flat_map(|size| [0.5, 1.0, 2.0].map(|ratio| around(size, ratio)))
        .collect()
}

fn options<'a>(anchors: &'a [[f32; 4]], part: Part, outputs: &'a [&'a str]) -> Options<'a> {
    Options { part, before: 600, after: 50, longest: 168, outputs, ..Options::new(anchors) }
}

fn tolerance(name: &str) -> f32 {
    if name.contains("boxes") || name.contains("anchors") { 2e-3 } else { 1e-4 }
}

fn same(name: &str, found: &TensorData, wanted: &TensorData) {
    let difference = largest_difference(name, found, wanted);
    assert!(difference <= tolerance(name), "{name}: {difference}");
}

fn rows(tensor: &TensorData, count: usize) -> TensorData {
    let size: usize = tensor.shape()[1..].iter().product();
    let shape: Vec<_> = [count].into_iter().chain(tensor.shape()[1..].iter().copied()).collect();
    TensorData::new(shape, tensor.f32s().unwrap()[..count * size].to_vec()).unwrap()
}

fn sorted(tensor: &TensorData) -> Vec<i64> {
    let mut numbers = tensor.i64s().unwrap().to_vec();
    numbers.sort_unstable();
    numbers
}

#[test]
fn parity_every_stage_equals_the_originals() {
    let (expected, anchors) = (expected(), anchors());
    let weights = weights("detector/tiny_weights.safetensors");
    let outputs: Vec<_> = INNER.into_iter().chain(["roi.pooled", "roi.res5"]).collect();
    let mut results = Vec::new();
    for pooling in [Pooling::Gathers, Pooling::MaxRoiPool] {
        let options = Options { pooling, ..options(&anchors, Part::Whole, &outputs) };
        let found = run(&build(&weights, &options).unwrap(), &[("image", &expected["image"])]);
        let mut compared = BTreeSet::new();
        for name in INNER {
            match name {
                "rpn.topk_index" => assert_eq!(sorted(&found[name]), sorted(&expected[name])),
                "rpn.nms_keep" => same_anchors(&found, &expected),
                _ => same(name, &found[name], &expected[name]),
            }
            compared.insert(name.to_owned());
        }
        for (output, name) in HEADS {
            same(name, &found[output], &expected[name]);
            compared.insert(name.to_owned());
        }
        same("rpn.proposal_boxes", &found["proposals"], &expected["rpn.proposal_boxes"]);
        same("roi.pooled_first4", &rows(&found["roi.pooled"], 4), &expected["roi.pooled_first4"]);
        same("roi.res5_first2", &rows(&found["roi.res5"], 2), &expected["roi.res5_first2"]);
        let sums = expected["roi.pooled_sum"].f32s().unwrap();
        let size = found["roi.pooled"].f32s().unwrap().len() / sums.len();
        for (region, sum) in found["roi.pooled"].f32s().unwrap().chunks_exact(size).zip(sums) {
            let found: f64 = region.iter().map(|value| f64::from(*value)).sum();
            assert!(
                (found - f64::from(*sum)).abs() <= 1e-5 * f64::from(sum.abs()) + 1e-3,
                "{found} {sum}"
            );
        }
        compared
            .extend(["roi.pooled_first4", "roi.res5_first2", "roi.pooled_sum"].map(str::to_owned));
        let others: Vec<_> = ELSEWHERE.into_iter().chain(["final.attr_conf"]).collect();
        assert_eq!(left_over(&expected, &compared, &others), Vec::<String>::new());
        results.push(found);
    }
    assert_eq!(
        largest_difference("roi.pooled", &results[0]["roi.pooled"], &results[1]["roi.pooled"]),
        0.0
    );
}

/// The suppression counts within the best 600 here and within those of them that have an area there.
fn same_anchors(found: &BTreeMap<String, TensorData>, expected: &BTreeMap<String, TensorData>) {
    let index = |tensors: &BTreeMap<String, TensorData>, rows: Vec<usize>| {
        let all = tensors["rpn.topk_index"].i64s().unwrap().to_vec();
        rows.into_iter().map(|row| all[row]).collect::<BTreeSet<_>>()
    };
    let numbers = |tensors: &BTreeMap<String, TensorData>| -> Vec<usize> {
        tensors["rpn.nms_keep"].i64s().unwrap().iter().map(|row| *row as usize).collect()
    };
    let onnx::Elements::U8(counts) = expected["rpn.nonempty"].elements() else { panic!() };
    let filled: Vec<_> = (0..counts.len()).filter(|row| counts[*row] != 0).collect();
    let wanted = numbers(expected).into_iter().map(|row| filled[row]).collect();
    assert_eq!(index(found, numbers(found)), index(expected, wanted));
}

#[test]
fn the_parts_give_what_the_whole_gives() {
    let (expected, anchors) = (expected(), anchors());
    let weights = weights("detector/tiny_weights.safetensors");
    let image = &expected["image"];
    let graph = |part| build(&weights, &options(&anchors, part, &[])).unwrap();
    for part in [Part::Whole, Part::Given, Part::Backbone, Part::Heads] {
        assert_eq!(kernels::without_cuda(&graph(part)), Vec::<String>::new());
    }
    let whole = run(&graph(Part::Whole), &[("image", image)]);
    let boxes = &whole["proposals"];
    let given = run(&graph(Part::Given), &[("image", image), ("boxes", boxes)]);
    let backbone = run(&graph(Part::Backbone), &[("image", image)]);
    same("res4", &backbone["map"], &expected["res4"]);
    same("rpn.objectness_logits", &backbone["objectness"], &expected["rpn.objectness_logits"]);
    same("rpn.anchor_deltas", &backbone["deltas"], &expected["rpn.anchor_deltas"]);
    let heads = run(&graph(Part::Heads), &[("map", &backbone["map"]), ("boxes", boxes)]);
    for (name, _) in HEADS {
        // Layouts may differ where a part begins.
        assert!(largest_difference(name, &given[name], &whole[name]) < 1e-5);
        assert!(largest_difference(name, &heads[name], &whole[name]) < 1e-5);
    }
}

#[test]
fn half_precision_chooses_nearly_the_same_boxes() {
    let (expected, anchors) = (expected(), anchors());
    let whole =
        build(&weights("detector/tiny_weights.safetensors"), &options(&anchors, Part::Given, &[]))
            .unwrap();
    let halved = half(&whole).unwrap();
    assert_eq!(kernels::without_cuda(&halved), Vec::<String>::new());
    let inputs = [("image", &expected["image"]), ("boxes", &expected["rpn.proposal_boxes"])];
    let found = run(&halved, &inputs);
    for (output, name) in HEADS {
        let largest = expected[name]
            .f32s()
            .unwrap()
            .iter()
            .fold(0.0f32, |largest, value| largest.max(value.abs()));
        let difference = largest_difference(name, &found[output], &expected[name]) / largest;
        // A class that only just wins may be another one; it changes the attributes of that region.
        let most = if output == "attribute_logits" { 1.0 } else { 0.01 };
        assert!(difference > 0.0 && difference < most, "{name}: {difference}");
    }
}

#[test]
fn weights_beyond_half_precision_are_named() {
    let mut weights = weights("detector/tiny_weights.safetensors");
    let name = "roi_heads.box_predictor.cls_score.weight";
    let large = weights[name].f32s().unwrap().iter().map(|value| value * 1e6);
    let large = TensorData::new(weights[name].shape(), large.collect::<Vec<_>>()).unwrap();
    weights.insert(name.into(), large);
    let error =
        half(&build(&weights, &options(&anchors(), Part::Whole, &[])).unwrap()).unwrap_err();
    assert!(
        matches!(&error, PassError::Range { name, .. } if name.contains("cls_score")),
        "{error}"
    );
}

#[test]
fn parity_both_forms_of_pooling_equal_the_reference() {
    let file = tensors("detector/pooling.safetensors");
    let regions = file["rois"].f32s().unwrap();
    let mut compared = BTreeSet::new();
    for (name, map, side) in [
        ("roi_pool_14", "feat_nonneg", 14),
        ("roi_pool_7", "feat_nonneg", 7),
        ("roi_pool_signed_7", "feat", 7),
    ] {
        let [images, channels, height, width] = file[map].shape()[..] else { panic!() };
        for image in 0..images {
            let size = channels * height * width;
            let slice = file[map].f32s().unwrap()[image * size..(image + 1) * size].to_vec();
            let input = TensorData::new([1, channels, height, width], slice).unwrap();
            let chosen: Vec<_> = regions
                .chunks_exact(5)
                .enumerate()
                .filter(|(_, region)| region[0] == image as f32)
                .collect();
            let boxes: Vec<f32> =
                chosen.iter().flat_map(|(_, region)| region[1..].iter().copied()).collect();
            let boxes = TensorData::new([chosen.len(), 4], boxes).unwrap();
            let size = channels * side * side;
            let whole = file[name].f32s().unwrap();
            let wanted: Vec<f32> = chosen
                .iter()
                .flat_map(|(row, _)| whole[row * size..(row + 1) * size].iter().copied())
                .collect();
            let wanted = TensorData::new([chosen.len(), channels, side, side], wanted).unwrap();
            for pooling in [Pooling::Gathers, Pooling::MaxRoiPool] {
                let model = pooling_graph(channels, side, 16 * width, pooling).unwrap();
                assert_eq!(kernels::without_cuda(&model).is_empty(), pooling == Pooling::Gathers);
                let found =
                    run(&model, &[("map", &input), ("boxes", &boxes)]).remove("pooled").unwrap();
                assert_eq!(largest_difference(name, &found, &wanted), 0.0, "{name} {pooling:?}");
            }
            compared.insert(name);
        }
    }
    let pooled: BTreeSet<_> =
        file.keys().map(String::as_str).filter(|name| name.starts_with("roi_pool")).collect();
    assert_eq!(compared, pooled);
}

#[test]
fn both_forms_agree_on_large_maps_and_odd_boxes() {
    let (height, width) = (50, 84);
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let map: Vec<f32> = (0..3 * height * width).map(|_| next()).collect();
    let map = TensorData::new([1, 3, height, width], map).unwrap();
    let (right, bottom) = (1333.0, 800.0);
    let mut boxes = vec![
        0.0, 0.0, right, bottom, 0.0, 0.0, 0.0, 0.0, right, bottom, right, bottom, 8.0, 8.0, 7.9,
        24.0,
    ];
    for _ in 0..300 {
        let (x, y) = (next() * right, next() * bottom);
        boxes.extend([x, y, x + next() * (right - x), y + next() * (bottom - y)]);
    }
    let boxes = TensorData::new([boxes.len() / 4, 4], boxes).unwrap();
    let pooled = [Pooling::Gathers, Pooling::MaxRoiPool].map(|pooling| {
        let model = pooling_graph(3, 14, 1333, pooling).unwrap();
        run(&model, &[("map", &map), ("boxes", &boxes)]).remove("pooled").unwrap()
    });
    assert_eq!(largest_difference("pooled", &pooled[0], &pooled[1]), 0.0);
}

#[test]
fn parity_caffes_pooling_is_the_one_with_windows_over_the_border() {
    let file = tensors("detector/pooling.safetensors");
    let mut compared = 0;
    for (name, input) in file.iter().filter(|(name, _)| name.ends_with(".in")) {
        let mut graph = onnx::GraphBuilder::new("caffe");
        let dims: Vec<_> = input.shape().iter().map(|side| onnx::Dim::Fixed(*side)).collect();
        let x = graph.input("x", onnx::Dtype::F32, &dims).unwrap();
        let options =
            onnx::PoolOptions { window: [3, 3], stride: 2, padding_end: [0, 0], ceil: true };
        let y = graph.max_pool(x, options).unwrap();
        graph.output("y", y).unwrap();
        let found = run(&graph.finish().unwrap(), &[("x", input)]).remove("y").unwrap();
        let wanted = &file[&name.replace(".in", ".caffe")];
        assert_eq!(largest_difference(name, &found, wanted), 0.0, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 4);
}

#[test]
fn weights_that_are_not_the_detectors_are_named() {
    let anchors = anchors();
    let mut weights = weights("detector/tiny_weights.safetensors");
    let error = build(&weights, &options(&anchors[..3], Part::Whole, &[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`proposal_generator.rpn_head.objectness_logits.weight` is [12, 24, 1, 1]; [3, 24, 1, 1] is needed"
    );
    let error = build(&weights, &options(&anchors, Part::Heads, &["res4"])).unwrap_err();
    assert_eq!(error, NetworkError::Output("res4".into()));
    weights.retain(|name, _| !name.contains("attr"));
    let model = build(&weights, &options(&anchors, Part::Heads, &[])).unwrap();
    let names: Vec<_> = model.outputs().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["features", "class_logits", "box_deltas"]);
    let name = "backbone.res3.0.conv1.norm.running_var";
    let shape = weights[name].shape().to_vec();
    let below = TensorData::new(shape.clone(), vec![-0.25f32; shape[0]]).unwrap();
    weights.insert(name.into(), below);
    let error = build(&weights, &options(&anchors, Part::Whole, &[])).unwrap_err();
    assert_eq!(error, NetworkError::Variance { name: name.into(), value: -0.25 });
    weights.remove("backbone.res3.0.conv1.norm.running_var");
    let error = build(&weights, &options(&anchors, Part::Whole, &[])).unwrap_err();
    assert_eq!(error, NetworkError::Missing("backbone.res3.0.conv1.norm.running_var".into()));
}
