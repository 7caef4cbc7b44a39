//! `xenc eval` and `xenc compare` through the real binary: predictions, intervals, annotations, tables.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::text;
use crate::world::World;

/// Labelled descriptions: `{set directory: {number: text}}`.
type Split = BTreeMap<String, BTreeMap<String, String>>;

fn valid(world: &World) -> Split {
    serde_json::from_slice(&std::fs::read(world.path("data/valid_data.json")).unwrap()).unwrap()
}

fn json_of(world: &World, arguments: &[&str]) -> Value {
    let output = world.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Writes a split's predictions in which the described image is at the rank that a function says.
fn write_ranked(world: &World, name: &str, rank: impl Fn(usize) -> usize) {
    let lines: String = valid(world)
        .iter()
        .flat_map(|(set, descriptions)| descriptions.iter().map(move |entry| (set, entry)))
        .enumerate()
        .map(|(index, (set, (number, text)))| {
            let target: usize = number.parse().unwrap();
            // The target's score is 0; as many of the others as are ranked before it have a higher one.
            let mut others = (1..10).map(|other| if other < rank(index) { 1.0 } else { -1.0 });
            let scores: Vec<f64> = (0..10)
                .map(|image| if image == target { 0.0 } else { others.next().unwrap() })
                .collect();
            let images: Vec<String> = (0..10).map(|image| format!("image{image}")).collect();
            json!({"directory": set, "number": target, "text": text, "images": images, "target": target, "scores": scores})
                .to_string()
                + "\n"
        })
        .collect();
    std::fs::write(world.path(name), lines).unwrap();
}

#[test]
fn predictions_of_a_run_give_its_metrics_again() {
    let world = World::new();
    assert!(world.train("run", &["train.epochs=1"]).status.success());
    let files = ["--predictions", "p.jsonl", "--csv", "metrics.csv"];
    let metrics = json_of(&world, &[&["eval", "run", "--json"], files.as_slice()].concat());
    let again = json_of(&world, &["eval", "p.jsonl", "--json"]);
    for part in ["all", "video", "static", "model", "weights", "split"] {
        assert_eq!(again[part], metrics[part], "{part}");
    }
    assert_eq!((&metrics["model"], &metrics["sets"]), (&json!("run"), &json!(3)));
    assert!(metrics["split"].as_str().unwrap().ends_with("valid_data.json"), "{metrics}");
    assert_eq!(metrics["bootstrap"]["resamples"], 10_000);
    assert_eq!(metrics["all"]["accuracy_interval"], Value::Null, "three sets are too few");
    let table = text(&world.run(&["eval", "p.jsonl"]).stdout);
    assert!(table.starts_with("run on ") && table.contains("too few sets"), "{table}");

    let lines = std::fs::read_to_string(world.path("p.jsonl")).unwrap();
    let split = valid(&world);
    assert_eq!(lines.lines().count(), split.values().map(BTreeMap::len).sum::<usize>());
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let set = &split[line["directory"].as_str().unwrap()];
        assert_eq!(line["text"], set[&line["number"].to_string()]);
        assert_eq!(
            (&line["target"], line["scores"].as_array().unwrap().len()),
            (&line["number"], 10)
        );
    }
    let table = std::fs::read_to_string(world.path("metrics.csv")).unwrap();
    let all = table.lines().nth(1).unwrap();
    let accuracy = metrics["all"]["accuracy"].as_f64().unwrap();
    assert!(all.starts_with(&format!("split,all,all,12,3,{accuracy},")), "{table}");

    // A run compares with its own predictions, and does not differ from them.
    let same = json_of(&world, &["compare", "run", "p.jsonl", "--json"]);
    assert_eq!((&same["all"]["difference"], &same["all"]["mcnemar_p"]), (&json!(0.0), &json!(1.0)));
    assert_eq!(same["runs"][0]["weights"], same["runs"][1]["weights"]);
}

#[test]
fn values_of_the_recipe_are_set_where_a_model_ranks() {
    let world = World::new();
    assert!(world.train("run", &["train.epochs=1"]).status.success());
    std::fs::rename(world.path("features.xenc"), world.path("moved.xenc")).unwrap();
    let gone = world.run(&["eval", "run"]);
    assert_eq!(gone.status.code(), Some(2));
    for said in ["`data.features` is /", "working directory (", "data/README.md"] {
        assert!(text(&gone.stderr).contains(said), "{}", text(&gone.stderr));
    }
    let moved = ["--set", "data.features=moved.xenc"];
    let limits = ["--set", "data.max_tokens=5", "--set", "data.max_regions=3"];
    let eval = |model, sets: &[&str]| world.run(&[&["eval", model, "--json"], sets].concat());
    let whole: Value = serde_json::from_slice(&eval("run", &moved).stdout).unwrap();
    assert_eq!(
        (&whole["limits"]["cut_texts"], &whole["limits"]["cut_images"]),
        (&json!(0), &json!(0))
    );
    let exported = world.run(&["export", "crossencoder", "run", "run.onnx"]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    for model in ["run", "run.onnx"] {
        let cut = eval(model, &[&moved[..], &limits].concat());
        let metrics: Value = serde_json::from_slice(&cut.stdout).unwrap();
        let counted = json!({"max_tokens": 5, "cut_texts": 12, "max_regions": 3, "cut_images": 30});
        assert_eq!(metrics["limits"], counted, "{model}");
        for said in
            ["12 descriptions are cut at 5 word pieces", "30 images have more than 3 regions"]
        {
            assert!(text(&cut.stderr).contains(said), "{}", text(&cut.stderr));
        }
    }
    let test = ["--split", "data/test_data_unlabeled.json", "--out", "answers.json"];
    let predicted = world.run(&[&["predict", "run"], &test[..], &moved, &limits].concat());
    assert!(predicted.status.success(), "{}", text(&predicted.stderr));
    let compared = world.run(&[&["compare", "run", "run"], &moved[..]].concat());
    assert!(text(&compared.stdout).starts_with("first:  run on /"), "{}", text(&compared.stdout));

    std::fs::write(world.path("p.jsonl"), "").unwrap();
    for (arguments, said) in [
        (["eval", "run", "--set", "train.seed=1"].as_slice(), "`--set train.seed=1` changes"),
        (&["eval", "run.onnx", "--set", "train.precision=bf16"], "changes nothing"),
        (
            &["eval", "run", "--features", "moved.xenc", "--set", "data.valid=none.json"],
            "`data.valid` is /",
        ),
        (&["eval", "p.jsonl", "--set", "data.max_tokens=5"], "--set are about ranking"),
    ] {
        let output = world.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn sets_without_features_are_a_finding_unless_they_may_be_missing() {
    let world = World::new();
    assert!(world.train("run", &["train.epochs=1"]).status.success());
    let mut split = valid(&world);
    split.insert("absent-video_2".into(), BTreeMap::from([("3".into(), "a red star".into())]));
    std::fs::write(world.path("more.json"), json!(split).to_string()).unwrap();
    let eval = ["eval", "run", "--split", "more.json", "--json"];
    let found = world.run(&eval);
    assert_eq!(found.status.code(), Some(1));
    assert!(text(&found.stderr).contains("1 of 4 sets are skipped"), "{}", text(&found.stderr));
    let metrics: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(metrics["skipped"], json!([{"directory": "absent-video_2", "found": 0, "of": 10}]));
    assert_eq!((&metrics["sets"], &metrics["all"]["sets"]), (&json!(4), &json!(3)));
    let allowed = json_of(&world, &[&eval[..], &["--allow-missing"]].concat());
    assert_eq!(allowed, metrics);
    let compare = ["compare", "run", "run", "--split", "more.json"];
    assert_eq!(world.run(&compare).status.code(), Some(1));
}

#[test]
fn accuracy_by_phenomenon_and_annotator() {
    let world = World::new();
    // Every other description is right.
    write_ranked(&world, "p.jsonl", |index| 1 + index % 2 * 3);
    let (mut phenomena, mut annotators) = (String::new(), BTreeMap::new());
    let mut index = 0;
    for (set, descriptions) in valid(&world) {
        phenomena += &format!("\"{set}\":\n");
        for (number, text) in descriptions {
            let codes = if index % 2 == 0 { "con, q" } else { "con" };
            let text = Value::String(text);
            phenomena += &format!(
                "  \"{number}\":\n    \"description\": {text}\n    \"annotation\": \"{codes}\"\n"
            );
            let annotator = if index % 2 == 0 { "unseen_worker" } else { "train_worker" };
            annotators.entry(set.clone()).or_insert_with(BTreeMap::new).insert(number, annotator);
            index += 1;
        }
    }
    std::fs::write(world.path("phenomena.yaml"), &phenomena).unwrap();
    std::fs::write(world.path("annotators.json"), json!(annotators).to_string()).unwrap();
    let files = ["--phenomena", "phenomena.yaml", "--annotators", "annotators.json"];
    let metrics = json_of(&world, &[&["eval", "p.jsonl", "--json"], files.as_slice()].concat());
    assert_eq!((&metrics["all"]["accuracy"], &metrics["all"]["mrr"]), (&json!(0.5), &json!(0.625)));
    assert_eq!(metrics["annotators"]["seen"]["accuracy"], 0.0);
    assert_eq!(metrics["annotators"]["unseen"]["accuracy"], 1.0);
    let each = &metrics["phenomena"]["each"];
    assert_eq!((&each[0]["code"], &each[0]["accuracy"]), (&json!("con"), &json!(0.5)));
    assert_eq!((&each[1]["name"], &each[1]["accuracy"]), (&json!("quantities"), &json!(1.0)));
    let table = world.run(&[&["eval", "p.jsonl"], files.as_slice()].concat());
    for said in ["quantities (q)", "unseen annotators", "95 % interval", "chance"] {
        assert!(text(&table.stdout).contains(said), "{}", text(&table.stdout));
    }

    let broken = phenomena.replacen("\"con, q\"", "{con: q}", 1);
    std::fs::write(world.path("broken.yaml"), broken).unwrap();
    std::fs::write(
        world.path("other.yaml"),
        phenomena.replace("\"description\": \"", "\"description\": \"not "),
    )
    .unwrap();
    std::fs::write(world.path("other.json"), r#"{"set_1": {"1": "train_worker"}}"#).unwrap();
    for (option, file, said) in [
        ("--phenomena", "broken.yaml", "line 4"),
        ("--phenomena", "other.yaml", "is it the file of this split?"),
        ("--phenomena", "nowhere.yaml", "nowhere.yaml"),
        ("--annotators", "other.json", "is it the file of this split?"),
        ("--annotators", "phenomena.yaml", "line 1"),
    ] {
        let output = world.run(&["eval", "p.jsonl", option, file]);
        assert_eq!(output.status.code(), Some(2), "{file}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(file) && stderr.contains(said), "{stderr}");
    }
}

#[test]
fn image_code_simple_is_evaluated_by_the_numbers_of_its_sets() {
    let world = World::new();
    assert!(world.train("run", &["train.epochs=1"]).status.success());
    let pairs: Vec<Value> = valid(&world)
        .iter()
        .flat_map(|(set, descriptions)| {
            descriptions.iter().map(move |(number, text)| {
                let number: usize = number.parse().unwrap();
                json!({"directory": set, "pos_idx": number, "neg_idx": (number + 3) % 10, "caption": text})
            })
        })
        .collect();
    std::fs::write(world.path("simple.json"), json!(pairs).to_string()).unwrap();
    let arguments = ["eval", "run", "--split", "simple.json", "--json", "--predictions", "p.jsonl"];
    let metrics = json_of(&world, &arguments);
    assert_eq!((&metrics["chance"], &metrics["all"]["descriptions"]), (&json!(0.5), &json!(12)));
    let lines = std::fs::read_to_string(world.path("p.jsonl")).unwrap();
    for (line, pair) in lines.lines().zip(&pairs) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["number"], pair["pos_idx"]);
        let target = line["target"].as_u64().unwrap() as usize;
        assert_eq!(line["images"].as_array().unwrap().len(), 2);
        let image = line["images"][target].as_str().unwrap();
        let same_set = pair["directory"].as_str().unwrap().replace(['-', '_'], "");
        assert!(image.starts_with(&same_set), "{image}");
    }
    // Pairs are easier than sets: that is no comparison.
    write_ranked(&world, "sets.jsonl", |_| 1);
    let output = world.run(&["compare", "p.jsonl", "sets.jsonl", "--common"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("same candidates"), "{}", text(&output.stderr));
}

#[test]
fn two_runs_are_compared_description_by_description() {
    let world = World::new();
    // Of twelve, three only the first gets right, six only the second.
    write_ranked(&world, "a.jsonl", |index| 1 + usize::from(index >= 3));
    write_ranked(&world, "b.jsonl", |index| 1 + usize::from(!(3..9).contains(&index)));
    let compared = json_of(&world, &["compare", "a.jsonl", "b.jsonl", "--json", "--seed", "7"]);
    let all = &compared["all"];
    assert_eq!((&all["only_first"], &all["only_second"]), (&json!(3), &json!(6)));
    assert_eq!((&all["difference"], &all["descriptions"]), (&json!(0.25), &json!(12)));
    // Twice the sum of 9 choose 0 to 3, over 2^9.
    assert!((all["mcnemar_p"].as_f64().unwrap() - 260.0 / 512.0).abs() < 1e-12);
    assert!(all["bootstrap_p"].as_f64().unwrap() >= 0.25, "three sets cannot be surer: {all}");
    assert_eq!(
        compared,
        json_of(&world, &["compare", "a.jsonl", "b.jsonl", "--json", "--seed", "7"])
    );
    let table = world.run(&["compare", "a.jsonl", "b.jsonl"]);
    assert!(text(&table.stdout).contains("+25.0"), "{}", text(&table.stdout));

    let lines = std::fs::read_to_string(world.path("b.jsonl")).unwrap();
    let (_, rest) = lines.split_once('\n').unwrap();
    std::fs::write(world.path("b.jsonl"), rest).unwrap();
    let output = world.run(&["compare", "a.jsonl", "b.jsonl"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("1 descriptions were ranked by the first run only"));
    let common = json_of(&world, &["compare", "a.jsonl", "b.jsonl", "--json", "--common"]);
    assert_eq!(
        (&common["all"]["descriptions"], &common["left_out_first"]),
        (&json!(11), &json!(1))
    );
}

#[test]
fn faults_of_predictions_and_options_are_named() {
    let world = World::new();
    write_ranked(&world, "p.jsonl", |_| 1);
    let lines = std::fs::read_to_string(world.path("p.jsonl")).unwrap();
    let broken = lines.replacen("\"target\":", "\"target\":1", 1);
    std::fs::write(world.path("broken.jsonl"), broken).unwrap();
    std::fs::write(world.path("twice.jsonl"), lines.repeat(2)).unwrap();
    std::fs::write(world.path("empty.jsonl"), "").unwrap();
    for (arguments, said) in [
        (["eval", "broken.jsonl"].as_slice(), "broken.jsonl, line 1: target 1"),
        (&["eval", "twice.jsonl"], "twice.jsonl, line 13: description "),
        (&["eval", "empty.jsonl"], "empty.jsonl holds no predictions"),
        (&["eval", "nowhere.jsonl"], "nowhere.jsonl"),
        (&["eval", "p.jsonl", "--split", "valid"], "--split"),
        (&["eval", "p.jsonl", "--predictions", "again.json"], ".jsonl"),
        (&["eval", "p.jsonl", "--csv", "nowhere/m.csv"], "nowhere is no folder"),
        (&["eval", "p.jsonl", "--confidence", "95"], "between 0 and 1"),
        (&["compare", "p.jsonl", "p.jsonl", "--features", "x"], "--features"),
        (&["compare", "p.jsonl", "nowhere"], "cannot load the model nowhere"),
    ] {
        let output = world.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    }
}
