//! What a PyTorch file's pickle says beside its tensors: the order of names, who shares a storage, numbers.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use unpickle::Value;

/// Most bytes of pickle that are read; a sound one has a few hundred for every tensor.
const MAX_PICKLE: u64 = 16 << 20;

/// The saved object, with tensors as calls that were not made.
pub(in crate::weights) fn outline(path: &Path) -> Result<Value, String> {
    let (pickles, is_zip) = pickles(path)?;
    // In an older file magic number, protocol and system come first, each a pickle of its own.
    let mut rest = pickles.as_slice();
    for _ in 0..if is_zip { 0 } else { 3 } {
        let (_, length) = outline_one(rest)?;
        rest = rest.get(length..).unwrap_or_default();
    }
    outline_one(rest).map(|(value, _)| value)
}

/// What a file without tensors holds instead, as far as its pickles say.
pub(super) fn instead_of_tensors(path: &Path) -> Option<String> {
    let (pickles, _) = pickles(path).ok()?;
    let mut rest = pickles.as_slice();
    let mut arrays = false;
    // Of an older file the fourth pickle is the saved object; a bare one has one.
    for _ in 0..4 {
        let Ok((value, length)) = outline_one(rest) else { break };
        if let Some(call) = foreign_call(&value) {
            return Some(format!(
                "it would call `{call}`, which no file of weights needs: it may be an attack; nothing of it was executed"
            ));
        }
        arrays |= holds_arrays(&value);
        rest = rest.get(length..).unwrap_or_default();
    }
    arrays.then(|| {
        "it holds NumPy arrays and no PyTorch tensors, as detectron2's files of detector weights do".to_owned()
    })
}

/// The bytes of a file's pickles, and whether it is an archive (of one pickle, then).
fn pickles(path: &Path) -> Result<(Vec<u8>, bool), String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.by_ref().take(4).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes == b"PK\x03\x04" {
        return Ok((zip_pickle(file)?, true));
    }
    file.take(MAX_PICKLE).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok((bytes, false))
}

/// The first call of something that neither makes a tensor nor is plain data.
fn foreign_call(value: &Value) -> Option<String> {
    match value {
        Value::Call { callable, arguments } => {
            foreign_name(callable).or_else(|| arguments.iter().find_map(foreign_call))
        }
        Value::List(items) | Value::Tuple(items) | Value::ObjectArray { items, .. } => {
            items.iter().find_map(foreign_call)
        }
        Value::Dict(pairs) => {
            pairs.iter().find_map(|(key, value)| foreign_call(key).or_else(|| foreign_call(value)))
        }
        Value::Global { .. } => foreign_name(value),
        _ => None,
    }
}

fn foreign_name(callable: &Value) -> Option<String> {
    let Value::Global { module, name } = callable else { return None };
    let known = module
        .split('.')
        .next()
        .is_some_and(|root| matches!(root, "torch" | "collections" | "numpy"));
    (!known).then(|| format!("{module}.{name}"))
}

fn holds_arrays(value: &Value) -> bool {
    match value {
        Value::Array(_) => true,
        Value::Dict(pairs) => pairs.iter().any(|(_, value)| holds_arrays(value)),
        Value::List(items) | Value::Tuple(items) => items.iter().any(holds_arrays),
        _ => false,
    }
}

fn outline_one(stream: &[u8]) -> Result<(Value, usize), String> {
    unpickle::outline(stream).map_err(|error| error.to_string())
}

fn zip_pickle(file: File) -> Result<Vec<u8>, String> {
    let mut archive = zip::ZipArchive::new(file)
        .map_err(|error| format!("a zip archive that is cut off or damaged: {error}"))?;
    let names = archive.file_names().filter_map(Result::ok).map(|name| name.into_owned());
    let mut pickles = names.filter(|name| name == "data.pkl" || name.ends_with("/data.pkl"));
    let name = pickles.next().ok_or("the archive has no data.pkl")?;
    drop(pickles);
    let entry = archive.by_name(&name).map_err(|error| error.to_string())?;
    let mut pickle = Vec::new();
    entry.take(MAX_PICKLE).read_to_end(&mut pickle).map_err(|error| error.to_string())?;
    Ok(pickle)
}

/// A tensor as a state dictionary's pickle names it.
#[derive(Debug, PartialEq)]
pub(in crate::weights) struct StateEntry {
    pub(in crate::weights) name: String,
    /// Key of the storage and the offset in it: equal for tied names.
    pub(in crate::weights) place: (String, i64),
    /// Whether its numbers are floating: parameters are, buffers like `position_ids` are not.
    pub(in crate::weights) floating: bool,
}

/// The tensors of a state dictionary, in order.
#[derive(Debug)]
pub(in crate::weights) struct StateDict(pub(in crate::weights) Vec<StateEntry>);

impl StateDict {
    /// `None` if the value is no dictionary; what is no tensor is passed over.
    pub(in crate::weights) fn new(value: &Value) -> Option<StateDict> {
        let Value::Dict(pairs) = value else { return None };
        Some(StateDict(pairs.iter().filter_map(|(name, value)| entry(name, value)).collect()))
    }

    /// What PyTorch's `named_parameters` gives: floating tensors, each under its first name.
    pub(in crate::weights) fn parameters(&self) -> Vec<&str> {
        let mut seen = std::collections::HashSet::new();
        let floating = self.0.iter().filter(|entry| entry.floating);
        floating.filter(|entry| seen.insert(&entry.place)).map(|entry| &*entry.name).collect()
    }
}

fn entry(name: &Value, value: &Value) -> Option<StateEntry> {
    let Value::Call { arguments, .. } = value else { return None };
    // `_rebuild_parameter(tensor, …)` wraps `_rebuild_tensor_v2(storage, offset, …)`.
    if let Some(inner @ Value::Call { .. }) = arguments.first() {
        return entry(name, inner);
    }
    let [Value::Persistent(id), Value::Int(offset), ..] = &arguments[..] else { return None };
    let Value::Tuple(id) = &**id else { return None };
    let [_, Value::Global { name: storage, .. }, key, ..] = &id[..] else { return None };
    let floating = ["Float", "Double", "Half", "BFloat16"];
    Some(StateEntry {
        name: name.as_str()?.to_owned(),
        place: (key.as_str()?.to_owned(), *offset),
        floating: floating.contains(&storage.strip_suffix("Storage")?),
    })
}
