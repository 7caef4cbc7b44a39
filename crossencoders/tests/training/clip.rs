//! CLIP from pictures and from stored embeddings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossencoders::data::synthetic::{SyntheticConfig, draw};
use crossencoders::data::{Batch, BatchImages, Item, Loader};
use crossencoders::eval;
use crossencoders::ranker::{Ranker, RankerError};
use crossencoders::tch::{self, Device, Tensor};
use crossencoders::train::{Event, Outcome, Recipe, Summary, TrainError, Trainer};
use feature_store::{Provenance, Regions, StoreWriter, WriterOptions};
use vision::clip::EMBEDDED_BY;

use crate::common::log;
use crate::{alone, difference};

/// Of two kinds, the smallest that there can be.
const VIT: &str = r#"{"embed_dim": 32, "quick_gelu": true,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}}"#;
const RESNET: &str = r#"{"embed_dim": 32, "quick_gelu": true,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 2},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}}"#;

const RECIPE: &str = r#"
variant = "contrastive"
model = "vit.json"
[data]
features = "data/images"
train = "data/train_data.json"
valid = "data/valid_data.json"
tokenizer = "TOKENIZER"
[train]
epochs = 2
batch_size = 3
accumulate = 2
learning_rate = 1e-3
schedule = "constant"
warmup = 0.0
optimizer = "adam"
betas = [0.9, 0.98]
clip = inf
log_steps = 1
"#;

/// The contextual head on frozen towers, with a rate of its own.
const CONTEXTUAL: [&str; 8] = [
    "variant=contextual",
    "context.layers=1",
    "context.add_inputs=true",
    "context.positions=video",
    "context.logit_scale=32.0",
    "train.freeze=[\"clip\"]",
    "train.groups=[{match = \"prediction_layer\", learning_rate = 1e-2}]",
    "train.epochs=3",
];

/// CLIP's vocabulary makes most of a tiny model; checkpoints without its moments are written sooner.
const WORDS_STAY: &str = "train.freeze=[\"clip.token_embedding\"]";

/// A folder with pictures, descriptions, models and a recipe.
struct Pictures {
    folder: tempfile::TempDir,
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl Pictures {
    fn new(train_sets: usize) -> Pictures {
        let world = Pictures { folder: tempfile::tempdir().unwrap(), _alone: alone() };
        let config = SyntheticConfig {
            train_sets,
            valid_sets: 2,
            descriptions_per_set: 3,
            regions: 1,
            dim: 1,
            ..SyntheticConfig::default()
        };
        let never = AtomicBool::new(false);
        draw(&config, &world.path("data"), &never, &mut |_| ()).unwrap().unwrap();
        let vocabulary = vision::clip::Tokenizer::find_vocabulary();
        let vocabulary = vocabulary.expect("`make setup` fetches CLIP's vocabulary");
        std::fs::write(world.path("vit.json"), VIT).unwrap();
        std::fs::write(world.path("resnet.json"), RESNET).unwrap();
        let recipe = RECIPE.replace("TOKENIZER", &vocabulary.display().to_string());
        std::fs::write(world.path("recipe.toml"), recipe).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn recipe(&self, changes: &[&str]) -> Recipe {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        Recipe::load(&self.path("recipe.toml"), &changes).unwrap()
    }

    fn open(&self, out: &str, changes: &[&str]) -> Result<Trainer, TrainError> {
        Trainer::open(self.recipe(changes), &self.path(out), false, Device::Cpu)
    }

    fn train(&self, out: &str, changes: &[&str]) -> Summary {
        let never = AtomicBool::new(false);
        match self.open(out, changes).unwrap().run(&never, &mut |_| ()).unwrap() {
            Outcome::Finished(summary) => summary,
            Outcome::Interrupted { step } => panic!("interrupted after step {step}"),
        }
    }

    fn weights(&self, out: &str, checkpoint: &str) -> BTreeMap<String, Tensor> {
        let folder = self.path(out).join("checkpoints").join(checkpoint);
        crossencoders::weights::read(&folder.join("model.safetensors")).unwrap()
    }

    /// Stores what a model's image tower makes of all pictures.
    fn embed(&self, ranker: &Ranker, to: &str, made_by: &str) {
        let images = ranker.open_images(Some(&self.path("data/images"))).unwrap();
        let options = WriterOptions {
            provenance: Provenance { fingerprint: made_by.to_owned(), ..Provenance::default() },
            ..WriterOptions::default()
        };
        let mut writer = StoreWriter::create(&self.path(to), options).unwrap();
        let mut stored = std::collections::BTreeSet::new();
        for split in ["train", "valid"] {
            let split = self.path(&format!("data/{split}_data.json"));
            let sets = Arc::new(ranker.image_sets(&split, &images).unwrap());
            let batches = (0..sets.examples.len()).map(|set| vec![Item::Set(set)]).collect();
            let loader =
                Loader::start(images.clone(), Arc::clone(&sets), ranker.batch_spec(), batches);
            for (batch, example) in loader.zip(&sets.examples) {
                for (id, features) in example.images.iter().zip(embeddings(ranker, &batch.unwrap()))
                {
                    if stored.insert(id.clone()) {
                        let boxes = vec![[0.0, 0.0, 4.0, 4.0]];
                        let (width, height, dim) = (4, 4, features.len());
                        let regions =
                            Regions { width, height, boxes, dim, features, ..Regions::default() };
                        writer.append(id, &regions).unwrap();
                    }
                }
            }
        }
        writer.finish().unwrap();
    }
}

/// Of the candidates of a batch of one set, computed by the crate `vision`'s weights in a tower of its own.
fn embeddings(ranker: &Ranker, batch: &Batch) -> Vec<Vec<f32>> {
    let BatchImages::Pictures { pixels, rows } = &batch.images else { panic!("not pictures") };
    let config = match &ranker.config {
        crossencoders::config::Config::Clip(config) => config,
        other => panic!("{other:?}"),
    };
    let variables = tch::nn::VarStore::new(Device::Cpu);
    let clip = crossencoders::clip::Clip::new(&variables.root(), config);
    let theirs = ranker.variables.variables();
    for (name, mut variable) in variables.variables() {
        tch::no_grad(|| variable.copy_(&theirs[&name]));
    }
    let of = |values: &[f32]| Tensor::from_slice(values).view([3, 1, 1]);
    let input = (pixels.to_kind(tch::Kind::Float) / 255.0 - of(&vision::clip::MEAN))
        / of(&vision::clip::STD);
    let embeddings = tch::no_grad(|| clip.image.forward(&input));
    Vec::try_from(embeddings.index_select(0, &rows.flatten(0, 1))).unwrap()
}

fn digest(ranker: &Ranker, world: &Pictures) -> String {
    let folder = world.path("checkpoint");
    std::fs::create_dir_all(&folder).unwrap();
    ranker.save(&folder).unwrap();
    let file = vision::weights::Weights::open(&folder.join("model.safetensors")).unwrap();
    let digest = vision::clip::image_tower_digest(&file).unwrap();
    format!("a file, {EMBEDDED_BY}{digest}-0123456789abcdef")
}

#[test]
fn clip_learns_the_sets_it_is_shown_from_pictures_by_both_kinds_of_towers() {
    let world = Pictures::new(3);
    // The sets that validate are those that are learnt: what is asked is whether it learns at all.
    let valid = format!("data.valid={}", world.path("data/train_data.json").display());
    for (model, batch_size, epochs, rate) in [("vit", 3, 25, "2e-3"), ("resnet", 9, 60, "5e-3")] {
        let summary = world.train(
            model,
            &[
                &valid,
                &format!("model={}", world.path(&format!("{model}.json")).display()),
                &format!("train.epochs={epochs}"),
                &format!("train.learning_rate={rate}"),
                &format!("train.batch_size={batch_size}"),
                WORDS_STAY,
                "train.accumulate=1",
            ],
        );
        assert!(summary.best.all.accuracy >= 0.6, "{model}: {:?}", summary.best);
    }
}

#[test]
fn the_head_learns_on_frozen_towers_which_stay_as_they_are() {
    let world = Pictures::new(3);
    let summary = world.train("frozen", &CONTEXTUAL);
    assert!(summary.steps > 0);
    let (before, after) = (
        Ranker::create(world.recipe(&CONTEXTUAL), Device::Cpu).unwrap().variables.variables(),
        world.weights("frozen", "last"),
    );
    let mut moved = 0;
    for (name, weight) in &after {
        match name.starts_with("clip.") {
            true => assert_eq!(weight, &before[name], "{name}"),
            false => moved += usize::from(weight != &before[name]),
        }
    }
    assert!(moved > 10, "{moved} tensors of the head have moved");
}

#[test]
fn stored_embeddings_train_as_the_pictures_do_and_others_are_refused() {
    let world = Pictures::new(3);
    let ranker = Ranker::create(world.recipe(&CONTEXTUAL), Device::Cpu).unwrap();
    world.embed(&ranker, "embeddings.xenc", &digest(&ranker, &world));
    world.embed(&ranker, "others.xenc", &format!("{EMBEDDED_BY}0123456789abcdef"));
    let features = |name: &str| format!("data.features={}", world.path(name).display());
    let (ours, theirs) = (features("embeddings.xenc"), features("others.xenc"));
    let stored = [&CONTEXTUAL[..], &[&ours]].concat();
    world.train("pictures", &CONTEXTUAL);
    world.train("stored", &stored);
    let (off, name) =
        difference(&world.weights("pictures", "last"), &world.weights("stored", "last"));
    assert!(off < 1e-4, "{name} differs by {off}");

    let others = [&CONTEXTUAL[..], &[&theirs]].concat();
    let error = world.open("others", &others).unwrap_err();
    assert!(matches!(error, TrainError::Ranker(RankerError::OtherTower(_))), "{error}");
    let learning = [&stored[..], &["train.freeze=[\"clip.transformer\"]"]].concat();
    let error = world.open("learning", &learning).unwrap_err();
    assert!(matches!(error, TrainError::StoredEmbeddings(_)), "{error}");
    assert!(!world.path("others").exists() && !world.path("learning").exists());
}

#[test]
fn a_clip_run_goes_on_bit_for_bit() {
    let world = Pictures::new(3);
    let towers = ["train.epochs=2", "train.ema=0.9", WORDS_STAY];
    for (name, changes) in [("towers", &towers[..]), ("head", &CONTEXTUAL[..])] {
        let whole = world.train(name, changes);
        assert!(whole.steps > 2);
        for stop in 1..whole.steps {
            let out = format!("{name}-{stop}");
            let cancelled = AtomicBool::new(false);
            let outcome = world.open(&out, changes).unwrap().run(&cancelled, &mut |event| {
                if let Event::Step { step, .. } = event {
                    cancelled.store(step == stop, Ordering::Relaxed);
                }
            });
            assert!(matches!(outcome.unwrap(), Outcome::Interrupted { step } if step == stop));
            assert_eq!(world.train(&out, changes).best, whole.best);
            for checkpoint in ["best", "last"] {
                let (a, b) = (world.weights(name, checkpoint), world.weights(&out, checkpoint));
                assert_eq!(difference(&a, &b).0, 0.0, "{out}: {checkpoint}");
            }
        }
    }
}

#[test]
fn a_trained_clip_is_loaded_again_ranks_the_same_and_begins_another() {
    let world = Pictures::new(2);
    let summary = world.train("run", &[]);
    let ranker = Ranker::load(&world.path("run"), &[], Device::Cpu).unwrap();
    let images = ranker.open_images(None).unwrap();
    let sets = Arc::new(ranker.image_sets(&ranker.recipe.data.valid, &images).unwrap());
    let never = AtomicBool::new(false);
    let metrics =
        eval::evaluate(&mut &ranker, &images, &sets, 4, &never, &mut |_| ()).unwrap().unwrap();
    assert_eq!(metrics, summary.best);
    // As ImageCoDe's contextual runs begin with a contrastive one.
    let init = world.path("run/checkpoints/best/model.safetensors");
    let init = format!("init={}", init.display());
    let changes = [&CONTEXTUAL[..], &[&init]].concat();
    let next = Ranker::create(world.recipe(&changes), Device::Cpu).unwrap();
    let report = next.loaded.as_ref().unwrap();
    assert!(report.missing.iter().all(|name| !name.starts_with("clip.")), "{report:?}");
    let learnt = world.weights("run", "best");
    let ours = next.variables.variables();
    assert!(learnt.iter().all(|(name, weight)| ours[name] == *weight));
}

/// Its layers are called `transformer` there, like the text tower's.
#[test]
fn a_model_of_imagecodes_contextual_script_is_taken_over_with_its_head() {
    let world = Pictures::new(2);
    world.train("run", &CONTEXTUAL);
    let learnt = world.weights("run", "last");
    let theirs: Vec<(String, Tensor)> = learnt
        .iter()
        .map(|(name, tensor)| {
            (name.replace("context_transformer.", "transformer."), tensor.shallow_clone())
        })
        .collect();
    let file = world.path("CONTEXTUAL_clip_best.safetensors");
    Tensor::write_safetensors(&theirs, &file).unwrap();
    let init = format!("init={}", file.display());
    let changes = [&CONTEXTUAL[..], &[&init]].concat();
    let taken = Ranker::create(world.recipe(&changes), Device::Cpu).unwrap();
    let report = taken.loaded.as_ref().unwrap();
    assert_eq!((&report.missing, &report.unexpected), (&vec![], &vec![]));
    let ours = taken.variables.variables();
    assert!(learnt.iter().all(|(name, weight)| ours[name] == *weight));
}

#[test]
fn settings_that_belong_to_the_other_family_are_named() {
    let world = Pictures::new(1);
    let vocabulary = format!("data.tokenizer={}", world.path("data/vocab.txt").display());
    for (change, said) in [
        ("train.gradient_checkpointing=true", "gradient_checkpointing"),
        (&*vocabulary, "data.tokenizer"),
    ] {
        let error = Ranker::create(world.recipe(&[change]), Device::Cpu).unwrap_err();
        assert!(matches!(error, RankerError::Setting { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn non_contrastive_clip_learns_from_sets_with_images_of_other_sets() {
    let world = Pictures::new(3);
    let trainer = world.open("run", &["variant=non_contrastive"]).unwrap();
    assert!(!trainer.ranker().learns_from_pairs());
    let [train, valid] = trainer.splits();
    let foreign = |sets: &crossencoders::data::ImageSets| {
        let prefix = |id: &str| id.rsplit_once("img").map(|(set, _)| set.to_owned());
        let examples = sets.examples.iter();
        let of = |images: &[String]| images.iter().any(|id| prefix(id) != prefix(&images[0]));
        examples.filter(|example| of(&example.images)).count()
    };
    assert_eq!((foreign(train), foreign(valid)), (train.examples.len(), 0));
    assert!(train.examples.iter().all(|example| example.target == Some(0)));
    world.train("trained", &["variant=non_contrastive"]);
    let logged = log(&world.path("trained"));
    assert!(logged[0]["accuracy"].is_number() && logged[0]["pair_accuracy"].is_null());
}
