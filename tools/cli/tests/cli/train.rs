//! `xenc train`, `eval`, `predict` through the real binary, on a data set that is drawn small.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crossencoders::config::ModelConfig;
use crossencoders::model::{RankingHead, RankingModel};
use crossencoders::tch::Device;
use crossencoders::tch::nn::VarStore;
use crossencoders::weights;

use crate::world::{MODEL, RECIPE, World, stderr};

fn weights(run: &Path, name: &str) -> Vec<u8> {
    std::fs::read(run.join("checkpoints").join(name).join("model.safetensors")).unwrap()
}

#[test]
fn every_variant_trains_evaluates_and_predicts() {
    let world = World::new();
    let variants: [&[&str]; 4] = [
        &[],
        &["variant=non_contrastive"],
        &["variant=contextual", "context.layers=1", "context.add_inputs=true"],
        &[
            "variant=contextual",
            "context.layers=1",
            "context.positions=video",
            "train.accumulate=2",
        ],
    ];
    for (number, sets) in variants.into_iter().enumerate() {
        let out = format!("run{number}");
        let trained = world.train(&out, sets);
        assert!(trained.status.success(), "{sets:?}: {}", stderr(&trained));
        let evaluated = world.run(&["eval", &out, "--json"]);
        let metrics: serde_json::Value = serde_json::from_slice(&evaluated.stdout).unwrap();
        let state = std::fs::read_to_string(world.path(&out).join("checkpoints/last/state.json"));
        let state: serde_json::Value = serde_json::from_str(&state.unwrap()).unwrap();
        assert_eq!(metrics["all"]["accuracy"], state["best"][1]["all"]["accuracy"], "{sets:?}");
        assert!(metrics["all"]["descriptions"].as_u64().unwrap() > 6);

        for ending in ["onnx", "ort"] {
            let graph = format!("{out}.{ending}");
            let exported = world.run(&["export", "crossencoder", &out, &graph, "--verify"]);
            assert!(exported.status.success(), "{sets:?}: {}", stderr(&exported));
            let by_graph = world.run(&["eval", &graph, "--json"]);
            let by_graph: serde_json::Value = serde_json::from_slice(&by_graph.stdout).unwrap();
            assert_eq!(metrics["all"], by_graph["all"], "{sets:?}, {ending}");
        }

        let test = "data/test_data_unlabeled.json";
        let predict = ["predict", &out, "--split", test, "--out", "answers.json"];
        if number > 0 {
            let refused = world.run(&predict);
            assert!(stderr(&refused).contains("--force"), "{}", stderr(&refused));
        }
        let predicted = world.run(&[&predict[..], &["--force"]].concat());
        assert!(predicted.status.success(), "{}", stderr(&predicted));
        let read = |path: PathBuf| -> serde_json::Map<String, serde_json::Value> {
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        };
        let (questions, answers) = (read(world.path(test)), read(world.path("answers.json")));
        assert!(questions.keys().eq(answers.keys()));
        for (set, texts) in &questions {
            let answers = answers[set].as_array().unwrap();
            assert_eq!(answers.len(), texts.as_array().unwrap().len());
            assert!(answers.iter().all(|answer| answer.as_u64().unwrap() < 10));
        }
    }
}

#[test]
fn a_data_set_of_ones_own_is_trained_on_and_ranked_like_the_annotations_it_is_made_of() {
    let world = World::new();
    for split in ["train", "valid"] {
        let (from, to) = (format!("data/{split}_data.json"), format!("{split}.jsonl"));
        let arguments =
            ["data", "convert", &from, &to, "--to", "jsonl", "--features", "features.xenc"];
        let converted = world.run(&arguments);
        assert!(converted.status.success(), "{}", stderr(&converted));
    }
    let trained = world.train("own", &["data.train=train.jsonl", "data.valid=valid.jsonl"]);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let metrics = |more: &[&str]| -> serde_json::Value {
        let evaluated = world.run(&[&["eval", "own", "--json"], more].concat());
        assert!(evaluated.status.success(), "{}", stderr(&evaluated));
        serde_json::from_slice(&evaluated.stdout).unwrap()
    };
    let own = metrics(&[]);
    assert!(own["all"]["descriptions"].as_u64().unwrap() > 6);
    assert_eq!(own["all"], metrics(&["--set", "data.valid=data/valid_data.json"])["all"]);
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let world = World::new();
    assert!(world.train("whole", &[]).status.success());
    // Killed again and again, wherever it happens to be; each time it gets a little further.
    let mut patience = 300;
    let finished = loop {
        let mut command = world.command(&["train", "recipe.toml", "--out", "pieces"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(patience));
        patience += 150;
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let _ = child.kill();
        child.wait().unwrap();
        assert!(patience < 60_000, "it never comes to its end");
    };
    assert!(finished.success());
    let (whole, pieces) = (world.path("whole"), world.path("pieces"));
    for name in ["best", "last"] {
        assert!(weights(&whole, name) == weights(&pieces, name), "{name} differs");
    }
    let steps = |run: &Path| -> Vec<(u64, f64)> {
        let log = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        log.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|line| line["loss"].is_number())
            .map(|line| (line["step"].as_u64().unwrap(), line["loss"].as_f64().unwrap()))
            .collect()
    };
    assert_eq!(steps(&whole), steps(&pieces));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_the_step_and_says_so() {
    let world = World::new();
    let mut child = world
        .command(&["train", "recipe.toml", "--out", "run", "--set", "train.epochs=100000"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let last = world.path("run/checkpoints/last/state.json");
    while !last.is_file() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: the process is our child and has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(stderr(&output).contains("goes on from there"), "{}", stderr(&output));
    assert!(!weights(&world.path("run"), "last").is_empty());
}

#[test]
fn faults_of_a_recipe_are_named_and_change_nothing() {
    let world = World::new();
    std::fs::write(world.path("broken.json"), MODEL.replace("[1, 3]", "[1, 5]")).unwrap();
    std::fs::write(world.path("wide.json"), MODEL.replace("24", "32")).unwrap();
    std::fs::write(
        world.path("small.json"),
        MODEL.replace("\"vocab_size\": 64", "\"vocab_size\": 9"),
    )
    .unwrap();
    std::fs::write(world.path("empty.json"), "{}").unwrap();
    std::fs::write(world.path("other.json"), r#"{"no-such-set": {"1": "a star"}}"#).unwrap();
    std::fs::write(world.path("weights.bin"), "not weights").unwrap();
    for (set, said) in [
        ("model=broken.json", "sublayer 4"),
        ("model=missing.json", "`model` is /"),
        ("data.train=none/train.json", "none/train.json, which is not there"),
        ("model=wide.json", "v_feature_size"),
        ("model=small.json", "vocab_size"),
        ("data.train=empty.json", "holds no descriptions"),
        ("data.train=other.json", "no-such-set: 0 of 10 images"),
        ("data.valid=data/test_data_unlabeled.json", "not labelled"),
        ("data.features=data", "data"),
        ("data.max_tokens=4000", "max_position_embeddings"),
        ("init=weights.bin", "weights.bin"),
        ("train.learning_rate=fast", "learning_rate"),
        ("train.learning_rates=1", "learning_rates"),
        ("variant=zero_shot", "init"),
    ] {
        let output = world.train("run", &[set]);
        assert_eq!(output.status.code(), Some(2), "{set}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{set}: {}", stderr(&output));
        assert!(!world.path("run").exists(), "{set}");
    }
}

#[test]
fn weights_of_another_model_are_refused_tensor_by_tensor() {
    let world = World::new();
    assert!(world.train("first", &["train.epochs=1"]).status.success());
    let init = "init=first/checkpoints/best/model.safetensors";
    let same = world.train("second", &[init, "train.epochs=1"]);
    assert!(same.status.success(), "{}", stderr(&same));
    std::fs::write(
        world.path("other.json"),
        MODEL.replace("\"pooler_size\": 16", "\"pooler_size\": 8"),
    )
    .unwrap();
    let output = world.train("third", &[init, "model=other.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("bert.t_pooler.dense.weight"), "{}", stderr(&output));
}

#[test]
fn a_run_is_begun_with_what_another_has_learnt_and_not_made_longer() {
    let world = World::new();
    assert!(world.train("first", &["train.epochs=1"]).status.success());
    let again = world.train("first", &["train.epochs=1"]);
    assert!(stderr(&again).contains("first: finished after 6 steps"), "{}", stderr(&again));
    let longer = world.train("first", &["train.epochs=2"]);
    assert_eq!(longer.status.code(), Some(2));
    for said in ["`epochs = 1` then, `epochs = 2` now", "--set init=first"] {
        assert!(stderr(&longer).contains(said), "{}", stderr(&longer));
    }
    let second = world.train("second", &["train.epochs=1", "init=first"]);
    assert!(second.status.success(), "{}", stderr(&second));
    let best = "first/checkpoints/best/model.safetensors";
    assert!(stderr(&second).contains(best), "{}", stderr(&second));
    // A run that no epoch is validated of has only its last weights.
    std::fs::remove_dir_all(world.path("first/checkpoints/best")).unwrap();
    let third = world.train("third", &["train.epochs=1", "init=first"]);
    assert!(stderr(&third).contains("first/checkpoints/last/model.safetensors"), "{third:?}");
    let none = world.train("fourth", &["init=data"]);
    assert!(stderr(&none).contains("data, a folder that is neither a run"), "{}", stderr(&none));
}

#[test]
fn a_run_is_not_replaced_by_one_that_begins_with_it_nor_gone_on_with_other_data() {
    let world = World::new();
    assert!(world.train("first", &["train.epochs=1"]).status.success());
    let best = weights(&world.path("first"), "best");
    let own =
        world.run(&["train", "recipe.toml", "--out", "first", "--force", "--set", "init=first"]);
    assert_eq!(own.status.code(), Some(2));
    assert!(stderr(&own).contains("the run that --force would replace"), "{}", stderr(&own));
    assert_eq!(weights(&world.path("first"), "best"), best);
    // The same file, and another target in it.
    let split = world.path("data/valid_data.json");
    let text = std::fs::read_to_string(&split).unwrap();
    std::fs::write(&split, text.replacen("\"0\"", "\"9\"", 1)).unwrap();
    assert_ne!(std::fs::read_to_string(&split).unwrap(), text);
    let other = world.train("first", &["train.epochs=1"]);
    assert_eq!(other.status.code(), Some(2), "{}", stderr(&other));
    assert!(stderr(&other).contains("has begun with other data"), "{}", stderr(&other));
    std::fs::write(&split, text).unwrap();
    assert!(world.train("first", &["train.epochs=1"]).status.success());
    // A word piece less shifts all numbers after it.
    let vocabulary = world.path("first/checkpoints/best/vocab.txt");
    let words = std::fs::read_to_string(&vocabulary).unwrap();
    std::fs::write(&vocabulary, words.replacen('\n', "x\n", 1)).unwrap();
    let damaged = world.run(&["eval", "first"]);
    assert_eq!(damaged.status.code(), Some(2));
    assert!(stderr(&damaged).contains("vocab.txt is not what was written"), "{}", stderr(&damaged));
}

#[test]
fn pairs_have_an_accuracy_of_their_own_name() {
    let world = World::new();
    assert!(world.train("run", &["variant=non_contrastive", "train.epochs=1"]).status.success());
    let log = std::fs::read_to_string(world.path("run/metrics.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert!(first["pair_accuracy"].is_number() && first["accuracy"].is_null(), "{first}");
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert!(last["metrics"]["all"]["accuracy"].is_number(), "{last}");
}

/// A file may not grow beyond eight kilobytes: to a program that looks like a full disk, and needs no disk to fill.
#[cfg(unix)]
#[test]
fn a_full_disk_is_named_with_the_file_and_what_to_do() {
    let world = World::new();
    assert!(world.train("whole", &["train.epochs=1"]).status.success());
    let weights = "whole/checkpoints/best/model.safetensors";
    for (arguments, file) in [
        (vec!["train", "recipe.toml", "--out", "run"], "model.safetensors"),
        (vec!["weights", "convert", weights, "weights.bin"], "weights.bin"),
        (vec!["weights", "convert", weights, "weights.safetensors"], "weights.safetensors"),
    ] {
        let limited =
            format!("ulimit -f 16; exec {} {}", env!("CARGO_BIN_EXE_xenc"), arguments.join(" "));
        let mut shell = std::process::Command::new("sh");
        let output = shell.arg("-c").arg(limited).current_dir(world.path("")).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        for said in [file, "cannot be written: File too large", "what to do: free some space"] {
            assert!(stderr(&output).contains(said), "{}", stderr(&output));
        }
        for raw in ["IoError", "Os {", "ZipWriter"] {
            assert!(!stderr(&output).contains(raw), "{}", stderr(&output));
        }
    }
}

#[test]
fn sets_without_features_are_counted_in_training_and_listed_by_predict() {
    let world = World::new();
    let path = world.path("data/train_data.json");
    let mut train: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    train.insert("open-images-absent_1".into(), serde_json::json!({"3": "a red star"}));
    std::fs::write(&path, serde_json::to_string(&train).unwrap()).unwrap();
    let trained = world.train("run", &["train.epochs=1"]);
    assert!(trained.status.success());
    assert!(stderr(&trained).contains("1 of 7 sets are skipped"), "{}", stderr(&trained));

    std::fs::write(
        world.path("test.json"),
        serde_json::json!({"absent-video_2": ["a star"], train.keys().next().unwrap(): ["a star"]})
            .to_string(),
    )
    .unwrap();
    let output = world.run(&["predict", "run", "--split", "test.json", "--out", "answers.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("absent-video_2: 0 of 10 images"), "{}", stderr(&output));
    assert!(!world.path("answers.json").exists());
}

#[test]
fn a_loss_that_is_no_number_stops_training() {
    let world = World::new();
    let output = world.train("run", &["train.learning_rate=1e38", "train.warmup=0.0"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("the loss at step"), "{}", stderr(&output));
}

#[test]
fn a_zero_shot_recipe_is_ranked_with_but_not_trained() {
    let world = World::new();
    let config: ModelConfig = serde_json::from_str(MODEL).unwrap();
    let variables = VarStore::new(Device::Cpu);
    RankingModel::new(&variables.root(), &config, &RankingHead::Alignment).unwrap();
    weights::save(&variables, &world.path("pretrained.safetensors")).unwrap();
    let recipe =
        RECIPE.replace("\"contrastive\"", "\"zero_shot\"\ninit = \"pretrained.safetensors\"");
    std::fs::write(world.path("recipe.toml"), recipe).unwrap();
    let evaluated = world.run(&["eval", "recipe.toml", "--json"]);
    assert!(evaluated.status.success(), "{}", stderr(&evaluated));
    let metrics: serde_json::Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    assert_eq!(metrics["all"]["descriptions"], 12);
    assert!((metrics["chance"].as_f64().unwrap() - 0.1).abs() < 1e-12);
    let trained = world.train("run", &[]);
    assert_eq!(trained.status.code(), Some(2));
    assert!(stderr(&trained).contains("zero_shot is not trained"), "{}", stderr(&trained));
}
