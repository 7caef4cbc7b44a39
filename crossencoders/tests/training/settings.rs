//! Freezing, learning rates, the average, patience.

use crossencoders::tch::Tensor;
use crossencoders::train::TrainError;

use crate::{World, difference};

#[test]
fn frozen_parameters_stay_and_the_others_move() {
    let world = World::new();
    let freeze = "train.freeze=[\"bert.embeddings\", \"bert.encoder.layer.0\"]";
    world.train("none", &["train.learning_rate=0.0"]).unwrap();
    world.train("some", &[freeze]).unwrap();
    let (before, after) = (world.weights("none", "last"), world.weights("some", "last"));
    for (name, weight) in &after {
        let is_frozen =
            name.starts_with("bert.embeddings.") || name.starts_with("bert.encoder.layer.0.");
        if is_frozen {
            assert_eq!(weight, &before[name], "{name}");
        }
    }
    let moved = |name: &str| after[name] != before[name];
    assert!(moved("bert.encoder.layer.1.output.dense.weight") && moved("clfs_dict.TASK3.weight"));
}

#[test]
fn a_name_that_no_parameter_has_is_an_error_that_says_which_there_are() {
    let world = World::new();
    for (change, said) in [
        ("train.freeze=[\"bert.embedding\"]", "bert.embeddings.LayerNorm.bias"),
        ("train.freeze=[\"bert.encoder.layer.9\"]", "bert.encoder.layer.0"),
        ("train.groups=[{match = \"head\", learning_rate = 1e-3}]", "train.groups"),
    ] {
        let error = world.open("run", &[change]).unwrap_err();
        assert!(matches!(error, TrainError::UnknownParameter { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert!(!world.path("run").exists());
    }
    let error = world.open("run", &["train.freeze=[\"bert\", \"clfs_dict\"]"]).unwrap_err();
    assert!(matches!(error, TrainError::AllFrozen), "{error}");
}

#[test]
fn a_group_with_rate_zero_is_like_frozen_and_layers_decay() {
    let world = World::new();
    // One step, the first of AdamW: every weight with a gradient moves by the learning rate, whatever the gradient.
    let base = [
        "train.epochs=1",
        "train.batch_size=100",
        "train.weight_decay=0.0",
        "train.eps=1e-12",
        "train.dropout=false",
    ];
    let train = |out: &str, more: &[&str]| {
        world.train(out, &[&base[..], more].concat()).unwrap();
        world.weights(out, "last")
    };
    let before = train("before", &["train.learning_rate=0.0"]);
    let after = train(
        "after",
        &[
            "train.layer_decay=0.5",
            "train.groups=[{match = \"bert.v_embeddings\", learning_rate = 0.0}]",
        ],
    );
    let moved = |name: &str| {
        let change: Tensor = (&after[name] - &before[name]).abs().max();
        change.double_value(&[])
    };
    // Three feed-forward sublayers above the embeddings, 1, 3 and 5.
    for (name, rate) in [
        ("clfs_dict.TASK3.weight", 1e-3),
        ("bert.encoder.layer.5.output.v_dense.weight", 5e-4),
        ("bert.encoder.layer.2.attention_self.query.weight", 2.5e-4),
        ("bert.encoder.layer.1.output.dense.weight", 1.25e-4),
        ("bert.embeddings.word_embeddings.weight", 6.25e-5),
        ("bert.v_embeddings.image_embeddings.weight", 0.0),
    ] {
        let Some((name, _)) = after.get_key_value(name) else {
            panic!("no {name} among {:?}", after.keys());
        };
        let change = moved(name);
        assert!(
            (change - rate).abs() < 0.05 * rate + 1e-9,
            "{name} moved by {change:e}, not {rate:e}"
        );
    }
}

#[test]
fn the_average_is_what_is_kept_as_best_and_the_weights_go_on() {
    let world = World::new();
    let one_epoch = ["train.epochs=1"];
    world.train("plain", &one_epoch).unwrap();
    world.train("averaged", &["train.epochs=1", "train.ema=0.999"]).unwrap();
    // What is trained is the same; what is kept is not.
    assert_eq!(
        difference(&world.weights("plain", "last"), &world.weights("averaged", "last")).0,
        0.0
    );
    assert_eq!(difference(&world.weights("plain", "best"), &world.weights("plain", "last")).0, 0.0);
    assert!(
        difference(&world.weights("averaged", "best"), &world.weights("averaged", "last")).0 > 0.0
    );
    let average =
        crossencoders::weights::read(&world.path("averaged/checkpoints/last/average.safetensors"))
            .unwrap();
    assert_eq!(difference(&average, &world.weights("averaged", "best")).0, 0.0);
}

#[test]
fn training_ends_when_validation_has_not_got_better_for_so_many_epochs() {
    let world = World::new();
    // Nothing is learnt: the first epoch stays the best.
    let nothing = ["train.learning_rate=0.0", "train.epochs=9", "train.patience=2"];
    let summary = world.train("run", &nothing).unwrap();
    assert!(summary.stopped_early);
    assert_eq!((summary.best_epoch, summary.steps), (1, 3 * 4));
    // The finished run is finished.
    assert_eq!(world.train("run", &nothing).unwrap().steps, summary.steps);
    let patient = ["train.learning_rate=0.0", "train.epochs=3", "train.patience=3"];
    assert!(!world.train("patient", &patient).unwrap().stopped_early);
}
