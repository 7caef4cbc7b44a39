//! Sound, damaged and hostile streams through the public door.

use std::path::{Path, PathBuf};

use safetensors::{Dtype as StDtype, SafeTensors};
use unpickle::{Dtype, Fault, NdArray, Value, outline, read, write};

fn fixtures() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fixtures");
    std::env::var_os("XENC_FIXTURES").map_or(default, PathBuf::from).join("checkpoints")
}

fn files(start: &str, end: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(fixtures())
        .expect("the fixtures are there")
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(start) && name.ends_with(end)
        })
        .collect();
    found.sort();
    found
}

fn dtype_of(dtype: Dtype) -> StDtype {
    match dtype {
        Dtype::F16 => StDtype::F16,
        Dtype::F32 => StDtype::F32,
        Dtype::F64 => StDtype::F64,
        Dtype::I64 => StDtype::I64,
        other => panic!("no fixture holds {other:?}"),
    }
}

#[test]
fn parity_detectron2_pickles_hold_exactly_the_expected_arrays() {
    let pickles = files("detectron2_", ".pkl");
    assert!(pickles.len() >= 2, "NumPy 1 and NumPy 2");
    let expected = std::fs::read(fixtures().join("expected_detectron2.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    for path in pickles {
        let value = read(&std::fs::read(&path).unwrap()).unwrap();
        let Some(Value::Dict(model)) = value.get("model") else {
            panic!("{path:?} holds no model")
        };
        assert_eq!(model.len(), expected.len(), "{path:?}");
        for (name, tensor) in expected.tensors() {
            let found = model.iter().find(|(key, _)| key.as_str() == Some(&name));
            let Some((_, Value::Array(array))) = found else { panic!("{path:?} lacks {name}") };
            assert_eq!(array.shape(), tensor.shape(), "{name}");
            // A scalar NumPy array of big-endian or half values keeps its type.
            assert_eq!(dtype_of(array.dtype()), tensor.dtype(), "{name}");
            assert_eq!(array.bytes(), tensor.data(), "{name}");
        }
    }
}

#[test]
fn malicious_pickles_are_refused_by_name_and_do_nothing() {
    let attacks = files("malicious_", ".pkl");
    assert!(attacks.len() >= 4);
    for path in attacks {
        let error = read(&std::fs::read(&path).unwrap()).unwrap_err();
        assert!(
            matches!(&error.fault, Fault::Global(name) if name.contains('.')),
            "{path:?}: {error}"
        );
    }
    assert!(!Path::new("PWNED").exists());
}

fn record() -> Value {
    let boxes: Vec<u8> = (0..8).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let boxes = NdArray::new(Dtype::F32, vec![2, 4], boxes.into()).unwrap();
    Value::Dict(vec![
        (Value::Str("img_w".into()), Value::Int(480)),
        (Value::Str("large".into()), Value::Int(-(1 << 40))),
        (Value::Str("boxes".into()), Value::Array(boxes)),
        (Value::Str("raw".into()), Value::Bytes(vec![0, 255, 10].into())),
        (
            Value::Str("keys".into()),
            Value::List(vec![Value::None, Value::Bool(true), Value::Float(0.5)]),
        ),
    ])
}

#[test]
fn what_is_written_is_read_back() {
    assert_eq!(read(&write(&record()).unwrap()).unwrap(), record());
}

#[test]
fn a_stream_cut_anywhere_is_an_error() {
    let stream = write(&record()).unwrap();
    for end in 0..stream.len() {
        assert!(read(&stream[..end]).is_err(), "cut after {end} bytes");
    }
}

#[test]
fn twenty_thousand_damaged_streams_cause_no_panic() {
    let mut streams: Vec<Vec<u8>> = vec![write(&record()).unwrap()];
    streams.extend(files("detectron2_", ".pkl").iter().map(|path| std::fs::read(path).unwrap()));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..20_000 {
        let mut stream = streams[round % streams.len()].clone();
        for _ in 0..=random(4) {
            let position = random(stream.len().min(4096));
            stream[position] = random(256) as u8;
        }
        let _ = read(&stream);
    }
}

#[test]
fn declared_lengths_are_not_believed() {
    for stream in [
        &b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f."[..], // 2^63 bytes
        b"\x80\x04B\xff\xff\xff\xff.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
    ] {
        assert_eq!(read(stream).unwrap_err().fault, Fault::Truncated);
    }
}

#[test]
fn values_that_contain_themselves_or_explode_are_refused() {
    let circular = b"\x80\x02]q\x00h\x00a.";
    assert!(matches!(read(circular).unwrap_err().fault, Fault::TooDeep(_)));
    // Each list holds the one before it ten times: 10^30 values in a few hundred bytes.
    let mut laughs = b"\x80\x02]q\x00".to_vec();
    for level in 1..=30u8 {
        laughs.extend([b']', b'q', level, b'(']);
        for _ in 0..10 {
            laughs.extend([b'h', level - 1]);
        }
        laughs.push(b'e');
    }
    laughs.push(b'.');
    assert!(matches!(read(&laughs).unwrap_err().fault, Fault::TooLarge(_)));
}

#[test]
fn an_outline_names_what_reading_refuses_and_writes_back() {
    let tensor = Value::Call {
        callable: Box::new(Value::Global {
            module: "torch._utils".into(),
            name: "_rebuild_tensor_v2".into(),
        }),
        arguments: vec![
            Value::Persistent(Box::new(Value::Tuple(vec![Value::Str("storage".into())]))),
            Value::Int(0),
        ],
    };
    let value = Value::Dict(vec![(Value::Str("weight".into()), tensor)]);
    let mut stream = write(&value).unwrap();
    let length = stream.len();
    assert_eq!(stream[..2], [0x80, 2]);
    stream.extend(b"what follows");
    assert_eq!(outline(&stream), Ok((value, length)));
    assert!(
        matches!(read(&stream).unwrap_err().fault, Fault::Global(name) if name.contains("torch._utils"))
    );
}

#[test]
fn an_outline_leaves_out_the_state_and_items_of_foreign_objects() {
    // volta.tbLogger() with a state {"path": "x"} and an item, in a list.
    let stream = b"](cvolta\ntbLogger\n)R}X\x04\0\0\0pathX\x01\0\0\0xsbX\x01\0\0\0kK\x01se.";
    let (value, _) = outline(stream).unwrap();
    let Value::List(items) = value else { panic!("{value:?}") };
    assert!(
        matches!(&items[..], [Value::Call { arguments, .. }] if arguments.is_empty()),
        "{items:?}"
    );
    let limit = outline(&b"(".repeat(20)).unwrap_err();
    assert!(matches!(limit.fault, Fault::Truncated));
}
