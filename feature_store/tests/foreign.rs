//! Dumps that others have written with other types, or not wholly: read to the value, or refused with the reason.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use feature_store::convert::{OnError, convert};
use feature_store::export::{ForeignFormat, export};
use feature_store::formats::npy::NpySink;
use feature_store::formats::select::{Selected, Selection};
use feature_store::formats::volta::{VoltaEncoding, VoltaSink};
use feature_store::formats::{self, FeatureSink as _, FeatureSource as _};
use feature_store::validate::{Coverage, Options, Report, validate_source, validate_store};
use feature_store::{Labels, Precision, Regions, StoreWriter, WriterOptions};
use hdf5_pure::{Datatype, DatatypeByteOrder, FileBuilder, FloatingPointLayout};

static RUN: AtomicBool = AtomicBool::new(false);

fn image() -> Regions {
    Regions {
        width: 100,
        height: 80,
        boxes: vec![[1.0, 2.0, 50.0, 60.0], [0.0, 0.0, 100.0, 80.0]],
        features: vec![0.5, 1.5, 2.5, 3.5],
        dim: 2,
        ..Regions::default()
    }
}

/// An image's group in VOLTA's layout, of which a dataset is another.
fn grouped(path: &Path, other: impl Fn(&str, &mut hdf5_pure::GroupBuilder) -> bool) {
    let mut file = FileBuilder::new();
    let mut group = file.create_group("a");
    for name in ["features", "boxes", "img_w", "img_h", "obj_id", "num_boxes"] {
        if other(name, &mut group) {
            continue;
        }
        let dataset = group.create_dataset(name);
        match name {
            "features" => dataset.with_f32_data(&image().features).with_shape(&[2, 2]),
            "boxes" => dataset.with_f32_data(image().boxes.as_flattened()).with_shape(&[2, 4]),
            "img_w" => dataset.with_i64_data(&[100]).with_shape(&[1]),
            "img_h" => dataset.with_i64_data(&[80]).with_shape(&[1]),
            "obj_id" => dataset.with_i64_data(&[3, 4]).with_shape(&[2]),
            _ => dataset.with_i64_data(&[2]).with_shape(&[1]),
        };
    }
    file.add_group(group.finish());
    std::fs::write(path, file.finish().unwrap()).unwrap();
}

/// The first image of a dump, or why there is none.
fn first(path: &Path) -> Result<Regions, String> {
    let source = formats::open(path).map_err(|error| error.to_string())?;
    let mut records = source.records().map_err(|error| error.to_string())?;
    let record = records.next().unwrap().and_then(|record| record.decode());
    record.map(|(_, regions)| regions).map_err(|error| error.to_string())
}

fn half() -> Datatype {
    let layout = FloatingPointLayout {
        bit_offset: 0,
        bit_precision: 16,
        exponent_location: 10,
        exponent_size: 5,
        mantissa_location: 0,
        mantissa_size: 10,
        exponent_bias: 15,
    };
    Datatype::FloatingPoint { size: 2, byte_order: DatatypeByteOrder::LittleEndian, layout }
}

#[test]
fn hdf5_numbers_of_any_type_are_read_to_the_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    let labelled =
        Regions { objects: Some(Labels { ids: vec![3, 4], confidences: Vec::new() }), ..image() };
    grouped(&path, |_, _| false);
    assert_eq!(first(&path).unwrap(), labelled);
    grouped(&path, |name, group| {
        let dataset = match name {
            "features" => {
                let halves = [0x3800u16, 0x3E00, 0x4100, 0x4300].map(u16::to_le_bytes);
                let bytes = halves.as_flattened().to_vec();
                group.create_dataset(name).with_raw_data(half(), bytes, 4)
            }
            "boxes" => group.create_dataset(name).with_i32_data(&[1, 2, 50, 60, 0, 0, 100, 80]),
            "img_w" => group.create_dataset(name).with_f64_data(&[100.0]),
            "obj_id" => group.create_dataset(name).with_u64_data(&[3, 4]),
            _ => return false,
        };
        let shape: &[u64] = match name {
            "features" => &[2, 2],
            "boxes" => &[2, 4],
            "obj_id" => &[2],
            _ => &[1],
        };
        dataset.with_shape(shape);
        true
    });
    assert_eq!(first(&path).unwrap(), labelled);
}

#[test]
fn hdf5_numbers_that_would_become_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    let refused = |of: &str, values: &dyn Fn(&mut hdf5_pure::DatasetBuilder)| {
        grouped(&path, |name, group| {
            if name == of {
                values(group.create_dataset(name));
            }
            name == of
        });
        first(&path).unwrap_err()
    };
    let said = refused("features", &|dataset| {
        dataset.with_f64_data(&[0.0, 1e300, 1.0, 2.0]).with_shape(&[2, 2]);
    });
    assert!(said.contains("`features` is 1e300"), "{said}");
    let said = refused("obj_id", &|dataset| {
        dataset.with_f64_data(&[1.0, 1.7]).with_shape(&[2]);
    });
    assert!(said.contains("`obj_id` hold 1.7"), "{said}");
    let said = refused("obj_id", &|dataset| {
        dataset.with_u64_data(&[1, 1 << 63]).with_shape(&[2]);
    });
    assert!(said.contains("9223372036854775808"), "{said}");
    let said = refused("img_w", &|dataset| {
        dataset.with_f64_data(&[640.7]).with_shape(&[1]);
    });
    assert!(said.contains("640.7"), "{said}");
    let said = refused("num_boxes", &|dataset| {
        dataset.with_i64_data(&[7]).with_shape(&[1]);
    });
    assert!(said.contains("`num_boxes` is 7"), "{said}");
    // Which of them would it be?
    for name in ["num_boxes", "img_w"] {
        let said = refused(name, &|dataset| {
            dataset.with_i64_data(&[2, 100]).with_shape(&[2]);
        });
        assert!(said.contains(&format!("`{name}` are 2 numbers")), "{said}");
    }
    let said = refused("features", &|dataset| {
        dataset.with_f32_data(&[]).with_shape(&[2, 0]);
    });
    assert!(said.contains("the shape [2, 0]"), "{said}");
    let said = refused("features", &|dataset| {
        let (exponent_location, mantissa_size) = (7, 7);
        let Datatype::FloatingPoint { size, byte_order, layout } = half() else { unreachable!() };
        let brain = FloatingPointLayout {
            exponent_location,
            exponent_size: 8,
            mantissa_size,
            exponent_bias: 127,
            ..layout
        };
        let brain = Datatype::FloatingPoint { size, byte_order, layout: brain };
        dataset.with_raw_data(brain, vec![0; 8], 4).with_shape(&[2, 2]);
    });
    assert!(said.contains("`features` are bf16") && said.contains("astype('f4')"), "{said}");
}

#[test]
fn what_f32_rounds_of_f64_is_told_by_the_store_and_by_exports() {
    let folder = tempfile::tempdir().unwrap();
    let (path, store) = (folder.path().join("a.h5"), folder.path().join("store"));
    let given = [0.1, 0.2, 0.25, 1.0];
    grouped(&path, |name, group| {
        if name == "features" {
            group.create_dataset(name).with_f64_data(&given).with_shape(&[2, 2]);
        }
        name == "features"
    });
    let errors = given.map(|x| (x - f64::from(x as f32)).abs());
    let convert = |source: &Path, target: &Path| {
        let source = formats::open(source).unwrap();
        let options = WriterOptions::default();
        let report = convert(source, target, options, &OnError::Fail, &RUN, &mut |_| {});
        report.unwrap().schema.rounding
    };
    let rounding = convert(&path, &store);
    assert_eq!((rounding.largest, rounding.values), (errors[1], 4));
    assert!((rounding.sum - errors.iter().sum::<f64>()).abs() < 1e-20);
    // Also what is made of the store, and what is made of the dump without one.
    assert_eq!(convert(&store, &folder.path().join("copy")).largest, errors[1]);
    for source in [&store, &path] {
        let (source, target) = (formats::open(source).unwrap(), folder.path().join("npy"));
        let report =
            export(source, &target, ForeignFormat::Npy, true, &OnError::Fail, &RUN, &mut |_| {});
        assert_eq!(report.unwrap().source_rounding.largest, errors[1]);
    }
    // f64 that f32 holds is not rounded.
    grouped(&path, |name, group| {
        if name == "features" {
            group.create_dataset(name).with_f64_data(&[0.5; 4]).with_shape(&[2, 2]);
        }
        name == "features"
    });
    assert_eq!(convert(&path, &folder.path().join("exact")).largest, 0.0);
}

#[test]
fn what_the_library_cannot_list_is_told_once_and_what_writes_it_otherwise() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/several_directions.h5");
    let said = first(&path).unwrap_err();
    assert!(
        said.contains("version 2 B-tree") && said.contains("image_features:CHUNK=1x2x4"),
        "{said}"
    );
    assert!(formats::open(&path).is_err());
}

/// One dataset per field of three images.
fn indexed_fields() -> FileBuilder {
    let mut file = FileBuilder::new();
    let features: Vec<f32> = (0..12u8).map(f32::from).collect();
    file.create_dataset("features").with_f32_data(&features).with_shape(&[3, 2, 2]);
    let boxes = [image().boxes.as_flattened(); 3].concat();
    file.create_dataset("boxes").with_f32_data(&boxes).with_shape(&[3, 2, 4]);
    for (name, value) in [("image_w", 100), ("image_h", 80)] {
        file.create_dataset(name).with_i64_data(&[value; 3]).with_shape(&[3]);
    }
    file
}

/// The same with so many ids.
fn indexed(path: &Path, ids: &[i64]) {
    let mut file = indexed_fields();
    file.create_dataset("ids").with_i64_data(ids).with_shape(&[ids.len() as u64]);
    std::fs::write(path, file.finish().unwrap()).unwrap();
}

fn validated(path: &Path, options: &Options) -> Report {
    let source = formats::open(path).unwrap();
    validate_source(source, options, &RUN, &mut |_| {}).unwrap().unwrap()
}

#[test]
fn rows_without_an_id_are_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    indexed(&path, &[5, 6, 7]);
    assert!(validated(&path, &Options::default()).is_good());
    indexed(&path, &[5]);
    let report = validated(&path, &Options::default());
    assert_eq!((report.images, report.bad_images), (2, 1));
    assert_eq!(report.findings[0].id, "row 1");
    assert!(report.findings[0].what.contains("or for 1 more"), "{:?}", report.findings);
    indexed(&path, &[5, 6, 7, 8]);
    assert_eq!(validated(&path, &Options::default()).bad_images, 1);
}

#[test]
fn a_dictionary_beside_the_file_that_lacks_images_is_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let (path, list) = (folder.path().join("a.h5"), folder.path().join("a_imgid2idx.json"));
    std::fs::write(&path, indexed_fields().finish().unwrap()).unwrap();
    std::fs::write(&list, r#"{"5": 2, "6": 0, "7": 1}"#).unwrap();
    assert!(validated(&path, &Options::default()).is_good());
    // Two names of one image are two images, and nobody is left for row 1.
    std::fs::write(&list, r#"{"5": 2, "6": 0, "7": 0}"#).unwrap();
    let report = validated(&path, &Options::default());
    assert_eq!((report.images, report.bad_images), (4, 1));
    let finding = &report.findings[0];
    assert!(finding.id == "row 1" && finding.what.contains("no id stands for it"), "{finding:?}");
    // A row beyond the images takes nobody's place.
    std::fs::write(&list, r#"{"5": 2, "6": 0, "7": 9}"#).unwrap();
    assert_eq!(validated(&path, &Options::default()).bad_images, 2);
    // Twenty bytes a value would be asked for each of these; three images have no such list.
    std::fs::remove_file(&list).unwrap();
    let lists = folder.path().join("a_imgid2idx.pkl");
    std::fs::write(&lists, [b"\x80\x02".as_slice(), &vec![b']'; 1 << 18], b"."].concat()).unwrap();
    let said = formats::open(&path).err().unwrap().to_string();
    assert!(said.contains("a_imgid2idx.pkl") && said.contains("values"), "{said}");
}

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
    let pairs: Vec<u8> =
        given.features.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
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
    for (name, image, is_good) in
        [("sound", given.clone(), true), ("f16", read(pairs), false), ("f64", read(halves), false)]
    {
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

#[test]
fn a_quarantine_is_written_through_no_link_and_into_no_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let [dump, bad, precious] = ["dump", "bad", "precious"].map(|name| folder.path().join(name));
    let mut sink = VoltaSink::create(&dump, VoltaEncoding::Raw).unwrap();
    sink.append("a", &image()).unwrap();
    sink.append("b", &Regions { features: vec![0.5; 8], dim: 4, ..image() }).unwrap();
    Box::new(sink).finish().unwrap();
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
