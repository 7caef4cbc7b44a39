//! Five training steps: loss, learning rate, gradient norm, gradients, weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crossencoders::config::ModelConfig;
use crossencoders::model::{Candidates, ContextConfig, Positions, RankingHead, RankingModel, Text};
use crossencoders::train::{AdamW, AdamWConfig, contrastive, non_contrastive, warmup_linear};
use crossencoders::weights;
use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::{assert_near, fixtures, tensors};

/// Stated in the fixtures' READMEs: loss, gradients (or relative to the largest), weights.
const LOSS: f64 = 1e-5;
const GRADIENTS: (f64, f64) = (2e-5, 1e-4);
const WEIGHTS: f64 = 5e-5;

fn head(meta: &Value) -> RankingHead {
    let context = &meta["contextual"];
    if context.is_null() {
        return RankingHead::Linear;
    }
    let positions = match (context["positional"] == true, context["all_pos"] == true) {
        (false, _) => Positions::None,
        (true, false) => Positions::Video,
        (true, true) => Positions::All,
    };
    let layers = context["transformer_layers"].as_i64().unwrap();
    RankingHead::Contextual(ContextConfig {
        layers,
        add_inputs: context["add_inputs"] == true,
        positions,
    })
}

/// The batch as sets: of ten candidates, or of one where pairs are trained on their own.
struct Batch {
    text: Text,
    candidates: Candidates,
    video: Tensor,
    targets: Tensor,
}

fn batch(folder: &Path, contrastive: bool) -> Batch {
    let batch = tensors(&folder.join("batch.safetensors"));
    let size = if contrastive { 10 } else { 1 };
    let by_set = |name: &str| batch[name].unflatten(0, [-1, size]);
    let one_per_set = |name: &str| {
        let rows = by_set(name);
        let first = rows.narrow(1, 0, 1);
        assert!(
            rows.eq_tensor(&first).all().int64_value(&[]) == 1,
            "{name}: a set has several texts"
        );
        first.squeeze_dim(1)
    };
    let matches = batch["target"].select(1, 1);
    Batch {
        text: Text {
            input_ids: one_per_set("input_ids"),
            token_type_ids: one_per_set("token_type_ids"),
            mask: one_per_set("attention_mask"),
        },
        candidates: Candidates {
            features: by_set("image_feat"),
            locations: by_set("image_loc"),
            mask: by_set("image_attention_mask"),
        },
        video: by_set("pos_mask").select(1, 0),
        targets: if contrastive {
            matches.view([-1, size]).argmax(1, false)
        } else {
            matches.view([-1, 1])
        },
    }
}

/// A file's tensors by the names our variables have; tied names must agree with each other.
struct Names {
    by_alias: BTreeMap<String, String>,
}

impl Names {
    fn new(meta: &Value, variables: &VarStore) -> Names {
        let ours = variables.variables();
        let mut by_alias = BTreeMap::new();
        for group in meta["tied"].as_array().unwrap() {
            let group: Vec<&str> =
                group.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            let own = group
                .iter()
                .find(|name| ours.contains_key(**name))
                .expect("a tied group without variable");
            group
                .iter()
                .for_each(|name| drop(by_alias.insert((*name).to_owned(), (*own).to_owned())));
        }
        Names { by_alias }
    }

    fn own<'a>(&'a self, name: &'a str) -> &'a str {
        self.by_alias.get(name).map_or(name, String::as_str)
    }
}

fn assert_weights(
    folder: &Path,
    step: usize,
    variables: &VarStore,
    names: &Names,
    unused: &[String],
) {
    let ours = variables.variables();
    let initial = tensors(&folder.join("weights_init.safetensors"));
    let expected = tensors(&folder.join(format!("weights_step{step}.safetensors")));
    for name in ours.keys() {
        assert!(
            expected.keys().any(|key| names.own(key) == name),
            "{folder:?}: {name} is compared with nothing"
        );
    }
    for (name, expected) in expected {
        let what = format!("{}: {name} after step {step}", folder.display());
        match ours.get(names.own(&name)) {
            Some(found) => assert_near(found, &expected, WEIGHTS, &what),
            // A head that the variant never uses stays as it was.
            None => {
                assert!(unused.contains(&name), "{what}: no such variable");
                assert_near(&initial[&name], &expected, 0.0, &what);
            }
        }
    }
}

fn assert_gradients(folder: &Path, variables: &VarStore, names: &Names) {
    let ours = variables.variables();
    let expected = tensors(&folder.join("grads.safetensors"));
    assert!(!expected.is_empty());
    for (name, expected) in expected {
        let found = ours[names.own(&name)].grad();
        let tolerance = GRADIENTS.0.max(GRADIENTS.1 * expected.abs().max().double_value(&[]));
        assert_near(
            &found,
            &expected,
            tolerance,
            &format!("{}: gradient of {name}", folder.display()),
        );
    }
}

fn train(folder: &Path) {
    let meta: Value =
        serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
    let number = |value: &Value| {
        value.as_f64().unwrap_or_else(|| panic!("{folder:?}: {value} is no number"))
    };
    let config = ModelConfig::load(&folder.join("config.json")).unwrap();
    let variables = VarStore::new(Device::Cpu);
    let model = RankingModel::new(&variables.root(), &config, &head(&meta)).unwrap();
    weights::load(&variables, &folder.join("weights_init.safetensors"), &[]).unwrap();
    let names = Names::new(&meta, &variables);
    let unused: Vec<String> =
        serde_json::from_value(meta["parameters_without_gradient"].clone()).unwrap();

    let pairs = meta["mode"] == "nocontra";
    let batch = batch(folder, !pairs);
    let mut optimizer = AdamW::new(
        &variables,
        AdamWConfig {
            betas: (number(&meta["betas"][0]), number(&meta["betas"][1])),
            eps: number(&meta["eps"]),
            weight_decay: number(&meta["weight_decay"]),
            ..AdamWConfig::default()
        },
    );
    let steps = meta["steps"].as_array().unwrap();
    assert!(steps.len() >= 5);
    for (index, expected) in steps.iter().enumerate() {
        let step = index + 1;
        let what = format!("{}: step {step}", folder.display());
        let rate = number(&meta["base_lr"])
            * warmup_linear(index as u64, number(&meta["warmup_steps"]), number(&meta["t_total"]));
        assert!(
            (rate - number(&expected["lr_of_the_step"])).abs() < 1e-12,
            "{what}: learning rate {rate}"
        );
        // Dropout probabilities of the configuration are 0, as was that of the reference's task model.
        let scores = model.forward(&batch.text, &batch.candidates, &batch.video, false);
        let loss = if pairs {
            non_contrastive(&scores, &batch.targets.to_kind(Kind::Float))
        } else {
            contrastive(&scores, &batch.targets)
        };
        let difference = (loss.double_value(&[]) - number(&expected["loss_before"])).abs();
        assert!(difference <= LOSS, "{what}: the loss differs by {difference:e}");
        optimizer.zero_grad();
        loss.backward();
        if step == 1 {
            assert_gradients(folder, &variables, &names);
        }
        let norm = optimizer.clip_grad_norm(number(&meta["clip_grad_norm"]));
        let reference = number(&expected["grad_norm_before_clipping"]);
        assert!(
            (norm - reference).abs() <= 1e-4 * reference,
            "{what}: gradient norm {norm}, not {reference}"
        );
        optimizer.step(rate);
        if folder.join(format!("weights_step{step}.safetensors")).exists() {
            assert_weights(folder, step, &variables, &names, &unused);
        }
    }
    for step in [1, 2, 5] {
        assert!(
            folder.join(format!("weights_step{step}.safetensors")).exists(),
            "{folder:?} lacks step {step}"
        );
    }
}

#[test]
fn parity_training_steps_of_every_variant() {
    let entries = std::fs::read_dir(fixtures().join("training")).unwrap();
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 6, "two architectures, three variants");
    folders.iter().for_each(|folder| train(folder));
}
