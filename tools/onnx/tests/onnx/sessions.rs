//! Sessions: what they refuse, and the cache of optimised graphs.

use std::fs;

use onnx::file::{Placement, write};
use onnx::runtime::{Device, Input, Options, RuntimeError, Session, library};
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

#[test]
fn an_optimised_graph_is_kept_and_a_damaged_one_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    write(&model(), &path, Placement::Inside).unwrap();
    let options = Options {
        cache: Some(folder.path().join("cache")),
        threads: Some(1),
        quiet: true,
        ..Options::default()
    };
    let x = noise(&[2, 4], 3);
    let mask = TensorData::new([2, 4], vec![true; 8]).unwrap();
    let kept = || -> Vec<_> {
        fs::read_dir(folder.path().join("cache"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    let run = |options: &Options| {
        let mut session = Session::open(&path, options).unwrap();
        session.run(&[("x", (&x).into()), ("mask", (&mask).into())]).unwrap()[0].to_host().unwrap()
    };
    let plain = run(&Options::default());
    assert_eq!(run(&options), plain);
    let first = kept();
    assert_eq!(first.len(), 1);
    let bytes = fs::read(&first[0]).unwrap();
    assert_eq!(run(&options), plain);
    assert_eq!(kept(), first);
    fs::write(&first[0], "no graph").unwrap();
    assert_eq!(run(&options), plain);
    assert_eq!(fs::read(&first[0]).unwrap().len(), bytes.len());
    write(&crate::other_model(), &path, Placement::Inside).unwrap();
    Session::open(&path, &options).unwrap();
    assert_eq!(kept().len(), 2);
}

#[test]
fn the_library_tells_what_it_is() {
    let library = library().unwrap();
    assert!(library.path.is_file());
    assert!(library.build.contains("ORT Build Info"));
    assert!(library.has(onnx::runtime::Provider::Cpu));
}
