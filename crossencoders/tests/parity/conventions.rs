//! Weights under the names of BERT, UNITER and LXMERT become VOLTA's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crossencoders::config::ModelConfig;
use crossencoders::model::{
    AlignmentHead, CrossEncoder, PretrainingHeads, RankingHead, RankingModel, Text, Vision,
};
use crossencoders::weights::{self, Convention, Conversion, LoadReport, SaveAs, WeightsError};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::{fixtures, tensors};

fn folder(name: &str) -> PathBuf {
    fixtures().join("crossencoders").join(name)
}

/// A configuration whose embeddings may not be written yet: names of sublayers do not depend on them.
fn config(name: &str) -> ModelConfig {
    let text = std::fs::read_to_string(folder(name).join("config.json")).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["image_embeddings"] = "vilbert".into();
        serde_json::from_value(json).unwrap()
    })
}

/// The fixture's model with its alignment and pre-training heads, and its encoder's last outputs.
struct Model {
    variables: VarStore,
    encoder: CrossEncoder,
    alignment: AlignmentHead,
}

impl Model {
    fn new(config: &ModelConfig) -> Model {
        let variables = VarStore::new(Device::Cpu);
        let root = variables.root();
        let encoder = CrossEncoder::new(&root, config).unwrap();
        let alignment = AlignmentHead::new(&root, config);
        PretrainingHeads::new(&root, config, &BTreeMap::from([("0".to_owned(), 1601)]));
        Model { variables, encoder, alignment }
    }

    /// Last text and vision states, alignment logits.
    fn outputs(&self, folder: &Path) -> [Tensor; 3] {
        let mut inputs = tensors(&folder.join("inputs.safetensors"));
        let mut take = |name: &str| inputs.remove(name).unwrap();
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
        let encoded = self.encoder.forward(&text, &vision, false, &mut |_, _, _| {});
        let alignment = self.alignment.forward(&self.encoder.fuse(&encoded).unwrap());
        [encoded.text, encoded.vision, alignment]
    }
}

/// The fixture's weights under other names.
fn renamed(name: &str, names: Convention, target: &Path) -> weights::ConvertReport {
    let source = folder(name).join("weights.safetensors");
    let conversion =
        Conversion { format: SaveAs::Safetensors, kind: None, names: Some(names), force: true };
    weights::convert(&source, target, Some(&config(name)), &conversion).unwrap()
}

/// Writes tensors under names changed by a function.
fn rewrite(path: &Path, change: impl Fn(&str) -> String) {
    let tensors: Vec<(String, Tensor)> =
        tensors(path).into_iter().map(|(name, tensor)| (change(&name), tensor)).collect();
    Tensor::write_safetensors(&tensors, path).unwrap();
}

#[test]
fn uniter_under_its_original_names_gives_the_same_outputs() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("uniter.safetensors");
    let report = renamed("uniter", Convention::Uniter, &path);
    assert_eq!((report.from, report.to), (Convention::Volta, Convention::Uniter));
    // The original pools once.
    assert_eq!(report.left_out, ["bert.v_pooler.dense.bias", "bert.v_pooler.dense.weight"]);
    let names = tensors(&path);
    for name in [
        "uniter.img_embeddings.pos_linear.weight",
        "uniter.encoder.layer.2.attention.self.query.weight",
        "itm_output.bias",
        "region_classifier.net.3.weight",
    ] {
        assert!(names.contains_key(name), "{name} is not in {:?}", names.keys());
    }
    // "Aligned" is the second logit there.
    let ours =
        &tensors(&folder("uniter").join("weights.safetensors"))["cls.bi_seq_relationship.bias"];
    assert!(names["itm_output.bias"].flip([0]).equal(ours));

    let config = config("uniter");
    let expected = Model::new(&config);
    weights::load(&expected.variables, &folder("uniter").join("weights.safetensors"), &[]).unwrap();
    let found = Model::new(&config);
    let error = weights::initialise(&found.variables, &config, &path, &[]).unwrap_err();
    assert!(error.to_string().contains("`bert.v_pooler.dense.weight` is missing"), "{error}");
    let report =
        weights::initialise(&found.variables, &config, &path, &["bert.v_pooler."]).unwrap();
    assert_eq!((report.convention, report.missing.len()), (Convention::Uniter, 2));
    assert!(report.unexpected.is_empty() && !report.notes.is_empty(), "{report:?}");
    let (found, expected) = (found.outputs(&folder("uniter")), expected.outputs(&folder("uniter")));
    assert!(found[0].equal(&expected[0]) && found[1].equal(&expected[1]));

    // And back, without the root, as a bare UniterModel has it: all but the vision pooler.
    rewrite(&path, |name| name.strip_prefix("uniter.").unwrap_or(name).to_owned());
    let back = temporary.path().join("back.bin");
    let conversion = Conversion { format: SaveAs::Pytorch, kind: None, names: None, force: false };
    let report = weights::convert(&path, &back, Some(&config), &conversion).unwrap();
    assert_eq!((report.from, report.to), (Convention::Uniter, Convention::Volta));
    let original = tensors(&folder("uniter").join("weights.safetensors"));
    let back = weights::read(&back).unwrap();
    for (name, tensor) in original.iter().filter(|(name, _)| !name.starts_with("bert.v_pooler.")) {
        assert!(back.get(name).is_some_and(|found| found.equal(tensor)), "{name}");
    }
    assert_eq!(back.len(), original.len() - 2);
}

#[test]
fn seven_location_numbers_do_not_fit_five_and_the_message_says_so() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("uniter.safetensors");
    renamed("uniter", Convention::Uniter, &path);
    let mut tensors: Vec<(String, Tensor)> = tensors(&path).into_iter().collect();
    for (name, tensor) in &mut tensors {
        if name.ends_with("pos_linear.weight") {
            *tensor = Tensor::cat(&[&*tensor, &tensor.narrow(1, 0, 2)], 1);
        }
    }
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let mut config = config("uniter");
    let load = |config: &ModelConfig, allowed: &[&str]| {
        weights::initialise(&Model::new(config).variables, config, &path, allowed)
    };
    let error = load(&config, &["bert.v_pooler."]).unwrap_err().to_string();
    assert!(error.contains("[32, 7] instead of [32, 5]"), "{error}");
    assert!(error.contains("7 numbers") && error.contains("`num_locs` to 7"), "{error}");
    let allowed = ["bert.v_pooler.", "bert.embeddings.image_location_embeddings."];
    assert_eq!(load(&config, &allowed).unwrap().mis_shaped.len(), 1);
    config.num_locs = 7;
    assert!(load(&config, &["bert.v_pooler."]).unwrap().mis_shaped.is_empty());
}

#[test]
fn lxmert_under_its_original_names_has_every_expected_parameter() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("lxmert.safetensors");
    let report = renamed("lxmert", Convention::Lxmert, &path);
    let original = tensors(&folder("lxmert").join("weights.safetensors"));
    // VOLTA pools the regions too, and the fixture predicts 1601 classes (target 0), which LXMERT does not.
    let beyond = ["bert.v_pooler.", "cls.imagePredictions.decoder_dict.0."];
    assert!(
        report.left_out.iter().all(|name| beyond.iter().any(|start| name.starts_with(start))),
        "{report:?}"
    );
    for name in [
        "bert.encoder.visn_fc.box_fc.weight",
        "bert.encoder.layer.2.attention.self.query.weight",
        "bert.encoder.r_layers.1.output.LayerNorm.bias",
        "bert.encoder.x_layers.1.visual_attention.att.key.weight",
        "bert.encoder.x_layers.1.visual_attention.output.dense.weight",
        "bert.encoder.x_layers.0.visn_self_att.self.value.bias",
        "bert.encoder.x_layers.0.lang_inter.dense.weight",
        "obj_predict_head.decoder_dict.attr.weight",
        "cls.seq_relationship.weight",
    ] {
        assert!(tensors(&path).contains_key(name), "{name}");
    }
    // As multi-GPU training saved it, and as transformers calls it.
    for change in [(|name: &str| format!("module.{name}")) as fn(&str) -> String, |name: &str| {
        name.replacen("module.bert.", "lxmert.", 1).replacen("module.", "", 1)
    }] {
        rewrite(&path, change);
        let back = temporary.path().join("back.bin");
        let conversion =
            Conversion { format: SaveAs::Pytorch, kind: None, names: None, force: true };
        let report = weights::convert(&path, &back, Some(&config("lxmert")), &conversion).unwrap();
        assert_eq!(report.from, Convention::Lxmert);
        assert!(report.left_out.is_empty(), "{report:?}");
        let back = weights::read(&back).unwrap();
        for (name, tensor) in &original {
            let there = !beyond.iter().any(|start| name.starts_with(start));
            assert_eq!(back.get(name).is_some_and(|found| found.equal(tensor)), there, "{name}");
        }
    }
}

fn initialise_with_bert(name: &str, path: &Path) -> (VarStore, Result<LoadReport, WeightsError>) {
    let config = config(name);
    let variables = VarStore::new(Device::Cpu);
    RankingModel::new(&variables.root(), &config, &RankingHead::Linear).unwrap();
    let report = weights::initialise(&variables, &config, path, &[]);
    (variables, report)
}

#[test]
fn bert_initialises_the_text_stream_and_what_it_shares() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("bert.safetensors");
    let variants: [fn(&str) -> String; 3] = [
        str::to_owned,
        |name| name.strip_prefix("bert.").unwrap_or(name).to_owned(),
        |name| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta")
        },
    ];
    for name in ["vilbert", "uniter"] {
        let original = tensors(&folder(name).join("weights.safetensors"));
        for variant in variants {
            renamed(name, Convention::Bert, &path);
            rewrite(&path, variant);
            let (variables, report) = initialise_with_bert(name, &path);
            let report = report.unwrap();
            assert_eq!(report.convention, Convention::Bert);
            let variables = variables.variables();
            let table = &config(name).bert_layer2attn_sublayer;
            assert!(!table.is_empty());
            let mut compared = 0;
            for (parameter, value) in &variables {
                let taken_over = !report.missing.contains(parameter);
                if taken_over {
                    assert!(value.equal(&original[parameter]), "{parameter}");
                    compared += 1;
                }
                let vision = parameter.contains(".v_") || parameter.contains("image_");
                let head = parameter.contains("pooler") || parameter.starts_with("clfs_dict");
                let cross_modal = parameter.contains("encoder.layer.")
                    && !is_bert_layer(&config(name), parameter);
                assert_eq!(taken_over, !(vision || head || cross_modal), "{name}: {parameter}");
            }
            assert_eq!((report.loaded, compared), (report.loaded, report.loaded));
        }
    }
    // Of what BERT has, nothing may be missing.
    let mut tensors: Vec<_> = tensors(&path).into_iter().collect();
    tensors.retain(|(name, _)| !name.contains("position_embeddings"));
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let error = initialise_with_bert("uniter", &path).1.unwrap_err().to_string();
    assert!(error.contains("`bert.embeddings.position_embeddings.weight` is missing"), "{error}");
}

fn is_bert_layer(config: &ModelConfig, parameter: &str) -> bool {
    let index: i64 = parameter.split('.').nth(3).unwrap().parse().unwrap();
    let tables = [&config.bert_layer2attn_sublayer, &config.bert_layer2ff_sublayer];
    tables.iter().any(|table| table.values().any(|&sublayer| sublayer == index))
}

#[test]
fn names_need_a_configuration_to_change_their_convention() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("uniter.safetensors");
    renamed("uniter", Convention::Uniter, &path);
    let conversion = Conversion { format: SaveAs::Pytorch, kind: None, names: None, force: false };
    let target = temporary.path().join("volta.bin");
    let error = weights::convert(&path, &target, None, &conversion).unwrap_err();
    assert!(matches!(error, WeightsError::NeedsConfig { .. }), "{error}");
    assert!(!target.exists());
    let error = weights::convert(&path, &path, Some(&config("uniter")), &conversion).unwrap_err();
    assert!(matches!(error, WeightsError::Exists { .. }), "{error}");
}

#[test]
fn files_for_volta_have_every_name_of_its_models() {
    for name in ["vilbert", "uniter", "lxmert", "visualbert", "vlbert"] {
        let source = folder(name).join("weights.safetensors");
        let temporary = tempfile::tempdir().unwrap();
        let (once, all) =
            (temporary.path().join("once.safetensors"), temporary.path().join("all.bin"));
        let convert = |source: &Path, target: &Path, format| {
            let conversion = Conversion { format, kind: None, names: None, force: false };
            weights::convert(source, target, Some(&config(name)), &conversion).unwrap()
        };
        let tied: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder(name).join("tied.json")).unwrap())
                .unwrap();
        let tied = tied["tied"].as_array().unwrap();
        let report = convert(&source, &once, SaveAs::Safetensors);
        let twins: usize = tied.iter().map(|group| group.as_array().unwrap().len() - 1).sum();
        assert_eq!(report.tied.len(), twins, "{name}: {:?}", report.tied);
        convert(&once, &all, SaveAs::Pytorch);
        let (expected, found) = (tensors(&source), weights::read(&all).unwrap());
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        assert!(found.iter().all(|(name, tensor)| tensor.equal(&expected[name])), "{name}");
    }
}
