//! The detector and CLIP from end to end, against the originals.

use onnx::runtime::Options;
use vision::clip::{self, ClipEncoder, cosine};
use vision::detector::{self, Detector, NetworkImage, SelectionRule, Settings};
use vision::weights::Weights;

use crate::boxes::{pair, tiny_rule};
use crate::fixtures::{Tensors, json, largest_difference, path};

/// The tiny detector; its anchors and counts are its own.
pub fn tiny_detector(weights: &str, settings: Settings, given_boxes: bool) -> Detector {
    let weights = Weights::open(&path(weights)).unwrap();
    let expected = detector::Architecture::of(&weights).unwrap().expected();
    let rule = tiny_rule();
    let anchors = rule.anchors.cell();
    let options = detector::graph::Options {
        part: if given_boxes { detector::graph::Part::Given } else { detector::graph::Part::Whole },
        before: rule.before_nms,
        after: rule.after_nms,
        ..detector::graph::Options::new(&anchors)
    };
    let model =
        detector::graph::build(&weights.load(&expected, "tiny").unwrap(), &options).unwrap();
    Detector::from_model(&model, settings, &Options::default()).unwrap()
}

pub fn tiny_settings() -> Settings {
    let count = json("detector/tiny_config.json")["detections"].as_u64().unwrap() as usize;
    let selection = SelectionRule { min: count, max: count, ..SelectionRule::default() };
    Settings { selection, accept_fewer: false }
}

fn tiny_image(tensors: &mut Tensors) -> NetworkImage {
    let config = json("detector/tiny_config.json");
    let ((height, width), (raw_height, raw_width)) =
        (pair(&config["net_hw"]), pair(&config["raw_hw"]));
    NetworkImage { tensor: tensors.f32s("image"), height, width, raw_height, raw_width }
}

#[test]
fn parity_the_detectors_regions_equal_the_originals_from_both_containers() {
    for weights in ["detector/tiny_weights_d2.pkl", "detector/tiny_weights_hf.bin"] {
        let wanted = |name: &str| name.starts_with("final.") && name != "final.boxes_net";
        let mut tensors = Tensors::open("detector/tiny_io.safetensors").only(wanted);
        let image = tiny_image(&mut tensors);
        let regions = tiny_detector(weights, tiny_settings(), false).detect(&image).unwrap();
        assert_eq!((regions.width, regions.height, regions.dim), (480, 320, 128));
        assert!(largest_difference(&regions.features, &tensors.f32s("final.features")) <= 1e-4);
        assert!(
            largest_difference(regions.boxes.as_flattened(), &tensors.f32s("final.boxes")) <= 5e-3
        );
        let (objects, attributes) = (regions.objects.unwrap(), regions.attributes.unwrap());
        assert_eq!(objects.ids, tensors.i64s("final.classes"));
        assert!(largest_difference(&objects.confidences, &tensors.f32s("final.conf")) <= 1e-5);
        assert_eq!(attributes.ids, tensors.i64s("final.attrs"));
        assert!(
            largest_difference(&attributes.confidences, &tensors.f32s("final.attr_conf")) <= 1e-5
        );
        tensors.finish();
    }
}

#[test]
fn too_few_regions_are_an_error_unless_they_are_accepted() {
    let mut tensors = Tensors::open("detector/tiny_io.safetensors");
    let image = tiny_image(&mut tensors);
    let weights = "detector/tiny_weights.safetensors";
    let mut settings = Settings::default();
    settings.selection = SelectionRule { min: 51, max: 51, ..settings.selection };
    let error = tiny_detector(weights, settings.clone(), false).detect(&image).unwrap_err();
    assert!(error.to_string().contains("of the 51"), "{error}");
    settings.accept_fewer = true;
    let regions = tiny_detector(weights, settings, false).detect(&image).unwrap();
    assert!((8..=50).contains(&regions.len()));
    let huge = NetworkImage { tensor: vec![0.0; 3 * 2000], height: 1, width: 2000, ..image };
    let error = tiny_detector(weights, tiny_settings(), false).detect(&huge).unwrap_err();
    assert!(error.to_string().contains("at most 1333"), "{error}");
}

#[test]
fn given_boxes_have_the_features_that_proposals_there_have() {
    let mut tensors = Tensors::open("detector/tiny_io.safetensors");
    let image = tiny_image(&mut tensors);
    let proposals = tensors.f32s("rpn.proposal_boxes");
    let expected = tensors.f32s("roi.feature");
    let (x, y) = (480.0 / 168.0, 320.0 / 130.0);
    let boxes: Vec<[f32; 4]> =
        proposals.chunks_exact(4).map(|b| [b[0] * x, b[1] * y, b[2] * x, b[3] * y]).collect();
    let mut detector = tiny_detector("detector/tiny_weights.safetensors", tiny_settings(), true);
    assert!(detector.takes_boxes());
    let regions = detector.describe(&image, &boxes).unwrap();
    assert_eq!(regions.boxes, boxes);
    assert!(largest_difference(&regions.features, &expected) <= 1e-4);
    let outside = detector.describe(&image, &[[500.0, 10.0, 600.0, 20.0]]).unwrap_err();
    assert!(outside.to_string().contains("outside"), "{outside}");
}

#[test]
fn parity_clips_embeddings_equal_the_originals() {
    use clip::graph::Towers;
    for (model, tolerance) in [("vit", 1e-4), ("rn", 1e-3)] {
        let wanted =
            |name: &str| matches!(name, "image_features" | "text_features" | "logits_per_image");
        let mut tensors = Tensors::open(&format!("clip/{model}_io.safetensors")).only(wanted);
        let weights = Weights::open(&path(&format!("clip/{model}_weights.safetensors"))).unwrap();
        let images = tensors.f32s("image");
        let size = images.len() / tensors.shape("image")[0];
        let pictures: Vec<Vec<f32>> = images.chunks_exact(size).map(<[f32]>::to_vec).collect();
        let tokens: Vec<[i64; 77]> = tensors
            .i64s("tokens")
            .chunks_exact(77)
            .map(|ids| std::array::from_fn(|n| ids[n]))
            .collect();
        let (expected_images, expected_texts) =
            (tensors.f32s("image_features"), tensors.f32s("text_features"));
        for (towers, own) in [(Towers::Both, true), (Towers::Image, false)] {
            let mut encoder =
                ClipEncoder::from_weights(&weights, towers, &Options::default()).unwrap();
            let embedded = encoder.images(&pictures).unwrap();
            assert!(largest_difference(&embedded.concat(), &expected_images) <= tolerance);
            if !own {
                assert!(encoder.texts(&tokens).is_err());
                encoder =
                    ClipEncoder::from_weights(&weights, Towers::Text, &Options::default()).unwrap();
                assert!(encoder.images(&pictures).is_err() && encoder.preprocess().is_none());
            }
            let texts = encoder.texts(&tokens).unwrap();
            assert!(largest_difference(&texts.concat(), &expected_texts) <= 1e-4);
            let scale = weights.read("logit_scale").unwrap().values[0].exp();
            let logits: Vec<f32> = embedded
                .iter()
                .flat_map(|image| texts.iter().map(move |text| scale * cosine(image, text)))
                .collect();
            assert!(largest_difference(&logits, &tensors.f32s("logits_per_image")) <= 1e-3);
        }
        tensors.finish();
    }
}

#[test]
fn texts_of_a_larger_vocabulary_are_refused_by_name() {
    let weights = Weights::open(&path("clip/vit_weights.safetensors")).unwrap();
    let mut encoder =
        ClipEncoder::from_weights(&weights, clip::graph::Towers::Text, &Options::default())
            .unwrap();
    let known = weights.read("token_embedding.weight").unwrap().shape[0] as i64;
    let mut text = [0; 77];
    text[0] = known - 1;
    encoder.texts(&[text]).unwrap();
    text[0] = known;
    let error = encoder.texts(&[text]).unwrap_err().to_string();
    assert!(error.contains(&format!("knows the {known} tokens from 0 on")), "{error}");
}

#[test]
fn a_model_of_something_else_is_told_so() {
    let weights = Weights::open(&path("clip/vit_weights.safetensors")).unwrap();
    let expected = clip::Architecture::of_file(&weights).unwrap().expected();
    let loaded = weights.load(&expected, "CLIP").unwrap();
    let mut model = clip::graph::build(&loaded, clip::graph::Options::default()).unwrap();
    let open =
        |model: &onnx::Model| Detector::from_model(model, tiny_settings(), &Options::default());
    let error = open(&model).err().unwrap().to_string();
    assert!(error.contains("is no detector: its metadata says that it is a CLIP"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.onnx");
    for (network, said) in [
        ("detector", "a region detector"),
        ("crossencoder", "a cross-encoder"),
        ("clip_head", "a head on CLIP's towers"),
    ] {
        model.set_metadata("network", network);
        onnx::file::write(&model, &path, onnx::file::Placement::Inside).unwrap();
        let error = ClipEncoder::open(&path, &Options::default()).err().unwrap().to_string();
        assert!(
            error.contains(&format!("other.onnx is no CLIP: its metadata says that it is {said}")),
            "{error}"
        );
    }
    // What other programs have made says nothing of the kind.
    model.set_metadata("network", "something");
    let error = open(&model).err().unwrap();
    assert!(error.to_string().contains("is no detector: it has no output `features`"), "{error}");
}

#[test]
fn a_detector_without_attributes_is_one_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::read(path("detector/tiny_weights.safetensors")).unwrap();
    let whole = safetensors::SafeTensors::deserialize(&file).unwrap();
    let is_attribute = |name: &str| {
        ["cls_embedding", "fc_attr", "attr_score"].iter().any(|part| name.contains(part))
    };
    let plain = whole.iter().filter(|(name, _)| !is_attribute(name));
    let target = folder.path().join("plain.safetensors");
    safetensors::serialize_to_file(plain, None, &target).unwrap();
    let mut tensors = Tensors::open("detector/tiny_io.safetensors");
    let image = tiny_image(&mut tensors);
    let mut detector = tiny_detector(target.to_str().unwrap(), tiny_settings(), false);
    let regions = detector.detect(&image).unwrap();
    assert!(regions.attributes.is_none());
    assert!(largest_difference(&regions.features, &tensors.f32s("final.features")) <= 1e-4);
}
