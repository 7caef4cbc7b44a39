//! Every sublayer's output, every head, the contextual module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crossencoders::config::{FusionMethod, ModelConfig, TextEnd};
use crossencoders::model::{
    AlignmentHead, Candidates, ContextConfig, ContextModule, CrossEncoder, Positions,
    PretrainingHeads, RankingHead, RankingModel, Text, Vision, VlClassifier,
};
use crossencoders::weights::{self, WeightsError};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::{assert_near, fixtures, tensors};

/// Stated in the fixtures' READMEs.
const TOLERANCE: f64 = 5e-5;
const CONTEXT_TOLERANCE: f64 = 1e-4;

/// The folders of models: with (true) or without a contextual module.
pub(crate) fn folders(contextual: bool) -> Vec<PathBuf> {
    let root = fixtures().join("crossencoders");
    let entries = std::fs::read_dir(&root).unwrap_or_else(|error| panic!("{root:?}: {error}"));
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    found.retain(|folder| folder.join("meta.json").exists() == contextual);
    found.sort();
    assert!(found.len() >= if contextual { 2 } else { 5 }, "{found:?}");
    found
}

pub(crate) fn inputs(folder: &Path) -> (Text, Vision) {
    let mut inputs = tensors(&folder.join("inputs.safetensors"));
    let mut take =
        |name: &str| inputs.remove(name).unwrap_or_else(|| panic!("{folder:?} lacks {name}"));
    let text = Text {
        input_ids: take("input_ids"),
        token_type_ids: take("token_type_ids"),
        mask: take("attention_mask"),
    };
    let vision = Vision {
        features: take("image_feat"),
        locations: take("image_loc"),
        mask: take("image_attention_mask"),
    };
    (text, vision)
}

/// The fusion methods that a folder has numbers of.
pub(crate) fn fusions(folder: &Path) -> Vec<FusionMethod> {
    let mut fusions = vec![FusionMethod::Mul, FusionMethod::Sum, FusionMethod::Text];
    if folder.ends_with("vlbert") {
        fusions.push(FusionMethod::VlBertVqa);
    }
    fusions
}

/// What one fusion method makes of the inputs, under the names of the expected outputs.
fn outputs(folder: &Path, fusion: FusionMethod) -> BTreeMap<String, Tensor> {
    let mut config = ModelConfig::load(&folder.join("config.json")).unwrap();
    config.fusion_method = fusion;
    let weights_file = folder.join("weights.safetensors");
    let targets: BTreeMap<String, i64> = tensors(&weights_file)
        .into_iter()
        .filter_map(|(name, tensor)| {
            let target =
                name.strip_prefix("cls.imagePredictions.decoder_dict.")?.strip_suffix(".bias")?;
            Some((target.to_owned(), tensor.size()[0]))
        })
        .collect();

    let variables = VarStore::new(Device::Cpu);
    let encoder = CrossEncoder::new(&variables.root(), &config).unwrap();
    let pretraining = PretrainingHeads::new(&variables.root(), &config, &targets);
    // VOLTA has no alignment head for question answering, and pools regions only to fuse them.
    let alignment =
        (fusion != FusionMethod::VlBertVqa).then(|| AlignmentHead::new(&variables.root(), &config));
    let pools_regions = matches!(fusion, FusionMethod::Mul | FusionMethod::Sum);
    let unused = |name: &str| {
        (name.starts_with("bert.v_pooler.") && !pools_regions)
            || (name.starts_with("cls.bi_seq_relationship.") && alignment.is_none())
    };
    let report = weights::load(&variables, &weights_file, &[]).unwrap();
    // What is left over must be a tied twin of something that was loaded.
    let tied: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("tied.json")).unwrap()).unwrap();
    let tied = tied["tied"].to_string();
    for name in &report.unexpected {
        let known = tied.contains(&format!("\"{name}\"")) || unused(name);
        assert!(known, "{folder:?}: {name} is not used");
    }

    let (text, vision) = inputs(folder);
    let mut found = BTreeMap::new();
    let encoded = encoder.forward(&text, &vision, false, &mut |sublayer, t, v| {
        let (t_name, v_name) = match sublayer {
            None => ("emb_t".to_owned(), "emb_v".to_owned()),
            Some(index) => (format!("sublayer.{index}.t"), format!("sublayer.{index}.v")),
        };
        found.insert(t_name, t.shallow_clone());
        found.insert(v_name, v.shallow_clone());
    });
    let fused = encoder.fuse(&encoded).unwrap();
    let by_volta = volta_logits(folder, &config, &fused);
    let by_imagecode = imagecode_logits(folder, &config, &text, &vision);
    let suffix = match fusion {
        FusionMethod::Sum => "_sum",
        FusionMethod::Text => "_text",
        FusionMethod::VlBertVqa => {
            found.insert("vqa_logits_volta".into(), by_volta);
            found.insert("vqa_pooled_t".into(), encoded.pooled_text.unwrap());
            return found;
        }
        _ => "",
    };
    found.insert(format!("logits_volta{suffix}"), by_volta);
    found.insert(format!("logits_imagecode{suffix}"), by_imagecode);
    if let Some(alignment) = alignment.filter(|_| fusion == FusionMethod::Mul) {
        found.insert("prediction_scores_t".into(), pretraining.words(&encoder, &encoded));
        for (target, scores) in pretraining.regions(&encoded) {
            found.insert(format!("prediction_scores_v.{target}"), scores);
        }
        found.insert("seq_relationship_score".into(), alignment.forward(&fused));
        found.insert("fused".into(), fused);
        found.insert("sequence_output_t".into(), encoded.text);
        found.insert("sequence_output_v".into(), encoded.vision);
        found.insert("pooled_t".into(), encoded.pooled_text.unwrap());
        found.insert("pooled_v".into(), encoded.pooled_vision.unwrap());
        if folder.ends_with("vlbert") {
            found.extend(rows_alone(&encoder, &alignment, &text, &vision));
        }
    }
    found
}

/// Every row as a batch of its own.
fn rows_alone(
    encoder: &CrossEncoder,
    alignment: &AlignmentHead,
    text: &Text,
    vision: &Vision,
) -> Vec<(String, Tensor)> {
    let mut found = Vec::new();
    for row in 0..text.input_ids.size()[0] {
        let one = |x: &Tensor| x.narrow(0, row, 1);
        let text = Text {
            input_ids: one(&text.input_ids),
            token_type_ids: one(&text.token_type_ids),
            mask: one(&text.mask),
        };
        let vision = Vision {
            features: one(&vision.features),
            locations: one(&vision.locations),
            mask: one(&vision.mask),
        };
        let name = |what: &str| format!("single.{row}.{what}");
        let encoded = encoder.forward(&text, &vision, false, &mut |sublayer, t, v| {
            if sublayer.is_none() {
                found.push((name("emb_t"), t.shallow_clone()));
                found.push((name("emb_v"), v.shallow_clone()));
            }
        });
        let score = alignment.forward(&encoder.fuse(&encoded).unwrap());
        found.push((name("seq_relationship_score"), score));
        found.push((name("pooled_t"), encoded.pooled_text.unwrap()));
    }
    found
}

/// VOLTA's classifier on fused vectors.
fn volta_logits(folder: &Path, config: &ModelConfig, fused: &Tensor) -> Tensor {
    let variables = VarStore::new(Device::Cpu);
    let file = folder.join("head_volta.safetensors");
    let labels = tensors(&file)["clfs_dict.TASK3.logit_fc.3.bias"].size()[0];
    let classifier = VlClassifier::new(&variables.root(), config, "TASK3", labels);
    weights::load(&variables, &file, &[]).unwrap();
    classifier.forward(fused)
}

/// Through the ranking model, every pair a set of one candidate.
fn imagecode_logits(folder: &Path, config: &ModelConfig, text: &Text, vision: &Vision) -> Tensor {
    let variables = VarStore::new(Device::Cpu);
    let model = RankingModel::new(&variables.root(), config, &RankingHead::Linear).unwrap();
    weights::load(&variables, &folder.join("weights.safetensors"), &["clfs_dict."]).unwrap();
    weights::load(&variables, &folder.join("head_imagecode.safetensors"), &["bert."]).unwrap();
    let candidates = Candidates {
        features: vision.features.unsqueeze(1),
        locations: vision.locations.unsqueeze(1),
        mask: vision.mask.unsqueeze(1),
    };
    let video = Tensor::zeros([text.input_ids.size()[0]], (Kind::Bool, Device::Cpu));
    model.forward(text, &candidates, &video, false)
}

#[test]
fn parity_encoders_at_every_sublayer_and_head() {
    for folder in folders(false) {
        let expected = tensors(&folder.join("outputs.safetensors"));
        let mut found = BTreeMap::new();
        for fusion in fusions(&folder) {
            for (name, tensor) in outputs(&folder, fusion) {
                found.entry(name).or_insert(tensor);
            }
        }
        assert!(!expected.is_empty());
        for (name, expected) in expected {
            let what = format!("{}: {name}", folder.display());
            let (base, part) = match name.strip_suffix("_f64_row0_regions01") {
                Some(base) => (base, true),
                None => (name.strip_suffix("_f64").unwrap_or(&name), false),
            };
            let tensor = found.get(base).unwrap_or_else(|| panic!("{what} is not compared"));
            let tensor = if part { tensor.get(0).narrow(0, 0, 2) } else { tensor.shallow_clone() };
            assert_near(&tensor, &expected, TOLERANCE, &what);
        }
    }
}

/// Row 0 of every set, once it is known that the set's rows are all the same description.
fn one_per_set(rows: &Tensor, sets: i64) -> Tensor {
    let by_set = rows.view([sets, -1, rows.size()[1]]);
    let first = by_set.narrow(1, 0, 1);
    assert!(by_set.eq_tensor(&first).all().int64_value(&[]) == 1, "a set has several descriptions");
    first.squeeze_dim(1)
}

#[test]
fn parity_contextual_module_with_and_without_positions() {
    for folder in folders(true) {
        let config = ModelConfig::load(&folder.join("config.json")).unwrap();
        let meta: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
        let targets: Vec<i64> =
            meta["right_image"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect();
        let sets = targets.len() as i64;
        let mut found = BTreeMap::new();
        for (tag, positions) in [
            ("nopos", Positions::None),
            ("pos_video", Positions::Video),
            ("pos_all", Positions::All),
        ] {
            for (suffix, add_inputs) in [("add", true), ("noadd", false)] {
                let layers = meta["transformer_layers"].as_i64().unwrap();
                let context = ContextConfig { layers, add_inputs, positions };
                let (scores, trace) = contextual_scores(&folder, &config, context, sets);
                let loss = scores.cross_entropy_for_logits(&Tensor::from_slice(&targets));
                found.insert(format!("loss_{tag}_{suffix}"), loss);
                found.insert(format!("logits_{tag}_{suffix}"), scores.view([-1, 1]));
                for (name, tensor) in trace {
                    let name = if name.starts_with("context_layer") {
                        format!("{name}_{tag}")
                    } else {
                        name
                    };
                    found.insert(name, tensor);
                }
            }
        }
        for (name, expected) in tensors(&folder.join("outputs.safetensors")) {
            let what = format!("{}: {name}", folder.display());
            let base = name.strip_suffix("_f64").unwrap_or(&name);
            let tensor = found.get(base).unwrap_or_else(|| panic!("{what} is not compared"));
            assert_near(tensor, &expected, CONTEXT_TOLERANCE, &what);
        }
    }
}

/// Scores `[sets, candidates]`, and the fused vectors and layers on the way. The ranking model, which computes the
/// text's part once per set, must agree with the parts put together by hand, pair by pair.
fn contextual_scores(
    folder: &Path,
    config: &ModelConfig,
    context: ContextConfig,
    sets: i64,
) -> (Tensor, Vec<(String, Tensor)>) {
    let weights_file = folder.join("weights.safetensors");
    let (text, vision) = inputs(folder);
    let video = tensors(&folder.join("inputs.safetensors"))["pos_mask_video_only"]
        .view([sets, -1])
        .select(1, 0);

    let variables = VarStore::new(Device::Cpu);
    let encoder = CrossEncoder::new(&variables.root(), config).unwrap();
    let module = ContextModule::new(&variables.root(), config, context);
    weights::load(&variables, &weights_file, &[]).unwrap();
    let encoded = encoder.forward(&text, &vision, false, &mut |_, _, _| {});
    let fused = encoder.fuse(&encoded).unwrap();
    let mut layers = 0;
    let mut trace = vec![
        ("fused".to_owned(), fused.shallow_clone()),
        ("pooled_t".to_owned(), encoded.pooled_text.unwrap()),
        ("pooled_v".to_owned(), encoded.pooled_vision.unwrap()),
    ];
    let pairwise =
        module.forward(&fused.view([sets, -1, config.pooler_size]), &video, false, &mut |layer| {
            trace.push((format!("context_layer.{layers}"), layer.shallow_clone()));
            layers += 1;
        });

    let variables = VarStore::new(Device::Cpu);
    let model =
        RankingModel::new(&variables.root(), config, &RankingHead::Contextual(context)).unwrap();
    weights::load(&variables, &weights_file, &[]).unwrap();
    let by_set = |x: &Tensor| x.unflatten(0, [sets, -1]);
    let candidates = Candidates {
        features: by_set(&vision.features),
        locations: by_set(&vision.locations),
        mask: by_set(&vision.mask),
    };
    let text = Text {
        input_ids: one_per_set(&text.input_ids, sets),
        token_type_ids: one_per_set(&text.token_type_ids, sets),
        mask: one_per_set(&text.mask, sets),
    };
    let scores = model.forward(&text, &candidates, &video, false);
    assert_near(&scores, &pairwise, 1e-5, "scores of the set-shaped path");
    (scores, trace)
}

/// An encoder with a folder's weights, and its inputs.
pub(crate) fn loaded(
    folder: &Path,
    config: &ModelConfig,
) -> (CrossEncoder, VarStore, Text, Vision) {
    let variables = VarStore::new(Device::Cpu);
    let encoder = CrossEncoder::new(&variables.root(), config).unwrap();
    weights::load(&variables, &folder.join("weights.safetensors"), &[]).unwrap();
    let (text, vision) = inputs(folder);
    (encoder, variables, text, vision)
}

/// With positions by row, a batch gives every row what the reference gives the row alone, and padding the texts further
/// changes nothing.
#[test]
fn vl_bert_by_row_depends_neither_on_the_batch_nor_on_padding() {
    let folder = fixtures().join("crossencoders/vlbert");
    let mut config = ModelConfig::load(&folder.join("config.json")).unwrap();
    config.vl_bert_text_end = TextEnd::Row;
    let (encoder, _variables, text, vision) = loaded(&folder, &config);
    let expected = tensors(&folder.join("outputs.safetensors"));
    let together = encoder.forward(&text, &vision, false, &mut |_, _, _| {}).pooled_text.unwrap();
    let pad = |x: &Tensor| x.constant_pad_nd([0, 3]);
    let padded = Text {
        input_ids: pad(&text.input_ids),
        token_type_ids: pad(&text.token_type_ids),
        mask: pad(&text.mask),
    };
    let padded = encoder.forward(&padded, &vision, false, &mut |_, _, _| {}).pooled_text.unwrap();
    for row in 0..together.size()[0] {
        let alone = &expected[&format!("single.{row}.pooled_t")];
        assert_near(&together.narrow(0, row, 1), alone, TOLERANCE, "in a batch");
        assert_near(&padded.narrow(0, row, 1), alone, TOLERANCE, "padded");
    }
}

#[test]
fn models_that_pool_nothing_are_refused_for_ranking() {
    let folder = fixtures().join("crossencoders/vlbert");
    let mut config = ModelConfig::load(&folder.join("config.json")).unwrap();
    config.fusion_method = FusionMethod::None;
    let variables = VarStore::new(Device::Cpu);
    let error = RankingModel::new(&variables.root(), &config, &RankingHead::Linear).unwrap_err();
    assert!(error.to_string().contains("`fusion_method` is \"none\""), "{error}");
    // The encoder alone is what VL-BERT is pre-trained as.
    let (encoder, _variables, text, vision) = loaded(&folder, &config);
    let encoded = encoder.forward(&text, &vision, false, &mut |_, _, _| {});
    assert!(encoder.fuse(&encoded).is_none());
}

#[test]
fn weights_of_another_model_are_refused_with_every_misfit() {
    let folder = &folders(false)[0];
    let mut config = ModelConfig::load(&folder.join("config.json")).unwrap();
    config.vocab_size += 1;
    let variables = VarStore::new(Device::Cpu);
    RankingModel::new(&variables.root(), &config, &RankingHead::Linear).unwrap();
    let error = weights::load(&variables, &folder.join("weights.safetensors"), &[]).unwrap_err();
    assert!(matches!(error, WeightsError::Misfit { .. }));
    let text = error.to_string();
    assert!(
        text.contains("word_embeddings.weight` is [") && text.contains("TASK3.bias` is missing"),
        "{text}"
    );
    let error = weights::load(&variables, &folder.join("config.json"), &[]).unwrap_err();
    assert!(matches!(error, WeightsError::Unreadable { .. }), "{error}");
}
