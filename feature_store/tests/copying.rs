//! What stores keep when they are copied, extended, merged or repaired: how far their features are from those that were
//! given, how their boxes are meant, and the progress of other runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use feature_store::append::AppendOptions;
use feature_store::convert::{OnError, append, convert};
use feature_store::formats::volta::{VoltaEncoding, VoltaSink};
use feature_store::formats::{self, FeatureSink as _};
use feature_store::merge::merge;
use feature_store::repair::repair;
use feature_store::shard::{ShardBy, shard};
use feature_store::validate::{Options, validate_source};
use feature_store::{
    Compression, Conflict, FeatureStore, Precision, Regions, RoundingError, Schema, StoreWriter,
    WriterOptions,
};

static RUN: AtomicBool = AtomicBool::new(false);

fn image(seed: u32) -> Regions {
    Regions {
        width: 100,
        height: 80,
        boxes: vec![[1.0, 2.0, 50.0, 60.0], [0.0, 0.0, 100.0, 80.0]],
        features: (0..512).map(|i| ((i * (seed + 7)) % 1000) as f32 / 300.0).collect(),
        dim: 256,
        ..Regions::default()
    }
}

/// A store of some images in a precision, and its schema.
fn store(path: PathBuf, seeds: std::ops::Range<u32>, precision: Precision) -> (PathBuf, Schema) {
    let options = WriterOptions { precision, ..WriterOptions::default() };
    let mut writer = StoreWriter::create(&path, options).unwrap();
    seeds.for_each(|seed| writer.append(&format!("img{seed}"), &image(seed)).unwrap());
    let schema = writer.finish().unwrap();
    (path, schema)
}

fn converted(source: &Path, target: &Path, options: WriterOptions) -> Schema {
    let source = formats::open(source).unwrap();
    convert(source, target, options, &OnError::Fail, &RUN, &mut |_| {}).unwrap().schema
}

/// Sums are added up in another order.
fn assert_same(one: &RoundingError, other: &RoundingError) {
    assert_eq!((one.largest, one.values), (other.largest, other.values));
    assert!((one.mean() - other.mean()).abs() <= 1e-9 * one.mean(), "{one:?} {other:?}");
}

#[test]
fn a_store_of_the_same_precision_is_copied_to_the_last_bit_with_its_rounding() {
    let folder = tempfile::tempdir().unwrap();
    for precision in Precision::ALL {
        let path = |name: &str| folder.path().join(format!("{name}-{}", precision.name()));
        let (first, schema) = store(path("first"), 0..10, precision);
        let copy = WriterOptions { precision, ..WriterOptions::default() };
        let again = converted(&first, &path("again"), copy.clone());
        assert_eq!(again.digest, schema.digest, "{precision:?}");
        assert_same(&again.rounding, &schema.rounding);
        // Through a compressed one and back.
        let zstd = WriterOptions { compression: Compression::Zstd, ..copy.clone() };
        let packed = converted(&first, &path("packed"), zstd);
        assert_same(&packed.rounding, &schema.rounding);
        let back = converted(&path("packed"), &path("back"), copy);
        assert_eq!(back.digest, schema.digest, "{precision:?}");
    }
}

#[test]
fn what_was_rounded_once_stays_rounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (int8, schema) = store(path("int8"), 0..10, Precision::Int8);
    assert!(schema.rounding.largest > 0.0);
    let wide = converted(&int8, &path("wide"), WriterOptions::default());
    assert_same(&wide.rounding, &schema.rounding);
    let f16 = WriterOptions { precision: Precision::F16, ..WriterOptions::default() };
    let twice = converted(&int8, &path("twice"), f16).rounding;
    assert!(twice.largest > schema.rounding.largest && twice.mean() > schema.rounding.mean());

    let (exact, before) = store(path("exact"), 10..20, Precision::F32);
    let inputs = [exact.clone(), path("wide")];
    let merged = merge(&inputs, &path("merged"), Conflict::Fail, false, &RUN, &mut |_| {});
    let merged = merged.unwrap().schema.rounding;
    assert_eq!(merged.largest, schema.rounding.largest);
    assert_eq!(merged.values, schema.rounding.values + before.rounding.values);
    let source = formats::open(&int8).unwrap();
    let options = AppendOptions::default();
    let grown = append(source, &exact, options, &OnError::Fail, &RUN, &mut |_| {}).unwrap();
    assert_same(&grown.schema.rounding, &merged);
    assert_eq!(grown.schema.rounding.mean(), merged.mean());

    // Of what was replaced nothing is left that would make the mean smaller than it is.
    let (replaced, _) = store(path("replaced"), 0..10, Precision::F32);
    let options = AppendOptions { conflict: Conflict::Last, ..AppendOptions::default() };
    let source = formats::open(&int8).unwrap();
    let report = append(source, &replaced, options, &OnError::Fail, &RUN, &mut |_| {}).unwrap();
    assert_same(&report.schema.rounding, &schema.rounding);

    let whole = FeatureStore::open(&int8).unwrap();
    let parts = shard(&whole, &path("part"), ShardBy::Range, 2, false, &RUN, &mut |_| {}).unwrap();
    for part in parts {
        let part = FeatureStore::open(&part.path).unwrap().schema().rounding;
        assert_eq!((part.largest, part.values), (schema.rounding.largest, 5 * 512));
    }
}

#[test]
fn a_repaired_store_keeps_its_rounding_or_says_that_it_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (f16, schema) = store(path("f16"), 0..10, Precision::F16);
    let repaired = |target: &str| {
        let report = repair(&path("f16"), &path(target), false, &RUN, &mut |_, _| {});
        report.unwrap().unwrap().schema.rounding
    };
    assert_eq!(repaired("kept"), schema.rounding);
    // Every copy of the schema is lost: its key is on the leaves of its database only.
    let data = f16.join("data.mdb");
    let mut bytes = std::fs::read(&data).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - 6).filter(|&at| &bytes[at..at + 6] == b"schema").collect();
    assert!(!places.is_empty());
    places.iter().for_each(|&at| bytes[at..at + 6].copy_from_slice(b"nobody"));
    std::fs::write(&data, bytes).unwrap();
    let lost = repaired("lost");
    assert!(!lost.is_known() && !lost.mean().is_finite(), "{lost:?}");
    assert_eq!(serde_json::to_value(lost).unwrap()["largest"], serde_json::Value::Null);
    // And stays lost.
    let wide = converted(&path("lost"), &path("wide"), WriterOptions::default());
    assert!(!wide.rounding.is_known());
}

#[test]
fn an_export_or_a_repair_drops_no_progress_of_another_run() {
    use feature_store::export::{ForeignFormat, export};
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (source, _) = store(path("source"), 0..4, Precision::F32);
    // Nothing is collected for long: even one image is safe.
    let options = WriterOptions { transaction_time: Duration::ZERO, ..WriterOptions::default() };
    let mut writer = StoreWriter::create(&path("target"), options.clone()).unwrap();
    writer.append("a", &image(1)).unwrap();
    assert_eq!(writer.committed(), 1);
    let to_volta = |force: bool| {
        let format = ForeignFormat::Npz { half: false };
        let source = formats::open(&source).unwrap();
        export(source, &path("target"), format, force, &OnError::Fail, &RUN, &mut |_| {})
    };
    assert!(to_volta(true).unwrap_err().to_string().contains("another process"));
    drop(writer);
    for said in [
        to_volta(false).unwrap_err().to_string(),
        repair(&source, &path("target"), false, &RUN, &mut |_, _| {}).unwrap_err().to_string(),
    ] {
        assert!(said.contains(".target.partial") && said.contains("--force"), "{said}");
    }
    let writer = StoreWriter::create(&path("target"), options).unwrap();
    assert_eq!(writer.committed(), 1, "it is still there");
    drop(writer);
    assert_eq!(to_volta(true).unwrap().images, 4);
    assert!(!path(".target.partial").exists());
}

#[test]
fn relative_boxes_and_boxes_in_pixels_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (pixels, _) = store(path("pixels"), 0..4, Precision::F32);
    let mut writer = StoreWriter::create(&path("relative"), WriterOptions::default()).unwrap();
    let relative =
        Regions { width: 1, height: 1, boxes: vec![[0.0, 0.0, 0.5, 0.5]; 2], ..image(0) };
    writer.append("r", &relative).unwrap();
    let mixed = writer.append("p", &image(1)).unwrap_err().to_string();
    assert!(mixed.contains("`p`") && mixed.contains("in pixels"), "{mixed}");
    writer.finish().unwrap();
    let inputs = [pixels.clone(), path("relative")];
    let merged = merge(&inputs, &path("merged"), Conflict::Fail, false, &RUN, &mut |_| {});
    let said = merged.unwrap_err().to_string();
    assert!(inputs.iter().all(|input| said.contains(input.to_str().unwrap())), "{said}");
    let source = formats::open(&path("relative")).unwrap();
    let grown =
        append(source, &pixels, AppendOptions::default(), &OnError::Fail, &RUN, &mut |_| {});
    let said = grown.unwrap_err().to_string();
    assert!(said.contains("relative") && said.contains("in pixels"), "{said}");
    assert_eq!(FeatureStore::open(&pixels).unwrap().len(), 4);
    // A dump may hold both: a validation tells, a conversion takes what goes together.
    let mut sink = VoltaSink::create(&path("volta"), VoltaEncoding::Raw).unwrap();
    sink.append("a", &image(1)).unwrap();
    sink.append("b", &relative).unwrap();
    Box::new(sink).finish().unwrap();
    let dump = || formats::open(&path("volta")).unwrap();
    let report = validate_source(dump(), &Options::default(), &RUN, &mut |_| {}).unwrap().unwrap();
    assert!(report.store_findings[0].contains("mixed"), "{:?}", report.store_findings);
    let (target, options) = (path("converted"), WriterOptions::default());
    let report = convert(dump(), &target, options, &OnError::Skip, &RUN, &mut |_| {}).unwrap();
    assert_eq!((report.schema.count, report.skipped[0].key.as_str()), (1, "b"));
}
