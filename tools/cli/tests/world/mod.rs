//! What tests of `xenc train` and of all that comes after it begin with: a data set that is drawn small, and a recipe.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use crossencoders::data::synthetic::{SyntheticConfig, draw};

/// A folder with all that `xenc train` needs.
pub struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// Six sets to train on and three held out, a converted store, and a recipe for a tiny model.
    pub fn new() -> World {
        let world = World { folder: tempfile::tempdir().unwrap() };
        let config = SyntheticConfig {
            train_sets: 6,
            valid_sets: 3,
            descriptions_per_set: 4,
            regions: 6,
            dim: 24,
            ..SyntheticConfig::default()
        };
        draw(&config, &world.path("data"), &AtomicBool::new(false), &mut |_| ()).unwrap().unwrap();
        std::fs::write(world.path("model.json"), MODEL).unwrap();
        std::fs::write(world.path("recipe.toml"), RECIPE).unwrap();
        let converted = world.run(&["store", "convert", "data/features.lmdb", "features.xenc"]);
        assert!(converted.status.success(), "{converted:?}");
        world
    }

    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `xenc` in the folder.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The same, not yet begun.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xenc"));
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    /// Trains with values of the recipe changed.
    pub fn train(&self, out: &str, sets: &[&str]) -> Output {
        let mut arguments = vec!["train", "recipe.toml", "--out", out];
        arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
        self.run(&arguments)
    }
}

/// Co-attention between two feed-forward layers.
pub const MODEL: &str = r#"{
  "vocab_size": 64, "hidden_size": 16, "v_hidden_size": 16, "num_attention_heads": 2, "v_num_attention_heads": 2,
  "intermediate_size": 16, "v_intermediate_size": 16, "pooler_size": 16, "v_feature_size": 24,
  "max_position_embeddings": 64, "add_global_imgfeat": "first", "image_embeddings": "vilbert",
  "tt_attn_sublayers": [0], "tv_attn_sublayers": [2], "vt_attn_sublayers": [2], "t_ff_sublayers": [1, 3],
  "v_ff_sublayers": [3]
}"#;

pub const RECIPE: &str = r#"
variant = "contrastive"
model = "model.json"
[data]
features = "features.xenc"
train = "data/train_data.json"
valid = "data/valid_data.json"
tokenizer = "data/vocab.txt"
max_tokens = 40
[train]
epochs = 3
batch_size = 4
learning_rate = 1e-3
checkpoint_steps = 2
log_steps = 1
"#;

#[allow(dead_code)] // Not every test asks for it.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
