//! `mpirun … xenc train`: several ranks through the real binary and launcher. `make test-mpi` builds and runs this.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossencoders::data::synthetic::{SyntheticConfig, draw};
use crossencoders::tch::{Kind, Tensor};
use crossencoders::weights;
use serde_json::Value;

/// Several ranks on this machine, also as root and with a single core; a rank that waits lets the others work.
const MPIRUN: [&str; 8] = [
    "--allow-run-as-root",
    "--oversubscribe",
    "--bind-to",
    "none",
    "--mca",
    "mpi_yield_when_idle",
    "1",
    "--quiet",
];

const MODEL: &str = r#"{
  "vocab_size": 64, "hidden_size": 16, "v_hidden_size": 16, "num_attention_heads": 2, "v_num_attention_heads": 2,
  "intermediate_size": 16, "v_intermediate_size": 16, "pooler_size": 16, "v_feature_size": 24,
  "max_position_embeddings": 64, "add_global_imgfeat": "first", "image_embeddings": "vilbert",
  "tt_attn_sublayers": [0], "tv_attn_sublayers": [2], "vt_attn_sublayers": [2], "t_ff_sublayers": [1, 3],
  "v_ff_sublayers": [3]
}"#;

/// Without dropout, whose masks each rank draws on its own.
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
batch_size = 5
learning_rate = 1e-4
dropout = false
checkpoint_steps = 2
log_steps = 1
"#;

struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// Twenty-four descriptions to train on, a converted store, and a recipe for a tiny model.
    fn new() -> World {
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
        let mut convert = Command::new(env!("CARGO_BIN_EXE_xenc"));
        convert.args(["store", "convert", "data/features.lmdb", "features.xenc"]);
        let converted = convert.current_dir(world.folder.path()).output().unwrap();
        assert!(converted.status.success(), "{converted:?}");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The arguments of a training run after the program's name.
    fn arguments(out: &str, sets: &[&str]) -> Vec<String> {
        let mut arguments = vec!["train", "recipe.toml", "--json", "--out", out];
        arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
        arguments.into_iter().map(str::to_owned).collect()
    }

    /// `mpirun` with one group of ranks, each with its recipe values, after the other; without groups, one process.
    fn command(&self, out: &str, groups: &[(usize, &[&str])]) -> Command {
        let xenc = env!("CARGO_BIN_EXE_xenc");
        let mut command = Command::new("mpirun");
        command.args(MPIRUN);
        for (number, (ranks, sets)) in groups.iter().enumerate() {
            if number > 0 {
                command.arg(":");
            }
            command.args(["-n", &ranks.to_string(), xenc]).args(Self::arguments(out, sets));
        }
        command.current_dir(self.folder.path()).env("OMP_NUM_THREADS", "1");
        command
    }

    fn train(&self, out: &str, groups: &[(usize, &[&str])]) -> Output {
        self.command(out, groups).output().expect("mpirun is there: make test-mpi looks for it")
    }

    fn train_alone(&self, out: &str, sets: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xenc"));
        command.args(Self::arguments(out, sets)).current_dir(self.folder.path());
        command.output().unwrap()
    }

    fn weights(&self, run: &str) -> BTreeMap<String, Tensor> {
        weights::read(&self.path(run).join("checkpoints/last/model.safetensors")).unwrap()
    }

    fn log(&self, run: &str) -> Vec<Value> {
        let log = std::fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Lines of stderr that begin like this.
fn count(output: &Output, beginning: &str) -> usize {
    stderr(output).lines().filter(|line| line.starts_with(beginning)).count()
}

/// Ends with success or the program's own words.
fn succeeded(output: Output) -> Output {
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

/// The same weights and losses within what the order of additions changes.
fn assert_same_run(world: &World, one: &str, other: &str) {
    let (a, b) = (world.weights(one), world.weights(other));
    assert!(a.keys().eq(b.keys()));
    for (name, tensor) in &a {
        let distance = (tensor - &b[name]).abs().max().to_kind(Kind::Double).double_value(&[]);
        assert!(distance < 2e-6, "{one} and {other}: {name} differs by {distance}");
    }
    let (a, b) = (world.log(one), world.log(other));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!((&a["step"], &a["accuracy"]), (&b["step"], &b["accuracy"]), "{a} {b}");
        for value in ["loss", "grad_norm"] {
            let (a, b) = (a[value].as_f64().unwrap_or(0.0), b[value].as_f64().unwrap_or(0.0));
            assert!((a - b).abs() < 1e-4, "{value}: {a} {b}");
        }
        assert_eq!(a["metrics"]["all"], b["metrics"]["all"]);
    }
}

/// The processes that a launcher has started.
fn ranks(launcher: &Child) -> Vec<i32> {
    let id = launcher.id();
    let mut ranks = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten() {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        ranks.extend(children.split_whitespace().filter_map(|id| id.parse::<i32>().ok()));
    }
    ranks
}

/// Waits until a run has made so many steps.
fn wait_for_steps(world: &World, run: &str, steps: usize, launcher: &mut Child) {
    let patience = Instant::now();
    while world.log(run).len() < steps {
        assert!(launcher.try_wait().unwrap().is_none(), "it has ended too early");
        assert!(patience.elapsed() < Duration::from_secs(120), "no step is made");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a process is gone, or is only kept for its parent to ask after.
fn wait_until_ended(process: i32) {
    let patience = Instant::now();
    while std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
    {
        assert!(patience.elapsed() < Duration::from_secs(30), "{process} goes on alone");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(process: i32, signal: i32) {
    // SAFETY: a child of mpirun, which waits for it only after it has ended and has not ended itself.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0);
}

#[test]
fn two_ranks_with_half_the_batch_equal_one_with_the_whole() {
    let world = World::new();
    let cases: [&[&str]; 4] = [
        // 5 rows are 3 and 2; the last batch has 4.
        &[],
        // The last batch has one row, and the second rank none.
        &["train.batch_size=23"],
        &["train.batch_size=3", "train.accumulate=2"],
        &["variant=non_contrastive", "train.batch_size=64"],
    ];
    for (number, sets) in cases.into_iter().enumerate() {
        let (one, two) = (format!("one{number}"), format!("two{number}"));
        succeeded(world.train_alone(&one, sets));
        let output = succeeded(world.train(&two, &[(2, sets)]));
        // Rank 0 alone speaks: one summary, one line per epoch.
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            summary["steps"],
            world.log(&one).iter().rev().find(|l| l["loss"].is_number()).unwrap()["step"]
        );
        assert_eq!(count(&output, "epoch 1: valid"), 1, "{}", stderr(&output));
        assert_same_run(&world, &one, &two);
    }
}

#[test]
fn more_ranks_than_rows_are_no_problem() {
    let world = World::new();
    let sets = ["train.batch_size=2", "train.epochs=1"];
    succeeded(world.train_alone("one", &sets));
    succeeded(world.train("three", &[(3, &sets)]));
    assert_same_run(&world, "one", "three");
}

#[test]
fn ctrl_c_on_one_rank_ends_all_and_another_number_of_ranks_goes_on() {
    let world = World::new();
    let sets = ["train.epochs=8", "train.learning_rate=1e-6"];
    for (run, more) in [("with_one", 1), ("with_two", 2), ("with_three", 3)] {
        let mut command = world.command(run, &[(2, &sets)]);
        let mut launcher = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_steps(&world, run, 10, &mut launcher);
        signal(ranks(&launcher)[1], libc::SIGINT);
        let output = launcher.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        assert_eq!(count(&output, "stopped after step"), 1, "{}", stderr(&output));
        let goes_on = match more {
            1 => world.train_alone(run, &sets),
            _ => world.train(run, &[(more, &sets)]),
        };
        assert_eq!(count(&succeeded(goes_on), &format!("{run}: goes on after step")), 1);
    }
    succeeded(world.train_alone("whole", &sets));
    for run in ["with_one", "with_two", "with_three"] {
        assert_same_run(&world, "whole", run);
    }
}

#[test]
fn an_error_on_one_rank_ends_all_with_one_message() {
    let world = World::new();
    for (set, said) in [
        ("data.features=missing.xenc", "missing.xenc"),
        ("train.learning_rate=1e-3", "rank 1 has another recipe than rank 0"),
    ] {
        let output = world.train("run", &[(1, &[]), (1, &[set])]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert_eq!(count(&output, "error:"), 1, "{}", stderr(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert!(!world.path("run").exists());
    }
    let diverges = ["train.learning_rate=1e38", "train.warmup=0.0"];
    let output = world.train("run", &[(2, &diverges)]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(count(&output, "error:"), 1, "{}", stderr(&output));
}

#[test]
fn a_rank_that_is_killed_takes_the_others_along_and_the_run_goes_on() {
    let world = World::new();
    let sets = ["train.epochs=8", "train.learning_rate=1e-6"];
    let mut command = world.command("run", &[(2, &sets)]);
    let mut launcher = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_steps(&world, "run", 10, &mut launcher);
    let ranks = ranks(&launcher);
    signal(ranks[1], libc::SIGKILL);
    let output = launcher.wait_with_output().unwrap();
    assert!(!output.status.success());
    wait_until_ended(ranks[0]);
    succeeded(world.train("run", &[(2, &sets)]));
    succeeded(world.train_alone("whole", &sets));
    assert_same_run(&world, "whole", "run");
}
