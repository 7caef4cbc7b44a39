//! Decoding, resizing and normalising against Pillow, OpenCV and PyTorch: every tensor of the fixtures.

use serde_json::Value;
use sha2::{Digest, Sha256};
use vision::detector::{self, Sizing, Variant};
use vision::image::{self, Image, Limits, Raster, colour};

use crate::fixtures::{Tensors, json, largest_difference, path};

fn photo(file: &str) -> Image {
    image::read(&path("detector/photos").join(file), &Limits::default()).expect(file)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256_f32(values: &[f32]) -> String {
    sha256(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

fn number(value: &Value) -> usize {
    value.as_u64().expect("a number") as usize
}

fn swapped(rgb: &[u8]) -> Vec<u8> {
    rgb.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0]]).collect()
}

/// The patches that stand for a large tensor `[3, height, width]`: 16x16 in the middle, 8x8 in two corners.
fn patch(tensor: &[f32], height: usize, width: usize, name: &str) -> Vec<f32> {
    let (top, left, side) = match name {
        "center" | "patch" => ((height - 16) / 2, (width - 16) / 2, 16),
        "tl" => (0, 0, 8),
        "br" => (height - 8, width - 8, 8),
        other => panic!("{other}"),
    };
    let row = |plane: usize, y: usize| {
        let start = (plane * height + y) * width + left;
        tensor[start..start + side].iter().copied()
    };
    (0..3).flat_map(|plane| (top..top + side).flat_map(move |y| row(plane, y))).collect()
}

#[test]
fn parity_the_detectors_input_equals_the_originals() {
    let mut tensors = Tensors::open("detector/preprocess.safetensors");
    let description = json("detector/preprocess.json");
    for entry in description["images"].as_array().unwrap() {
        let key = entry["key"].as_str().unwrap();
        let rgb = colour::upright_rgb(photo(entry["file"].as_str().unwrap()));
        let bgr = swapped(&rgb.data);
        assert_eq!([rgb.height, rgb.width].to_vec(), numbers(&entry["decoded_hw"]), "{key}");
        assert_eq!(sha256(&bgr), entry["decoded_bgr_sha256"].as_str().unwrap(), "{key}");
        if tensors.has(&format!("{key}.decoded_bgr")) {
            assert_eq!(bgr, tensors.u8s(&format!("{key}.decoded_bgr")), "{key}");
        }
        for case in entry["cases"].as_array().unwrap() {
            detector_case(&mut tensors, key, &rgb, case);
        }
    }
    tensors.finish();
}

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn detector_case(tensors: &mut Tensors, key: &str, rgb: &Raster<3>, case: &Value) {
    let name = format!("{key}.{}", case["name"].as_str().unwrap());
    let sizing = Sizing { short: number(&case["short"]), longest: number(&case["longest"]) };
    let preprocess = detector::Preprocess { sizing, ..detector::Preprocess::default() };
    let d2 = preprocess.of_rgb(rgb).unwrap();
    assert_eq!([d2.height, d2.width].to_vec(), numbers(&case["out_hw"]), "{name}");
    assert_eq!(sha256_f32(&d2.tensor), case["d2_f32_chw_sha256"].as_str().unwrap(), "{name}");
    let pixels = with_means(&d2.tensor, d2.height * d2.width);
    assert_eq!(sha256(&pixels), case["d2_u8_hwc_sha256"].as_str().unwrap(), "{name}");

    let hugging_face = detector::Preprocess { variant: Variant::HuggingFace, ..preprocess };
    let hf = hugging_face.of_rgb(rgb).unwrap();
    let shipped = detector::Preprocess { swap_colours: true, ..hugging_face };
    let shipped = shipped.of_rgb(rgb).unwrap();
    for (tensor, mean) in
        [(&d2, "d2_mean"), (&hf, "hf_bgr_mean"), (&shipped, "hf_rgb_as_shipped_mean")]
    {
        for (plane, mean) in
            tensor.tensor.chunks_exact(d2.height * d2.width).zip(case[mean].as_array().unwrap())
        {
            let sum: f64 = plane.iter().map(|&value| f64::from(value)).sum();
            assert!((sum / plane.len() as f64 - mean.as_f64().unwrap()).abs() < 1e-3, "{name}");
        }
    }
    for (image, kind, tolerance) in
        [(&d2, "d2", 0.0), (&hf, "hf_bgr", 1e-2), (&shipped, "hf_rgb_as_shipped", 1e-2)]
    {
        let whole = format!("{name}.{kind}");
        if tensors.has(&whole) {
            let difference = largest_difference(&image.tensor, &tensors.f32s(&whole));
            assert!(difference <= tolerance, "{whole}: {difference}");
        }
        for part in ["center", "tl", "br"] {
            let part_name = format!("{whole}.{part}");
            if tensors.has(&part_name) {
                let ours = patch(&image.tensor, image.height, image.width, part);
                let difference = largest_difference(&ours, &tensors.f32s(&part_name));
                assert!(difference <= tolerance, "{part_name}: {difference}");
            }
        }
    }
    if tensors.has(&format!("{name}.d2_u8")) {
        assert_eq!(pixels, tensors.u8s(&format!("{name}.d2_u8")), "{name}");
    }
}

/// The 8-bit pixels `[height, width, 3]` that a tensor was made of.
fn with_means(tensor: &[f32], plane: usize) -> Vec<u8> {
    let pixel = |at: usize| {
        [0, 1, 2].map(|c| (tensor[c * plane + at] + detector::PIXEL_MEANS[c]).round() as u8)
    };
    (0..plane).flat_map(pixel).collect()
}

#[test]
fn parity_the_size_of_the_detectors_image_follows_the_originals_arithmetic() {
    let description = json("detector/preprocess.json");
    let rows = description["resize_sizes"].as_array().unwrap();
    assert!(rows.len() > 10);
    for row in rows {
        let (height, width) = (number(&row["h"]), number(&row["w"]));
        for (key, sizing) in [("s800", Sizing::default()), ("s600", Sizing::CAFFE)] {
            let (new_height, new_width) = sizing.target(height, width);
            assert_eq!(vec![new_height, new_width], numbers(&row[key]), "{row}");
        }
    }
}

#[test]
fn parity_clips_input_equals_the_originals() {
    let mut tensors = Tensors::open("clip/preprocess.safetensors");
    let description = json("clip/preprocess.json");
    for entry in description["images"].as_array().unwrap() {
        let key = entry["key"].as_str().unwrap();
        let (photo_name, side) = key.split_once('.').unwrap();
        let image = photo(entry["file"].as_str().unwrap());
        let decoded = format!("{photo_name}.decoded_rgb");
        if tensors.has(&decoded) {
            let image::Pixels::Rgb(pixels) = &image.pixels else { panic!("{key}: not RGB") };
            assert_eq!(*pixels, tensors.u8s(&decoded), "{key}");
        }
        let preprocess = vision::clip::Preprocess::new(side.parse().unwrap());
        let ((width, height), window) = preprocess.geometry(image.width, image.height);
        assert_eq!(vec![width, height], numbers(&entry["resized_wh"]), "{key}");
        assert_eq!(vec![window.left, window.top], numbers(&entry["crop_left_top"]), "{key}");
        let crop = preprocess.crop(image).unwrap();
        let tensor = preprocess.normalise(&crop);
        assert_eq!(sha256(&crop.data), entry["u8_sha256"].as_str().unwrap(), "{key}");
        assert_eq!(sha256_f32(&tensor), entry["f32_sha256"].as_str().unwrap(), "{key}");
        assert_eq!(crop.data, tensors.u8s(&format!("{key}.u8")), "{key}");
        if tensors.has(&format!("{key}.f32")) {
            assert_eq!(tensor, tensors.f32s(&format!("{key}.f32")), "{key}");
        }
        for part in ["patch", "tl", "br"] {
            if tensors.has(&format!("{key}.{part}")) {
                let ours = patch(&tensor, crop.height, crop.width, part);
                assert_eq!(ours, tensors.f32s(&format!("{key}.{part}")), "{key}.{part}");
            }
        }
    }
    tensors.finish();
}

#[test]
fn parity_clips_geometry_follows_the_originals_arithmetic() {
    let description = json("clip/preprocess.json");
    let rows = description["geometry_224"].as_array().unwrap();
    assert!(rows.len() > 5);
    let preprocess = vision::clip::Preprocess::new(224);
    for row in rows {
        let from = numbers(&row["wh"]);
        let ((width, height), window) = preprocess.geometry(from[0], from[1]);
        assert_eq!(vec![width, height], numbers(&row["resized_wh"]), "{row}");
        assert_eq!(vec![window.left, window.top], numbers(&row["crop_left_top"]), "{row}");
    }
}
