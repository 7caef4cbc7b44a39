//! UNITER's files: numbers as its own reader gives them.

use std::collections::{BTreeMap, BTreeSet};

use feature_store::formats::{self, uniter_text};
use feature_store::{BatchSpec, FeatureStore, GlobalFeature, Precision, RegionBatch, Regions};
use feature_store::{StoreWriter, WriterOptions};
use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{expected, expected_json, f32s, fixtures, read_all};

/// Values of a tensor; f16 widened.
fn values(tensor: &TensorView) -> Vec<f32> {
    match tensor.dtype() {
        Dtype::F32 => f32s(tensor.data()),
        Dtype::F16 => tensor
            .data()
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// The images of a precision, from every data base that holds some; which it has is told by its values.
fn images(precision: &str) -> BTreeMap<String, Regions> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(fixtures().join("uniter")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() == "npz" || entry.file_name() == "txt_db" {
            continue;
        }
        let found = read_all(&entry.path());
        assert!(!found.is_empty());
        let is_half = |x: &f32| f16::from_f32(*x).to_f32() == *x;
        let half = found.values().all(|regions| regions.features.iter().all(is_half));
        if half != (precision == "fp16") {
            continue;
        }
        for (id, regions) in found {
            if let Some(other) = all.insert(id, regions.clone()) {
                assert_eq!(other, regions, "msgpack and npz hold the same");
            }
        }
    }
    all
}

/// Seven location numbers of every region of an image, as the store gives them.
fn locations(regions: &Regions) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let options = WriterOptions { precision: Precision::F32, ..WriterOptions::default() };
    let mut writer = StoreWriter::create(&path, options).unwrap();
    writer.append("a", regions).unwrap();
    writer.finish().unwrap();
    let spec =
        BatchSpec { max_regions: regions.len(), num_locs: 7, global_feature: GlobalFeature::None };
    let mut batch = RegionBatch::default();
    FeatureStore::open(&path).unwrap().read_batch(&["a"], &spec, &mut batch).unwrap();
    batch.locations
}

fn norm_bb(regions: &Regions) -> Vec<f32> {
    let extents = regions.extents.as_ref().unwrap();
    let rows = regions.boxes.iter().zip(extents);
    rows.flat_map(|(corners, extent)| corners.iter().chain(extent).copied()).collect()
}

#[test]
fn parity_uniter_image_data_bases_give_what_uniter_feeds() {
    let file = std::fs::read(fixtures().join("expected_uniter.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    assert!(!tensors.is_empty());
    let (full, half) = (images("fp32"), images("fp16"));
    let reference = expected();
    let mut compared = BTreeSet::new();
    for (name, tensor) in tensors.tensors() {
        let [id, precision, part] = name.split('/').collect::<Vec<_>>()[..] else {
            panic!("{name}")
        };
        let found = if precision == "fp16" { &half } else { &full };
        // Some images are in the f16 data base only: their f32 numbers are those of the source, cut.
        let of_source;
        let regions = match found.get(id) {
            Some(regions) => regions,
            None => {
                assert_eq!(precision, "fp32", "{name} is in a data base");
                of_source = relative(&reference[id], tensor.shape()[0]);
                &of_source
            }
        };
        compared.insert((id.to_owned(), precision.to_owned()));
        let expected = values(&tensor);
        match part {
            "norm_bb" => assert_eq!(norm_bb(regions), expected, "{name}"),
            "img_bb7" => assert_eq!(locations(regions), expected, "{name}"),
            "conf" => {
                assert_eq!(regions.objects.as_ref().unwrap().confidences, expected, "{name}");
            }
            "features_rows01" => assert_eq!(regions.features[..expected.len()], expected, "{name}"),
            other => panic!("{name}: nothing to compare {other} with"),
        }
    }
    for (precision, images) in [("fp16", half), ("fp32", full)] {
        for (id, regions) in images {
            assert!(compared.contains(&(id.clone(), precision.to_owned())), "{precision} {id}");
            let counts = &expected_json()["uniter"]["nbb"];
            assert_eq!(Some(regions.len() as u64), counts[&id].as_u64(), "{id}");
            // Features are those of the source, in the data base's precision.
            let source = &reference[&id].features[..regions.features.len()];
            let round = |x: &f32| if precision == "fp16" { f16::from_f32(*x).to_f32() } else { *x };
            assert_eq!(regions.features, source.iter().map(round).collect::<Vec<f32>>(), "{id}");
        }
    }
}

/// An image's first regions with boxes relative to it, as UNITER's extraction computes them.
fn relative(regions: &Regions, keep: usize) -> Regions {
    let (w, h) = (regions.width as f32, regions.height as f32);
    let mut cut =
        Regions { width: 1, height: 1, objects: None, attributes: None, ..regions.clone() };
    cut.boxes = regions.boxes[..keep]
        .iter()
        .map(|[x1, y1, x2, y2]| [x1 / w, y1 / h, x2 / w, y2 / h])
        .collect();
    cut.extents = Some(cut.boxes.iter().map(|[x1, y1, x2, y2]| [x2 - x1, y2 - y1]).collect());
    cut.features.truncate(keep * cut.dim);
    cut
}

#[test]
fn parity_uniter_npz_files_hold_the_source() {
    let found = read_all(&fixtures().join("uniter/npz"));
    assert!(!found.is_empty());
    for (id, regions) in found {
        let source = &expected()[&id];
        let exact = regions.features == source.features;
        let rounded = regions
            .features
            .iter()
            .zip(&source.features)
            .all(|(found, source)| *found == f16::from_f32(*source).to_f32());
        assert!(exact || rounded, "{id}");
        assert!(regions.is_relative());
        let probabilities = regions.class_probabilities.as_ref().unwrap();
        assert!(
            probabilities.len() > regions.len()
                && probabilities.iter().all(|p| (0.0..=1.0).contains(p))
        );
        let confidences = &source.objects.as_ref().unwrap().confidences;
        for (found, source) in regions.objects.unwrap().confidences.iter().zip(confidences) {
            assert!((found - source).abs() < 1e-3, "{id}");
        }
    }
}

#[test]
fn parity_uniter_text_data_base_is_read() {
    let folder = fixtures().join("uniter/txt_db");
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
    };
    let (lengths, images) = (json("id2len.json"), json("txt2img.json"));
    let records: Vec<_> =
        uniter_text::records(&folder).unwrap().map(|record| record.unwrap()).collect();
    assert_eq!(records.len(), lengths.as_object().unwrap().len());
    for record in records {
        assert_eq!(record.fields["id"], record.id.as_str());
        assert_eq!(record.fields["img_fname"], images[&record.id]);
        let tokens = record.fields["input_ids"].as_array().unwrap().len();
        assert_eq!(Some(tokens as u64), lengths[&record.id].as_u64());
    }
    let error = formats::open(&folder).err().unwrap().to_string();
    assert!(error.contains("text data base"), "{error}");
}
