//! A CLIP trained, ranked with, embedded with and exported through the real binary, from pictures that are drawn small.

use std::process::Output;

use crate::text;
use crate::world::World;

const MODEL: &str = r#"{"embed_dim": 32, "quick_gelu": true,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}}"#;

const RECIPE: &str = r#"
model = "clip.json"
[data]
features = "FEATURES"
train = "data/train_data.json"
valid = "data/valid_data.json"
tokenizer = "TOKENIZER"
max_tokens = 77
"#;

/// Both towers, from pictures.
const TOWERS: &str = r#"variant = "contrastive"
train = { epochs = 1, batch_size = 8, learning_rate = 1e-3, optimizer = "adamw", schedule = "constant" }
"#;

/// The head, on stored embeddings of those towers.
const HEAD: &str = r#"variant = "contextual"
init = "towers/checkpoints/best/model.safetensors"
train = { epochs = 2, batch_size = 8, learning_rate = 1e-3, freeze = ["clip"] }
context = { layers = 1, fusion = "concat", positions = "video" }
"#;

/// Writes a recipe and the model that it names.
fn write(world: &World, name: &str, own: &str, features: &str) {
    let tokenizer = vision::clip::Tokenizer::find_vocabulary();
    let tokenizer = tokenizer.expect("`make setup` fetches CLIP's vocabulary");
    let recipe = RECIPE.replace("TOKENIZER", &tokenizer.display().to_string());
    let recipe = recipe.replace("FEATURES", features);
    std::fs::write(world.path("clip.json"), MODEL).unwrap();
    std::fs::write(world.path(name), format!("{own}{recipe}")).unwrap();
}

fn said(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_clip_is_trained_ranked_with_embedded_with_and_exported() {
    let world = World::new();
    write(&world, "towers.toml", TOWERS, "data/images");
    write(&world, "head.toml", HEAD, "embeddings.xenc");
    let done = |arguments: &[&str]| {
        let output = world.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        output
    };
    done(&["train", "towers.toml", "--out", "towers"]);
    done(&["clip", "embed", "data/images", "embeddings.xenc", "--model", "towers"]);
    done(&["train", "head.toml", "--out", "head"]);
    for run in ["towers", "head"] {
        let predictions = format!("{run}.jsonl");
        done(&["eval", run, "--predictions", &predictions, "--resamples", "20"]);
        let submission = format!("{run}_submission.json");
        let test = "data/test_data_unlabeled.json";
        done(&["predict", run, "--split", test, "--out", &submission]);
        assert!(world.path(&submission).is_file());
        let page = done(&["report", run, "--images", "data/images"]);
        assert!(world.path(run).join("report.html").is_file(), "{}", said(&page));
    }
    done(&["compare", "towers.jsonl", "head", "--resamples", "20"]);
    // The towers rank stored embeddings as they rank the pictures.
    let stored = done(&["eval", "towers", "--features", "embeddings.xenc", "--json"]);
    let pictures = done(&["eval", "towers", "--json"]);
    let accuracy = |output: &Output| {
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json["all"].clone()
    };
    assert!(!accuracy(&stored).is_null());
    assert_eq!(accuracy(&stored), accuracy(&pictures));
    // And so does ONNX Runtime, whose predictions are a file like any other.
    let rank = ["clip", "rank", "data/valid_data.json", "--images", "embeddings.xenc", "--model"];
    let rank = [&rank[..], &["towers", "--predictions", "zero_shot.jsonl"]].concat();
    let ranked = done(&[&rank[..], &["--json"]].concat());
    assert_eq!(accuracy(&ranked)["accuracy"], accuracy(&stored)["accuracy"]);
    assert_eq!(accuracy(&done(&["eval", "zero_shot.jsonl", "--json"])), accuracy(&ranked));
    let refused = world.run(&rank);
    assert!(said(&refused).contains("--force replaces it"), "{}", said(&refused));
    let table = done(&[&rank[..], &["--force"]].concat());
    assert!(said(&table).contains("too few sets") && said(&table).contains("chance"));
    let test = ["clip", "rank", "data/test_data_unlabeled.json", "--images", "embeddings.xenc"];
    let test = [&test[..], &["--model", "towers", "--leaderboard", "answers.json"]].concat();
    assert!(said(&done(&test)).contains("not labelled"));
    let answers = std::fs::read(world.path("answers.json")).unwrap();
    let answers: serde_json::Value = serde_json::from_slice(&answers).unwrap();
    assert!(answers.as_object().is_some_and(|sets| !sets.is_empty()));
    done(&["export", "clip", "towers", "towers.onnx", "--verify"]);
    for run in ["towers", "head"] {
        for precision in [None, Some("--fp16"), Some("--int8")] {
            let file = format!("{run}_head{}.onnx", precision.unwrap_or_default());
            let mut words = vec!["export", "clip", run, &file, "--towers", "head", "--verify"];
            words.extend(precision);
            assert!(said(&done(&words)).contains("the model in libtorch"));
            let card = std::fs::read_to_string(world.path(&format!("{file}.md"))).unwrap();
            assert!(card.contains("| in | `image_features` |"), "{card}");
            assert!(card.contains("variant = "), "the recipe: {card}");
        }
    }
    let refused = world.run(&["export", "crossencoder", "towers", "x.onnx"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("xenc export clip"), "{}", said(&refused));
}

#[test]
fn embeddings_of_other_towers_are_refused_by_name() {
    let world = World::new();
    write(&world, "towers.toml", TOWERS, "data/images");
    for (run, seed) in [("one", "train.seed=1"), ("two", "train.seed=2")] {
        let output = world.run(&["train", "towers.toml", "--out", run, "--set", seed]);
        assert!(output.status.success(), "{}", said(&output));
    }
    let output = world.run(&["clip", "embed", "data/images", "one.xenc", "--model", "one"]);
    assert!(output.status.success(), "{}", said(&output));
    let refused = world.run(&["eval", "two", "--features", "one.xenc"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("another image tower"), "{}", said(&refused));
}
