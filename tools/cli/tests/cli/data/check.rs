//! `xenc data check`.

use std::fs;

use dataset::image_id;
use serde_json::{Value, json};

use super::{Data, OTHER, STATIC, VIDEO, frame};
use crate::run;

#[test]
fn a_sound_data_set_is_good_with_its_pictures_and_features() {
    let data = Data::new();
    let (images, features) = (data.path("images"), data.path("features"));
    let (code, out, said) = data.check(&["--images", &images, "--features", &features]);
    assert_eq!(code, 0, "{out}{said}");
    for line in ["30 images, 3 of 3 sets complete", "unlabelled", "counter2key_val.json", "good"] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(!out.contains("annotator_split"), "{out}");
    let (code, out, _) = data.check(&["--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["findings"]), (0, &json!({})));
    assert_eq!(report["files"][2]["descriptions"], 2);
    assert_eq!(report["pictures"], Value::Null);
}

#[test]
fn each_fault_of_the_files_is_found_under_its_heading() {
    let twice = format!("{{\"{STATIC}\": {{\"0\": \"a\", \"0\": \"b\"}}}}");
    for (file, text, heading, said) in [
        ("train_data.json", "{\"a\": {\n\"1\": }}", "unreadable files (1)", "line 2 column 6"),
        ("train_data.json", "{}", "unreadable files (1)", "holds no descriptions"),
        ("train_data.json", "[3]", "wrong types (1)", "`0`: a pair is an object, not 3"),
        ("train_data.json", r#"{"v": 3}"#, "wrong types (1)", "`v`: descriptions by target"),
        ("train_data.json", r#"{"v": {"1": "a"}, "w": ["b"]}"#, "wrong types (1)", "others have"),
        (
            "train_data.json",
            r#"{"v": {"10": "a"}}"#,
            "wrong targets (1)",
            "target 10 of a set of 10",
        ),
        ("train_data.json", r#"{"v": {"x": "a"}}"#, "wrong targets (1)", "`x` is no target"),
        ("train_data.json", &twice, "keys that come twice (1)", "target 0 comes twice"),
        ("train_data.json", r#"{"v": ["a"], "v": ["b"]}"#, "keys that come twice (1)", "this set"),
        (
            "train_data.json",
            r#"{"v": {}, "w": {"1": "a"}}"#,
            "empty descriptions (1)",
            "train_data.json, set `v`: it has no descriptions",
        ),
        ("train_data.json", r#"{"v": {"1": " "}}"#, "empty descriptions (1)", "target 1: it says"),
        (
            "train_data.json",
            r#"{"v": {"1": "a", "2": "a "}}"#,
            "repeated descriptions (1)",
            "target 2: the same words as for target 1: \"a\"",
        ),
        (
            "train_data.json",
            r#"{"open-images-1_a": ["z"]}"#,
            "sets in two splits (1)",
            "train and valid",
        ),
        (
            "train_data.json",
            r#"{"open-images-1a": ["z"]}"#,
            "colliding ids (1)",
            "openimages1aimgN",
        ),
        (
            "train_simple.json",
            r#"[{"directory": "v", "pos_idx": 1, "neg_idx": 1, "caption": "x"}]"#,
            "wrong targets (1)",
            "both 1",
        ),
        (
            "annotator_split_valid.json",
            r#"{"v": {"1": "unseen_worker"}}"#,
            "other descriptions (1)",
            "no such",
        ),
        (
            "annotator_split_valid.json",
            r#"{"v": {"1": "nobody"}}"#,
            "wrong types (1)",
            "train_worker",
        ),
        (
            "manual_annotation_valid.yaml",
            "a: {1: {description: x}}",
            "other descriptions (1)",
            "no such",
        ),
        (
            "manual_annotation_valid.yaml",
            "open-images-1_a: {9: {description: one bird in a tree}}",
            "other descriptions (1)",
            "\"in a tree\" there, but \"on a branch\" in the split",
        ),
        ("manual_annotation_valid.yaml", "a: [", "unreadable files (1)", "line 1"),
        (
            "manual_annotation_valid.yaml",
            "open-images-1_a: {9: {description: one bird on a branch, annotation: \"q,w\"}}",
            "unknown phenomena (1)",
            "target 9: \"w\" is none of con, v, n",
        ),
        (
            "manual_annotation_valid.yaml",
            "open-images-1_a:\n  x: 1\n  9: {description: one bird in a tree}",
            "wrong targets (1)",
            "manual_annotation_valid.yaml, line 2: `x` is no number",
        ),
        (
            "manual_annotation_valid.yaml",
            "open-images-1_a:\n  x: 1\n  9: {description: one bird in a tree}",
            "other descriptions (1)",
            "\"in a tree\" there",
        ),
        (
            "manual_annotation_valid.yaml",
            "a: {}\nopen-images-1_a: {}\na: {}\n",
            "keys that come twice (1)",
            "line 3: `a` occurs twice",
        ),
        (
            "own.jsonl",
            "{\"description\": \"x\",\n",
            "unreadable files (1)",
            "own.jsonl, line 1: not valid JSON",
        ),
        (
            "own.jsonl",
            r#"{"description": "x", "candidates": ["a"]}"#,
            "wrong numbers of images (1)",
            "2 to 1024",
        ),
        (
            "own.jsonl",
            r#"{"description": "", "candidates": ["a", "b"]}"#,
            "empty descriptions (1)",
            "line 1",
        ),
    ] {
        let data = Data::new();
        data.write(&format!("set/{file}"), text);
        let (code, out, err) = data.check(&[]);
        assert_eq!(code, 1, "{file} {text}: {out}{err}");
        assert!(out.contains(heading) && out.contains(said), "{file} {text}: {out}");
        assert!(out.ends_with("findings\n"), "{out}");
    }
}

#[test]
fn missing_superfluous_and_equal_images_are_named() {
    let data = Data::new();
    let (images, features) = (data.path("images"), data.path("some"));
    let gone = image_id(VIDEO, frame(VIDEO, 4));
    data.store("some", |id| id != gone && id != image_id(STATIC, 3));
    fs::remove_file(data.path(&format!("images/{STATIC}/img7.jpg"))).unwrap();
    data.write(&format!("images/{STATIC}/img8.jpg"), &format!("{STATIC} 9"));
    data.write(&format!("images/{STATIC}/img8.png"), "another of this number");
    data.write("images/nobody/img0.jpg", "x");
    data.write("images/readme.txt", "x");
    data.write(
        "set/own.jsonl",
        r#"{"description": "x", "candidates": ["elsewhere", "openimages1aimg0"]}"#,
    );
    let (code, out, said) = data.check(&["--images", &images, "--features", &features]);
    assert_eq!(code, 1, "{said}");
    for line in [
        "wrong numbers of images (3)",
        &format!("pictures, set `{STATIC}`: 9 of 10 images"),
        &format!("features, set `{VIDEO}`: 9 of 10 images"),
        "missing images (5)",
        &format!("pictures, set `{STATIC}`: img7 is not there"),
        &format!("features, set `{STATIC}`: img3 is not there"),
        &format!("features, set `{VIDEO}`: img17 is not there, but there is a picture of it"),
        "own.jsonl, line 1: candidate `elsewhere` is not among the pictures",
        "own.jsonl, line 1: candidate `elsewhere` is not among the features",
        "2 of 3 sets complete, 1 of 2 candidates",
        "superfluous images (2)",
        "pictures, `nobody`: a set of no split (pictures: 1)",
        "pictures, `readme.txt`",
        "colliding ids (1)",
        "equal images (1)",
        "img9.jpg`: the same bytes as img8.jpg",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    // A file by itself is a part: what is of other splits is not superfluous.
    let valid = data.path("set/valid_data.json");
    let (_, out, _) = run(&["data", "check", &valid, "--features", &data.path("features")]);
    assert!(out.contains("good"), "{out}");
}

#[test]
fn long_lists_of_findings_are_cut_unless_all_are_asked_for() {
    let data = Data::new();
    let empty: Vec<&str> = vec![""; 25];
    data.write("set/test_data_unlabeled.json", &json!({ OTHER: empty }).to_string());
    let (code, out, _) = data.check(&[]);
    assert!(code == 1 && out.contains("empty descriptions (25)"), "{out}");
    assert!(out.contains("and 15 more (--all lists all)"), "{out}");
    assert_eq!(out.matches("it says nothing").count(), 10);
    let (_, out, _) = data.check(&["--all"]);
    assert_eq!(out.matches("it says nothing").count(), 25);
    let (_, out, _) = data.check(&["--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    let group = &report["findings"]["empty_description"];
    assert_eq!((&group["count"], group["findings"].as_array().unwrap().len()), (&json!(25), 25));
}

#[test]
fn what_cannot_be_checked_is_said_with_exit_code_2() {
    let data = Data::new();
    fs::create_dir(data.path("empty")).unwrap();
    let (set, empty) = (data.path("set"), data.path("empty"));
    for (arguments, said) in [
        (vec!["data", "check", "/nowhere"], "/nowhere"),
        (vec!["data", "check", &empty], "holds no data set"),
        (vec!["data", "check", &set, "--images", &empty], "no set with a picture"),
        (vec!["data", "check", &set, "--features", &empty], "empty"),
        (vec!["data", "stats", &empty], "holds no data set"),
        (vec!["data", "stats", &set, "--phenomena", "/nowhere"], "/nowhere"),
    ] {
        let (code, out, err) = run(&arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
}

#[test]
fn questions_of_volta_are_named_and_left_out() {
    let data = Data::new();
    assert_eq!(data.convert("set/valid_data.json", "set/val.json", "volta", &[]).0, 0);
    let (code, out, said) = data.check(&[]);
    assert_eq!(code, 0, "{out}{said}");
    assert!(out.contains("counter2key_val.json, val.json\n") && !out.contains("wrong"), "{out}");
    // Where there is nothing else, nothing was checked.
    let (code, out, said) = run(&["data", "check", &data.path("set/val.json")]);
    assert_eq!((code, out.as_str()), (2, ""), "{said}");
    assert!(said.contains("xenc data convert") && said.contains("--to jsonl"), "{said}");
}
