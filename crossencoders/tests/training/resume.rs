//! A run that is stopped and gone on with is the run that never was.

use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossencoders::tch::Device;
use crossencoders::train::{Event, Outcome, Recipe, Trainer};

use crate::World;

/// All that has state of its own.
const EVERYTHING: [&str; 9] = [
    "train.epochs=3",
    "train.accumulate=2",
    "train.batch_size=3",
    "train.ema=0.9",
    "train.layer_decay=0.8",
    "train.freeze=[\"bert.embeddings.word_embeddings\"]",
    "train.groups=[{match = \"clfs_dict\", learning_rate = 1e-2}]",
    "train.gradient_checkpointing=true",
    "train.patience=2",
];

#[test]
fn stopped_at_any_step_a_run_goes_on_bit_for_bit() {
    let world = World::new();
    let whole = world.train("whole", &EVERYTHING).unwrap();
    assert!(whole.steps > 5);
    for stop in 1..whole.steps {
        let out = format!("stopped-{stop}");
        let cancelled = AtomicBool::new(false);
        let at = Cell::new(0);
        let outcome = world.open(&out, &EVERYTHING).unwrap().run(&cancelled, &mut |event| {
            if let Event::Step { step, .. } = event {
                at.set(step);
                cancelled.store(step == stop, Ordering::Relaxed);
            }
        });
        assert!(matches!(outcome.unwrap(), Outcome::Interrupted { step } if step == stop));
        let summary = world.train(&out, &EVERYTHING).unwrap();
        assert_eq!((summary.steps, summary.best), (whole.steps, whole.best));
        for checkpoint in ["best", "last"] {
            assert!(
                world.checkpoint("whole", checkpoint) == world.checkpoint(&out, checkpoint),
                "{checkpoint} differs"
            );
        }
        assert_eq!(
            world.logged("whole", "loss"),
            world.logged(&out, "loss"),
            "stopped after step {stop}"
        );
    }
}

#[test]
fn stopped_at_every_step_a_run_goes_on_bit_for_bit() {
    let world = World::new();
    let whole = world.train("whole", &EVERYTHING).unwrap();
    let mut sittings = 0;
    loop {
        let cancelled = AtomicBool::new(false);
        let outcome = world.open("pieces", &EVERYTHING).unwrap().run(&cancelled, &mut |event| {
            if matches!(event, Event::Step { .. } | Event::Validated(..)) {
                cancelled.store(true, Ordering::Relaxed);
            }
        });
        sittings += 1;
        match outcome.unwrap() {
            Outcome::Interrupted { .. } => assert!(sittings < 100),
            Outcome::Finished(_) => break,
        }
    }
    assert!(sittings as u64 >= whole.steps, "{sittings} sittings");
    for checkpoint in ["best", "last"] {
        assert!(
            world.checkpoint("whole", checkpoint) == world.checkpoint("pieces", checkpoint),
            "{checkpoint} differs"
        );
    }
}

/// Set for the process that is to be killed: the folder of the world.
const CHILD: &str = "XENC_TEST_KILLED";
const KILLS: u64 = 20;
/// A checkpoint after every step: most of the time is spent in writing them.
const OFTEN: [&str; 3] = ["train.checkpoint_steps=1", "train.ema=0.9", "train.epochs=12"];

/// Runs this test once more in a process that trains, and kills it: every other time while a checkpoint is written, else at
/// any moment.
#[test]
fn killed_at_any_moment_a_run_keeps_its_checkpoint_and_ends_as_if_it_had_not_been() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return train_on(folder.as_ref());
    }
    let world = World::new();
    let mut done = 0;
    let mut while_writing = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "resume::killed_at_any_moment_a_run_keeps_its_checkpoint_and_ends_as_if_it_had_not_been"])
            .env(CHILD, world.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let written = world.path("run/checkpoints/.last.new");
        if kill % 2 == 0 {
            // Into the writing of its second checkpoint, further each time.
            let state = world.path("run/checkpoints/last/state.json");
            let age = || std::fs::metadata(&state).and_then(|state| state.modified()).ok();
            let before = age();
            let mut alive = || child.try_wait().unwrap().is_none();
            while alive() && age().is_none_or(|age| Some(age) == before) {
                std::hint::spin_loop();
            }
            while alive() && !written.exists() {
                std::hint::spin_loop();
            }
            std::thread::sleep(Duration::from_micros(400 * kill));
        } else {
            std::thread::sleep(Duration::from_millis(60 + 97 * kill % 700));
        }
        let _ = child.kill();
        child.wait().unwrap();
        while_writing += u64::from(written.exists());
        let position = world.open("run", &OFTEN).unwrap().position().0;
        assert!(position >= done, "kill {kill}: step {position} after step {done}");
        done = position;
    }
    assert!(while_writing > 0, "not once while a checkpoint was written");
    assert!(done > 0);
    let summary = world.train("run", &OFTEN).unwrap();
    assert_eq!(summary.best, world.train("whole", &OFTEN).unwrap().best);
    for checkpoint in ["best", "last"] {
        assert!(
            world.checkpoint("whole", checkpoint) == world.checkpoint("run", checkpoint),
            "{checkpoint} differs"
        );
    }
    assert_eq!(world.logged("whole", "loss"), world.logged("run", "loss"));
}

fn train_on(folder: &Path) {
    let recipe = Recipe::load(&folder.join("recipe.toml"), &OFTEN.map(str::to_owned)).unwrap();
    let mut trainer = Trainer::open(recipe, &folder.join("run"), false, Device::Cpu).unwrap();
    trainer.run(&AtomicBool::new(false), &mut |_| ()).unwrap();
}
