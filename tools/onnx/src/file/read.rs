//! Reading; constants outside the file are brought in.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

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
    let mut proto = decode(path)?;
    for constant in constants(&mut proto) {
        check_constant(constant, path).map_err(|fault| FileError::Constant {
            path: path.to_owned(),
            name: constant.name.clone(),
            fault,
        })?;
    }
    Ok(Model::new(proto))
}

/// The files beside a model in which some of its constants lie, in the order of their names.
///
/// # Errors
/// As [`read`], but for what is wrong with the values themselves.
pub fn outside(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut files = BTreeSet::new();
    for constant in
        constants(&mut decode(path)?).filter(|constant| constant.data_location == EXTERNAL)
    {
        let place = Place::of(constant, path).map_err(|fault| FileError::Constant {
            path: path.to_owned(),
            name: constant.name.clone(),
            fault,
        })?;
        files.insert(place.path);
    }
    Ok(files.into_iter().collect())
}

fn decode(path: &Path) -> Result<ModelProto, FileError> {
    let bytes = Bytes::from(fs::read(path).map_err(FileError::io(path))?);
    let not_onnx = |what: String| FileError::NotOnnx { path: path.to_owned(), what };
    let proto = ModelProto::decode(bytes).map_err(|error| not_onnx(error.to_string()))?;
    if proto.graph.is_none() {
        return Err(not_onnx("it holds no graph".into()));
    }
    if proto.ir_version <= 0 || proto.opset_import.is_empty() {
        return Err(not_onnx("it names no version".into()));
    }
    Ok(proto)
}

fn constants(proto: &mut ModelProto) -> impl Iterator<Item = &mut TensorProto> {
    proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer)
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
    let Place { path, offset, length } = Place::of(constant, path)?;
    let mut values = vec![0; length as usize];
    let read = fs::File::open(&path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut values)
    });
    read.map_err(|source| ConstantFault::Missing { path, source })?;
    Ok(values.into())
}

/// Where the values of a constant lie.
struct Place {
    path: PathBuf,
    offset: u64,
    length: u64,
}

impl Place {
    /// Of a constant outside, in a file that is there and as long as it has to be.
    fn of(constant: &TensorProto, model: &Path) -> Result<Place, ConstantFault> {
        let entries: HashMap<_, _> = constant
            .external_data
            .iter()
            .map(|entry| (entry.key.as_str(), entry.value.as_str()))
            .collect();
        let location = entries.get("location").copied().unwrap_or_default();
        let plain =
            Path::new(location).components().all(|part| matches!(part, Component::Normal(_)));
        if location.is_empty() || !plain {
            return Err(ConstantFault::Elsewhere(location.to_owned()));
        }
        let number = |key: &str| {
            let parse = |text: &&str| {
                text.parse::<u64>().map_err(|_| ConstantFault::Number((*text).to_owned()))
            };
            entries.get(key).map(parse).transpose()
        };
        let path = model.with_file_name(location);
        let bytes = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(source) => return Err(ConstantFault::Missing { path, source }),
        };
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.unwrap_or(bytes.saturating_sub(offset));
        let end = offset.saturating_add(length);
        if end > bytes {
            return Err(ConstantFault::Short { path, offset, end, bytes });
        }
        Ok(Place { path, offset, length })
    }
}
