//! `xenc doctor` looks, and never fails.

use serde_json::Value;

use crate::{text, xenc};

#[cfg(feature = "onnx")]
fn doctor(library: &std::path::Path) -> Value {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xenc"));
    let output =
        command.args(["doctor", "--json"]).env("ORT_DYLIB_PATH", library).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn it_tells_what_is_there() {
    let output = xenc(&["doctor"]);
    assert_eq!(output.status.code(), Some(0));
    let words = text(&output.stdout);
    for what in
        ["processor", "memory", "open files", "store size", "onnxruntime", "libtorch", "mpi"]
    {
        assert!(words.lines().any(|line| line.starts_with(what)), "{what} in:\n{words}");
    }
    let json: Value = serde_json::from_slice(&xenc(&["doctor", "--json"]).stdout).unwrap();
    assert!(json["machine"]["cores"].as_u64().unwrap() > 0);
    assert_eq!(json["onnxruntime"]["built_in"], cfg!(feature = "onnx"));
}

#[cfg(feature = "onnx")]
#[test]
fn a_library_that_is_missing_or_none_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("libonnxruntime.so");
    let json = doctor(&missing);
    let fault = json["onnxruntime"]["fault"].as_str().unwrap();
    assert!(fault.contains(missing.to_str().unwrap()) && fault.contains("make setup"), "{fault}");
    let none = folder.path().join("text.so");
    std::fs::write(&none, "no library").unwrap();
    let json = doctor(&none);
    let fault = json["onnxruntime"]["fault"].as_str().unwrap();
    assert!(fault.contains("text.so cannot be used"), "{fault}");
    assert_eq!(json["onnxruntime"]["devices"].as_array().unwrap().len(), 0);
}

#[cfg(feature = "onnx")]
#[test]
fn devices_that_cannot_be_used_say_why() {
    let json: Value = serde_json::from_slice(&xenc(&["doctor", "--json"]).stdout).unwrap();
    let devices = json["onnxruntime"]["devices"].as_array().unwrap();
    let named = |name: &str| devices.iter().find(|device| device["name"] == name).unwrap();
    assert_eq!(named("cpu")["usable"], true);
    for name in ["cuda:0", "tensorrt:0"] {
        let device = named(name);
        assert!(
            device["usable"] == true || device["fault"].as_str().unwrap().contains(name),
            "{device}"
        );
    }
}
