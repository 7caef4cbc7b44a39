//! Files of descriptions: ImageCoDe's, JSON Lines, phenomena, VOLTA's questions and answers. The first byte says which
//! file the others are.
#![no_main]

use std::sync::atomic::AtomicBool;

use dataset::{CheckOptions, Format, KnownSets, Request, check, convert};

const FILES: [&str; 5] =
    ["valid_data.json", "own.jsonl", "manual_annotation.yaml", "val.json", "val_target.pkl"];
/// Questions that go with the answers.
const QUESTIONS: &str =
    r#"{"questions": [{"question_id": 100, "image_id": "a", "question": "x"}]}"#;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (Ok(folder), Some((which, data))) = (tempfile::tempdir(), data.split_first()) else {
        return;
    };
    let file = FILES[usize::from(which.wrapping_sub(b'0')) % FILES.len()];
    let path = |name: &str| folder.path().join(name);
    if std::fs::write(path("val.json"), QUESTIONS).is_err()
        || std::fs::write(path(file), data).is_err()
    {
        return;
    }
    let options = CheckOptions { pictures: None, features: None, listed: 3 };
    let _ = check(folder.path(), &options, &AtomicBool::new(false), &mut |_| ());
    for source in ["valid_data.json", "own.jsonl", "val.json"] {
        for to in [Format::ImageCode, Format::Simple, Format::Volta, Format::JsonLines] {
            let _ = convert(&Request {
                source: &path(source),
                target: &path("out"),
                to,
                known: &KnownSets::new(),
                dropped: &[],
                overwrite: true,
            });
        }
    }
});
