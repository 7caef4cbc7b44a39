//! HDF5 that others have written with other types, or not wholly: read to the value, or refused with the reason.

#[path = "common/foreign.rs"]
mod foreign;

use std::path::Path;

use feature_store::convert::{OnError, convert};
use feature_store::export::{ForeignFormat, export};
use feature_store::formats;
use feature_store::validate::Options;
use feature_store::{Labels, Regions, WriterOptions};
use half::f16;
use hdf5_pure::{Datatype, DatatypeByteOrder, FileBuilder, FloatingPointLayout};

use foreign::{RUN, image, validated};

/// IEEE's numbers of some bytes, of which so many bits are the exponent.
fn ieee(bytes: u32, exponent: u8, byte_order: DatatypeByteOrder) -> Datatype {
    let mantissa = 8 * bytes as u8 - 1 - exponent;
    let layout = FloatingPointLayout {
        bit_offset: 0,
        bit_precision: 8 * bytes as u16,
        exponent_location: mantissa,
        exponent_size: exponent,
        mantissa_location: 0,
        mantissa_size: mantissa,
        exponent_bias: (1 << (exponent - 1)) - 1,
    };
    Datatype::FloatingPoint { size: bytes, byte_order, layout }
}

fn half() -> Datatype {
    ieee(2, 5, DatatypeByteOrder::LittleEndian)
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
fn hdf5_numbers_are_read_in_either_byte_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    let little: [(u32, u8, Vec<u8>); 3] = [
        (2, 5, image().features.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect()),
        (4, 8, image().features.iter().flat_map(|x| x.to_le_bytes()).collect()),
        (8, 11, image().features.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect()),
    ];
    for (size, exponent, little) in little {
        let big = little.chunks(size as usize).flat_map(|x| x.iter().rev().copied()).collect();
        let orders =
            [(DatatypeByteOrder::LittleEndian, little), (DatatypeByteOrder::BigEndian, big)];
        for (order, bytes) in orders {
            grouped(&path, |name, group| {
                if name == "features" {
                    let datatype = ieee(size, exponent, order);
                    let dataset = group.create_dataset(name);
                    dataset.with_raw_data(datatype, bytes.clone(), 4).with_shape(&[2, 2]);
                }
                name == "features"
            });
            let read = first(&path).unwrap();
            assert_eq!(read.features, image().features, "{size} bytes, {order:?}");
        }
    }
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
