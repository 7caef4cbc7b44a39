//! PyTorch state dictionaries, zip and legacy, through a reader that executes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use pytorch_reader::{DType, FileFormat, PytorchReader, Tensor};
use unpickle::Value;

use super::float::{Float, widened};
use super::{Source, WeightsError, check_growth, torchscript};

/// Where training checkpoints keep their weights.
const KEYS: [&str; 3] = ["model", "state_dict", "model_state_dict"];
/// Most bytes of pickle that are looked through; a sound one has a few hundred for every tensor.
const MAX_PICKLE: u64 = 16 << 20;

pub(super) struct StateDict {
    tensors: HashMap<String, Tensor>,
    others: BTreeSet<String>,
}

/// Whether these first bytes are those of PyTorch's old format: a pickle of its magic number.
pub(super) fn is_legacy(start: &[u8]) -> bool {
    let magic = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    start.get(2..14) == Some(&magic)
}

pub(super) fn open(path: &Path) -> Result<StateDict, WeightsError> {
    let unreadable = |reason: String| WeightsError::Unreadable { path: path.to_owned(), reason };
    refuse_calls(path)?;
    let nested = KEYS.iter().find_map(|key| {
        let reader = PytorchReader::with_top_level_key(path, key).ok()?;
        (!reader.is_empty()).then_some(reader)
    });
    let reader = match nested {
        Some(reader) => reader,
        None => PytorchReader::new(path).map_err(|error| unreadable(error.to_string()))?,
    };
    if !matches!(reader.metadata().format_type, FileFormat::Zip | FileFormat::Legacy) {
        return Err(unreadable(
            "an unusual kind of PyTorch file; save it again with torch.save".into(),
        ));
    }
    let (tensors, others): (HashMap<_, _>, HashMap<_, _>) =
        reader.into_tensors().into_iter().partition(|(_, tensor)| float(tensor).is_some());
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    let shapes: Vec<Vec<usize>> = tensors.values().map(|tensor| tensor.shape().to_vec()).collect();
    check_growth(size, shapes.iter()).map_err(unreadable)?;
    Ok(StateDict { tensors, others: others.into_keys().collect() })
}

fn float(tensor: &Tensor) -> Option<Float> {
    match tensor.dtype() {
        DType::F16 => Some(Float::F16),
        DType::BF16 => Some(Float::Bf16),
        DType::F32 => Some(Float::F32),
        DType::F64 => Some(Float::F64),
        _ => None,
    }
}

impl Source for StateDict {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect()
    }

    fn others(&self) -> BTreeSet<String> {
        self.others.clone()
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, String> {
        let tensor = self.tensors.get(name).ok_or("no such tensor")?;
        let kind = float(tensor).ok_or("no floating-point tensor")?;
        Ok(widened(&tensor.read().map_err(|error| error.to_string())?, kind))
    }
}

/// Looks through the file's pickles for calls that no weights need. The reader would pass over them; they are named
/// because their presence says what kind of file this is.
fn refuse_calls(path: &Path) -> Result<(), WeightsError> {
    let unreadable = |reason: String| WeightsError::Unreadable { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    file.by_ref().take(4).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    let is_zip = bytes == b"PK\x03\x04";
    if is_zip {
        bytes = torchscript::pickle(path).map_err(unreadable)?;
    } else {
        file.take(MAX_PICKLE)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(error.to_string()))?;
    }
    let mut rest = bytes.as_slice();
    // The old format has magic number, protocol and system first, each a pickle of its own.
    for _ in 0..if is_zip { 1 } else { 4 } {
        let (value, length) =
            unpickle::outline(rest).map_err(|error| unreadable(error.to_string()))?;
        if let Some(call) = foreign_call(&value) {
            return Err(WeightsError::Refused { path: path.to_owned(), call });
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// The first call in a value that is neither PyTorch's nor a plain container's.
pub(super) fn foreign_call(value: &Value) -> Option<String> {
    match value {
        Value::List(items) | Value::Tuple(items) | Value::ObjectArray { items, .. } => {
            items.iter().find_map(foreign_call)
        }
        Value::Dict(pairs) => {
            pairs.iter().find_map(|(key, value)| foreign_call(key).or_else(|| foreign_call(value)))
        }
        Value::Persistent(id) => foreign_call(id),
        Value::Call { callable, arguments } => {
            own_call(callable).or_else(|| arguments.iter().find_map(foreign_call))
        }
        Value::Object { class, arguments, state } => own_call(class)
            .or_else(|| arguments.iter().find_map(foreign_call))
            .or_else(|| foreign_call(state)),
        _ => None,
    }
}

fn own_call(callable: &Value) -> Option<String> {
    let Value::Global { module, name } = callable else { return foreign_call(callable) };
    let known = ["torch", "__torch__", "argparse", "collections"];
    let root = module.split('.').next().unwrap_or_default();
    (!known.contains(&root)).then(|| format!("{module}.{name}"))
}
