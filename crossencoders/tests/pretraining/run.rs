//! What a run of pre-training promises.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};

use crossencoders::ranker::Ranker;
use crossencoders::train::pretrain::{
    PretrainEvent, PretrainOutcome, PretrainRecipe, PretrainSummary, Pretrainer,
};
use crossencoders::train::{Cause, Recipe, TrainError};
use crossencoders::weights;
use feature_store::Regions;
use tch::{Device, Tensor};

use crate::common::{alone, checkpoint_bytes, log};
use crate::{Data, IMAGES, config};

const RECIPE: &str = r#"
model = "model.json"
objective = "all"
[data]
features = "features.xenc"
train = "train.jsonl"
valid = "valid.jsonl"
tokenizer = "vocab.txt"
max_tokens = 12
max_regions = 5
[train]
epochs = 3
batch_size = 2
accumulate = 2
learning_rate = 1e-3
warmup = 0.0
log_steps = 1
[masking]
words = 0.4
regions = 0.4
"#;

const RANKER: &str = r#"
variant = "contrastive"
model = "model.json"
init = "run/checkpoints/best/model.safetensors"
[data]
features = "features.xenc"
train = "none.json"
valid = "none.json"
tokenizer = "vocab.txt"
max_tokens = 12
"#;

/// A store with captions, a model and a recipe.
struct World {
    data: Data,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    fn new(change: impl Fn(&mut Regions)) -> World {
        let world = World { _alone: alone(), data: Data::new(change) };
        // A model as small as this only waits for its other threads.
        tch::set_num_threads(1);
        let targets = serde_json::json!({"1": 1.0, "2": 1.0, "4": 0.5});
        let model = serde_json::to_string(&config(&targets)).unwrap();
        world.write("model.json", &model);
        world.write("recipe.toml", RECIPE);
        world.write("train.jsonl", &captions(&["a # sits", "a #", "a # sits a # sits"]));
        world.write("valid.jsonl", &captions(&["a # sits", "a # a #"]));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn open(&self, out: &str, changes: &[&str]) -> Result<Pretrainer, TrainError> {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        let recipe = PretrainRecipe::load(&self.path("recipe.toml"), &changes).unwrap();
        Pretrainer::open(recipe, &self.path(out), false, Device::Cpu)
    }

    /// Trains to the end.
    fn train(&self, out: &str, changes: &[&str]) -> Result<PretrainSummary, TrainError> {
        match self.open(out, changes)?.run(&AtomicBool::new(false), &mut |_| ())? {
            PretrainOutcome::Finished(summary) => Ok(summary),
            PretrainOutcome::Interrupted { step } => panic!("interrupted after step {step}"),
        }
    }

    /// Bytes of a checkpoint's tensors.
    fn checkpoint(&self, out: &str, checkpoint: &str) -> BTreeMap<String, Vec<u8>> {
        checkpoint_bytes(&self.path(out), checkpoint)
    }

    /// Lines of `metrics.jsonl` without what is about time.
    fn logged(&self, out: &str) -> Vec<serde_json::Value> {
        let mut lines = log(&self.path(out));
        for line in &mut lines {
            line.as_object_mut().unwrap().remove("rows_per_second");
        }
        lines
    }
}

/// Every pattern for every image.
fn captions(patterns: &[&str]) -> String {
    let line = |image: &str, pattern: &str| {
        let caption = pattern.replace('#', image);
        format!("{{\"image\": \"{image}\", \"caption\": \"{caption}\"}}\n")
    };
    IMAGES
        .iter()
        .flat_map(|image| patterns.iter().map(move |pattern| line(image, pattern)))
        .collect()
}

#[test]
fn stopped_at_any_step_pre_training_goes_on_bit_for_bit() {
    let world = World::new(|_| ());
    let changes = ["train.ema=0.9", "train.log_steps=2", "train.layer_decay=0.8"];
    let whole = world.train("whole", &changes).unwrap();
    assert_eq!(whole.steps, 9);
    assert_eq!(world.checkpoint("whole", "last").len(), 3, "model, optimiser, average");
    for stop in 1..whole.steps {
        let out = format!("stopped-{stop}");
        let cancelled = AtomicBool::new(false);
        let at = Cell::new(0);
        let outcome = world.open(&out, &changes).unwrap().run(&cancelled, &mut |event| {
            if let PretrainEvent::Step { step, .. } = event {
                at.set(step);
                cancelled.store(step == stop, Ordering::Relaxed);
            }
        });
        assert!(matches!(outcome.unwrap(), PretrainOutcome::Interrupted { step } if step == stop));
        assert_eq!(at.get(), stop);
        let summary = world.train(&out, &changes).unwrap();
        assert_eq!((summary.steps, &summary.best), (whole.steps, &whole.best));
        for checkpoint in ["best", "last"] {
            assert!(
                world.checkpoint("whole", checkpoint) == world.checkpoint(&out, checkpoint),
                "{checkpoint} differs, stopped after step {stop}"
            );
        }
        assert_eq!(world.logged("whole"), world.logged(&out), "stopped after step {stop}");
    }
}

#[test]
fn the_loss_on_held_out_captions_falls_and_the_best_epoch_is_kept() {
    let world = World::new(|_| ());
    let changes = ["train.epochs=40", "train.learning_rate=1e-2"];
    let summary = world.train("run", &changes).unwrap();
    let logged = world.logged("run");
    let valid: Vec<&serde_json::Value> =
        logged.iter().filter(|line| line["split"] == "valid").collect();
    let losses: Vec<f64> =
        valid.iter().map(|line| line["metrics"]["loss"].as_f64().unwrap()).collect();
    assert_eq!(losses.len(), 40);
    // Target 2 stays above ln 39: an image's regions are all alike, so 38 negatives are as good as the region itself.
    let floor = 39f64.ln();
    let (first, best) = (losses[0] - floor, summary.best.loss - floor);
    assert!(best < 0.65 * first, "{best} of {first} above what can be learnt");
    for part in ["words", "regions_4"] {
        let (first, best) =
            (valid[0]["metrics"]["losses"][part].as_f64().unwrap(), summary.best.losses[part]);
        assert!(best < 0.8 * first, "{part}: {best} of {first}");
    }
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!((summary.best.loss, losses[summary.best_epoch as usize - 1]), (lowest, lowest));
    let part = |name: &str| valid[0]["metrics"]["losses"][name].as_f64().unwrap();
    let sum = part("words")
        + part("regions_1")
        + part("regions_2")
        + 0.5 * part("regions_4")
        + part("alignment");
    assert!((losses[0] - sum).abs() < 1e-9, "{} {sum}", losses[0]);
    let first = &logged[0];
    assert!(first["losses"]["words"].as_f64().unwrap() > 0.0 && first["grad_norm"].is_f64());
}

#[test]
fn a_ranker_begins_with_what_was_pre_trained() {
    let world = World::new(|_| ());
    world.train("run", &[]).unwrap();
    world.write("ranker.toml", RANKER);
    let learnt = world.path("run/checkpoints/best/model.safetensors");
    let learnt = weights::read(&learnt).unwrap();
    for (variant, head) in
        [("contrastive", "clfs_dict."), ("zero_shot", "cls.bi_seq_relationship.")]
    {
        let changes = [format!("variant={variant}")];
        let recipe = Recipe::load(&world.path("ranker.toml"), &changes).unwrap();
        let ranker = Ranker::create(recipe, Device::Cpu).unwrap();
        let variables = ranker.variables.variables();
        assert!(variables.keys().any(|name| name.starts_with(head)));
        let taken: Vec<(&String, &Tensor)> =
            variables.iter().filter(|(name, _)| !name.starts_with("clfs_dict.")).collect();
        assert!(taken.len() > 10 && taken.iter().all(|(name, weight)| learnt[*name].equal(weight)));
        assert_eq!(ranker.loaded.unwrap().loaded, taken.len());
    }
}

#[test]
fn pre_training_goes_on_from_what_was_pre_trained() {
    let world = World::new(|_| ());
    world.train("run", &[]).unwrap();
    let best = world.path("run/checkpoints/best/model.safetensors");
    let init = format!("init={}", best.display());
    let pretrainer = world.open("again", &[&init]).unwrap();
    let learnt = weights::read(&best).unwrap();
    let variables = pretrainer.variables().variables();
    assert_eq!(variables.len(), learnt.len());
    assert!(variables.iter().all(|(name, weight)| learnt[name].equal(weight)));
}

#[test]
fn features_that_are_no_numbers_stop_the_run_with_step_and_captions() {
    let world = World::new(|regions| {
        if regions.objects.as_ref().is_some_and(|objects| objects.ids[0] == 2) {
            regions.features[0] = f32::NAN;
        }
    });
    let error = world.train("run", &[]).unwrap_err();
    let TrainError::Diverged { step, rows, cause, .. } = &error else { panic!("{error}") };
    assert!((1..=3).contains(step));
    assert!(matches!(cause, Cause::Features(images) if images.iter().all(|image| image == "cow")));
    let cow = rows.0.iter().find(|(_, images)| images == &["cow"]).unwrap();
    assert!(["line 7", "line 8", "line 9"].contains(&cow.0.as_str()), "{error}");
    assert!(!world.path("run/checkpoints/last").exists());
}

#[test]
fn what_does_not_fit_is_said_before_a_folder_is_made() {
    let world = World::new(|regions| regions.attributes = None);
    let refused = |changes: &[&str], said: &str| {
        let error = world.open("run", changes).unwrap_err().to_string();
        assert!(error.contains(said), "{changes:?}: {error}");
        assert!(!world.path("run").exists(), "{changes:?}");
    };
    refused(&[], "attribute classes");
    let path = |name: &str| world.path(name).display().to_string();
    world.write("nothing.jsonl", &captions(&["a #"]).replace("\"image\": \"", "\"image\": \"x"));
    refused(&[&format!("data.valid={}", path("nothing.jsonl"))], "no caption of an image");
    world.write("unmasked.txt", &crate::WORDS.map(|word| word.replace("[MASK]", "x")).join("\n"));
    refused(&[&format!("data.tokenizer={}", path("unmasked.txt"))], "[MASK]");
    let mut model = serde_json::to_value(config(&serde_json::json!({"1": 1.0}))).unwrap();
    model["fusion_method"] = "none".into();
    world.write("pools_nothing.json", &model.to_string());
    let model = format!("model={}", path("pools_nothing.json"));
    refused(&[&model], "no_alignment");
    world.open("run", &[&model, "objective=no_alignment"]).unwrap();
}
