//! `mpirun … xenc train`: several ranks through the real binary and launcher. `make test-mpi` builds and runs this.

#[path = "../world/mod.rs"]
mod world;

use std::collections::BTreeMap;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crossencoders::tch::{Kind, Tensor};
use crossencoders::weights;
use serde_json::Value;

use world::{World, stderr};

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

/// Without dropout, whose masks each rank draws on its own.
const SETS: [&str; 4] =
    ["train.epochs=2", "train.batch_size=5", "train.learning_rate=1e-4", "train.dropout=false"];

/// `mpirun` with one group of ranks, each with its recipe values, after the other.
fn command(world: &World, out: &str, groups: &[(usize, &[&str])]) -> Command {
    let mut command = Command::new("mpirun");
    command.args(MPIRUN);
    for (number, (ranks, sets)) in groups.iter().enumerate() {
        if number > 0 {
            command.arg(":");
        }
        command.args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_xenc")]);
        command.args(["train", "recipe.toml", "--json", "--out", out]);
        command.args(SETS.iter().chain(*sets).flat_map(|set| ["--set", set]));
    }
    command.current_dir(world.path("")).env("OMP_NUM_THREADS", "1");
    command
}

fn train(world: &World, out: &str, groups: &[(usize, &[&str])]) -> Output {
    command(world, out, groups).output().expect("mpirun is there: make test-mpi looks for it")
}

fn train_alone(world: &World, out: &str, sets: &[&str]) -> Output {
    world.train(out, &[&SETS, sets].concat())
}

fn last_weights(world: &World, run: &str) -> BTreeMap<String, Tensor> {
    weights::read(&world.path(run).join("checkpoints/last/model.safetensors")).unwrap()
}

fn log(world: &World, run: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(world.path(run).join("metrics.jsonl")).unwrap_or_default();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
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
    let (a, b) = (last_weights(world, one), last_weights(world, other));
    assert!(a.keys().eq(b.keys()));
    for (name, tensor) in &a {
        let distance = (tensor - &b[name]).abs().max().to_kind(Kind::Double).double_value(&[]);
        assert!(distance < 2e-6, "{one} and {other}: {name} differs by {distance}");
    }
    let (a, b) = (log(world, one), log(world, other));
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
    while log(world, run).len() < steps {
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
        succeeded(train_alone(&world, &one, sets));
        let output = succeeded(train(&world, &two, &[(2, sets)]));
        // Rank 0 alone speaks: one summary, one line per epoch.
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            summary["steps"],
            log(&world, &one).iter().rev().find(|l| l["loss"].is_number()).unwrap()["step"]
        );
        assert_eq!(count(&output, "epoch 1: valid"), 1, "{}", stderr(&output));
        assert_same_run(&world, &one, &two);
    }
}

#[test]
fn more_ranks_than_rows_are_no_problem() {
    let world = World::new();
    let sets = ["train.batch_size=2", "train.epochs=1"];
    succeeded(train_alone(&world, "one", &sets));
    succeeded(train(&world, "three", &[(3, &sets)]));
    assert_same_run(&world, "one", "three");
}

#[test]
fn ctrl_c_on_one_rank_ends_all_and_another_number_of_ranks_goes_on() {
    let world = World::new();
    let sets = ["train.epochs=8", "train.learning_rate=1e-6"];
    for (run, more) in [("with_one", 1), ("with_two", 2), ("with_three", 3)] {
        let mut command = command(&world, run, &[(2, &sets)]);
        let mut launcher = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_steps(&world, run, 10, &mut launcher);
        signal(ranks(&launcher)[1], libc::SIGINT);
        let output = launcher.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        assert_eq!(count(&output, "stopped after step"), 1, "{}", stderr(&output));
        let goes_on = match more {
            1 => train_alone(&world, run, &sets),
            _ => train(&world, run, &[(more, &sets)]),
        };
        assert_eq!(count(&succeeded(goes_on), &format!("{run}: goes on after step")), 1);
    }
    succeeded(train_alone(&world, "whole", &sets));
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
        let output = train(&world, "run", &[(1, &[]), (1, &[set])]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert_eq!(count(&output, "error:"), 1, "{}", stderr(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert!(!world.path("run").exists());
    }
    let diverges = ["train.learning_rate=1e38", "train.warmup=0.0"];
    let output = train(&world, "run", &[(2, &diverges)]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(count(&output, "error:"), 1, "{}", stderr(&output));
}

#[test]
fn a_rank_that_is_killed_takes_the_others_along_and_the_run_goes_on() {
    let world = World::new();
    let sets = ["train.epochs=8", "train.learning_rate=1e-6"];
    let mut command = command(&world, "run", &[(2, &sets)]);
    let mut launcher = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_steps(&world, "run", 10, &mut launcher);
    let ranks = ranks(&launcher);
    signal(ranks[1], libc::SIGKILL);
    let output = launcher.wait_with_output().unwrap();
    assert!(!output.status.success());
    wait_until_ended(ranks[0]);
    succeeded(train(&world, "run", &[(2, &sets)]));
    succeeded(train_alone(&world, "whole", &sets));
    assert_same_run(&world, "whole", "run");
}
