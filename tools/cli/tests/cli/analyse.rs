//! `xenc analyse` with predictions that other programs have written.

use std::path::Path;

use serde_json::{Value, json};

use crate::{text, xenc};

/// A predictions file of these targets and scores, of one set each.
fn predictions(path: &Path, all: &[(Option<usize>, [f64; 3])]) {
    let line = |(number, (target, scores)): (usize, &(Option<usize>, [f64; 3]))| {
        let images: Vec<String> = (0..3).map(|image| format!("set{number}img{image}")).collect();
        let line = json!({
            "directory": format!("set-{number}"), "number": number, "text": "a \u{1b}[31mred ball",
            "images": images, "target": target, "scores": scores, "rank": null, "tie": false, "video": true,
        });
        let mut line = line;
        let fields = line.as_object_mut().unwrap();
        fields.remove("rank");
        fields.remove("tie");
        format!("{line}\n")
    };
    let lines: String = all.iter().enumerate().map(line).collect();
    std::fs::write(path, lines).unwrap();
}

#[test]
fn one_model_and_several_are_looked_into_and_plotted() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (a, b, plots) = (path("a.jsonl"), path("b.jsonl"), path("plots"));
    predictions(Path::new(&a), &[(Some(0), [2.0, 1.0, 0.0]), (Some(1), [2.0, 1.0, 0.0])]);
    predictions(Path::new(&b), &[(Some(0), [0.0, 1.0, 2.0]), (Some(1), [0.0, 2.0, 1.0])]);
    let output = xenc(&["analyse", &a, "--plots", &plots, "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let model = &report["models"][0];
    assert_eq!(model["recall"], json!([0.5, 1.0, 1.0]));
    assert_eq!(model["positions"]["chosen"], json!([2, 0, 0]));
    assert_eq!(report.get("agreement"), None);
    for name in ["reliability", "positions", "recall", "lengths", "groups"] {
        let svg = std::fs::read_to_string(format!("{plots}/{name}.svg")).unwrap();
        assert!(svg.starts_with("<svg"), "{name}");
    }
    // They are there now.
    let again = xenc(&["analyse", &a, "--plots", &plots]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("--force"), "{}", text(&again.stderr));

    let output = xenc(&["analyse", &a, &b, "--plots", &plots, "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let pair = &report["agreement"]["pairs"][0];
    assert_eq!((&pair["only_first"], &pair["only_second"]), (&json!(1), &json!(1)));
    assert_eq!(report["agreement"]["ensemble"]["oracle"], json!(1.0));
    assert!(Path::new(&format!("{plots}/b/recall.svg")).exists());
    // Files of one name are called by their folders, too.
    std::fs::create_dir(path("x")).unwrap();
    let alike = path("x/a.jsonl");
    std::fs::copy(&a, &alike).unwrap();
    let output = xenc(&["analyse", &a, &alike, "--plots", &plots, "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["models"][1]["name"], json!("x/a"));
    assert!(Path::new(&format!("{plots}/x/a/recall.svg")).exists());
    let said = text(&xenc(&["analyse", &a, &b]).stdout);
    assert!(said.contains("only a 1, only b 1") && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn what_cannot_be_analysed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (a, other, unlabelled) = (path("a.jsonl"), path("other.jsonl"), path("unlabelled.jsonl"));
    predictions(Path::new(&a), &[(Some(0), [2.0, 1.0, 0.0])]);
    predictions(Path::new(&other), &[(Some(2), [2.0, 1.0, 0.0])]);
    predictions(Path::new(&unlabelled), &[(None, [2.0, 1.0, 0.0])]);
    std::fs::write(path("empty.jsonl"), "").unwrap();
    let empty = path("empty.jsonl");
    for (files, said) in [
        (vec![a.as_str(), &other], "no description in common"),
        (vec![unlabelled.as_str()], "not labelled"),
        (vec![empty.as_str()], "no predictions"),
        (vec!["absent.jsonl"], "No such file"),
        (vec![a.as_str(), &a], "is given twice"),
        (vec![a.as_str(), "--plots", &a], "no folder"),
    ] {
        let output = xenc(&[&["analyse"], &files[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{files:?}");
        assert!(text(&output.stderr).contains(said), "{files:?}: {}", text(&output.stderr));
    }
}
