//! Reading; constants outside the file are brought in.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use bytes::Bytes;
use prost::Message;

use super::{ConstantFault, FileError};
use crate::Model;
use crate::proto::{EXTERNAL, ModelProto, TensorProto};
use crate::tensor::shape_of;

/// Reads a model file with its constants. A length that the file declares is never believed beyond the bytes that are
/// there.
///
/// # Errors
/// [`FileError`], with the file, the constant and what is wrong with it.
pub fn read(path: &Path) -> Result<Model, FileError> {
    let bytes = Bytes::from(fs::read(path).map_err(FileError::io(path))?);
    let not_onnx = |what: String| FileError::NotOnnx { path: path.to_owned(), what };
    let mut proto = ModelProto::decode(bytes).map_err(|error| not_onnx(error.to_string()))?;
    let Some(graph) = proto.graph.as_mut() else {
        return Err(not_onnx("it holds no graph".into()));
    };
    if proto.ir_version <= 0 || proto.opset_import.is_empty() {
        return Err(not_onnx("it names no version".into()));
    }
    for constant in &mut graph.initializer {
        check_constant(constant, path).map_err(|fault| FileError::Constant {
            path: path.to_owned(),
            name: constant.name.clone(),
            fault,
        })?;
    }
    Ok(Model::new(proto))
}

fn check_constant(constant: &mut TensorProto, path: &Path) -> Result<(), ConstantFault> {
    shape_of(constant)?;
    if constant.data_location == EXTERNAL {
        constant.raw_data = Some(read_outside(constant, path)?);
        constant.data_location = 0;
        constant.external_data.clear();
    }
    Ok(())
}

fn read_outside(constant: &TensorProto, path: &Path) -> Result<Bytes, ConstantFault> {
    let entries: HashMap<_, _> = constant
        .external_data
        .iter()
        .map(|entry| (entry.key.as_str(), entry.value.as_str()))
        .collect();
    let location = entries.get("location").copied().unwrap_or_default();
    let plain = Path::new(location).components().all(|part| matches!(part, Component::Normal(_)));
    if location.is_empty() || !plain {
        return Err(ConstantFault::Elsewhere(location.to_owned()));
    }
    let number = |key: &str| {
        let parse = |text: &&str| {
            text.parse::<u64>().map_err(|_| ConstantFault::Number((*text).to_owned()))
        };
        entries.get(key).map(parse).transpose()
    };
    let file = path.with_file_name(location);
    let missing = |source| ConstantFault::Missing { path: file.clone(), source };
    let mut opened = fs::File::open(&file).map_err(missing)?;
    let bytes = opened.metadata().map_err(missing)?.len();
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or(bytes.saturating_sub(offset));
    let end = offset.saturating_add(length);
    if end > bytes {
        return Err(ConstantFault::Short { path: file, offset, end, bytes });
    }
    let mut values = vec![0; length as usize];
    opened.seek(SeekFrom::Start(offset)).map_err(missing)?;
    opened.read_exact(&mut values).map_err(missing)?;
    Ok(values.into())
}
