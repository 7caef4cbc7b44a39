//! What training promises, through the library, on a data set and a model that are tiny.

mod accumulation;
mod clip;
#[path = "../common/mod.rs"]
mod common;
mod failures;
mod resume;
mod segments;
mod settings;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicBool;

use crossencoders::data::synthetic::{SyntheticConfig, draw};
use crossencoders::tch::{Device, Kind, Tensor};
use crossencoders::train::{Event, Outcome, Recipe, Summary, TrainError, Trainer};
use crossencoders::weights;
use feature_store::WriterOptions;
use feature_store::convert::{OnError, convert};

use common::{alone, checkpoint_bytes, log};

const REGIONS: usize = 5;
const DIM: usize = 12;

/// Co-attention between two feed-forward layers, with dropout.
pub(crate) const MODEL: &str = r#"{
  "vocab_size": 64, "hidden_size": 16, "v_hidden_size": 24, "num_attention_heads": 2, "v_num_attention_heads": 2,
  "bi_num_attention_heads": 2, "bi_hidden_size": 16, "intermediate_size": 16, "v_intermediate_size": 16,
  "pooler_size": 16, "v_feature_size": 12, "max_position_embeddings": 64, "add_global_imgfeat": "first",
  "image_embeddings": "vilbert", "tt_attn_sublayers": [0], "tv_attn_sublayers": [2], "vt_attn_sublayers": [2],
  "vv_attn_sublayers": [4], "t_ff_sublayers": [1, 3], "v_ff_sublayers": [3, 5],
  "sublayer2attn_hidden_size": {"2": 16}, "sublayer2v_attn_hidden_size": {"2": 16}
}"#;

const RECIPE: &str = r#"
variant = "contrastive"
model = "model.json"
[data]
features = "features.xenc"
train = "data/train_data.json"
valid = "data/valid_data.json"
tokenizer = "data/vocab.txt"
max_tokens = 40
[train]
epochs = 2
batch_size = 4
learning_rate = 1e-3
warmup = 0.0
log_steps = 1
"#;

/// A folder with a few sets, their features, a model and a recipe.
pub(crate) struct World {
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    pub(crate) fn new() -> World {
        let world = World { folder: tempfile::tempdir().unwrap(), _alone: alone() };
        let config = SyntheticConfig {
            train_sets: 4,
            valid_sets: 2,
            descriptions_per_set: 4,
            regions: REGIONS,
            dim: DIM,
            ..SyntheticConfig::default()
        };
        let never = AtomicBool::new(false);
        draw(&config, &world.path("data"), &never, &mut |_| ()).unwrap().unwrap();
        let source = feature_store::formats::open(&world.path("data/features.lmdb")).unwrap();
        let target = world.path("features.xenc");
        let options = WriterOptions::default();
        convert(source, &target, options, &OnError::Fail, &never, &mut |_| ()).unwrap();
        std::fs::write(world.path("model.json"), MODEL).unwrap();
        std::fs::write(world.path("recipe.toml"), RECIPE).unwrap();
        world
    }

    /// Number of descriptions to train on.
    pub(crate) fn descriptions(&self) -> usize {
        let text = std::fs::read_to_string(self.path("data/train_data.json")).unwrap();
        let sets: BTreeMap<String, serde_json::Map<String, serde_json::Value>> =
            serde_json::from_str(&text).unwrap();
        sets.values().map(serde_json::Map::len).sum()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn recipe(&self, changes: &[&str]) -> Recipe {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        Recipe::load(&self.path("recipe.toml"), &changes).unwrap()
    }

    pub(crate) fn open(&self, out: &str, changes: &[&str]) -> Result<Trainer, TrainError> {
        Trainer::open(self.recipe(changes), &self.path(out), false, Device::Cpu)
    }

    /// Trains to the end.
    pub(crate) fn train(&self, out: &str, changes: &[&str]) -> Result<Summary, TrainError> {
        let never = AtomicBool::new(false);
        match self.open(out, changes)?.run(&never, &mut |_: Event| ())? {
            Outcome::Finished(summary) => Ok(summary),
            Outcome::Interrupted { step } => panic!("interrupted after step {step}"),
        }
    }

    pub(crate) fn weights(&self, out: &str, checkpoint: &str) -> BTreeMap<String, Tensor> {
        let folder = self.path(out).join("checkpoints").join(checkpoint);
        weights::read(&folder.join("model.safetensors")).unwrap()
    }

    /// Bytes of a checkpoint's files that are not about time.
    pub(crate) fn checkpoint(&self, out: &str, checkpoint: &str) -> BTreeMap<String, Vec<u8>> {
        checkpoint_bytes(&self.path(out), checkpoint)
    }

    /// A number of every step in `metrics.jsonl`.
    pub(crate) fn logged(&self, out: &str, key: &str) -> Vec<f64> {
        log(&self.path(out)).iter().filter_map(|line| line[key].as_f64()).collect()
    }
}

/// The largest difference of any element, and the tensor that has it.
pub(crate) fn difference(
    a: &BTreeMap<String, Tensor>,
    b: &BTreeMap<String, Tensor>,
) -> (f64, String) {
    assert!(a.keys().eq(b.keys()) && !a.is_empty());
    a.iter()
        .map(|(name, a)| {
            let difference = (a.to_kind(Kind::Double) - b[name].to_kind(Kind::Double)).abs().max();
            (difference.double_value(&[]), name.clone())
        })
        .fold((0.0, String::new()), |a, b| if b.0 > a.0 { b } else { a })
}
