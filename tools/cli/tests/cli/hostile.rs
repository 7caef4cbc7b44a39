//! The hostile pictures, archives, weights and networks of `attacks/`, given to the program as a user would: refused with a
//! reason or taken without harm, never a panic, a crash, or a file elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::{fixtures, text, xenc};

fn attacks(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../attacks").join(folder)
}

/// All files of a folder; the README says what each tries.
fn files(folder: &str) -> Vec<PathBuf> {
    let readme = fs::read_to_string(attacks("README.md")).unwrap();
    let mut files: Vec<PathBuf> =
        fs::read_dir(attacks(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in &files {
        assert!(readme.contains(&format!("`{}`", name(file))), "{} is explained", file.display());
    }
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Runs the program; whatever it is given, it ends by itself and says why.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = xenc(arguments);
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    let code = output.status.code();
    (
        code.unwrap_or_else(|| panic!("{arguments:?} ended with {}: {said}", output.status)),
        out,
        said,
    )
}

/// The commands that turn pictures into a store, with sound tiny models.
fn commands() -> [Vec<String>; 2] {
    let fixture = |name: &str| fixtures().join(name).to_str().unwrap().to_owned();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    [
        words(&[
            "extract",
            "--detector",
            &fixture("detector/tiny_weights_hf.bin"),
            "--short",
            "97",
        ])
        .into_iter()
        .chain(words(&["--longest", "160", "--min-regions", "1", "--max-regions", "8"]))
        .collect(),
        words(&["clip", "embed", "--model", &fixture("clip/vit_torchscript.pt")]),
    ]
}

/// One of them, with pictures and a store in an empty folder.
fn into_store(
    command: &[String],
    pictures: &Path,
    more: &[&str],
) -> (i32, String, String, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("inner/store").to_str().unwrap().to_owned();
    let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    arguments.extend([pictures.to_str().unwrap(), &store]);
    arguments.extend(more);
    let (code, out, said) = run(&arguments);
    (code, out, said, folder)
}

#[test]
fn hostile_pictures_are_left_out_with_a_reason_and_odd_ones_are_taken() {
    let (sound, hostile): (Vec<PathBuf>, Vec<PathBuf>) =
        files("pictures").into_iter().partition(|file| name(file).starts_with("sound_"));
    assert!(sound.len() >= 6 && hostile.len() >= 15);
    for command in commands() {
        let (code, out, said, _folder) = into_store(&command, &attacks("pictures"), &["--json"]);
        assert_eq!(code, 1, "{said}");
        let report: Value = serde_json::from_str(&out).unwrap();
        let broken = report["broken"].as_array().unwrap();
        let reasons: Vec<&str> =
            broken.iter().map(|broken| broken["reason"].as_str().unwrap()).collect();
        for file in &hostile {
            let path = format!("{}: ", file.display());
            let reason = reasons.iter().find_map(|reason| reason.strip_prefix(&path));
            assert!(reason.is_some_and(|reason| !reason.is_empty()), "{path} in {reasons:#?}");
        }
        assert_eq!(reasons.len(), hostile.len(), "{reasons:#?}");
        assert_eq!(report["schema"]["count"], sound.len());
        assert_eq!(report["validation"]["findings"], Value::Array(Vec::new()));
    }
}

#[test]
fn archives_and_lists_that_lead_elsewhere_lead_nowhere() {
    let taken: [(&str, i32, &str); 6] = [
        ("leads_out.zip", 0, ""),
        ("bomb.zip", 1, "neither JPEG, PNG nor WebP"),
        ("truncated.zip", 2, "truncated.zip"),
        ("file_of_exabytes.tar", 2, "it ends before a.png does"),
        ("devices.txt", 2, "no regular file"),
        ("no_text.txt", 2, "nor a list of paths"),
    ];
    assert_eq!(files("archives").len(), taken.len());
    for (file, expected, reason) in taken {
        for command in commands() {
            let shown = command[0] == "extract";
            let show: &[&str] = if shown { &["--show", "9"] } else { &[] };
            let more = [&["--ids", "path"], show].concat();
            let (code, _, said, folder) =
                into_store(&command, &attacks("archives").join(file), &more);
            assert_eq!(code, expected, "{file}: {said}");
            assert!(said.contains(reason), "{file}: {said}");
            let written: Vec<String> = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| name(&entry.unwrap().path()))
                .collect();
            assert!(written.is_empty() || written == ["inner"], "{file}: {written:?}");
            if shown && code == 0 {
                let drawn = fs::read_dir(folder.path().join("inner/store.shown")).unwrap();
                assert_eq!(drawn.count(), 2, "{file}");
            }
        }
    }
    assert!(!Path::new("/leads").exists());
}

/// Models of either kind are refused by each command that takes one.
fn refused_everywhere(file: &Path, exported: bool) {
    let folder = tempfile::tempdir().unwrap();
    let below = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (store, out) = (below("store"), below("out.onnx"));
    let photos = fixtures().join("detector/photos");
    let (photos, model) = (photos.to_str().unwrap(), file.to_str().unwrap());
    let mut commands = vec![
        vec!["extract", photos, &store, "--detector", model, "--short", "97"],
        vec!["clip", "embed", photos, &store, "--model", model],
    ];
    if !exported {
        commands.push(vec!["export", "detector", model, &out]);
        commands.push(vec!["export", "clip", model, &out]);
    } else if cfg!(feature = "torch") {
        commands.push(vec!["eval", model]);
    }
    for command in commands {
        let (code, _, said) = run(&command);
        assert_eq!(code, 2, "{command:?}: {said}");
        // Either the file, or what it made of the pictures.
        assert!(said.contains(&name(file)) || said.contains("none of the 4 pictures"), "{said}");
        assert!(!Path::new(&store).exists() && !Path::new(&out).exists(), "{command:?}");
    }
    assert!(!Path::new("PWNED").exists());
}

#[test]
fn hostile_weights_are_refused_with_a_reason() {
    let files = files("weights");
    assert!(files.len() >= 14);
    files.iter().for_each(|file| refused_everywhere(file, false));
    for (file, reason) in [
        ("script_runs_a_command.pt", "would call `posix.system`"),
        ("of_no_numbers.safetensors", "holds NaN"),
        ("has_fifteen_anchors.safetensors", "15 anchors where 12"),
    ] {
        let file = attacks("weights").join(file);
        let (_, _, said) = run(&["export", "detector", file.to_str().unwrap(), "nowhere.onnx"]);
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn hostile_networks_are_refused_with_a_reason() {
    let files = files("networks");
    assert!(files.len() >= 26);
    for file in files {
        refused_everywhere(&file, true);
    }
}
