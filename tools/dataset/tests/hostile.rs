//! Damaged annotations in every layout: findings or errors, never a panic, or memory beyond reason.
//!
//! The same entry points as the fuzz target `dataset`, with a fixed number of mutations of sound files.

#[path = "../../../feature_store/tests/common/allocations.rs"]
mod allocations;
#[path = "../../../feature_store/tests/common/mutation.rs"]
mod mutation;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use dataset::{CheckOptions, Format, KnownSets, Request, check, convert, load_split};

use allocations::largest_while;
use mutation::{Random, mutate};

/// No input here needs more in one piece: files of some hundred bytes.
const REASONABLE: usize = 16 << 20;

static RUN: AtomicBool = AtomicBool::new(false);

#[cfg(target_os = "linux")]
#[test]
fn pipes_and_devices_in_place_of_annotations_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [&pipe, Path::new("/dev/zero")] {
        let error = load_split(path).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
    }
}

#[test]
fn damaged_data_sets_are_findings_or_errors_and_nothing_else() {
    const MUTANTS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let split = r#"{"open-images-1_a": {"0": "a red bird", "9": "one bird"}}"#;
    std::fs::write(path("valid_data.json"), split).unwrap();
    let known = KnownSets::new();
    let to = |source: &str, target: &str, to: Format| {
        let (source, target) = (path(source), path(target));
        let request = Request {
            source: &source,
            target: &target,
            to,
            known: &known,
            dropped: &[],
            overwrite: true,
        };
        convert(&request)
    };
    to("valid_data.json", "own.jsonl", Format::JsonLines).unwrap();
    to("valid_data.json", "val.volta", Format::Volta).unwrap();
    let yaml = "open-images-1_a:\n  \"9\": {description: one bird, annotation: \"q,s\"}\n";
    std::fs::write(path("manual_annotation_valid.yaml"), yaml).unwrap();
    let options = CheckOptions { pictures: None, features: None, listed: 3 };
    let findings = || {
        let report = check(folder.path(), &options, &RUN, &mut |_| {}).unwrap().unwrap();
        assert!(report.findings.groups().all(|(_, group)| group.findings.len() <= 3));
        !report.is_good()
    };
    assert!(!findings());
    for name in [
        "valid_data.json",
        "own.jsonl",
        "manual_annotation_valid.yaml",
        "val.volta",
        "val_target.pkl",
    ] {
        let sound = std::fs::read(path(name)).unwrap();
        let mut random = Random(7);
        let mut noticed = 0;
        let ((), largest) = largest_while(|| {
            for _ in 0..MUTANTS {
                std::fs::write(path(name), mutate(&sound, &mut random)).unwrap();
                let refused = to("val.volta", "out.jsonl", Format::JsonLines).is_err();
                noticed += usize::from(findings() || refused);
            }
        });
        assert!(largest < REASONABLE, "{name}: {largest} bytes");
        std::fs::write(path(name), sound).unwrap();
        assert!(2 * noticed > MUTANTS, "{name}: {noticed} of {MUTANTS}");
        to("val.volta", "out.jsonl", Format::JsonLines).unwrap();
        std::fs::remove_file(path("out.jsonl")).unwrap();
        assert!(!findings());
    }
}
