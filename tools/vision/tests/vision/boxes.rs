//! Box arithmetic against the originals.

use serde_json::Value;
use vision::detector::boxes::{self, Box4};
use vision::detector::pooling::roi_max_pool;
use vision::detector::{Anchors, Candidates, ProposalRule, SelectionRule, nms, softmax};

use crate::fixtures::{Tensors, json, largest_difference};

fn boxes_of(values: &[f32]) -> Vec<Box4> {
    values.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect()
}

fn flat(boxes: &[Box4]) -> Vec<f32> {
    boxes.iter().flatten().copied().collect()
}

fn indices(values: &[i64]) -> Vec<usize> {
    values.iter().map(|&value| value as usize).collect()
}

pub fn pair(value: &Value) -> (usize, usize) {
    (value[0].as_u64().unwrap() as usize, value[1].as_u64().unwrap() as usize)
}

/// Largest difference relative to the larger of 1 and the expected value.
fn relative(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max)
}

#[test]
fn parity_box_arithmetic_equals_the_originals() {
    let mut tensors = Tensors::open("detector/boxes.safetensors");
    let cases = json("detector/boxes.json");
    let list = |key: &str| cases[key].as_array().unwrap().clone();
    for case in list("nms") {
        let name = case["name"].as_str().unwrap();
        let (given, scores) =
            (tensors.f32s(&format!("{name}.boxes")), tensors.f32s(&format!("{name}.scores")));
        for threshold in case["thresholds"].as_array().unwrap() {
            let expected = indices(&tensors.i64s(&format!("{name}.keep_{threshold}")));
            let kept = nms(&boxes_of(&given), &scores, threshold.as_f64().unwrap(), usize::MAX);
            assert_eq!(kept, expected, "{name} at {threshold}");
        }
    }
    list("select").iter().for_each(|case| selection_case(&mut tensors, case));
    list("decode").iter().for_each(|case| decode_case(&mut tensors, case));

    let anchors = Anchors::default();
    assert!(largest_difference(&flat(&anchors.cell()), &tensors.f32s("anchors.cell")) <= 1e-4);
    let (height, width) = pair(&list("anchors")[0]["feature_hw"]);
    let grid = flat(&anchors.grid(height, width));
    assert!(largest_difference(&grid, &tensors.f32s("anchors.grid")) <= 1e-4);

    let (network, raw) =
        (pair(&list("postprocess")[0]["net_hw"]), pair(&list("postprocess")[0]["raw_hw"]));
    let rescaled: Vec<Box4> = boxes_of(&tensors.f32s("post.boxes_net"))
        .into_iter()
        .map(|of| boxes::rescale(of, network, raw))
        .collect();
    assert_eq!(flat(&rescaled), tensors.f32s("post.boxes"));
    let nonempty: Vec<u8> = rescaled.iter().map(|&of| u8::from(!boxes::is_empty(of))).collect();
    assert_eq!(nonempty, tensors.u8s("post.nonempty"));
    tensors.finish();
}

fn selection_case(tensors: &mut Tensors, case: &Value) {
    let name = case["name"].as_str().unwrap();
    let mut get = |part: &str| tensors.f32s(&format!("{name}.{part}"));
    let (given, probabilities) = (get("boxes"), get("probs"));
    let (clipped, confidences) = (get("max_boxes_clipped"), get("conf"));
    let candidates =
        Candidates::from_boxes(clipped.len() / 4, &probabilities, &given, pair(&case["net_hw"]));
    assert_eq!(flat(&candidates.boxes), clipped, "{name}");
    let count = case["count"].as_u64().unwrap() as usize;
    let rule = SelectionRule { min: count, max: count, ..SelectionRule::default() };
    let selection = candidates.select(&rule);
    assert_eq!(selection.reached, case["reached"].as_bool().unwrap(), "{name}");
    assert_eq!(selection.overlap, case["chosen_threshold"].as_f64().unwrap(), "{name}");
    assert_eq!(selection.kept, indices(&tensors.i64s(&format!("{name}.keep"))), "{name}");
    let chosen = |n: &usize| (candidates.classes[*n], candidates.confidences[*n]);
    let (classes, chosen_confidences): (Vec<_>, Vec<_>) = selection.kept.iter().map(chosen).unzip();
    assert_eq!(classes, indices(&tensors.i64s(&format!("{name}.classes"))), "{name}");
    assert_eq!(chosen_confidences, confidences, "{name}");
}

fn decode_case(tensors: &mut Tensors, case: &Value) {
    let name = case["name"].as_str().unwrap();
    let weights: Vec<f32> =
        case["weights"].as_array().unwrap().iter().map(|w| w.as_f64().unwrap() as f32).collect();
    let weights = [weights[0], weights[1], weights[2], weights[3]];
    let (height, width) = pair(&case["clip_hw"]);
    let from = boxes_of(&tensors.f32s(&format!("{name}.boxes")));
    let deltas = boxes_of(&tensors.f32s(&format!("{name}.deltas")));
    // Three classes a box.
    let decoded: Vec<Box4> =
        deltas.iter().enumerate().map(|(n, &d)| boxes::decode(from[n / 3], d, weights)).collect();
    let clipped: Vec<Box4> =
        decoded.iter().map(|&of| boxes::clip(of, width as f32, height as f32)).collect();
    assert!(relative(&flat(&decoded), &tensors.f32s(&format!("{name}.out"))) <= 1e-4, "{name}");
    let expected = tensors.f32s(&format!("{name}.out_clipped"));
    assert!(relative(&flat(&clipped), &expected) <= 1e-4, "{name}");
}

#[test]
fn parity_roi_max_pooling_equals_the_originals() {
    // RoIAlign belongs to other detectors, and the stem's pooling to the network.
    let wanted = |name: &str| {
        name.starts_with("roi_pool") || matches!(name, "rois" | "feat" | "feat_nonneg")
    };
    let mut tensors = Tensors::open("detector/pooling.safetensors").only(wanted);
    let [images, channels, height, width] = tensors.shape("feat")[..] else { panic!() };
    let rois = tensors.f32s("rois");
    for (name, map, side) in [
        ("roi_pool_14", "feat_nonneg", 14),
        ("roi_pool_7", "feat_nonneg", 7),
        ("roi_pool_signed_7", "feat", 7),
    ] {
        let map = tensors.f32s(map);
        let expected = tensors.f32s(name);
        let size = channels * side * side;
        for (roi, expected) in rois.chunks_exact(5).zip(expected.chunks_exact(size)) {
            let image = roi[0] as usize;
            assert!(image < images);
            let plane = &map[image * channels * height * width..][..channels * height * width];
            let region = [roi[1], roi[2], roi[3], roi[4]];
            let pooled =
                roi_max_pool(plane, [channels, height, width], &[region], 1.0 / 16.0, side);
            assert_eq!(pooled, expected, "{name}, {roi:?}");
        }
    }
    tensors.finish();
}

/// The tiny detector's own sizes.
pub fn tiny_rule() -> ProposalRule {
    let config = json("detector/tiny_config.json");
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let sizes = config["anchor_sizes"].as_array().unwrap();
    ProposalRule {
        anchors: Anchors {
            sizes: sizes.iter().map(|size| size.as_f64().unwrap() as f32).collect(),
            stride: number("stride"),
            ..Anchors::default()
        },
        before_nms: number("pre_nms_topk"),
        after_nms: number("post_nms_topk"),
        overlap: config["rpn_nms_thresh"].as_f64().unwrap(),
    }
}

#[test]
fn parity_proposals_of_the_tiny_detector_equal_the_originals() {
    let config = json("detector/tiny_config.json");
    let image = pair(&config["net_hw"]);
    let intermediate = ["rpn.hidden"];
    let wanted = |name: &str| name.starts_with("rpn.") && !intermediate.contains(&name);
    let mut tensors = Tensors::open("detector/tiny_io.safetensors").only(wanted);
    let shape = tensors.shape("rpn.objectness_logits");
    let (objectness, deltas) =
        (tensors.f32s("rpn.objectness_logits"), tensors.f32s("rpn.anchor_deltas"));
    let rule = tiny_rule();
    let map = (shape[2], shape[3]);
    let grid = rule.anchors.grid(map.0, map.1);
    assert!(largest_difference(&flat(&grid), &tensors.f32s("rpn.anchors")) <= 1e-4);

    // Every anchor, decoded, in the flat order.
    let everything = ProposalRule {
        before_nms: usize::MAX,
        after_nms: usize::MAX,
        overlap: 2.0,
        ..rule.clone()
    };
    let scores = tensors.f32s("rpn.scores_flat");
    let decoded = boxes_of(&tensors.f32s("rpn.decoded_boxes"));
    let all = everything.choose(&objectness, &deltas, map, image);
    for (n, &anchor) in all.anchors.iter().enumerate() {
        assert_eq!(all.logits[n], scores[anchor]);
        let expected = boxes::clip(decoded[anchor], image.1 as f32, image.0 as f32);
        assert!(largest_difference(&all.boxes[n], &expected) <= 2e-3);
    }

    // The best 600, those of them with an inside, and what suppression leaves.
    let top: Vec<usize> = indices(&tensors.i64s("rpn.topk_index"));
    let top_scores = tensors.f32s("rpn.topk_scores");
    let top_boxes = boxes_of(&tensors.f32s("rpn.topk_boxes_clipped"));
    let nonempty = tensors.u8s("rpn.nonempty");
    let no_nms = ProposalRule { after_nms: usize::MAX, overlap: 2.0, ..rule.clone() };
    let best = no_nms.choose(&objectness, &deltas, map, image);
    let expected: Vec<usize> = (0..top.len()).filter(|&n| nonempty[n] == 1).collect();
    assert_eq!(best.anchors, expected.iter().map(|&n| top[n]).collect::<Vec<_>>());
    assert_eq!(best.logits, expected.iter().map(|&n| top_scores[n]).collect::<Vec<_>>());
    let expected_boxes: Vec<Box4> = expected.iter().map(|&n| top_boxes[n]).collect();
    assert!(largest_difference(&flat(&best.boxes), &flat(&expected_boxes)) <= 2e-3);

    let chosen = rule.choose(&objectness, &deltas, map, image);
    let kept: Vec<usize> = indices(&tensors.i64s("rpn.nms_keep"));
    let kept: Vec<usize> = kept.iter().map(|&n| best.anchors[n]).collect();
    assert_eq!(chosen.anchors, kept);
    assert_eq!(chosen.logits, tensors.f32s("rpn.proposal_logits"));
    let expected = tensors.f32s("rpn.proposal_boxes");
    assert!(largest_difference(&flat(&chosen.boxes), &expected) <= 2e-3);
    tensors.finish();
}

#[test]
fn parity_regions_of_the_tiny_detector_equal_the_originals() {
    let config = json("detector/tiny_config.json");
    let (network, raw) = (pair(&config["net_hw"]), pair(&config["raw_hw"]));
    let heads = ["head.bbox_deltas", "head.cls_logits", "head.class_probs", "rpn.proposal_boxes"];
    let finals = ["final.boxes", "final.boxes_net", "final.classes", "final.conf"];
    let wanted =
        |name: &str| name.starts_with("select.") || heads.contains(&name) || finals.contains(&name);
    let mut tensors = Tensors::open("detector/tiny_io.safetensors").only(wanted);
    let mut probabilities = tensors.f32s("head.cls_logits");
    let columns = tensors.shape("head.cls_logits")[1];
    probabilities.chunks_exact_mut(columns).for_each(softmax);
    assert!(largest_difference(&probabilities, &tensors.f32s("head.class_probs")) <= 1e-5);

    let proposals = boxes_of(&tensors.f32s("rpn.proposal_boxes"));
    let deltas = tensors.f32s("head.bbox_deltas");
    let candidates = Candidates::new(&proposals, &probabilities, &deltas, network);
    assert_eq!(candidates.classes, indices(&tensors.i64s("select.max_classes")));
    assert!(
        largest_difference(&candidates.confidences, &tensors.f32s("select.max_scores")) <= 1e-5
    );
    let expected = tensors.f32s("select.max_boxes_clipped");
    assert!(largest_difference(&flat(&candidates.boxes), &expected) <= 2e-3);

    let count = config["detections"].as_u64().unwrap() as usize;
    let rule = SelectionRule { min: count, max: count, ..SelectionRule::default() };
    let selection = candidates.select(&rule);
    assert_eq!(selection.kept, indices(&tensors.i64s("select.keep")));
    assert_eq!(selection.overlap, config["selected_threshold"].as_f64().unwrap());
    let boxes_net: Vec<Box4> = selection.kept.iter().map(|&n| candidates.boxes[n]).collect();
    let rescaled: Vec<Box4> =
        boxes_net.iter().map(|&of| boxes::rescale(of, network, raw)).collect();
    assert!(largest_difference(&flat(&boxes_net), &tensors.f32s("final.boxes_net")) <= 2e-3);
    assert!(largest_difference(&flat(&rescaled), &tensors.f32s("final.boxes")) <= 2e-3);
    let classes: Vec<usize> = selection.kept.iter().map(|&n| candidates.classes[n]).collect();
    assert_eq!(classes, indices(&tensors.i64s("final.classes")));
    let confidences: Vec<f32> = selection.kept.iter().map(|&n| candidates.confidences[n]).collect();
    assert!(largest_difference(&confidences, &tensors.f32s("final.conf")) <= 1e-5);
    tensors.finish();
}
