//! `xenc store`.

use serde_json::Value;

use crate::{text, volta_lmdb, xenc};

#[test]
fn a_volta_lmdb_is_converted_listed_shown_and_validated() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("features.xenc");
    let (source, store) = (volta_lmdb("raw_p4_np2"), store.to_str().unwrap());
    let converted = xenc(&["store", "convert", source.to_str().unwrap(), store, "--json"]);
    assert!(converted.status.success(), "{}", text(&converted.stderr));
    let report: Value = serde_json::from_slice(&converted.stdout).unwrap();
    assert_eq!(report["schema"]["count"], 2);

    let listed = text(&xenc(&["store", "ls", store]).stdout);
    assert_eq!(listed.lines().count(), 2);
    let id = listed.lines().next().unwrap();
    let shown: Value = serde_json::from_slice(&xenc(&["store", "get", store, id]).stdout).unwrap();
    assert_eq!(shown["regions"], shown["boxes"].as_array().unwrap().len());
    assert!(text(&xenc(&["store", "info", store]).stdout).contains("volta-lmdb"));
    assert_eq!(xenc(&["store", "validate", store]).status.code(), Some(0));

    let split = folder.path().join("valid.json");
    std::fs::write(&split, r#"{"open-images-1_x": {"3": "a red door"}}"#).unwrap();
    let uncovered = xenc(&["store", "validate", store, "--dataset", split.to_str().unwrap()]);
    assert_eq!(uncovered.status.code(), Some(1));
    assert!(text(&uncovered.stdout).contains("open-images-1_x (0 of 10 images)"));
}

#[test]
fn what_cannot_be_done_is_said_with_exit_code_2_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let source = volta_lmdb("raw_p4_np1");
    let (source, store) = (source.to_str().unwrap(), store.to_str().unwrap());
    let folder_text = folder.path().to_str().unwrap();
    for (arguments, said) in [
        (vec!["store", "convert", "/nowhere", store], "/nowhere does not exist"),
        (vec!["store", "convert", folder_text, store], "known are LMDB directories"),
        (vec!["store", "info", source], "not a feature store"),
        (vec!["store", "validate", "/nowhere"], "/nowhere does not exist"),
    ] {
        let output = xenc(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
    assert!(xenc(&["store", "convert", source, store]).status.success());
    let again = xenc(&["store", "convert", source, store]);
    assert!(text(&again.stderr).contains("exists"), "{}", text(&again.stderr));
    assert!(
        xenc(&["store", "convert", source, store, "--force", "--precision", "f16"])
            .status
            .success()
    );
    assert!(text(&xenc(&["store", "info", store]).stdout).contains("f16"));
    let missing = xenc(&["store", "get", store, "nobody"]);
    assert!(text(&missing.stderr).contains("holds no image `nobody`"));
}
