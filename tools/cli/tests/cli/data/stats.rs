//! `xenc data stats`.

use serde_json::{Value, json};

use super::Data;
use crate::run;

#[test]
fn statistics_count_what_is_there() {
    let data = Data::new();
    let line = r#"{"description": "x y", "candidates": ["a", "b", "c"], "target": 2, "set": "s"}"#;
    data.write("set/own.jsonl", line);
    let (set, features) = (data.path("set"), data.path("features"));
    let yaml = data.path("set/manual_annotation_valid.yaml");
    let arguments = ["data", "stats", &set, "--features", &features, "--phenomena", &yaml];
    let (code, out, said) = run(&[&arguments[..], &["--json"]].concat());
    assert_eq!(code, 0, "{said}");
    let splits: Value = serde_json::from_str(&out).unwrap();
    let [test, train, valid, own] = splits.as_array().unwrap().as_slice() else { panic!("{out}") };
    assert_eq!((&train["sets"], &train["video_descriptions"]), (&json!(1), &json!(2)));
    assert_eq!(train["targets"], json!({"2": 1, "7": 1}));
    assert_eq!(train["words"]["distribution"], json!({"0": 2}));
    assert_eq!((&test["labelled"], &test["phenomena"]), (&json!(0), &Value::Null));
    assert_eq!(valid["phenomena"]["by_code"], json!({"q": 1, "s": 1}));
    assert_eq!((&valid["phenomena"]["annotated"], &valid["video_sets"]), (&json!(1), &json!(0)));
    assert_eq!((&own["candidates"], &own["similarity"]), (&json!({"3": 1}), &Value::Null));
    let within = &valid["similarity"]["static"]["within_sets"];
    assert!(within.as_f64().unwrap() > 0.9, "{valid}");
    assert_eq!(valid["similarity"]["static"]["across_sets"], Value::Null);

    let (_, out, _) = run(&arguments);
    for line in
        ["1 (1 video, 0 static)", "4.0 on average, 4 to 4", "quantities", "video: 0.9", "target at"]
    {
        assert!(out.contains(line), "{line}: {out}");
    }
}

#[test]
fn phenomena_of_descriptions_that_are_not_there_are_counted() {
    let data = Data::new();
    let yaml = data.path("set/manual_annotation_valid.yaml");
    let more = "set_9: {1: {description: x, annotation: [s, q]}, 2: {description: y}}\n";
    data.write(
        "set/manual_annotation_valid.yaml",
        &(std::fs::read_to_string(&yaml).unwrap() + more),
    );
    let arguments = ["data", "stats", &data.path("set/valid_data.json"), "--phenomena", &yaml];
    let (code, out, _) = run(&arguments);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("2 descriptions of the file of phenomena are not here"), "{out}");
    let (_, out, _) = run(&[&arguments[..], &["--json"]].concat());
    let splits: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(splits[0]["phenomena"]["absent"], json!(2));
}
