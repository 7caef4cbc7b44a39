//! Sessions: what they refuse, and the cache of optimised graphs.

use std::fs;
use std::path::{Path, PathBuf};

use onnx::file::{Placement, write};
use onnx::runtime::{Device, Input, Options, RuntimeError, Session, library, write_ort};
use onnx::{Dtype, GraphBuilder, Model, TensorData};

use crate::noise;

fn model() -> Model {
    let mut graph = GraphBuilder::new("model");
    let x = graph.input("x", Dtype::F32, &["n".into(), 4.into()]).unwrap();
    let mask = graph.input("mask", Dtype::Bool, &["n".into(), 4.into()]).unwrap();
    let zero = graph.scalar(0.0).unwrap();
    let y = graph.select(mask, x, zero).unwrap();
    let y = graph.linear(y, &noise(&[3, 4], 1), None).unwrap();
    graph.output("y", y).unwrap();
    graph.finish().unwrap()
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let mut session = Session::from_model(&model(), &Options::default()).unwrap();
    let x = noise(&[2, 4], 3);
    let mask = TensorData::new([2, 4], vec![true; 8]).unwrap();
    let flat = noise(&[8], 3);
    let mut run = |inputs: &[(&str, Input)]| session.run(inputs).map(|outputs| outputs[0].shape());
    assert_eq!(run(&[("mask", (&mask).into()), ("x", (&x).into())]).unwrap(), [2, 3]);
    assert_eq!(
        run(&[("mask", (&mask).into()), ("x", Input::Slice(&[2, 4], x.f32s().unwrap()))]).unwrap(),
        [2, 3]
    );
    let error = run(&[("x", (&x).into())]).unwrap_err();
    assert!(matches!(&error, RuntimeError::MissingInput(name) if name == "mask"));
    let error =
        run(&[("x", (&x).into()), ("mask", (&mask).into()), ("z", (&x).into())]).unwrap_err();
    assert_eq!(error.to_string(), "the model has no input `z`; it has x, mask");
    let error = run(&[("x", (&flat).into()), ("mask", (&mask).into())]).unwrap_err();
    assert_eq!(error.to_string(), "input `x` is f32 [8], the model takes f32 [n, 4]");
    let error = run(&[("x", (&mask).into()), ("mask", (&mask).into())]).unwrap_err();
    assert!(matches!(error, RuntimeError::WrongInput { found_dtype: Dtype::Bool, .. }));
    // Two sides of one name that differ: only the run can find that.
    let short = TensorData::new([1, 4], vec![true; 4]).unwrap();
    let three = TensorData::new([3, 4], vec![true; 12]).unwrap();
    assert!(run(&[("x", (&x).into()), ("mask", (&short).into())]).is_ok());
    assert!(matches!(
        run(&[("x", (&x).into()), ("mask", (&three).into())]),
        Err(RuntimeError::Run { .. })
    ));
    let error =
        session.run_keeping(&[("x", (&x).into()), ("mask", (&mask).into())], &["z"]).err().unwrap();
    assert!(matches!(error, RuntimeError::UnknownOutput { .. }));
}

#[test]
fn results_are_inputs_of_the_next_run() {
    let mut graph = GraphBuilder::new("double");
    let x = graph.input("x", Dtype::F32, &["n".into()]).unwrap();
    let y = graph.add(x, x).unwrap();
    graph.output("y", y).unwrap();
    let mut session = Session::from_model(&graph.finish().unwrap(), &Options::default()).unwrap();
    let x = TensorData::new([1], vec![1.5f32]).unwrap();
    let once = session.run_keeping(&[("x", (&x).into())], &["y"]).unwrap();
    let twice = session.run(&[("x", (&once[0]).into())]).unwrap();
    assert_eq!(twice[0].f32s().unwrap(), [6.0]);
    assert!(twice[0].i64s().is_err());
}

#[test]
fn a_device_that_is_not_there_is_an_error_never_the_cpu() {
    for device in [Device::Cuda(0), Device::TensorRt(0), Device::Cuda(63)] {
        // On a machine with that GPU this is no error.
        match Session::from_model(&model(), &Options::on(device)) {
            Ok(session) => assert_eq!(session.device(), device),
            Err(error) => assert!(matches!(error, RuntimeError::Device { .. }), "{error}"),
        }
    }
}

/// What the model makes of the same inputs every time.
fn answer(session: &mut Session) -> TensorData {
    let x = noise(&[2, 4], 3);
    let mask = TensorData::new([2, 4], vec![true; 8]).unwrap();
    session.run(&[("x", (&x).into()), ("mask", (&mask).into())]).unwrap()[0].to_host().unwrap()
}

/// Files below a folder with their sizes.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => found.extend(files(&entry.path())),
            metadata => found.push((entry.path(), metadata.len())),
        }
    }
    found.sort();
    found
}

#[test]
fn an_optimised_graph_is_kept_and_a_damaged_one_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (path, cache) = (folder.path().join("model.onnx"), folder.path().join("cache"));
    let options =
        Options { cache: Some(cache.clone()), threads: Some(1), quiet: true, ..Options::default() };
    let run = |options: &Options| answer(&mut Session::open(&path, options).unwrap());
    write(&model(), &path, Placement::Inside).unwrap();
    let plain = run(&Options::default());
    assert_eq!(run(&options), plain);
    let first = files(&cache);
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(run(&options), plain);
    assert_eq!(files(&cache), first);
    fs::write(&first[0].0, "no graph").unwrap();
    assert_eq!(run(&options), plain);
    assert_eq!(files(&cache), first);
    write(&crate::other_model(), &path, Placement::Inside).unwrap();
    Session::open(&path, &options).unwrap();
    assert_eq!(files(&cache).len(), 2);
}

#[test]
fn constants_outside_a_model_are_kept_outside_its_optimised_graph() {
    let folder = tempfile::tempdir().unwrap();
    let (path, cache) = (folder.path().join("model.onnx"), folder.path().join("cache"));
    let options = Options { cache: Some(cache.clone()), ..Options::default() };
    let model = |seed| {
        let mut graph = GraphBuilder::new("wide");
        let x = graph.input("x", Dtype::F32, &["n".into(), 64.into()]).unwrap();
        let y = graph.linear(x, &noise(&[32, 64], seed), None).unwrap();
        graph.output("y", y).unwrap();
        graph.finish().unwrap()
    };
    let x = noise(&[2, 64], 3);
    let run = || {
        let mut session = Session::open(&path, &options).unwrap();
        session.run(&[("x", (&x).into())]).unwrap()[0].to_host().unwrap()
    };
    write(&model(1), &path, Placement::Outside).unwrap();
    let first = run();
    assert_eq!(first, crate::run(&model(1), &[("x", &x)])[0]);
    let kept = files(&cache);
    assert!(kept.len() == 2 && kept[0].1 >= 32 * 64 * 4, "{kept:?}");
    assert_eq!(run(), first);
    assert_eq!(files(&cache), kept);
    // A cut second file of the optimised graph is noticed.
    fs::write(&kept[0].0, [0; 100]).unwrap();
    assert_eq!(run(), first);
    assert_eq!(files(&cache), kept);
    // Other values under the name of the model's second file are another model.
    let second = onnx::file::outside(&path).unwrap().remove(0);
    fs::write(&second, bytemuck::cast_slice::<f32, u8>(&[0.5; 32 * 64])).unwrap();
    assert_ne!(run(), first);
    assert_eq!(files(&cache).len(), 4);
    fs::remove_file(&second).unwrap();
    assert!(matches!(Session::open(&path, &options), Err(RuntimeError::Model { .. })));
}

#[test]
fn onnxruntimes_own_format_gives_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.ort");
    let mut labelled = model();
    labelled.set_metadata("longest", "1333");
    write_ort(&labelled, &path).unwrap();
    assert!(fs::read(&path).unwrap()[4..].starts_with(b"ORTM"));
    let mut session = Session::open(&path, &Options::default()).unwrap();
    let mut plain = Session::from_model(&model(), &Options::default()).unwrap();
    assert_eq!(answer(&mut session), answer(&mut plain));
    assert_eq!((session.inputs(), session.outputs()), (plain.inputs(), plain.outputs()));
    assert_eq!(session.metadata("longest").as_deref(), Some("1333"));
    let cached = Options { cache: Some(folder.path().join("cache")), ..Options::default() };
    assert_eq!(
        answer(&mut Session::open(&path, &cached).unwrap()),
        answer(&mut plain),
        "it is optimised already"
    );
    assert_eq!(files(folder.path()).len(), 1);
    let nowhere = write_ort(&model(), &folder.path().join("nowhere/model.ort")).unwrap_err();
    assert!(nowhere.to_string().contains("nowhere"), "{nowhere}");
    let whole = fs::read(&path).unwrap();
    for length in [0, 7, 100, whole.len() / 2] {
        fs::write(&path, &whole[..length]).unwrap();
        let opened = Session::open(&path, &Options::default());
        assert!(matches!(opened, Err(RuntimeError::Model { .. })), "{length}");
    }
}

#[test]
fn only_a_file_that_is_there_is_to_be_exported_again() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| Session::open(path, &Options::default()).err().unwrap();
    let nowhere = folder.path().join("nowhere.onnx");
    let error = refused(&nowhere).to_string();
    assert_eq!(error, format!("{} cannot be loaded: there is no such file", nowhere.display()));
    let cut = folder.path().join("cut.onnx");
    fs::write(&cut, b"no graph").unwrap();
    let error = refused(&cut);
    assert!(matches!(&error, RuntimeError::Model { .. }), "{error}");
    assert!(error.to_string().contains("export it again"), "{error}");
    let error = refused(folder.path());
    assert!(matches!(&error, RuntimeError::NoFile { .. }), "{error}");
}

#[test]
fn the_library_tells_what_it_is() {
    let library = library().unwrap();
    assert!(library.path.is_file());
    assert!(library.build.contains("ORT Build Info"));
    assert!(library.has(onnx::runtime::Provider::Cpu));
}
