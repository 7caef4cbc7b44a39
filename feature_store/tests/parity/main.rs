//! Comparison with the reference's reader and with every VOLTA LMDB, tensor by tensor.

mod formats;
mod uniter;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use feature_store::{
    BatchSpec, FeatureStore, GlobalFeature, Labels, Precision, RegionBatch, Regions, StoreWriter,
    WriterOptions,
};
use safetensors::SafeTensors;
use serde_json::Value;

fn fixtures() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/fixtures");
    std::env::var_os("XENC_FIXTURES").map_or(default, PathBuf::from).join("features")
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn f64s(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
}

fn i64s(bytes: &[u8]) -> Vec<i64> {
    bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
}

fn expected_json() -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join("expected.json")).unwrap()).unwrap()
}

/// The regions of every image, as the reference has them.
fn expected() -> BTreeMap<String, Regions> {
    let json = expected_json();
    let file = std::fs::read(fixtures().join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut used = 0;
    let mut images = BTreeMap::new();
    for id in json["image_ids"].as_array().unwrap() {
        let id = id.as_str().unwrap();
        let mut tensor = |name: &str| {
            used += 1;
            tensors.tensor(&format!("{id}/{name}")).unwrap()
        };
        let features = tensor("features");
        let regions = Regions {
            width: json["sizes"][id]["img_w"].as_u64().unwrap() as u32,
            height: json["sizes"][id]["img_h"].as_u64().unwrap() as u32,
            dim: features.shape()[1],
            features: f32s(features.data()),
            boxes: f32s(tensor("boxes").data()).as_chunks::<4>().0.to_vec(),
            objects: Some(Labels {
                ids: i64s(tensor("obj_id").data()),
                confidences: f32s(tensor("obj_conf").data()),
            }),
            attributes: Some(Labels {
                ids: i64s(tensor("attr_id").data()),
                confidences: f32s(tensor("attr_conf").data()),
            }),
            ..Regions::default()
        };
        images.insert(id.to_owned(), regions);
    }
    assert_eq!(used, tensors.len(), "every expected tensor is used");
    images
}

fn store_of(
    images: &BTreeMap<String, Regions>,
    precision: Precision,
) -> (tempfile::TempDir, FeatureStore) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut writer =
        StoreWriter::create(&path, WriterOptions { precision, ..Default::default() }).unwrap();
    images.iter().for_each(|(id, regions)| writer.append(id, regions).unwrap());
    writer.finish().unwrap();
    let store = FeatureStore::open(&path).unwrap();
    (folder, store)
}

fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 1e-5 * e.abs().max(1e-3), "{what}: {f} instead of {e}");
    }
}

#[test]
fn parity_reader_locations_and_global_features() {
    let images = expected();
    let (_folder, store) = store_of(&images, Precision::F32);
    let file = std::fs::read(fixtures().join("expected_reader.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    assert!(!tensors.is_empty());
    for (name, tensor) in tensors.tensors() {
        let parts: Vec<&str> = name.split('/').collect();
        let (id, place) = (parts[0], parts[1]);
        let global_feature = match place {
            "first" => GlobalFeature::First,
            "last" => GlobalFeature::Last,
            "none" => GlobalFeature::None,
            other => panic!("{name}: {other}"),
        };
        let num_locs = parts
            .iter()
            .find_map(|part| part.strip_prefix("locs"))
            .map_or(5, |n| n.parse().unwrap());
        let regions = &images[id];
        let n = regions.len();
        let spec = BatchSpec { max_regions: n, num_locs, global_feature };
        let mut batch = RegionBatch::default();
        store.read_batch(&[id], &spec, &mut batch).unwrap();
        let global_row = if global_feature == GlobalFeature::First { 0 } else { n };
        match *parts.last().unwrap() {
            "image_location" => {
                let expected = match tensor.dtype() {
                    safetensors::Dtype::F64 => {
                        f64s(tensor.data()).into_iter().map(|x| x as f32).collect()
                    }
                    _ => f32s(tensor.data()),
                };
                assert_eq!(batch.locations, expected, "{name}");
            }
            "image_location_ori" => {
                let expected = match tensor.dtype() {
                    safetensors::Dtype::F64 => f64s(tensor.data()),
                    _ => f32s(tensor.data()).into_iter().map(f64::from).collect(),
                };
                assert_eq!(original_locations(regions, &batch, &spec), expected, "{name}");
            }
            "num_boxes" => {
                let real: i64 = batch.mask.iter().sum();
                assert_eq!(vec![real], i64s(tensor.data()), "{name}");
            }
            "global_feature" => {
                let row = &batch.features[global_row * batch.dim..][..batch.dim];
                assert_near(row, &f32s(tensor.data()), &name);
            }
            "features" => assert_near(&batch.features, &f32s(tensor.data()), &name),
            other => panic!("{name}: nothing to compare {other} with"),
        }
    }
}

/// The reference's locations before division: pixels in the first four columns, the relative area in the last; the
/// global row holds the image's size.
fn original_locations(regions: &Regions, batch: &RegionBatch, spec: &BatchSpec) -> Vec<f64> {
    let (w, h, locs) = (f64::from(regions.width), f64::from(regions.height), spec.num_locs);
    let global_row = match spec.global_feature {
        GlobalFeature::None => usize::MAX,
        GlobalFeature::First => 0,
        GlobalFeature::Last => regions.len(),
    };
    let first = usize::from(global_row == 0);
    let mut rows = Vec::new();
    for row in 0..spec.rows() {
        let mut numbers = vec![0.0; locs];
        if row == global_row {
            let global = [0.0, 0.0, w, h, w * h, w * h, w * h];
            numbers.copy_from_slice(&global[..locs]);
        } else {
            let pixels = regions.boxes[row - first];
            numbers.iter_mut().zip(pixels).for_each(|(x, pixel)| *x = f64::from(pixel));
            if locs > 4 {
                numbers[locs - 1] = f64::from(batch.locations[row * locs + locs - 1]);
            }
        }
        rows.extend(numbers);
    }
    rows
}

#[test]
fn parity_every_image_comes_back_from_the_store() {
    let images = expected();
    let (_folder, store) = store_of(&images, Precision::F32);
    for (id, regions) in &images {
        assert_eq!(&store.get(id).unwrap(), regions, "{id}");
    }
    let (_folder, store) = store_of(&images, Precision::F16);
    for (id, regions) in &images {
        let rounded: Vec<f32> =
            regions.features.iter().map(|&x| half::f16::from_f32(x).to_f32()).collect();
        assert_eq!(
            store.get(id).unwrap(),
            Regions { features: rounded, ..regions.clone() },
            "{id}"
        );
    }
}

fn read_all(path: &Path) -> BTreeMap<String, Regions> {
    let source = feature_store::formats::open(path).unwrap_or_else(|error| panic!("{error}"));
    source.records().unwrap().map(|record| record.unwrap().decode().unwrap()).collect()
}

#[test]
fn parity_every_volta_lmdb_is_read_exactly() {
    let images = expected();
    let json = expected_json();
    let listed: BTreeSet<String> = json["lmdb"].as_object().unwrap().keys().cloned().collect();
    let on_disk: BTreeSet<String> = std::fs::read_dir(fixtures().join("lmdb"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(listed, on_disk);
    assert!(!listed.is_empty());
    for name in listed {
        let found = read_all(&fixtures().join("lmdb").join(&name));
        let entry = &json["lmdb"][&name];
        let ids: BTreeSet<&str> =
            entry["images"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        assert_eq!(found.keys().map(String::as_str).collect::<BTreeSet<_>>(), ids, "{name}");
        for (id, regions) in found {
            let mut expected = images[&id].clone();
            // The `npy` style keeps object ids only.
            if entry["style"] == "npy" {
                expected.attributes = None;
                expected.objects.as_mut().unwrap().confidences.clear();
            }
            assert_eq!(regions, expected, "{name}: {id}");
        }
    }
}
