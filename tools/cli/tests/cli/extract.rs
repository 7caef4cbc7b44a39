//! `xenc extract` and `xenc clip` on the photographs of the fixtures, with the tiny models.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::{fixtures, text, xenc};

/// Exit code, stdout and stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = xenc(arguments);
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn fixture(name: &str) -> String {
    fixtures().join(name).to_str().unwrap().to_owned()
}

fn below(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

/// An image set of ten pictures as ImageCoDe has them, and its annotations.
fn image_set(root: &Path) {
    let set = root.join("image-sets/open-images-18_f9");
    fs::create_dir_all(&set).unwrap();
    for n in 0..10 {
        let photo = ["landscape.jpg", "portrait.png", "exif.jpg"][n % 3];
        fs::copy(fixture(&format!("detector/photos/{photo}")), set.join(format!("img{n}.jpg")))
            .unwrap();
    }
}

const SMALL: [&str; 8] =
    ["--short", "97", "--longest", "160", "--min-regions", "1", "--max-regions", "8"];

#[test]
fn an_image_set_becomes_a_store_that_validates() {
    let folder = tempfile::tempdir().unwrap();
    image_set(folder.path());
    let (images, store) = (below(folder.path(), "image-sets"), below(folder.path(), "store"));
    let weights = fixture("detector/tiny_weights_d2.pkl");
    let mut command = vec!["extract", &images, &store, "--detector", &weights, "--show", "2"];
    command.extend(SMALL);
    let (code, out, said) = run(&command);
    assert_eq!(code, 0, "{said}");
    assert!(out.contains("10 images of") && out.contains("x 128, 0 left out"), "{out}");
    assert!(out.contains("validation: good"), "{out}");
    assert_eq!(fs::read_dir(format!("{store}.shown")).unwrap().count(), 2);
    let (code, ids, _) = run(&["store", "ls", &store]);
    assert_eq!(code, 0);
    assert!(ids.contains("openimages18f9img7"), "{ids}");

    // A second time it is there, and is only replaced when that is asked for.
    let (code, _, said) = run(&command);
    assert_eq!(code, 2);
    assert!(said.contains("--force"), "{said}");
    fs::write(below(folder.path(), "image-sets/open-images-18_f9/img3.jpg"), "no picture").unwrap();
    command.extend(["--force", "--json"]);
    let (code, out, said) = run(&command);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("img3.jpg: neither JPEG, PNG nor WebP"), "{said}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["schema"]["count"], 9);
    assert_eq!(report["broken"][0]["id"], "openimages18f9img3");

    // Parts, and the boxes of one store described again.
    let part = below(folder.path(), "part");
    let mut command = vec!["extract", &images, &part, "--detector", &weights, "--shard", "2/3"];
    command.extend(SMALL);
    assert_eq!(run(&command).0, 0);
    let again = below(folder.path(), "again");
    let mut command = vec!["extract", &images, &again, "--detector", &weights, "--boxes", &store];
    command.extend(SMALL);
    let (code, out, said) = run(&command);
    assert_eq!(code, 1, "{said}");
    assert!(out.contains("9 images of"), "{out}");
}

#[test]
fn what_cannot_be_extracted_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (store, photos) = (below(folder.path(), "store"), fixture("detector/photos"));
    let refused = |arguments: &[&str], wanted: &str| {
        let (code, _, said) = run(arguments);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(wanted), "{said}");
        assert!(!Path::new(&store).exists());
    };
    let clip = fixture("clip/vit_weights.safetensors");
    refused(&["extract", &photos, &store, "--detector", &clip], "does not fit the region detector");
    refused(&["extract", &photos, &store, "--detector", "nowhere.onnx"], "nowhere.onnx");
    refused(&["extract", "nowhere", &store, "--detector", &clip], "nowhere");
    let empty = below(folder.path(), "empty");
    fs::create_dir(&empty).unwrap();
    refused(&["extract", &empty, &store, "--detector", &clip], "holds no pictures");
    let weights = fixture("detector/tiny_weights_hf.bin");
    let command = ["extract", &photos, &store, "--detector", &weights, "--device", "cuda:0"];
    refused(&command, "cuda:0");
    // No picture with as many regions as that.
    let mut command = vec!["extract", &photos, &store, "--detector", &weights];
    command.extend([
        "--short",
        "97",
        "--longest",
        "160",
        "--min-regions",
        "301",
        "--max-regions",
        "301",
    ]);
    refused(&command, "none of the 4 pictures could be used");
}

#[test]
fn clip_embeds_pictures_and_says_which_sets_are_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    image_set(folder.path());
    let (images, store) = (below(folder.path(), "image-sets"), below(folder.path(), "store"));
    let model = fixture("clip/vit_torchscript.pt");
    let (code, out, said) =
        run(&["clip", "embed", &images, &store, "--model", &model, "--batch", "3"]);
    assert_eq!(code, 0, "{said}");
    assert!(out.contains("10 images of 1 x 48") && out.contains("validation: good"), "{out}");

    let split = below(folder.path(), "split.json");
    fs::write(&split, r#"{"other_set": {"3": "the one on the left"}}"#).unwrap();
    let (code, out, said) =
        run(&["clip", "rank", &split, "--images", &store, "--model", &model, "--json"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("lacks images of other_set"), "{said}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["ranked"], &report["sets"]), (&json!(0), &json!(1)));
    assert_eq!(report["skipped"][0]["directory"], "other_set");
}
