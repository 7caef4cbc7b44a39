//! `xenc data convert`.

use std::fs;
use std::path::Path;

use dataset::image_id;
use serde_json::{Value, json};

use super::{Data, STATIC, VIDEO};
use crate::run;

#[test]
fn every_format_leads_back_to_the_annotations() {
    let data = Data::new();
    let (images, features, sets) = (data.path("images"), data.path("features"), data.path("set"));
    for (file, known) in [
        ("train_data.json", ["--images", &images]),
        ("train_data.json", ["--features", &features]),
        ("test_data_unlabeled.json", ["--images", &images]),
    ] {
        let file = format!("set/{file}");
        let (code, said) =
            data.convert(&file, "own.jsonl", "jsonl", &[&known[..], &["--force"]].concat());
        assert_eq!(code, 0, "{said}");
        assert_eq!(data.convert("own.jsonl", "back.json", "imagecode", &["--force"]).0, 0);
        assert_eq!(data.read("back.json"), data.read(&file));
    }
    // Photographs are numbered, so nobody has to be asked.
    assert_eq!(data.convert("set/valid_data.json", "v/val.json", "volta", &[]).0, 0);
    let questions = data.read("v/val.json");
    let first =
        json!({"question_id": 100, "image_id": "openimages1aimg0", "question": "a red bird"});
    assert_eq!(questions["questions"][0], first);
    assert_eq!(questions["questions"][19]["question_id"], 299);
    let pickle = fs::read(data.path("v/trainval_ans2label.pkl")).unwrap();
    assert!(pickle.starts_with(b"\x80\x02}"), "{pickle:?}");
    let (code, said) = data.convert("v/val.json", "valid.json", "imagecode", &["--sets", &sets]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(data.read("valid.json"), data.read("set/valid_data.json"));
    // Another split beside it shares the tables of answers.
    let (code, said) =
        data.convert("set/train_data.json", "v/train.json", "volta", &["--images", &images]);
    assert_eq!(code, 0, "{said}");

    let simple = json!([{"directory": VIDEO, "pos_idx": 7, "neg_idx": 2, "caption": "it is shut"}]);
    data.write("train_simple.json", &simple.to_string());
    let known = ["--images", images.as_str()];
    assert_eq!(data.convert("train_simple.json", "pairs.jsonl", "jsonl", &known).0, 0);
    let pair = data.read("pairs.jsonl");
    assert_eq!(pair["candidates"], json!([image_id(VIDEO, 11), image_id(VIDEO, 26)]));
    assert_eq!((&pair["target"], &pair["video"]), (&json!(1), &json!(true)));
    assert_eq!(data.convert("pairs.jsonl", "pairs.json", "simple", &known).0, 0);
    assert_eq!(data.read("pairs.json"), simple);
}

#[test]
fn what_a_format_cannot_say_is_refused_with_the_reason() {
    let data = Data::new();
    let ten: Vec<String> = (0..10).map(|n| image_id(STATIC, n)).collect();
    let whole = json!({"description": "x", "candidates": ten, "target": 1, "set": STATIC});
    let with = |key: &str, value: Value| {
        let mut line = whole.clone();
        line[key] = value;
        line.to_string()
    };
    let without = |key: &str| with(key, Value::Null);
    let two = with("candidates", json!(["a", "b"]));
    let elsewhere = with("set", json!("doors"));
    let twice = format!("{whole}\n{whole}");
    let mixed = format!("{whole}\n{}", without("target"));
    for (lines, to, said) in [
        (two.as_str(), "imagecode", "a set has 10 images, and it has 2 candidates"),
        (&two, "volta", "cuts questions into tens"),
        (&two, "simple", "not those of set"),
        (&whole.to_string(), "simple", "which of the wrong ones should stay?"),
        (&with("id", json!("q")), "imagecode", "no place for an `id` (--drop id"),
        (&with("video", json!(true)), "imagecode", "--drop video"),
        (&with("video", json!(true)), "volta", "--drop video"),
        (&elsewhere, "imagecode", "not those of set `doors` (`doorsimgN`)"),
        (&elsewhere, "volta", "--drop set"),
        (&without("set"), "imagecode", "nothing tells the directory"),
        (&without("target"), "volta", "it has no `target`"),
        (&twice, "imagecode", "line 2 cannot be written as ImageCoDe: the set has one"),
        (&mixed, "imagecode", "it has no `target`, but others have"),
    ] {
        data.write("own.jsonl", lines);
        let (code, out) = data.convert("own.jsonl", "out.json", to, &[]);
        assert!(code == 2 && out.contains(said), "{to} {lines}: {out}");
        assert!(!Path::new(&data.path("out.json")).exists());
    }
    data.write("own.jsonl", &with("id", json!("q")));
    assert_eq!(data.convert("own.jsonl", "out.json", "imagecode", &["--drop", "id"]).0, 0);
    let (code, said) = data.convert("set/train_data.json", "t.jsonl", "jsonl", &[]);
    assert!(code == 2 && said.contains("which frames") && said.contains("--images"), "{said}");
    data.store("some", |id| id != image_id(VIDEO, 5));
    let some = data.path("some");
    let (code, said) =
        data.convert("set/train_data.json", "t.jsonl", "jsonl", &["--features", &some]);
    assert!(code == 2 && said.contains("9 of its 10 images"), "{said}");
}

#[test]
fn nothing_is_overwritten_without_a_word_and_sources_never() {
    let data = Data::new();
    data.write("out.jsonl", "precious");
    let (code, said) = data.convert("set/valid_data.json", "out.jsonl", "jsonl", &[]);
    assert!(code == 2 && said.contains("out.jsonl exists"), "{said}");
    assert_eq!(fs::read_to_string(data.path("out.jsonl")).unwrap(), "precious");
    assert_eq!(data.convert("set/valid_data.json", "out.jsonl", "jsonl", &["--force"]).0, 0);
    let source = "set/valid_data.json";
    let (code, said) = data.convert(source, source, "volta", &["--force"]);
    assert!(code == 2 && said.contains("is the source"), "{said}");
    let (code, said) = data.convert(source, "images", "jsonl", &["--force"]);
    assert!(code == 2 && said.contains("no regular file"), "{said}");
    let (code, said) = data.convert(source, "features/own.jsonl", "jsonl", &[]);
    assert!(code == 2 && said.contains("features") && said.contains("inside"), "{said}");
    let (code, _, said) = run(&["data", "convert", &data.path(source), "-", "--to", "jsonl"]);
    assert!(code == 2 && said.contains("instead of `-`"), "{said}");
    // A pickle that is in the way is in the way of all four files.
    data.write("v/val_target.pkl", "precious");
    assert_eq!(data.convert(source, "v/val.json", "volta", &[]).0, 2);
    let left: Vec<_> =
        fs::read_dir(data.path("v")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["val_target.pkl"]);
}

#[test]
fn hostile_questions_are_refused() {
    let data = Data::new();
    assert_eq!(data.convert("set/valid_data.json", "v/val.json", "volta", &[]).0, 0);
    let questions = fs::read_to_string(data.path("v/val.json")).unwrap();
    for (from, to, said) in [
        ("\"question_id\":100", "\"question_id\":9223372036854775807", "should be a number"),
        ("\"question_id\":100", "\"question_id\":99", "10 ids from 90 on are expected, not 99"),
        ("\"question_id\":100", "\"question_id\":\"100\"", "questions[0]`: `question_id`"),
        ("\"question\":\"a red bird\"", "\"question\":\"a bird\"", "another text"),
        ("\"image_id\":\"openimages1aimg0\",", "", "missing key `image_id`"),
        ("{\"question_id\":100", "{\"question_id\":300", "10 ids from 100 on are expected"),
    ] {
        data.write("w/val.json", &questions.replacen(from, to, 1));
        fs::copy(data.path("v/val_target.pkl"), data.path("w/val_target.pkl")).unwrap();
        let (code, out) = data.convert("w/val.json", "out.jsonl", "jsonl", &[]);
        assert!(code == 2 && out.contains(said), "{to}: {out}");
    }
    data.write("w/val.json", &questions);
    data.write("w/val_target.pkl", "cposix\nsystem\n(S'true'\ntR.");
    let (code, said) = data.convert("w/val.json", "out.jsonl", "jsonl", &[]);
    assert!(code == 2 && said.contains("posix.system"), "{said}");
    fs::remove_file(data.path("w/val_target.pkl")).unwrap();
    let (code, said) = data.convert("w/val.json", "out.jsonl", "jsonl", &[]);
    assert!(code == 2 && said.contains("val_target.pkl"), "{said}");
}
