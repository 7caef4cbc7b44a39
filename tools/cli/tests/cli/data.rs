//! `xenc data`.

use std::fs;
use std::path::Path;

use feature_store::dataset::image_id;
use feature_store::{Regions, StoreWriter, WriterOptions};
use serde_json::{Value, json};

use crate::{Place, run};

const STATIC: &str = "open-images-1_a";
const VIDEO: &str = "MSR-VTT_video7-shot1_0";
const OTHER: &str = "MSR-VTT_video8-shot1_0";

/// The frame at a position: static sets are numbered 0 to 9, videos are not.
fn frame(set: &str, position: u64) -> u64 {
    if set == STATIC { position } else { 5 + 3 * position }
}

/// A sound data set: three splits of one set each, phenomena and annotators, pictures and features.
struct Data(Place);

impl Data {
    fn new() -> Data {
        let data = Data(Place::new());
        data.write(
            "set/train_data.json",
            &json!({ VIDEO: {"2": "the door is open", "7": "the door is shut"} }).to_string(),
        );
        data.write(
            "set/valid_data.json",
            &json!({ STATIC: {"0": "a red bird", "9": "one bird on a branch"} }).to_string(),
        );
        data.write(
            "set/test_data_unlabeled.json",
            &json!({ OTHER: ["he looks up", "he looks down"] }).to_string(),
        );
        data.write(
            "set/manual_annotation_valid.yaml",
            &format!("\"{STATIC}\":\n  \"9\":\n    \"description\": \"one bird  on a branch\"\n    \"annotation\": \"q,s\"\n"),
        );
        let annotators = json!({ STATIC: {"0": "train_worker", "9": "unseen_worker"} });
        data.write("set/annotator_split_valid.json", &annotators.to_string());
        data.write("set/counter2key_val.json", "{}");
        for set in [STATIC, VIDEO, OTHER] {
            for position in 0..10 {
                let number = frame(set, position);
                data.write(&format!("images/{set}/img{number}.jpg"), &format!("{set} {number}"));
            }
        }
        data.store("features", |_| true);
        data
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    /// A store of those images, each of a direction of its own near that of its set.
    fn store(&self, name: &str, has: impl Fn(&str) -> bool) {
        let mut writer =
            StoreWriter::create(self.path(name).as_ref(), WriterOptions::default()).unwrap();
        for (axis, set) in [STATIC, VIDEO, OTHER].into_iter().enumerate() {
            for position in 0..10 {
                let id = image_id(set, frame(set, position));
                let mut features = vec![0.1 * position as f32; 3];
                features[axis] = 9.0;
                let regions = Regions {
                    width: 9,
                    height: 9,
                    boxes: vec![[0.0, 0.0, 5.0, 5.0]],
                    features,
                    dim: 3,
                    ..Regions::default()
                };
                if has(&id) {
                    writer.append(&id, &regions).unwrap();
                }
            }
        }
        writer.finish().unwrap();
    }

    fn check(&self, more: &[&str]) -> (i32, String, String) {
        run(&[&["data", "check", &self.path("set")], more].concat())
    }

    /// Converts `set/SOURCE`; exit code and what was said.
    fn convert(&self, source: &str, target: &str, to: &str, more: &[&str]) -> (i32, String) {
        let (source, target) = (self.path(source), self.path(target));
        let (code, _, said) =
            run(&[&["data", "convert", &source, &target, "--to", to], more].concat());
        (code, said)
    }
}

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
        "missing images (4)",
        &format!("pictures, set `{STATIC}`: img7 is not there"),
        &format!("features, set `{STATIC}`: img3 is not there"),
        &format!("features, set `{VIDEO}`: img17 is not there, but there is a picture of it"),
        "own.jsonl, line 1: there are no features of candidate `elsewhere`",
        "superfluous images (2)",
        "pictures, `nobody`: 1 pictures of a set in no split",
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
