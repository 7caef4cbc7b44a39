//! Exported graphs through ONNX Runtime, against the same numbers as the encoders themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crossencoders::config::{FusionMethod, ModelConfig};
use crossencoders::export::{self, ExportError, Form, Weights};
use crossencoders::model::{ContextConfig, Positions, RankingHead};
use onnx::TensorData;
use onnx::runtime::{Options, Session};
use tch::{Kind, Tensor};

use crate::models::{folders, fusions, inputs};
use crate::{assert_near, tensors};

/// Stated in the fixtures' READMEs; ONNX Runtime multiplies in another order.
const TOLERANCE: f64 = 5e-5;
const CONTEXT_TOLERANCE: f64 = 1e-4;

/// A tensor as a graph takes it.
pub fn data(x: &Tensor) -> TensorData {
    let shape: Vec<usize> = x.size().iter().map(|&side| side as usize).collect();
    let flat = x.contiguous().view(-1);
    match x.kind() {
        Kind::Bool => TensorData::new(shape, Vec::<bool>::try_from(flat).unwrap()),
        Kind::Float => TensorData::new(shape, Vec::<f32>::try_from(flat).unwrap()),
        _ => TensorData::new(shape, Vec::<i64>::try_from(flat.to_kind(Kind::Int64)).unwrap()),
    }
    .unwrap()
}

/// All parameters of files, f32.
fn weights(files: &[&Path]) -> Weights {
    let read = files.iter().flat_map(|file| tensors(file));
    read.map(|(name, tensor)| (name, data(&tensor.to_kind(Kind::Float)))).collect()
}

/// What a graph gives for a folder's inputs, by name.
fn outputs(
    model: &onnx::Model,
    folder: &Path,
    by_set: Option<i64>,
    video: Option<Tensor>,
) -> BTreeMap<String, Tensor> {
    assert_eq!(onnx::kernels::without_cuda(model), Vec::<String>::new());
    let (text, vision) = inputs(folder);
    let first = |x: &Tensor| match by_set {
        Some(sets) => x.unflatten(0, [sets, -1]).select(1, 0),
        None => x.shallow_clone(),
    };
    let set = |x: &Tensor| match by_set {
        Some(sets) => x.unflatten(0, [sets, -1]),
        None => x.shallow_clone(),
    };
    let mut given = vec![
        ("input_ids", data(&first(&text.input_ids))),
        ("token_type_ids", data(&first(&text.token_type_ids))),
        ("attention_mask", data(&first(&text.mask))),
        ("features", data(&set(&vision.features))),
        ("locations", data(&set(&vision.locations))),
        ("region_mask", data(&set(&vision.mask))),
    ];
    given.extend(video.map(|video| ("video", data(&video))));
    run_in_onnx_runtime(model, &given)
}

/// What a graph gives, by name, for those of the values that it takes.
pub fn run_in_onnx_runtime(
    model: &onnx::Model,
    given: &[(&str, TensorData)],
) -> BTreeMap<String, Tensor> {
    let mut session = Session::from_model(model, &Options::default()).unwrap();
    let known: Vec<String> = session.inputs().iter().map(|(name, ..)| name.clone()).collect();
    let given: Vec<_> = given.iter().map(|(name, data)| (*name, data.into())).collect();
    let given: Vec<_> =
        given.into_iter().filter(|(name, _)| known.iter().any(|known| known == name)).collect();
    let results = session.run(&given).unwrap();
    let tensor = |result: &onnx::runtime::Tensor| {
        let shape: Vec<i64> = result.shape().iter().map(|&side| side as i64).collect();
        (result.name().to_owned(), Tensor::from_slice(result.f32s().unwrap()).view(&shape[..]))
    };
    results.iter().map(tensor).collect()
}

#[test]
fn parity_exported_encoders_at_every_sublayer() {
    for folder in folders(false) {
        let expected = tensors(&folder.join("outputs.safetensors"));
        let mut compared = BTreeSet::new();
        for fusion in fusions(&folder) {
            compared.extend(compare_pairs(&folder, fusion, &expected));
        }
        // Heads of pre-training and VOLTA's classifier are not exported; the last states are those of the last sublayer;
        // rows alone are compared in `models`.
        let elsewhere = |name: &str| {
            ["prediction_scores", "logits_volta", "vqa_logits_volta", "sequence_output", "single."]
                .iter()
                .any(|start| name.starts_with(start))
                || name.contains("_f64")
        };
        let left: Vec<&String> =
            expected.keys().filter(|name| !compared.contains(*name) && !elsewhere(name)).collect();
        assert!(left.is_empty(), "{}: {left:?} are not compared", folder.display());
    }
}

fn compare_pairs(
    folder: &Path,
    fusion: FusionMethod,
    expected: &BTreeMap<String, Tensor>,
) -> BTreeSet<String> {
    let mut config = ModelConfig::load(&folder.join("config.json")).unwrap();
    config.fusion_method = fusion;
    let files = [folder.join("weights.safetensors"), folder.join("head_imagecode.safetensors")];
    let weights = weights(&[&files[0], &files[1]]);
    let mut taps = vec!["emb_t".to_owned(), "emb_v".to_owned(), "pooled_t".to_owned()];
    for index in 0..config.num_sublayers() {
        taps.extend([format!("sublayer.{index}.t"), format!("sublayer.{index}.v")]);
    }
    let (suffix, more): (&str, &[&str]) = match fusion {
        FusionMethod::Mul => ("", &["pooled_v", "fused"]),
        FusionMethod::Sum => ("_sum", &["pooled_v"]),
        FusionMethod::Text => ("_text", &[]),
        _ => ("_vqa", &[]),
    };
    taps.extend(more.iter().map(|name| (*name).to_owned()));
    let taps: Vec<&str> = taps.iter().map(String::as_str).collect();
    let build =
        |head, taps: &[&str]| export::build(&weights, &config, &head, Form::Pairs, taps).unwrap();

    let with_taps = build(RankingHead::Linear, &taps);
    let mut found = outputs(&with_taps, folder, None, None);
    let scores = found.remove("scores").unwrap();
    for tensor in found.values_mut() {
        *tensor = tensor.squeeze_dim(1);
    }
    // Without taps only the pooled positions are computed, and nothing changes.
    let alone = outputs(&build(RankingHead::Linear, &[]), folder, None, None);
    assert_near(&alone["scores"], &scores, 1e-5, "pooled positions only");
    if fusion == FusionMethod::VlBertVqa {
        found.insert("vqa_pooled_t".into(), found["pooled_t"].shallow_clone());
        found.remove("pooled_t");
    } else {
        found.insert(format!("logits_imagecode{suffix}"), scores.unsqueeze(1));
    }
    let mut compared = BTreeSet::new();
    if fusion == FusionMethod::Mul {
        let model = build(RankingHead::Alignment, &[]);
        let probability = &outputs(&model, folder, None, None)["scores"];
        let reference = expected["seq_relationship_score"].softmax(-1, Kind::Float).select(1, 0);
        assert_near(probability, &reference, TOLERANCE, "alignment");
        compared.insert("seq_relationship_score".to_owned());
    }
    for (name, tensor) in found {
        // Pooled vectors have one name in the fixtures, of the method that is VOLTA's default.
        let is_other = fusion != FusionMethod::Mul && name.starts_with("pooled");
        let Some(reference) = expected.get(&name).filter(|_| !is_other) else { continue };
        let what = format!("{}, {fusion:?}: {name}", folder.display());
        assert_near(&tensor, reference, TOLERANCE, &what);
        compared.insert(name);
    }
    compared
}

#[test]
fn parity_exported_contextual_models() {
    for folder in folders(true) {
        let config = ModelConfig::load(&folder.join("config.json")).unwrap();
        let meta: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
        let sets = meta["right_image"].as_array().unwrap().len() as i64;
        let layers = meta["transformer_layers"].as_i64().unwrap();
        let weights = weights(&[&folder.join("weights.safetensors")]);
        let expected = tensors(&folder.join("outputs.safetensors"));
        let videos = tensors(&folder.join("inputs.safetensors"))["pos_mask_video_only"]
            .view([sets, -1])
            .select(1, 0)
            .to_kind(Kind::Bool);
        for (tag, positions) in [
            ("nopos", Positions::None),
            ("pos_video", Positions::Video),
            ("pos_all", Positions::All),
        ] {
            for (suffix, add_inputs) in [("add", true), ("noadd", false)] {
                let head = RankingHead::Contextual(ContextConfig { layers, add_inputs, positions });
                let model = export::build(&weights, &config, &head, Form::Sets, &[]).unwrap();
                let video = (positions == Positions::Video).then(|| videos.shallow_clone());
                let found = outputs(&model, &folder, Some(sets), video);
                let name = format!("logits_{tag}_{suffix}");
                let what = format!("{}: {name}", folder.display());
                assert_near(
                    &found["scores"].view([-1, 1]),
                    &expected[&name],
                    CONTEXT_TOLERANCE,
                    &what,
                );
            }
        }
        let head = RankingHead::Contextual(ContextConfig {
            layers,
            add_inputs: true,
            positions: Positions::None,
        });
        let error = export::build(&weights, &config, &head, Form::Pairs, &[]).unwrap_err();
        assert_eq!(error, ExportError::ContextualPairs);
    }
}

/// Sets of several candidates give what their pairs give, in every architecture.
#[test]
fn sets_of_candidates_give_what_their_pairs_give() {
    for folder in folders(false) {
        let config = ModelConfig::load(&folder.join("config.json")).unwrap();
        let files = [folder.join("weights.safetensors"), folder.join("head_imagecode.safetensors")];
        let weights = weights(&[&files[0], &files[1]]);
        let build =
            |form| export::build(&weights, &config, &RankingHead::Linear, form, &[]).unwrap();
        let (words, vision) = inputs(&folder);
        let pairs = 2 * (words.input_ids.size()[0] / 2);
        let rows = |x: &Tensor| x.narrow(0, 0, pairs);
        // Every second description, each with two images.
        let each = |x: &Tensor| rows(x).view([pairs / 2, 2, -1]).select(1, 0);
        let twice = |x: &Tensor| each(x).repeat_interleave_self_int(2, 0, None);
        let sets = |x: &Tensor| rows(x).unflatten(0, [pairs / 2, 2]);
        let run = |form, text: &dyn Fn(&Tensor) -> Tensor, images: &dyn Fn(&Tensor) -> Tensor| {
            let mut session = Session::from_model(&build(form), &Options::default()).unwrap();
            let given = [
                ("input_ids", data(&text(&words.input_ids))),
                ("token_type_ids", data(&text(&words.token_type_ids))),
                ("attention_mask", data(&text(&words.mask))),
                ("features", data(&images(&vision.features))),
                ("locations", data(&images(&vision.locations))),
                ("region_mask", data(&images(&vision.mask))),
            ];
            let known: Vec<String> = session.inputs().iter().map(|i| i.0.clone()).collect();
            let given: Vec<_> = given
                .iter()
                .filter(|(name, _)| known.iter().any(|known| known == name))
                .map(|(name, data)| (*name, data.into()))
                .collect();
            session.run(&given).unwrap()[0].f32s().unwrap().to_vec()
        };
        let by_set = run(Form::Sets, &each, &sets);
        let by_pair = run(Form::Pairs, &twice, &rows);
        let what = folder.display().to_string();
        assert_near(&Tensor::from_slice(&by_set), &Tensor::from_slice(&by_pair), 2e-5, &what);
    }
}
