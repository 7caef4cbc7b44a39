//! `xenc weights` on the fixtures.

use std::path::PathBuf;

use crate::{fixtures, xenc};

fn model(name: &str) -> (String, String) {
    let folder: PathBuf = fixtures().join("crossencoders").join(name);
    let path = |file: &str| folder.join(file).to_string_lossy().into_owned();
    (path("weights.safetensors"), path("config.json"))
}

#[test]
fn weights_that_fit_are_done_and_weights_that_do_not_are_findings() {
    let (weights, config) = model("uniter");
    let fits = xenc(&["weights", "inspect", &weights, "--model", &config]);
    assert_eq!(fits.status.code(), Some(0), "{fits:?}");
    let text = String::from_utf8(fits.stdout).unwrap();
    assert!(text.contains("safetensors") && text.contains("missing      0"), "{text}");

    let (_, other) = model("vilbert");
    let misfit = xenc(&["weights", "inspect", &weights, "--model", &other, "--json"]);
    assert_eq!(misfit.status.code(), Some(1), "{misfit:?}");
    let report: serde_json::Value = serde_json::from_slice(&misfit.stdout).unwrap();
    let table = xenc(&["weights", "inspect", &weights, "--model", &other]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains(".layer.*.") && table.contains(" times)"), "{table}");
    let tensors = report["tensors"].as_array().unwrap().len();
    assert!(table.lines().count() < tensors, "{tensors} tensors, but {table}");
    assert_eq!(report["convention"], "volta");
    assert!(!report["model"]["missing"].as_array().unwrap().is_empty());
    assert!(report["tensors"].as_array().unwrap().len() > 100);
}

#[test]
fn a_training_checkpoint_becomes_half_of_its_size_under_uniters_names_and_comes_back() {
    let checkpoints = fixtures().join("checkpoints");
    let path = |file: &str| checkpoints.join(file).to_string_lossy().into_owned();
    let temporary = tempfile::tempdir().unwrap();
    let target = |file: &str| temporary.path().join(file).to_string_lossy().into_owned();
    let (source, config) = (path("training_ckpt_module_zip.tar"), path("config.json"));
    let original = target("original.pt");
    let converted = xenc(&[
        "weights", "convert", &source, &original, "--model", &config, "--names", "uniter", "--half",
    ]);
    // UNITER pools no regions and predicts them otherwise: what it has no names for is told, and a finding.
    assert_eq!(converted.status.code(), Some(1), "{converted:?}");
    assert!(String::from_utf8_lossy(&converted.stderr).contains("4 tensors are left out"));
    let inspected = xenc(&["weights", "inspect", &original, "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(
        (&report["convention"], &report["format"]),
        (&"uniter".into(), &"pytorch-zip".into())
    );
    assert_eq!(report["tensors"][0]["dtype"], "f16");

    let again = xenc(&["weights", "convert", &source, &original]);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    let back = target("back.safetensors");
    let converted = xenc(&["weights", "convert", &original, &back, "--model", &config, "--json"]);
    assert_eq!(converted.status.code(), Some(0), "{converted:?}");
    let report: serde_json::Value = serde_json::from_slice(&converted.stdout).unwrap();
    assert_eq!((&report["from"], &report["to"]), (&"uniter".into(), &"volta".into()));
}

#[test]
fn hostile_files_and_addresses_could_not_run() {
    let checkpoints = fixtures().join("checkpoints");
    for file in ["malicious_zip.bin", "broken_crc_zip.bin", "malicious_builtins_eval.pkl"] {
        let output = xenc(&["weights", "inspect", &checkpoints.join(file).to_string_lossy()]);
        assert_eq!(output.status.code(), Some(2), "{file}: {output:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains(file));
    }
    let output = xenc(&["weights", "download", "not/an/address"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("hf://ORG/REPO/FILE"));
}
