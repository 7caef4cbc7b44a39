//! The other formats: read exactly, written so that they read back, and the files themselves where they are canonical.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use feature_store::convert::{OnError, convert};
use feature_store::export::{ForeignFormat, export};
use feature_store::formats::tsv::{TsvCompression, TsvOrder};
use feature_store::formats::uniter::UniterEncoding;
use feature_store::formats::volta::VoltaEncoding;
use feature_store::{FeatureStore, Labels, Regions, WriterOptions, formats};

use super::{expected, expected_json, fixtures, read_all};

/// The images that the index says are in a file.
fn listed(file: &str) -> BTreeMap<String, Regions> {
    let json = expected_json();
    let ids = json["files"][file].as_array().unwrap_or_else(|| panic!("{file} is listed"));
    let mut images = expected();
    ids.iter().map(|id| images.remove_entry(id.as_str().unwrap()).unwrap()).collect()
}

/// An image without what bottom-up-attention's six columns have no place for.
fn bare(regions: &Regions) -> Regions {
    Regions { objects: None, attributes: None, ..regions.clone() }
}

/// An image as `.npy` folders keep it: object ids only.
fn with_object_ids(regions: &Regions) -> Regions {
    let ids = regions.objects.as_ref().unwrap().ids.clone();
    Regions { objects: Some(Labels { ids, confidences: Vec::new() }), ..bare(regions) }
}

fn write(source: &Path, target: &Path, format: ForeignFormat) -> Vec<&'static str> {
    let source = formats::open(source).unwrap();
    let run = AtomicBool::new(false);
    let report = export(source, target, format, false, &OnError::Fail, &run, &mut |_| {}).unwrap();
    report.left_out.into_keys().collect()
}

fn to_store(source: &Path, target: &Path) -> FeatureStore {
    let source = formats::open(source).unwrap();
    let run = AtomicBool::new(false);
    let options = WriterOptions::default();
    convert(source, target, options, &OnError::Fail, &run, &mut |_| {}).unwrap();
    FeatureStore::open(target).unwrap()
}

#[test]
fn parity_every_listed_file_is_read_exactly() {
    let json = expected_json();
    for file in json["files"].as_object().unwrap().keys() {
        let expected: BTreeMap<String, Regions> = listed(file)
            .into_iter()
            .map(|(id, regions)| match file.as_str() {
                "lxmert_order.tsv" | "volta.h5" => (id, regions),
                "bottomup_order.tsv" => (id, bare(&regions)),
                "npy" => (id, with_object_ids(&regions)),
                other => panic!("nothing to compare {other} with"),
            })
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(read_all(&fixtures().join(file)), expected, "{file}");
    }
}

#[test]
fn parity_every_format_round_trips_through_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let images = listed("volta.h5");
    let store = folder.path().join("store");
    to_store(&fixtures().join("volta.h5"), &store);
    assert_eq!(read_all(&store), images);
    let identity: fn(&Regions) -> Regions = Regions::clone;
    let tsv = |order, compression| ForeignFormat::Tsv(order, compression);
    let (lxmert, bottom_up) = (TsvOrder::Lxmert, TsvOrder::BottomUp);
    for (name, format, kept, lost) in [
        ("base64", ForeignFormat::Volta(VoltaEncoding::Base64), identity, vec![]),
        ("raw", ForeignFormat::Volta(VoltaEncoding::Raw), identity, vec![]),
        ("tsv", tsv(lxmert, TsvCompression::Plain), identity, vec![]),
        ("gzip", tsv(lxmert, TsvCompression::Gzip), identity, vec![]),
        ("zstd", tsv(lxmert, TsvCompression::Zstd), identity, vec![]),
        ("six", tsv(bottom_up, TsvCompression::Plain), bare, vec!["attributes", "objects"]),
        ("hdf5", ForeignFormat::Hdf5, identity, vec![]),
        ("indexed", ForeignFormat::IndexedHdf5, bare, vec!["attributes", "objects"]),
        ("npy", ForeignFormat::Npy, with_object_ids, vec!["attributes", "object confidences"]),
    ] {
        // The name tells nothing about the format: it is found from the content.
        let target = folder.path().join(name);
        assert_eq!(write(&store, &target, format), lost, "{name}");
        let expected: BTreeMap<String, Regions> =
            images.iter().map(|(id, regions)| (id.clone(), kept(regions))).collect();
        let back = to_store(&target, &folder.path().join(format!("{name}.store")));
        let found: BTreeMap<String, Regions> = back
            .ids()
            .map(|id| id.unwrap())
            .map(|id| (id.clone(), back.get(&id).unwrap()))
            .collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn parity_canonical_files_are_written_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    for (file, order) in
        [("lxmert_order.tsv", TsvOrder::Lxmert), ("bottomup_order.tsv", TsvOrder::BottomUp)]
    {
        let target = folder.path().join(file);
        write(&fixtures().join(file), &target, ForeignFormat::Tsv(order, TsvCompression::Plain));
        assert!(std::fs::read(&target).unwrap() == std::fs::read(fixtures().join(file)).unwrap());
    }
    let target = folder.path().join("npy");
    write(&fixtures().join("npy"), &target, ForeignFormat::Npy);
    for id in listed("npy").keys() {
        let features = format!("{id}.npy");
        let reference = std::fs::read(fixtures().join("npy").join(&features)).unwrap();
        assert!(std::fs::read(target.join(&features)).unwrap() == reference, "{features}");
    }
}

#[test]
fn parity_uniter_files_round_trip_through_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let npz = fixtures().join("uniter/npz");
    let images = read_all(&npz);
    let store = folder.path().join("store");
    to_store(&npz, &store);
    for (name, format, soft_labels) in [
        ("npz", ForeignFormat::Npz { half: false }, true),
        (
            "msgpack",
            ForeignFormat::Uniter { encoding: UniterEncoding::Msgpack, half: false },
            false,
        ),
        ("deflated", ForeignFormat::Uniter { encoding: UniterEncoding::Npz, half: false }, false),
    ] {
        let target = folder.path().join(name);
        let lost = write(&store, &target, format);
        assert_eq!(lost.is_empty(), soft_labels, "{name}");
        let mut expected = images.clone();
        if !soft_labels {
            expected.values_mut().for_each(|regions| regions.class_probabilities = None);
        }
        assert_eq!(read_all(&target), expected, "{name}");
    }
}

#[test]
fn what_is_lost_in_a_format_is_told_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let labels = |ids| Some(Labels { ids, confidences: vec![0.5, 0.25] });
    let pixels = Regions {
        width: 640,
        height: 480,
        boxes: vec![[0.0, 0.0, 320.0, 240.0], [64.0, 48.0, 640.0, 480.0]],
        features: vec![1.0, 2.0, 3.0, 4.0],
        dim: 2,
        objects: labels(vec![1, 2]),
        attributes: labels(vec![3, 4]),
        class_probabilities: Some(vec![0.5, 0.5, 0.25, 0.75]),
        ..Regions::default()
    };
    let relative = Regions {
        width: 1,
        height: 1,
        boxes: vec![[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 1.0, 1.0]],
        extents: Some(vec![[0.51, 0.5], [0.75, 0.76]]),
        ..pixels.clone()
    };
    let images = BTreeMap::from([("a".to_owned(), pixels), ("b".to_owned(), relative)]);
    // Two stores: one holds boxes in pixels or relative ones.
    for (id, regions) in &images {
        let store = folder.path().join(id);
        let mut writer =
            feature_store::StoreWriter::create(&store, WriterOptions::default()).unwrap();
        writer.append(id, regions).unwrap();
        writer.finish().unwrap();
    }

    let tsv = |order| ForeignFormat::Tsv(order, TsvCompression::Plain);
    let uniter = |encoding| ForeignFormat::Uniter { encoding, half: false };
    for (name, format) in [
        ("base64", ForeignFormat::Volta(VoltaEncoding::Base64)),
        ("raw", ForeignFormat::Volta(VoltaEncoding::Raw)),
        ("ten", tsv(TsvOrder::Lxmert)),
        ("six", tsv(TsvOrder::BottomUp)),
        ("hdf5", ForeignFormat::Hdf5),
        ("indexed", ForeignFormat::IndexedHdf5),
        ("npy", ForeignFormat::Npy),
        ("npz", ForeignFormat::Npz { half: false }),
        ("msgpack", uniter(UniterEncoding::Msgpack)),
        ("deflated", uniter(UniterEncoding::Npz)),
    ] {
        let (mut told, mut lost) = (BTreeMap::<&str, u64>::new(), BTreeMap::new());
        for (id, given) in &images {
            let target = folder.path().join(format!("{name}-{id}"));
            let source = formats::open(&folder.path().join(id)).unwrap();
            let run = AtomicBool::new(false);
            let report = export(source, &target, format, false, &OnError::Fail, &run, &mut |_| {});
            let left_out = report.unwrap().left_out;
            left_out.into_iter().for_each(|(part, n)| *told.entry(part).or_default() += n);
            let back = read_all(&target);
            parts_lost(given, &back[id]).for_each(|part| *lost.entry(part).or_default() += 1);
        }
        for part in ["objects", "attributes"] {
            // Two words for two parts.
            let Some(images) = told.remove(part) else { continue };
            let parts = if part == "objects" { OBJECTS } else { ATTRIBUTES };
            told.extend(parts.map(|part| (part, images)));
        }
        assert_eq!(told, lost, "{name}");
    }
}

const OBJECTS: [&str; 2] = ["object ids", "object confidences"];
const ATTRIBUTES: [&str; 2] = ["attribute ids", "attribute confidences"];

/// The parts of an image that are not there any more.
fn parts_lost(given: &Regions, found: &Regions) -> impl Iterator<Item = &'static str> {
    let labels = |names: [&'static str; 2], given: &Option<Labels>, found: &Option<Labels>| {
        let (given, found) = (given.clone().unwrap(), found.clone().unwrap_or_default());
        let [ids, confidences] = names;
        [(ids, given.ids != found.ids), (confidences, given.confidences != found.confidences)]
    };
    let [objects, object_confidences] = labels(OBJECTS, &given.objects, &found.objects);
    let [attributes, attribute_confidences] =
        labels(ATTRIBUTES, &given.attributes, &found.attributes);
    let extents = given.extents.is_some() && given.extents != found.extents;
    let size = (given.width, given.height) != (found.width, found.height);
    let probabilities = given.class_probabilities != found.class_probabilities;
    [
        objects,
        object_confidences,
        attributes,
        attribute_confidences,
        ("extents", extents),
        ("image size", size),
        ("class probabilities", probabilities),
    ]
    .into_iter()
    .filter_map(|(part, is_lost)| is_lost.then_some(part))
}

#[test]
fn images_of_different_size_round_trip_through_one_dataset_per_field() {
    let folder = tempfile::tempdir().unwrap();
    let (store, target) = (folder.path().join("store"), folder.path().join("indexed"));
    let mut writer = feature_store::StoreWriter::create(&store, WriterOptions::default()).unwrap();
    let images: BTreeMap<String, Regions> = (1..6usize)
        .map(|n| {
            let regions = Regions {
                width: 640,
                height: 480,
                boxes: (0..n).map(|i| [i as f32, 1.0, 50.0 + i as f32, 60.0]).collect(),
                features: (0..n * 8).map(|i| i as f32 * 0.5).collect(),
                dim: 8,
                ..Regions::default()
            };
            (format!("{}img{n}", "long".repeat(n)), regions)
        })
        .collect();
    images.iter().for_each(|(id, regions)| writer.append(id, regions).unwrap());
    writer.finish().unwrap();
    assert!(write(&store, &target, ForeignFormat::IndexedHdf5).is_empty());
    assert_eq!(read_all(&target), images);
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}
