//! Numbers that are none, and memory that runs out.

use std::sync::atomic::AtomicBool;

use crossencoders::train::{Cause, Event, TrainError};
use dataset::set_images;
use feature_store::{FeatureStore, Regions, StoreWriter, WriterOptions};

use crate::{DIM, REGIONS, World};

/// A copy of the store in which one image has a feature that is no number.
fn poison(world: &World, to: &str) -> String {
    let store = FeatureStore::open(&world.path("features.xenc")).unwrap();
    let mut writer = StoreWriter::create(&world.path(to), WriterOptions::default()).unwrap();
    let text = std::fs::read_to_string(world.path("data/train_data.json")).unwrap();
    let train: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let directory = train.keys().next().unwrap();
    let poisoned = set_images(&store, directory).unwrap().swap_remove(3);
    for id in store.ids() {
        let id = id.unwrap();
        let mut regions: Regions = store.get(&id).unwrap();
        if id == poisoned {
            regions.features[REGIONS * DIM / 2] = f32::NAN;
        }
        writer.append(&id, &regions).unwrap();
    }
    writer.finish().unwrap();
    poisoned
}

#[test]
fn a_loss_that_is_no_number_is_told_with_step_ids_norm_and_the_image_it_comes_from() {
    let world = World::new();
    let image = poison(&world, "poisoned.xenc");
    let features = format!("data.features={}", world.path("poisoned.xenc").display());
    // Checkpoints after every step before.
    let changes = [&*features, "train.checkpoint_steps=1", "train.batch_size=1"];
    let mut trainer = world.open("run", &changes).unwrap();
    let never = AtomicBool::new(false);
    let mut done = 0;
    let error = trainer
        .run(&never, &mut |event| {
            if let Event::Step { step, .. } = event {
                done = step;
            }
        })
        .unwrap_err();
    let said = error.to_string();
    let TrainError::Diverged { step, loss, grad_norm, parameter, rows, cause } = error else {
        panic!("{said}");
    };
    assert_eq!(step, done + 1);
    assert!(loss.is_nan() && !grad_norm.is_finite() && parameter.is_some(), "{said}");
    assert_eq!(cause, Cause::Features(vec![image.clone()]));
    let [(directory, images)] = &rows.0[..] else { panic!("{said}") };
    assert!(images.contains(&image) && images.len() == 10);
    assert!(
        said.contains(directory) && said.contains(&image) && said.contains(&format!("step {step}"))
    );
    // The same trainer does not go on; the checkpoint before is what a new one goes on from.
    assert!(matches!(trainer.run(&never, &mut |_| ()), Err(TrainError::Failed)));
    drop(trainer);
    assert_eq!(world.open("run", &changes).unwrap().position().0, done);
    assert!(
        world.weights("run", "last").values().all(|weight| weight
            .isfinite()
            .all()
            .int64_value(&[])
            == 1)
    );
}

/// The step after which weights are no numbers is told by the weights themselves, before a loss can tell it.
#[test]
fn weights_that_are_no_numbers_replace_no_checkpoint() {
    let world = World::new();
    for change in ["train.learning_rate=1e300", "train.weight_decay=1e300"] {
        let changes = [
            change,
            "train.warmup=0.0",
            "train.batch_size=64",
            "train.epochs=1",
            "train.checkpoint_steps=1",
        ];
        let error = world.train("run", &changes).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, TrainError::NotFiniteWeights { step: 1, .. }), "{said}");
        assert!(said.contains("lower train.learning_rate"), "{said}");
        let run = world.path("run");
        assert!(!run.join("checkpoints/last").exists() && !run.join("checkpoints/best").exists());
        std::fs::remove_dir_all(run).unwrap();
    }
}

/// Weights can be finite and give no finite loss; without a checkpoint in between the loss tells it.
#[test]
fn weights_that_explode_stop_training() {
    let world = World::new();
    let error = world.train("run", &["train.learning_rate=1e38"]).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, TrainError::Diverged { cause: Cause::Weights, .. }), "{said}");
    assert!(said.contains("lower learning rate"), "{said}");
}

/// Set for the process that is to run out of memory.
const CHILD: &str = "XENC_TEST_OUT_OF_MEMORY";

/// Runs this test once more in a process with little address space, and looks at what it says.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_runs_out_says_what_to_lower_and_the_checkpoint_stays() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return out_of_memory(folder.as_ref());
    }
    let world = World::new();
    world.train("run", &["train.epochs=1"]).unwrap();
    let before = world.checkpoint("run", "last");
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "failures::memory_that_runs_out_says_what_to_lower_and_the_checkpoint_stays",
            "--nocapture",
        ])
        .env(CHILD, world.path(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr).into_owned()
        + &String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}");
    for part in [
        "SAID step 1 needs more memory than there is",
        "train.batch_size (now 16)",
        "gradient_checkpointing",
        "max_regions",
        "word pieces",
        "10 images",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(world.checkpoint("run", "last"), before);
}

/// A model whose activations need far more than the 4 GiB that are left.
#[cfg(target_os = "linux")]
fn out_of_memory(folder: &std::path::Path) {
    use crossencoders::tch::Device;
    use crossencoders::train::{Recipe, Trainer};
    let model =
        crate::MODEL.replace("\"v_intermediate_size\": 16", "\"v_intermediate_size\": 4000000");
    std::fs::write(folder.join("wide.json"), model).unwrap();
    let changes =
        [format!("model={}", folder.join("wide.json").display()), "train.batch_size=16".into()];
    let recipe = Recipe::load(&folder.join("recipe.toml"), &changes).unwrap();
    let mut trainer = Trainer::open(recipe, &folder.join("wide"), false, Device::Cpu).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let used: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    let limit = (used << 10) + (4 << 30);
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: the struct is whole; only this process's own limit changes.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    let error = trainer.run(&AtomicBool::new(false), &mut |_| ()).unwrap_err();
    assert!(matches!(error, TrainError::OutOfMemory { step: 1, .. }), "{error}");
    println!("SAID {error}");
}
