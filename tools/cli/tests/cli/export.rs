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
            let differences = report["comparison"]["differences"].as_array().unwrap();
            assert!(!differences.is_empty() && out.is_file(), "{report}");
            let card = std::fs::read_to_string(report["card"].as_str().unwrap()).unwrap();
            assert!(card.contains(&weights) && card.contains("| in | `"), "{card}");
            assert!(card.contains("largest difference"), "what --verify found: {card}");
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
fn onnxruntimes_own_format_is_verified_and_taken_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = |name: &str| fixtures().join(name).to_str().unwrap().to_owned();
    let below = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (clip, detector) = (folder.path().join("clip.ort"), folder.path().join("detector.ort"));
    for (arguments, out) in [
        (vec!["clip", &*fixture("clip/vit_torchscript.pt"), "--verify"], &clip),
        (
            vec!["detector", &fixture("detector/tiny_weights_d2.pkl"), "--verify", "--fp16"],
            &detector,
        ),
    ] {
        let (code, report, stderr) = export(&arguments, out);
        assert_eq!(code, Some(0), "{report} {stderr}");
        assert_eq!(report["verified"], true, "{report}");
    }
    let photos = fixture("detector/photos");
    let (clip, detector) = (clip.to_str().unwrap(), detector.to_str().unwrap());
    let output = xenc(&["clip", "embed", &photos, &below("embeddings"), "--model", clip]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let small = ["--short", "97", "--longest", "160", "--min-regions", "1", "--max-regions", "8"];
    let (regions, plain) = (below("regions"), below("plain"));
    let command = ["extract", &photos, &regions, "--detector", detector];
    let output = xenc(&[&command[..], &small].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    // The ending and the format agree, and the numbers are those of the weights.
    let weights = fixture("clip/vit_weights.safetensors");
    let wrong = xenc(&["export", "clip", &weights, &below("x.onnx"), "--target", "ort"]);
    assert!(text(&wrong.stderr).contains("end with .ort"), "{}", text(&wrong.stderr));
    let output = xenc(&["clip", "embed", &photos, &plain, "--model", &weights]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = xenc(&["store", "diff", &plain, &below("embeddings"), "--tolerance", "1e-4"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
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
    std::fs::write(folder.path().join("z.onnx.md"), "mine").unwrap();
    let (code, _, stderr) = export(&["clip", weights], &folder.path().join("z.onnx"));
    assert!(code == Some(2) && stderr.contains("z.onnx.md is there already"), "{stderr}");
    let (code, _, stderr) = export(&["clip", weights], &folder.path().join("x.bin"));
    assert!(code == Some(2) && stderr.contains(".onnx"), "{stderr}");
    let (code, _, stderr) = export(&["detector", weights], &folder.path().join("y.onnx"));
    assert!(code == Some(2) && stderr.contains("backbone"), "{stderr}");
    assert!(!folder.path().join("y.onnx").exists());
}
