//! `xenc pretrain` through the real binary, up to the training that begins with its weights.

use crate::text;
use crate::world::{MODEL, World, stderr};

const RECIPE: &str = r#"
model = "pretrained.json"
[data]
features = "features.xenc"
train = "train.jsonl"
valid = "valid.jsonl"
tokenizer = "data/vocab.txt"
max_tokens = 40
[train]
epochs = 2
batch_size = 4
learning_rate = 1e-3
log_steps = 1
"#;

#[test]
fn captions_become_weights_that_training_begins_with() {
    let world = World::new();
    let model = MODEL.replacen('{', "{\"visual_target_weights\": {\"1\": 1.0},", 1);
    std::fs::write(world.path("pretrained.json"), model).unwrap();
    std::fs::write(world.path("pretrain.toml"), RECIPE).unwrap();
    let listed = text(&world.run(&["store", "ls", "features.xenc"]).stdout);
    let images: Vec<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let lines = |images: &[&str]| -> String {
        let caption = |image| serde_json::json!({"image": image, "caption": "a red ball"});
        images.iter().map(|image| format!("{}\n", caption(image))).collect()
    };
    std::fs::write(world.path("train.jsonl"), lines(&images[..12])).unwrap();
    std::fs::write(world.path("valid.jsonl"), lines(&images[12..18])).unwrap();

    let pretrain =
        |more: &[&str]| world.run(&[&["pretrain", "pretrain.toml", "--out", "run"], more].concat());
    let done = pretrain(&["--json"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stderr(&done).contains("train: 12 captions"), "{}", stderr(&done));
    assert!(stderr(&done).contains("epoch 2: valid loss"), "{}", stderr(&done));
    let summary: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(summary["steps"], 6);
    assert!(summary["best"]["losses"]["words"].is_f64(), "{summary}");

    // The same command finds the run finished; another recipe is refused, unless the run is given up.
    let again: serde_json::Value = serde_json::from_slice(&pretrain(&["--json"]).stdout).unwrap();
    assert_eq!(again["best"], summary["best"]);
    let other = pretrain(&["--set", "train.epochs=1"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(stderr(&other).contains("another recipe"), "{}", stderr(&other));

    let trained = world.train("trained", &["init=run", "train.epochs=1"]);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let best = "run/checkpoints/best/model.safetensors";
    assert!(stderr(&trained).contains(best), "{}", stderr(&trained));
    let zero_shot = std::fs::read_to_string(world.path("recipe.toml")).unwrap();
    let zero_shot = zero_shot.replace(
        "variant = \"contrastive\"",
        "variant = \"zero_shot\"\ninit = \"run/checkpoints/best/model.safetensors\"",
    );
    std::fs::write(world.path("zero_shot.toml"), zero_shot).unwrap();
    let ranked = world.run(&["eval", "zero_shot.toml", "--json"]);
    assert!(ranked.status.success(), "{}", stderr(&ranked));

    // Neither kind of run or recipe is taken for the other.
    for (arguments, said) in [
        (["train", "pretrain.toml"].as_slice(), "is a recipe of pre-training: `xenc pretrain`"),
        (&["eval", "pretrain.toml"], "is a recipe of pre-training"),
        (&["eval", "run"], "is a recipe of pre-training"),
        (&["report", "run"], "is a recipe of pre-training"),
        (&["pretrain", "recipe.toml"], "is a recipe of ranking: `xenc train`"),
        (&["pretrain", "trained"], "trained is a run, not a recipe"),
        (&["train", "run"], "run is a run, not a recipe"),
    ] {
        let output = world.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }

    let short = ["--force", "--set", "train.epochs=1", "--set", "data.max_tokens=3"];
    let begun = pretrain(&short);
    assert!(begun.status.success(), "{}", stderr(&begun));
    assert!(stderr(&begun).contains("train: 12 captions are cut at 3 word"), "{}", stderr(&begun));
}
