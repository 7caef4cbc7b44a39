//! `xenc export` with the tiny networks of the fixtures, and what the files are then good for.

use std::path::Path;

use serde_json::Value;

use crate::{fixtures, text, xenc};

fn export(arguments: &[&str], out: &Path) -> (Option<i32>, Value, String) {
    let out = out.to_str().unwrap();
    let output = xenc(&[&["export"], arguments, &[out, "--json"]].concat());
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), report, text(&output.stderr))
}

#[test]
fn networks_are_exported_in_every_precision_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = |name: &str| fixtures().join(name).to_str().unwrap().to_owned();
    let cases: [(&str, &[&str]); 4] = [
        ("clip/vit_torchscript.pt", &["clip"]),
        ("clip/vit_weights.safetensors", &["clip", "--towers", "text"]),
        ("clip/rn_weights.safetensors", &["clip", "--towers", "image"]),
        ("detector/tiny_weights_d2.pkl", &["detector"]),
    ];
    for (number, (weights, arguments)) in cases.into_iter().enumerate() {
        for precision in ["", "--fp16", "--int8"] {
            let out = folder.path().join(format!("{number}{precision}.onnx"));
            let weights = fixture(weights);
            let mut all = [arguments, &[&*weights, "--verify"]].concat();
            if !precision.is_empty() {
                all.push(precision);
            }
            let (code, report, stderr) = export(&all, &out);
            assert_eq!(code, Some(0), "{all:?}: {report} {stderr}");
            assert_eq!(report["verified"], true);
            let differences = report["differences"].as_array().unwrap();
            assert!(!differences.is_empty() && out.is_file(), "{report}");
            if precision.is_empty() {
                assert!(differences.iter().all(|d| d["relative"].as_f64().unwrap() < 1e-4));
            }
        }
    }
}

#[test]
fn a_gpu_gets_a_detector_without_operators_that_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let weights = fixtures().join("detector/tiny_weights_hf.bin");
    let weights = weights.to_str().unwrap();
    for (target, lacking) in [("cpu", true), ("cuda", false)] {
        let out = folder.path().join(format!("{target}.onnx"));
        let (code, report, stderr) =
            export(&["detector", weights, "--for", target, "--verify"], &out);
        assert_eq!(code, Some(0), "{stderr}");
        let operators = report["without_cuda_kernel"].as_array().unwrap();
        assert_eq!(!operators.is_empty(), lacking, "{target}: {operators:?}");
    }
}

#[test]
fn files_are_not_replaced_unasked_and_what_is_no_network_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.onnx");
    std::fs::write(&out, "mine").unwrap();
    let weights = fixtures().join("clip/vit_weights.safetensors");
    let weights = weights.to_str().unwrap();
    let (code, _, stderr) = export(&["clip", weights], &out);
    assert!(code == Some(2) && stderr.contains("--force"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
    let (code, _, stderr) = export(&["clip", weights], &folder.path().join("x.bin"));
    assert!(code == Some(2) && stderr.contains(".onnx"), "{stderr}");
    let (code, _, stderr) = export(&["detector", weights], &folder.path().join("y.onnx"));
    assert!(code == Some(2) && stderr.contains("backbone"), "{stderr}");
    assert!(!folder.path().join("y.onnx").exists());
}
