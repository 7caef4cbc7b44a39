//! `xenc report` through the real binary: one page, sound, and nothing but itself.

use std::path::Path;

use feature_store::FeatureStore;
use serde_json::{Value, json};

use crate::world::{World, stderr};

/// Elements that have no end.
const VOID: [&str; 4] = ["meta", "br", "link", "img"];

fn page(world: &World, arguments: &[&str]) -> String {
    let mut all = vec!["report", "run"];
    all.extend(arguments);
    let output = world.run(&all);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    let path = String::from_utf8(output.stdout).unwrap();
    std::fs::read_to_string(world.path(path.trim())).unwrap()
}

/// Start tags of a page with their attributes; fails unless every element is closed in its turn and every attribute is
/// quoted.
fn elements(html: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>') || open.last().is_some_and(|o| o == "style"));
        rest = &rest[start + 1..];
        if let Some(end) = rest.strip_prefix('/') {
            let (name, after) = end.split_once('>').unwrap();
            assert_eq!(open.pop().as_deref(), Some(name), "…{}", &end[..end.len().min(80)]);
            rest = after;
            continue;
        }
        let end = rest.find([' ', '>']).unwrap();
        let name = rest[..end].to_owned();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "<{name}");
        rest = &rest[end..];
        let mut attributes = Vec::new();
        while let Some(attribute) = rest.strip_prefix(' ') {
            let (key, after) = attribute.split_at(attribute.find(['=', ' ', '>']).unwrap());
            rest = after;
            let mut value = String::new();
            if let Some(quoted) = after.strip_prefix("=\"") {
                let (inside, after) = quoted.split_once('"').unwrap();
                value = inside.to_owned();
                rest = after;
            }
            attributes.push((key.to_owned(), value));
        }
        rest = rest.strip_prefix('>').expect("a tag ends");
        if !VOID.contains(&name.as_str()) {
            open.push(name.clone());
        }
        found.push((name, attributes));
    }
    assert!(open.is_empty(), "{open:?}");
    found
}

fn assert_self_contained(html: &str) {
    for (name, attributes) in elements(html) {
        let forbidden = ["script", "link", "iframe", "object", "embed", "base", "form", "img", "a"];
        assert!(!forbidden.contains(&name.as_str()), "<{name}>");
        for (key, value) in attributes {
            assert!(!key.starts_with("on") && key != "src", "{key}={value}");
            assert!(key != "href" || value.starts_with("data:image/"), "{key}={value}");
        }
    }
    assert!(!html.contains("@import") && !html.contains("url("));
    assert!(html.contains("default-src 'none'"));
}

/// What predictions of the run's best checkpoint say of themselves.
fn origin(world: &World) -> [(&'static str, Value); 3] {
    let digests = std::fs::read(world.path("run/checkpoints/best/digests.json")).unwrap();
    let digests: Value = serde_json::from_slice(&digests).unwrap();
    let split = world.path("data/valid_data.json");
    [
        ("model", json!("run")),
        ("weights", digests["model.safetensors"].clone()),
        ("split", json!(split)),
    ]
}

/// A predictions file that is always sure of a wrong image, with the first set under another name and its first
/// description replaced.
fn predictions(world: &World, directory: &str, text: &str) -> Vec<Value> {
    let store = FeatureStore::open(&world.path("features.xenc")).unwrap();
    let descriptions = dataset::load_split(&world.path("data/valid_data.json")).unwrap();
    let first = descriptions[0].directory.clone();
    let mut lines = Vec::new();
    for (number, description) in descriptions.into_iter().enumerate() {
        let target = description.target.unwrap();
        let scores: Vec<f32> = (0..10)
            .map(|i| if i == (target + 1) % 10 { 9.0 - number as f32 / 8.0 } else { 0.0 })
            .collect();
        let images = dataset::set_images(&store, &description.directory).unwrap();
        let mut line = json!({
            "directory": if description.directory == first { directory } else { &description.directory },
            "number": target,
            "text": if number == 0 { text } else { &description.text },
            "images": images,
            "target": target,
            "scores": scores,
        });
        origin(world).into_iter().for_each(|(key, value)| line[key] = value);
        lines.push(line);
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(world.path("predictions.jsonl"), text).unwrap();
    lines
}

fn trained() -> World {
    let world = World::new();
    assert!(world.train("run", &["train.epochs=2"]).status.success());
    world
}

#[test]
fn the_page_has_curves_accuracy_mistakes_and_pictures_and_needs_nothing_else() {
    let world = trained();
    let html = page(&world, &["--images", "data/images", "--mistakes", "3"]);
    assert_self_contained(&html);
    assert!(!html.contains("http:") && !html.contains("https:"));
    let elements = elements(&html);
    let count = |name: &str| elements.iter().filter(|(found, _)| found == name).count();
    assert_eq!((count("article"), count("polyline")), (3, 7), "mistakes, curves");
    // Two images for each mistake, each with six regions and the picture.
    assert_eq!(count("image"), 6);
    assert_eq!(html.matches("class=\"outline\"").count(), 36);
    assert!(elements.iter().filter(|(name, _)| name == "image").all(|(_, attributes)| {
        attributes.iter().any(|(_, value)| value.starts_with("data:image/jpeg;base64,"))
    }));
    for text in [
        "best validation accuracy",
        "train.learning_rate",
        "Gradient norm",
        "vilbert",
        "[CLS]",
        "attention in numbers",
        "valid_data.json",
    ] {
        assert!(html.contains(text), "{text}");
    }
    let evaluated = world.run(&["eval", "run", "--json"]);
    let metrics: Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    let accuracy = 100.0 * metrics["all"]["accuracy"].as_f64().unwrap();
    assert!(html.contains(&format!("<td class=\"number\">{accuracy:.1} %</td>")), "{accuracy}");
    assert!(
        std::fs::read_dir(world.path("run"))
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().contains("partial") })
    );
}

#[test]
fn predictions_are_taken_as_they_are_and_mistakes_come_surest_first() {
    let world = trained();
    let lines = predictions(&world, "open-images-1_a", "a red star");
    let entries: String = lines
        .iter()
        .filter(|line| line["directory"] == "open-images-1_a")
        .map(|line| {
            format!(
                "  \"{}\":\n    \"description\": {}\n    \"annotation\": \"col,q\"\n",
                line["number"], line["text"]
            )
        })
        .collect();
    std::fs::write(world.path("phenomena.yaml"), format!("\"open-images-1_a\":\n{entries}"))
        .unwrap();
    let html = page(
        &world,
        &[
            "--predictions",
            "predictions.jsonl",
            "--phenomena",
            "phenomena.yaml",
            "--out",
            "page.html",
        ],
    );
    assert_self_contained(&html);
    assert!(html.contains("12 of 12 mistakes"), "all are wrong");
    assert!(
        html.contains("colours") && html.contains("quantities") && html.contains("by phenomenon")
    );
    let texts: Vec<usize> = lines
        .iter()
        .map(|line| {
            html.find(&format!("<p class=\"text\">{}</p>", line["text"].as_str().unwrap())).unwrap()
        })
        .collect();
    assert!(texts.is_sorted(), "{texts:?}");
    assert!(
        html.contains("class=\"canvas\"") && !html.contains("<image"),
        "no pictures were given"
    );
}

#[test]
fn predictions_of_another_model_or_split_are_refused() {
    let world = trained();
    let lines = predictions(&world, "open-images-1_a", "a red star");
    let with = |key: &str, value: Value| -> String {
        lines
            .iter()
            .map(|line| {
                let mut line = line.clone();
                line[key] = value.clone();
                format!("{line}\n")
            })
            .collect()
    };
    let train = json!(world.path("data/train_data.json"));
    for (key, value, said) in [
        ("weights", json!("0123"), "is of run, whose weights are not those of run's best"),
        ("weights", Value::Null, "does not say which model and split"),
        ("split", train.clone(), "train_data.json to report that"),
    ] {
        std::fs::write(world.path("other.jsonl"), with(key, value)).unwrap();
        let output = world.run(&["report", "run", "--predictions", "other.jsonl"]);
        assert_eq!(output.status.code(), Some(2), "{key}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    let html = page(&world, &["--predictions", "other.jsonl", "--split", "train"]);
    assert!(html.contains("Ranked: ") && html.contains("train_data.json"));
}

#[test]
fn enough_sets_have_intervals_on_the_page() {
    let world = trained();
    let lines = predictions(&world, "open-images-1_a", "a red star");
    // Each description in a set of its own, twice; of the second ones the described image is right.
    let text: String = (0..2 * lines.len())
        .map(|number| {
            let mut line = lines[number % lines.len()].clone();
            line["directory"] = json!(format!("clip_{number}"));
            if number >= lines.len() {
                let target = line["target"].as_u64().unwrap() as usize;
                line["scores"][target] = json!(99.0);
            }
            format!("{line}\n")
        })
        .collect();
    std::fs::write(world.path("many.jsonl"), text).unwrap();
    let html = page(&world, &["--predictions", "many.jsonl"]);
    assert_self_contained(&html);
    let cells: Vec<&str> = html.split("<td class=\"number\">").collect();
    let at = cells.iter().position(|cell| cell.starts_with("50.0 %")).unwrap();
    assert!(cells[at + 1].contains(" to "), "{}", cells[at + 1]);
    assert!(html.contains("fewer than 20 sets have none"));
}

#[test]
fn hostile_texts_stay_texts() {
    let world = trained();
    let attack = r#"</p></style><script>alert(1)</script><img src="http://evil.test/x" onerror='alert(2)'>&amp;"#;
    predictions(&world, r#"../"><svg/onload=alert(3)>"#, attack);
    let html = page(&world, &["--predictions", "predictions.jsonl", "--images", "data/images"]);
    assert_self_contained(&html);
    let escaped = attack
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;");
    assert!(html.contains(&format!("<p class=\"text\">{escaped}</p>")));
    assert!(html.contains("../&quot;&gt;&lt;svg/onload=alert(3)&gt;"));
}

#[test]
fn curves_need_neither_model_nor_features() {
    let world = trained();
    std::fs::remove_dir_all(world.path("features.xenc")).unwrap();
    std::fs::remove_dir_all(world.path("run/checkpoints")).unwrap();
    std::fs::remove_file(world.path("model.json")).unwrap();
    let html = page(&world, &["--curves-only"]);
    assert_self_contained(&html);
    assert!(html.contains("<polyline") && html.contains("no longer where the recipe says"));
    assert!(!html.contains("<article"));
}

#[test]
fn what_is_missing_is_named_and_the_page_before_stays() {
    let world = trained();
    let before = page(&world, &["--curves-only"]);
    std::fs::write(world.path("thesis.html"), "<!DOCTYPE html><p>mine").unwrap();
    std::fs::write(world.path("odd.jsonl"), "{}\n").unwrap();
    std::fs::write(
        world.path("odd.yaml"),
        "\"other-set_1\":\n  \"1\":\n    \"description\": \"x\"\n",
    )
    .unwrap();
    for (arguments, said) in [
        (vec!["report", "data"], "data is no training run"),
        (vec!["report", "run", "--features", "none.xenc"], "none.xenc"),
        (vec!["report", "run", "--features", "none.xenc"], "--curves-only"),
        (vec!["report", "run", "--images", "none"], "none is no folder with pictures"),
        (vec!["report", "run", "--phenomena", "none.yaml"], "none.yaml"),
        (vec!["report", "run", "--phenomena", "odd.yaml"], "odd.yaml"),
        (vec!["report", "run", "--predictions", "odd.jsonl"], "odd.jsonl, line 1"),
        (vec!["report", "run", "--out", "none/page.html"], "none is no folder"),
        (vec!["report", "run", "--curves-only", "--features", "x"], "cannot be used with"),
        (vec!["report", "run", "--curves-only", "--out", "odd.yaml"], "odd.yaml is there already"),
        (
            vec!["report", "run", "--out", "thesis.html"],
            "thesis.html is there already, and no report",
        ),
    ] {
        let output = world.run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
    let log = world.path("run/metrics.jsonl");
    let lines = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, lines.replacen("\"step\"", "step", 1)).unwrap();
    let output = world.run(&["report", "run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("metrics.jsonl, line 1"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(world.path("run/report.html")).unwrap(), before);
    std::fs::write(&log, lines).unwrap();
    page(&world, &["--curves-only"]);
    page(&world, &["--curves-only", "--out", "thesis.html", "--force"]);
}

#[test]
fn event_files_appear_beside_the_log_and_a_dashboard_without_a_terminal_is_lines() {
    let world = World::new();
    let arguments =
        ["train", "recipe.toml", "--out", "run", "--dashboard", "--set", "train.epochs=1"];
    let output = world.run(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("needs a terminal: lines instead"), "{}", stderr(&output));
    assert!(stderr(&output).contains("epoch 1: valid accuracy"), "{}", stderr(&output));
    assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "escape codes");
    let events = |run: &Path| -> Vec<u64> {
        let entries = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap());
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("events.out.tfevents."))
            .map(|entry| entry.metadata().unwrap().len())
            .collect()
    };
    let sizes = events(&world.path("run"));
    assert!(sizes.len() == 1 && sizes[0] > 200, "{sizes:?}");
    assert!(world.run(&arguments).status.success());
    assert_eq!(events(&world.path("run")), sizes, "a finished run writes nothing more");
}
