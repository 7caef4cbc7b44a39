//! Weights with a tensor that does not fit: it is the one that is named.

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use vision::weights::Weights;
use vision::{clip, detector};

use crate::fixtures::path;

/// A copy of a fixture, in f32, with tensors changed: values and shape, the type, or left out.
fn changed(name: &str, change: impl Fn(&str, &mut Vec<f32>, &mut Vec<usize>) -> Change) -> Vec<u8> {
    let whole = std::fs::read(path(name)).unwrap();
    let file = SafeTensors::deserialize(&whole).unwrap();
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, view) in file.iter() {
        let (mut shape, mut bytes) = (view.shape().to_vec(), view.data().to_vec());
        let words = |size: usize| view.data().chunks_exact(size);
        let mut values: Vec<f32> = match view.dtype() {
            Dtype::F32 => words(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::F16 => {
                words(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
            }
            other => {
                tensors.push((name.to_owned(), other, shape, bytes));
                continue;
            }
        };
        let dtype = match change(name, &mut values, &mut shape) {
            Change::Drop => continue,
            Change::Whole => {
                bytes = values.iter().flat_map(|value| (*value as i64).to_le_bytes()).collect();
                Dtype::I64
            }
            Change::Keep => {
                bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                Dtype::F32
            }
        };
        tensors.push((name.to_owned(), dtype, shape, bytes));
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

enum Change {
    Keep,
    Drop,
    Whole,
}

fn misfit_of(bytes: &[u8], is_clip: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("changed.safetensors");
    std::fs::write(&file, bytes).unwrap();
    let weights = Weights::open(&file).unwrap();
    let error = match is_clip {
        true => clip::Architecture::of_file(&weights).unwrap_err(),
        false => detector::Architecture::of(&weights).unwrap_err(),
    };
    error.to_string()
}

#[test]
fn a_projection_that_is_missing_or_of_whole_numbers_is_named() {
    for name in ["visual.proj", "text_projection"] {
        let said = |change: fn() -> Change| {
            let file = changed("clip/vit_weights.safetensors", |tensor, _, _| {
                if tensor == name { change() } else { Change::Keep }
            });
            misfit_of(&file, true)
        };
        let missing = said(|| Change::Drop);
        assert!(missing.ends_with(&format!("CLIP: `{name}` is missing")), "{missing}");
        let whole = said(|| Change::Whole);
        assert!(whole.contains(&format!("CLIP: `{name}` is of whole numbers")), "{whole}");
    }
}

#[test]
fn the_tensor_that_disagrees_with_the_others_is_blamed() {
    for (name, rows, needed) in [
        ("roi_heads.box_predictor.cls_score.weight", 5, 21),
        ("roi_heads.box_predictor.bbox_pred.weight", 8, 80),
        ("proposal_generator.rpn_head.objectness_logits.weight", 3, 12),
        ("proposal_generator.rpn_head.conv.bias", 7, 24),
        ("backbone.stem.conv1.norm.weight", 5, 8),
        ("roi_heads.box_predictor.fc_attr.bias", 5, 0),
    ] {
        let cut = changed("detector/tiny_weights.safetensors", |tensor, values, shape| {
            if tensor == name {
                values.truncate(values.len() / shape[0] * rows);
                shape[0] = rows;
            }
            Change::Keep
        });
        let error = misfit_of(&cut, false);
        assert!(error.contains(&format!("region detector: `{name}` is [{rows}")), "{error}");
        assert!(needed == 0 || error.contains(&format!("where [{needed}")), "{error}");
        assert_eq!(error.matches(" where ").count(), 1, "{error}");
    }
}

#[test]
fn a_variance_below_zero_is_refused_with_file_and_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("changed.safetensors");
    for (kind, name) in [
        ("detector/tiny_weights", "roi_heads.res5.0.conv2.norm.running_var"),
        ("clip/rn_weights", "visual.bn3.running_var"),
    ] {
        let bytes = changed(&format!("{kind}.safetensors"), |tensor, values, _| {
            if tensor == name {
                values[0] = -2.0;
            }
            Change::Keep
        });
        std::fs::write(&file, bytes).unwrap();
        let weights = Weights::open(&file).unwrap();
        let expected = match kind.starts_with("clip") {
            true => clip::Architecture::of_file(&weights).unwrap().expected(),
            false => detector::Architecture::of(&weights).unwrap().expected(),
        };
        let error = weights.load(&expected, kind).unwrap_err().to_string();
        let wanted =
            format!("changed.safetensors: `{name}` holds -2, and no variance is below zero");
        assert!(error.contains(&wanted), "{error}");
    }
}
