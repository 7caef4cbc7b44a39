//! Dumps that others have written with other types, or not wholly: read to the value, or refused with the reason.

#[path = "common/foreign.rs"]
mod foreign;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use feature_store::convert::{OnError, convert};
use feature_store::export::{ForeignFormat, export};
use feature_store::formats::npy::NpySink;
use feature_store::formats::select::{Selected, Selection};
use feature_store::formats::volta::{VoltaEncoding, VoltaSink};
use feature_store::formats::{self, FeatureSink as _, FeatureSource as _};
use feature_store::validate::{Coverage, Options, validate_store};
use feature_store::{Labels, Precision, Regions, StoreWriter, WriterOptions};

use foreign::{RUN, image, validated};

#[test]
fn arrays_without_a_description_are_a_finding_and_their_ids_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("npy");
    let mut sink = NpySink::create(&path).unwrap();
    ["a", "b"].iter().for_each(|id| sink.append(id, &image()).unwrap());
    let said = sink.append("a_info", &image()).unwrap_err().to_string();
    assert!(said.contains("a_info.npy") && said.contains("--rename"), "{said}");
    Box::new(sink).finish().unwrap();
    assert!(validated(&path, &Options::default()).is_good());
    std::fs::remove_file(path.join("b_info.npy")).unwrap();
    let report = validated(&path, &Options::default());
    assert_eq!((report.images, report.bad_images), (2, 1));
    assert!(report.findings[0].what.contains("no b_info.npy"), "{:?}", report.findings);
}

/// An image of many values, as a detector gives them.
fn detected() -> Regions {
    let values = (0..256u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 20) as f32 / 512.0);
    Regions { features: values.map(|x| (x - 2.0).max(0.0)).collect(), dim: 128, ..image() }
}

#[test]
fn numbers_of_another_type_read_as_f32_are_a_finding() {
    let given = detected();
    let pairs = |more: f32| -> Vec<u8> {
        let halves = given.features.iter().map(|&x| half::f16::from_f32(x + more));
        halves.flat_map(half::f16::to_le_bytes).collect()
    };
    let halves: Vec<u8> =
        given.features.iter().flat_map(|&x| f64::from(x * 1.1).to_le_bytes()).collect();
    let read = |bytes: Vec<u8>| {
        let features: Vec<f32> =
            bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let features: Vec<f32> =
            features.into_iter().map(|x| if x.is_finite() { x } else { 0.0 }).collect();
        Regions { dim: features.len() / 2, features, ..image() }
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, image, is_good) in [
        ("sound", given.clone(), true),
        ("f16", read(pairs(0.0)), false),
        ("f16 without zeros", read(pairs(0.6)), false),
        ("f64", read(halves), false),
    ] {
        let path = folder.path().join(name);
        let mut sink = NpySink::create(&path).unwrap();
        sink.append("a", &image).unwrap();
        Box::new(sink).finish().unwrap();
        let report = validated(&path, &Options::default());
        assert_eq!(report.is_good(), is_good, "{name}: {:?}", report.findings);
        assert!(
            is_good || report.findings[0].what.contains("read as f32"),
            "{:?}",
            report.findings
        );
    }
}

#[test]
fn a_rule_that_makes_one_id_of_two_is_told_with_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("npy");
    let mut sink = NpySink::create(&path).unwrap();
    ["a1", "b1", "b2"].iter().for_each(|id| sink.append(id, &image()).unwrap());
    Box::new(sink).finish().unwrap();
    let merged = |rule: &str| {
        let selection = Selection { rename: vec![rule.parse().unwrap()], ..Selection::default() };
        let source = Selected::new(formats::open(&path).unwrap(), selection);
        let watch = source.watch();
        assert_eq!(Box::new(source).records().unwrap().count(), 3);
        watch.unmet().merged
    };
    assert_eq!(merged("s/^[ab]//"), Some(["1", "a1", "b1"].map(str::to_owned)));
    assert_eq!(merged("s/^[ab]/c$0/"), None);
}

#[test]
fn what_a_store_refuses_is_quarantined_with_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [dump, quarantine] = ["dump", "bad"].map(|name| folder.path().join(name));
    let mut sink = VoltaSink::create(&dump, VoltaEncoding::Raw).unwrap();
    let wide = Regions { features: vec![0.5; 8], dim: 4, ..image() };
    let large = Regions { features: vec![0.5, 1.0, 1e6, 1.0], ..image() };
    let larger = Regions { features: vec![0.5, 1.0, f32::MAX, 1.0], ..image() };
    for (id, image) in [("a", &image()), ("b", &wide), ("c", &large), ("d", &larger)] {
        sink.append(id, image).unwrap();
    }
    Box::new(sink).finish().unwrap();
    let options = WriterOptions { precision: Precision::F16, ..WriterOptions::default() };
    let on_error = OnError::Quarantine(quarantine.clone());
    let (source, store) = (formats::open(&dump).unwrap(), folder.path().join("store"));
    let report = convert(source, &store, options, &on_error, &RUN, &mut |_| {}).unwrap();
    let reasons: Vec<&str> = report.skipped.iter().map(|skipped| &*skipped.reason).collect();
    assert!(reasons[1].contains("--precision bf16 or f32 holds all"), "{reasons:?}");
    assert!(reasons[2].contains("--precision f32 holds all"), "{reasons:?}");
    let lines = std::fs::read_to_string(quarantine.join("report.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 3);
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let kept = line["file"].as_str().map(|file| std::fs::metadata(quarantine.join(file)));
        assert!(kept.is_some_and(|kept| kept.unwrap().len() > 32), "{line}");
    }
}

#[test]
fn exports_say_what_their_validation_will_say() {
    let folder = tempfile::tempdir().unwrap();
    let [dump, target] = ["dump", "target"].map(|name| folder.path().join(name));
    let mut sink = NpySink::create(&dump).unwrap();
    sink.append("a", &image()).unwrap();
    sink.append("b", &Regions { features: vec![0.5; 8], dim: 4, ..image() }).unwrap();
    Box::new(sink).finish().unwrap();
    let order = ForeignFormat::Volta(VoltaEncoding::Raw);
    let source = formats::open(&dump).unwrap();
    let report = export(source, &target, order, false, &OnError::Fail, &RUN, &mut |_| {}).unwrap();
    assert_eq!((report.images, report.findings.images), (2, 1));
    assert!(report.findings.first.unwrap().what.contains("4 values per region"));
    assert_eq!(validated(&target, &Options::default()).bad_images, 1);
}

/// A dump of an image and of one whose features are wider, which no store takes beside it.
fn of_two_widths(path: &Path) {
    let mut sink = VoltaSink::create(path, VoltaEncoding::Raw).unwrap();
    sink.append("a", &image()).unwrap();
    sink.append("b", &Regions { features: vec![0.5; 8], dim: 4, ..image() }).unwrap();
    Box::new(sink).finish().unwrap();
}

#[test]
fn a_quarantine_is_written_through_no_link_and_into_no_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let [dump, bad, precious] = ["dump", "bad", "precious"].map(|name| folder.path().join(name));
    of_two_widths(&dump);
    let quarantined = || {
        let on_error = OnError::Quarantine(bad.clone());
        let source = formats::open(&dump).unwrap();
        let options = WriterOptions { overwrite: true, restart: true, ..WriterOptions::default() };
        convert(source, &folder.path().join("store"), options, &on_error, &RUN, &mut |_| {})
    };
    quarantined().unwrap();
    let kept = std::fs::read_dir(&bad).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.into_iter().find(|path| path.extension().is_some_and(|end| end == "bin"));
    let kept = kept.unwrap();
    let bytes = std::fs::read(&kept).unwrap();
    // Again, over what is there.
    quarantined().unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), bytes);
    std::fs::write(&precious, "precious").unwrap();
    std::fs::remove_file(&kept).unwrap();
    std::os::unix::fs::symlink(&precious, &kept).unwrap();
    assert!(quarantined().is_err());
    assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
    std::fs::remove_file(&kept).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&kept).status().unwrap().success());
    assert!(quarantined().is_err());
}

#[test]
fn a_quarantine_mixes_with_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let [dump, bad, target] = ["dump", "bad", "store"].map(|name| folder.path().join(name));
    of_two_widths(&dump);
    std::fs::create_dir(&bad).unwrap();
    std::fs::write(bad.join("notes.txt"), "mine").unwrap();
    let (source, on_error) = (formats::open(&dump).unwrap(), OnError::Quarantine(bad.clone()));
    let done = convert(source, &target, WriterOptions::default(), &on_error, &RUN, &mut |_| {});
    let said = done.unwrap_err().to_string();
    assert!(said.contains("something else than quarantined records"), "{said}");
    assert_eq!(std::fs::read_dir(&bad).unwrap().count(), 1);
}

/// A store of one image, and an export of it.
fn exported(folder: &Path, image: &Regions, format: ForeignFormat) -> Result<PathBuf, String> {
    let (store, target) = (folder.join("store"), folder.join("target"));
    let options = WriterOptions { overwrite: true, ..WriterOptions::default() };
    let mut writer = StoreWriter::create(&store, options).unwrap();
    writer.append("a", image).unwrap();
    writer.finish().unwrap();
    let source = formats::open(&store).unwrap();
    export(source, &target, format, true, &OnError::Fail, &RUN, &mut |_| {})
        .map(|_| target)
        .map_err(|error| error.to_string())
}

#[test]
fn half_precision_has_no_place_for_some_values_and_keeps_thin_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let half = ForeignFormat::Npz { half: true };
    let confident = Regions {
        objects: Some(Labels { ids: Vec::new(), confidences: vec![0.5, 1e6] }),
        ..image()
    };
    let said = exported(folder.path(), &confident, half).unwrap_err();
    assert!(said.contains("`conf` hold 1000000"), "{said}");
    let unlikely = Regions { class_probabilities: Some(vec![0.1, 1e9]), ..image() };
    assert!(exported(folder.path(), &unlikely, half).unwrap_err().contains("`soft_labels`"));
    // A pixel of four thousand, near the right edge: both corners are the same in 16 bits.
    let thin = Regions {
        width: 4000,
        boxes: vec![[3990.0, 2.0, 3991.0, 60.0], [0.0, 0.0, 100.0, 80.0]],
        ..image()
    };
    let path = exported(folder.path(), &thin, half).unwrap();
    assert!(validated(&path, &Options::default()).is_good());
}

#[test]
fn findings_say_what_is_wrong_with_a_box_and_what_ids_look_like() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut writer = StoreWriter::create(&path, WriterOptions::default()).unwrap();
    for (id, corners) in [
        ("a", [1.0, 2.0, 200.0, 60.0]),
        ("b", [5.0, 2.0, 5.0, 60.0]),
        ("c", [f32::NAN, 2.0, 5.0, 60.0]),
    ] {
        let wrong = Regions { boxes: vec![[0.0, 0.0, 9.0, 9.0], corners], ..image() };
        writer.append(id, &wrong).unwrap();
    }
    writer.finish().unwrap();
    let sets = vec!["open-images-1_a".to_owned()];
    let coverage = vec![Coverage { split: "valid".into(), sets }];
    let quarantine = folder.path().join("bad");
    let options = Options { coverage, deep: true, quarantine: Some(quarantine.clone()), listed: 9 };
    let report = validate_store(&path, &options, &RUN, &mut |_| {}).unwrap().unwrap();
    let whats: Vec<&str> = report.findings.iter().map(|finding| finding.what.as_str()).collect();
    assert!(whats[0].contains("region 1 reaches out of its image: 1, 2, 200, 60 in 100x80"));
    assert!(whats[1].contains("has no area") && whats[2].contains("is no number"), "{whats:?}");
    assert_eq!(report.examples, ["a", "b", "c"]);
    assert_eq!(report.coverage[0].looked_for.as_deref(), Some("openimages1aimg"));
    assert_eq!(report.quarantined, 3);
}

#[test]
fn what_a_deep_look_finds_is_quarantined_too() {
    let folder = tempfile::tempdir().unwrap();
    let (path, quarantine) = (folder.path().join("store"), folder.path().join("bad"));
    let mut writer = StoreWriter::create(&path, WriterOptions::default()).unwrap();
    ["a", "b"].iter().for_each(|id| writer.append(id, &image()).unwrap());
    writer.finish().unwrap();
    let quarantined = Some(quarantine.clone());
    let options = Options { deep: true, quarantine: quarantined, ..Options::default() };
    let report = validate_store(&path, &options, &RUN, &mut |_| {}).unwrap().unwrap();
    assert_eq!((report.bad_images, report.quarantined), (1, 1));
    let lines = std::fs::read_to_string(quarantine.join("report.jsonl")).unwrap();
    assert!(lines.contains("the same features as `a`"), "{lines}");
}

#[test]
fn regions_without_features_are_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("npy");
    let mut sink = NpySink::create(&path).unwrap();
    sink.append("a", &Regions { features: Vec::new(), dim: 0, ..image() }).unwrap();
    Box::new(sink).finish().unwrap();
    let report = validated(&path, &Options::default());
    assert_eq!(report.bad_images, 1);
    assert!(report.findings[0].what.contains("no features"), "{:?}", report.findings);
}

#[test]
fn a_tsv_with_boxes_of_f64_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tsv");
    let corners: Vec<u8> =
        image().boxes.as_flattened().iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect();
    let features: Vec<u8> = image().features.iter().flat_map(|x| x.to_le_bytes()).collect();
    let [corners, features] = [corners, features].map(|bytes| STANDARD.encode(bytes));
    std::fs::write(&path, format!("a\t100\t80\t2\t{corners}\t{features}\n")).unwrap();
    let mut records = formats::open(&path).unwrap().records().unwrap();
    let (_, read) = records.next().unwrap().unwrap().decode().unwrap();
    assert_eq!(read, image());
    assert!(validated(&path, &Options::default()).is_good());
}
