//! Files: what is written is read back; what is damaged is named.

use std::fs;
use std::path::Path;

use onnx::file::{ConstantFault, FileError, Placement, read, write};
use onnx::runtime::{Options, RuntimeError, Session};
use onnx::{Dtype, GraphBuilder, Model, TensorData};

use crate::noise;

fn model(seed: u32) -> Model {
    let mut graph = GraphBuilder::new("model");
    let x = graph.input("x", Dtype::F32, &["n".into(), 32.into()]).unwrap();
    let y = graph.linear(x, &noise(&[64, 32], seed), Some(&noise(&[64], seed + 1))).unwrap();
    let y = graph.reshape(y, &[0, 8, 8]).unwrap();
    graph.output("y", y).unwrap();
    graph.metadata("weights", "first");
    graph.metadata("weights", format!("{seed}"));
    graph.finish().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_written_is_read_back_wherever_constants_lie() {
    let folder = tempfile::tempdir().unwrap();
    for (name, placement) in [
        ("in.onnx", Placement::Inside),
        ("out.onnx", Placement::Outside),
        ("auto.onnx", Placement::Auto),
    ] {
        let path = folder.path().join(name);
        write(&model(1), &path, placement).unwrap();
        let back = read(&path).unwrap();
        assert_eq!(back, model(1));
        assert_eq!(back.metadata("weights"), Some("1"));
        assert_eq!(back.metadata("other"), None);
        let x = noise(&[2, 32], 5);
        let mut session = Session::open(&path, &Options::default()).unwrap();
        let found = session.run(&[("x", (&x).into())]).unwrap().remove(0);
        assert_eq!(found.to_host().unwrap(), crate::run(&model(1), &[("x", &x)])[0]);
        assert_eq!(session.metadata("weights").as_deref(), Some("1"));
    }
    // One second file, of the weight alone: the bias and the sides are small.
    let second: Vec<_> =
        names(folder.path()).into_iter().filter(|name| name.ends_with(".data")).collect();
    assert!(matches!(&second[..], [name] if name.starts_with("out.onnx.")), "{second:?}");
    assert_eq!(fs::metadata(folder.path().join(&second[0])).unwrap().len(), 64 * 32 * 4);
}

#[test]
fn a_model_that_is_replaced_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    fs::write(folder.path().join("model.onnx.notes.data"), "mine").unwrap();
    write(&model(1), &path, Placement::Outside).unwrap();
    let first = names(folder.path());
    write(&model(2), &path, Placement::Outside).unwrap();
    let second = names(folder.path());
    assert_eq!((first.len(), second.len()), (3, 3));
    assert_ne!(first, second);
    assert_eq!(read(&path).unwrap(), model(2));
    write(&model(2), &path, Placement::Outside).unwrap();
    assert_eq!(names(folder.path()), second);
    write(&model(2), &path, Placement::Inside).unwrap();
    assert_eq!(names(folder.path()), ["model.onnx", "model.onnx.notes.data"]);
}

#[test]
fn damaged_files_are_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let missing = read(&path).unwrap_err();
    assert!(matches!(missing, FileError::Io { .. }) && missing.to_string().contains("model.onnx"));
    for (bytes, what) in [
        (&b""[..], "no graph"),
        (b"%PDF-1.7 something else", "model.onnx"),
        (b"\x08\x08", "no graph"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, FileError::NotOnnx { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(matches!(
            Session::open(&path, &Options::default()),
            Err(RuntimeError::Model { .. })
        ));
    }
    write(&model(1), &path, Placement::Inside).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(read(&path).is_err() || length > whole.len() - 1000, "{length}");
        let opened = Session::open(&path, &Options::default());
        assert!(matches!(opened, Err(RuntimeError::Model { .. })), "{length}");
    }
}

#[test]
fn constants_that_are_not_where_they_should_be_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    write(&model(1), &path, Placement::Outside).unwrap();
    let data = names(folder.path()).into_iter().find(|name| name.ends_with(".data")).unwrap();
    let data = folder.path().join(data);
    let whole = fs::read(&data).unwrap();
    fs::write(&data, &whole[..100]).unwrap();
    let fault = |error: FileError| match error {
        FileError::Constant { name, fault, .. } => {
            assert_eq!(name, "weight");
            fault
        }
        other => panic!("{other}"),
    };
    assert!(matches!(
        fault(read(&path).unwrap_err()),
        ConstantFault::Short { offset: 0, end: 8192, bytes: 100, .. }
    ));
    assert!(matches!(Session::open(&path, &Options::default()), Err(RuntimeError::Model { .. })));
    fs::remove_file(&data).unwrap();
    assert!(matches!(fault(read(&path).unwrap_err()), ConstantFault::Missing { .. }));
    // A name of the same length that leads out of the folder.
    let name = data.file_name().unwrap().to_str().unwrap().to_owned();
    let elsewhere = format!("../{}", &name[3..]);
    let bytes = fs::read(&path).unwrap();
    let place = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    let mut changed = bytes.clone();
    changed[place..place + name.len()].copy_from_slice(elsewhere.as_bytes());
    fs::write(&path, changed).unwrap();
    assert!(
        matches!(fault(read(&path).unwrap_err()), ConstantFault::Elsewhere(name) if name == elsewhere)
    );
}

#[test]
fn constants_that_lie_about_their_size_are_refused() {
    let mut proto = model(1).proto().clone();
    let constant = &mut proto.graph.as_mut().unwrap().initializer[0];
    constant.dims = vec![1 << 40, 1 << 40];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    fs::write(&path, prost::Message::encode_to_vec(&proto)).unwrap();
    // Reading keeps the bytes as they are; asking for the numbers finds the lie.
    let model = read(&path).unwrap();
    let name = model.proto().graph.as_ref().unwrap().initializer[0].name.clone();
    assert!(model.constant(&name).unwrap().is_err());
    assert!(matches!(Session::open(&path, &Options::default()), Err(RuntimeError::Model { .. })));
    assert_eq!(TensorData::scalar(1.0).shape(), [0usize; 0]);
}

#[test]
#[ignore = "takes 5 GB of disk and memory"]
fn constants_beyond_what_a_file_may_hold_lie_outside() {
    let mut graph = GraphBuilder::new("large");
    let x = graph.input("x", Dtype::F32, &[1.into(), 1.into()]).unwrap();
    let count = 600_000_000;
    let weight = graph
        .constant("weight", TensorData::new([1, count], vec![0.5f32; count]).unwrap())
        .unwrap();
    let y = graph.matmul(x, weight).unwrap();
    let y = graph.reduce_max(y, &[1], false).unwrap();
    graph.output("y", y).unwrap();
    let model = graph.finish().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.onnx");
    assert!(matches!(write(&model, &path, Placement::Inside), Err(FileError::TooLarge { .. })));
    write(&model, &path, Placement::Auto).unwrap();
    assert_eq!(read(&path).unwrap().constant_bytes(), 4 * count as u64);
    let mut session = Session::open(&path, &Options::default()).unwrap();
    let x = TensorData::new([1, 1], vec![3.0f32]).unwrap();
    assert_eq!(session.run(&[("x", (&x).into())]).unwrap()[0].f32s().unwrap(), [1.5]);
}
