//! CLIP: both kinds of image tower and the text tower.

use std::collections::BTreeSet;

use onnx::passes::{PassError, QuantizeOptions, quantize};
use onnx::{TensorData, kernels};
use vision::clip::graph::{Architecture, ImageTower, Options, Towers, build, half};
use vision::network::NetworkError;

use crate::{largest_difference, left_over, run, tensors, weights};

/// Inputs of the graph among the fixture's tensors.
const INPUTS: [&str; 2] = ["image", "tokens"];
/// What a graph gives without being asked.
const GIVEN: [&str; 4] = ["image_features", "text_features", "logits_per_image", "logits_per_text"];

fn tolerance(kind: &str, name: &str) -> f32 {
    // The ResNet's values reach 20.
    if kind == "rn" && (name.starts_with("visual") || name == "image_features") {
        1e-3
    } else {
        1e-4
    }
}

/// Compares everything that a graph gives with the fixture; gives the names.
fn compare(kind: &str, options: Options) -> BTreeSet<String> {
    let expected = tensors(&format!("clip/{kind}_io.safetensors"));
    let model = build(&weights(&format!("clip/{kind}_weights.safetensors")), options).unwrap();
    assert_eq!(kernels::without_cuda(&model), Vec::<String>::new());
    let inputs: Vec<_> = INPUTS
        .into_iter()
        .filter(|input| model.inputs().iter().any(|(name, ..)| name == input))
        .map(|input| (input, &expected[input]))
        .collect();
    let outputs = run(&model, &inputs);
    for (name, found) in &outputs {
        let wanted = if name == "eot_index" {
            let shape = found.shape().to_vec();
            TensorData::new(shape, expected[name].elements().clone()).unwrap()
        } else {
            expected[name].clone()
        };
        let difference = largest_difference(name, found, &wanted);
        assert!(difference <= tolerance(kind, name), "{kind} {name}: {difference}");
    }
    outputs.into_keys().collect()
}

#[test]
fn parity_every_value_equals_the_originals() {
    for kind in ["vit", "rn"] {
        let expected = tensors(&format!("clip/{kind}_io.safetensors"));
        let inner: Vec<_> = expected
            .keys()
            .map(String::as_str)
            .filter(|name| !INPUTS.contains(name) && !GIVEN.contains(name))
            .collect();
        let compared = compare(kind, Options { towers: Towers::Both, outputs: &inner });
        assert_eq!(left_over(&expected, &compared, &INPUTS), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn computing_only_what_is_read_changes_no_feature() {
    for kind in ["vit", "rn"] {
        assert_eq!(compare(kind, Options::default()).len(), 4);
        let image = Options { towers: Towers::Image, outputs: &["image_features_normed"] };
        assert_eq!(compare(kind, image).len(), 2);
        let text =
            Options { towers: Towers::Text, outputs: &["text_features_normed", "eot_index"] };
        assert_eq!(compare(kind, text).len(), 3);
    }
}

#[test]
fn outputs_say_how_many_pictures_and_texts_they_are_of() {
    let weights = weights("clip/vit_weights.safetensors");
    let model = build(&weights, Options::default()).unwrap();
    let embed = Architecture::of(&weights).unwrap().embed;
    let shapes: Vec<String> =
        model.outputs().iter().map(|(name, _, shape)| format!("{name} {shape}")).collect();
    let [image, text] = ["image", "text"].map(|of| format!("{of}_features [{of}s, {embed}]"));
    let logits = ["logits_per_image [images, texts]", "logits_per_text [texts, images]"];
    assert_eq!(shapes, [&image, &text, logits[0], logits[1]]);
}

#[test]
fn padding_behind_the_longest_text_may_be_cut_off() {
    let expected = tensors("clip/vit_io.safetensors");
    let weights = weights("clip/vit_weights.safetensors");
    let model = build(&weights, Options { towers: Towers::Text, outputs: &[] }).unwrap();
    let tokens = &expected["tokens"];
    let [texts, context] = tokens.shape()[..] else { panic!() };
    let whole = run(&model, &[("tokens", tokens)]).remove("text_features").unwrap();
    let width = whole.shape()[1];
    for text in 0..texts {
        let row = &tokens.i64s().unwrap()[text * context..(text + 1) * context];
        let length = row.iter().rposition(|id| *id != 0).unwrap() + 1;
        let cut = TensorData::new([1, length], row[..length].to_vec()).unwrap();
        let found = run(&model, &[("tokens", &cut)]).remove("text_features").unwrap();
        let wanted = whole.f32s().unwrap()[text * width..(text + 1) * width].to_vec();
        let wanted = TensorData::new([1, width], wanted).unwrap();
        assert!(
            largest_difference("text_features", &found, &wanted) < 1e-5,
            "text {text} of {length} tokens"
        );
    }
}

#[test]
fn sizes_follow_from_the_weights() {
    let vit = Architecture::of(&weights("clip/vit_weights.safetensors")).unwrap();
    assert_eq!(
        (vit.embed, vit.image.size(), vit.text.layers, vit.text.vocabulary),
        (48, 32, 2, 600)
    );
    let resnet = Architecture::of(&weights("clip/rn_weights.safetensors")).unwrap();
    let ImageTower::ResNet(tower) = &resnet.image else { panic!("{resnet:?}") };
    assert_eq!((tower.width, tower.blocks, resnet.image.size()), (8, [1; 4], 64));
}

#[test]
fn random_weights_are_those_of_the_published_models() {
    for (name, tensors) in [("ViT-B/32", 302), ("RN50", 434)] {
        let architecture = Architecture::published(name).unwrap();
        let weights = vision::clip::random_weights(&architecture, 1);
        let weights = weights.load(&architecture.expected(), name).unwrap();
        assert_eq!(Architecture::of(&weights).unwrap(), architecture);
        assert_eq!(weights.len(), tensors, "{name}");
    }
    assert_eq!(Architecture::published("ViT-H/14"), None);
}

#[test]
fn half_precision_and_eight_bits_come_close() {
    let expected = tensors("clip/vit_io.safetensors");
    let whole = build(&weights("clip/vit_weights.safetensors"), Options::default()).unwrap();
    let halved = half(&whole).unwrap();
    assert_eq!(kernels::without_cuda(&halved), Vec::<String>::new());
    let rounded = quantize(&whole, QuantizeOptions::default()).unwrap();
    let largest = |name: &str| {
        expected[name]
            .f32s()
            .unwrap()
            .iter()
            .fold(0.0f32, |largest, value| largest.max(value.abs()))
    };
    for (model, most) in [(halved, 0.002), (rounded, 0.08)] {
        let outputs = run(&model, &INPUTS.map(|name| (name, &expected[name])));
        for name in ["image_features", "text_features", "logits_per_image"] {
            let difference =
                largest_difference(name, &outputs[name], &expected[name]) / largest(name);
            assert!(difference > 0.0 && difference < most, "{name}: {difference}");
        }
    }
}

#[test]
fn weights_beyond_half_precision_are_named() {
    let mut weights = weights("clip/vit_weights.safetensors");
    let projection = weights["visual.proj"].to_f32();
    let large = projection.f32s().unwrap().iter().map(|value| value * 1e7);
    let large = TensorData::new(projection.shape(), large.collect::<Vec<_>>()).unwrap();
    weights.insert("visual.proj".into(), large);
    let error = half(&build(&weights, Options::default()).unwrap()).unwrap_err();
    assert!(matches!(&error, PassError::Range { name, .. } if name == "visual.proj"), "{error}");
}

#[test]
fn weights_that_are_not_clips_are_named() {
    let mut weights = weights("clip/vit_weights.safetensors");
    let refused = |weights: &_| build(weights, Options::default()).unwrap_err();
    let error =
        build(&weights, Options { outputs: &["visual.stem"], ..Options::default() }).unwrap_err();
    assert_eq!(error, NetworkError::Output("visual.stem".into()));
    let projection = weights
        .insert("visual.proj".into(), TensorData::new([2, 2], vec![0.0f32; 4]).unwrap())
        .unwrap();
    assert_eq!(refused(&weights).to_string(), "`visual.proj` is [2, 2]; [128, 48] is needed");
    weights.insert("visual.proj".into(), projection);
    weights.insert("ln_final.weight".into(), TensorData::new([128], vec![0i64; 128]).unwrap());
    assert!(matches!(refused(&weights), NetworkError::Tensor { .. }));
    weights.remove("ln_final.weight");
    assert_eq!(refused(&weights), NetworkError::Missing("ln_final.weight".into()));
    weights.insert(
        "visual.positional_embedding".into(),
        TensorData::new([3, 128], vec![0.0f32; 384]).unwrap(),
    );
    assert!(matches!(refused(&weights), NetworkError::Unknown { .. }));
    assert!(matches!(refused(&Default::default()), NetworkError::Missing(_)));
    weights.retain(|name, _| !name.starts_with("visual."));
    assert!(refused(&weights).to_string().contains("no image tower"));
}

#[test]
fn normalisations_that_cannot_be_are_named() {
    let whole = weights("clip/rn_weights.safetensors");
    let with = |changes: &[(&str, f32)]| {
        let mut weights = whole.clone();
        for (name, value) in changes {
            let tensor = weights[*name].to_f32();
            let mut values = tensor.f32s().unwrap().to_vec();
            values[1] = *value;
            let tensor = TensorData::new(tensor.shape(), values).unwrap();
            weights.insert((*name).into(), tensor);
        }
        build(&weights, Options::default())
    };
    let name = "visual.layer2.0.downsample.1.running_var";
    for value in [-0.5, -1e-5] {
        let error = with(&[(name, value)]).unwrap_err();
        assert_eq!(error, NetworkError::Variance { name: name.into(), value });
    }
    assert!(with(&[(name, 0.0)]).is_ok());
    let error =
        with(&[("visual.bn1.weight", f32::MAX), ("visual.bn1.running_var", 0.0)]).unwrap_err();
    assert!(matches!(&error, NetworkError::Folded { norm, .. } if norm == "visual.bn1"), "{error}");
}

#[test]
fn the_kind_of_an_image_tower_is_told_without_the_tensor_that_is_wrong() {
    for (kind, tensors) in [
        ("vit", vec!["visual.proj", "visual.class_embedding", "visual.ln_pre.weight"]),
        ("rn", vec!["visual.layer1.0.conv1.weight", "visual.attnpool.positional_embedding"]),
    ] {
        let whole = weights(&format!("clip/{kind}_weights.safetensors"));
        for name in tensors {
            let mut weights = whole.clone();
            weights.remove(name);
            let error = build(&weights, Options::default()).unwrap_err();
            assert_eq!(error, NetworkError::Missing(name.into()));
        }
    }
    let mut weights = weights("clip/vit_weights.safetensors");
    weights.insert("visual.proj".into(), TensorData::new([128, 48], vec![0i64; 128 * 48]).unwrap());
    let error = build(&weights, Options::default()).unwrap_err();
    assert!(
        matches!(&error, NetworkError::Tensor { name, .. } if name == "visual.proj"),
        "{error}"
    );
}
