//! TorchScript archives: a pickle of nested objects whose attributes are tensors, and one file of bytes per storage.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use unpickle::Value;
use zip::ZipArchive;

use super::float::{Float, widened};
use super::pytorch::foreign_call;
use super::{Source, WeightsError, check_growth};

/// Most bytes of pickle that are read.
const MAX_PICKLE: u64 = 64 << 20;

/// A tensor as the pickle names it: a view of a storage.
struct View {
    /// The storage's file.
    storage: String,
    kind: Float,
    /// Values before the first.
    offset: usize,
    shape: Vec<usize>,
    /// Values from one index to the next, per axis.
    strides: Vec<usize>,
}

pub(super) struct Archive {
    path: PathBuf,
    views: BTreeMap<String, View>,
}

/// Opens a TorchScript archive; `None` for a zip of another kind, such as a state dictionary.
pub(super) fn open(path: &Path) -> Result<Option<Archive>, WeightsError> {
    let unreadable = |reason: String| WeightsError::Unreadable { path: path.to_owned(), reason };
    let (root, is_script) = root(path).map_err(unreadable)?;
    if !is_script {
        return Ok(None);
    }
    let bytes = pickle(path).map_err(unreadable)?;
    let value = unpickle::objects(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if let Some(call) = foreign_call(&value) {
        return Err(WeightsError::Refused { path: path.to_owned(), call });
    }
    let mut views = BTreeMap::new();
    collect(&value, "", &root, &mut views).map_err(unreadable)?;
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    check_growth(size, views.values().map(|view| &view.shape)).map_err(unreadable)?;
    Ok(Some(Archive { path: path.to_owned(), views }))
}

/// The folder that everything lies in, and whether there is code beside the data.
fn root(path: &Path) -> Result<(String, bool), String> {
    let archive = archive(path)?;
    let names: Vec<String> =
        archive.file_names().filter_map(Result::ok).map(|name| name.into_owned()).collect();
    let data = names.iter().find_map(|name| {
        let folder = name.strip_suffix("data.pkl")?;
        (folder.is_empty() || folder.ends_with('/')).then(|| folder.to_owned())
    });
    let root = data.ok_or("a zip without data.pkl")?;
    let is_script = names.iter().any(|name| *name == format!("{root}constants.pkl"));
    Ok((root, is_script))
}

fn archive(path: &Path) -> Result<ZipArchive<File>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    ZipArchive::new(file)
        .map_err(|error| format!("a zip archive that is cut off or damaged: {error}"))
}

/// The bytes of `data.pkl`.
pub(super) fn pickle(path: &Path) -> Result<Vec<u8>, String> {
    let (root, _) = root(path)?;
    entry(path, &format!("{root}data.pkl"), MAX_PICKLE)
}

/// One file of the archive, at most `limit` bytes of it.
fn entry(path: &Path, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let mut archive = archive(path)?;
    let entry = archive.by_name(name).map_err(|error| format!("{name}: {error}"))?;
    let mut bytes = Vec::new();
    entry.take(limit).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok(bytes)
}

/// All tensors below an object, named by the path of attributes that leads to them.
fn collect(
    value: &Value,
    name: &str,
    root: &str,
    views: &mut BTreeMap<String, View>,
) -> Result<(), String> {
    let Value::Object { state, .. } = value else { return Ok(()) };
    let Value::Dict(attributes) = &**state else { return Ok(()) };
    for (key, value) in attributes {
        let Some(key) = key.as_str() else { continue };
        let name = if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
        match value {
            Value::Object { .. } => collect(value, &name, root, views)?,
            Value::Call { callable, arguments } if is_tensor(callable) => {
                if let Some(view) = view(arguments, root).ok_or(format!("`{name}` is malformed"))? {
                    views.insert(name, view);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_tensor(callable: &Value) -> bool {
    matches!(callable, Value::Global { module, name }
        if &**module == "torch._utils" && &**name == "_rebuild_tensor_v2")
}

/// `_rebuild_tensor_v2(storage, offset, size, stride, …)`; `Some(None)` for whole numbers, which are no weights.
fn view(arguments: &[Value], root: &str) -> Option<Option<View>> {
    let [Value::Persistent(id), offset, size, stride, ..] = arguments else { return None };
    let Value::Tuple(id) = &**id else { return None };
    let [_, Value::Global { name: storage, .. }, key, ..] = &id[..] else { return None };
    let kind = match &**storage {
        "HalfStorage" => Float::F16,
        "BFloat16Storage" => Float::Bf16,
        "FloatStorage" => Float::F32,
        "DoubleStorage" => Float::F64,
        _ => return Some(None),
    };
    let sizes = |value: &Value| -> Option<Vec<usize>> {
        let Value::Tuple(items) = value else { return None };
        items.iter().map(|item| usize::try_from(item.as_int()?).ok()).collect()
    };
    let (shape, strides) = (sizes(size)?, sizes(stride)?);
    let offset = usize::try_from(offset.as_int()?).ok()?;
    (shape.len() == strides.len()).then_some(())?;
    let storage = format!("{root}data/{}", key.as_str()?);
    Some(Some(View { storage, kind, offset, shape, strides }))
}

impl Source for Archive {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.views.iter().map(|(name, view)| (name.clone(), view.shape.clone())).collect()
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, String> {
        let view = self.views.get(name).ok_or("no such tensor")?;
        let size = view.kind.size();
        let last = view.last().ok_or("a view beyond all bounds")?;
        let limit = (last + 1).checked_mul(size).ok_or("a view beyond all bounds")?;
        let bytes = entry(&self.path, &view.storage, limit as u64)?;
        if bytes.len() < limit {
            return Err(format!(
                "it needs {limit} bytes of {}, which has {}",
                view.storage,
                bytes.len()
            ));
        }
        let storage = widened(&bytes, view.kind);
        Ok(view.gather(&storage))
    }
}

impl View {
    /// Index of the last value in the storage.
    fn last(&self) -> Option<usize> {
        let mut ends = self.shape.iter().zip(&self.strides);
        ends.try_fold(self.offset, |last, (&n, &stride)| {
            last.checked_add(n.saturating_sub(1).checked_mul(stride)?)
        })
    }

    /// The values in C order, whatever the strides.
    fn gather(&self, storage: &[f32]) -> Vec<f32> {
        let count: usize = self.shape.iter().product();
        let mut contiguous = 1;
        let is_contiguous = self.shape.iter().zip(&self.strides).rev().all(|(&n, &stride)| {
            let as_expected = n == 1 || stride == contiguous;
            contiguous *= n;
            as_expected
        });
        if is_contiguous {
            return storage[self.offset..self.offset + count].to_vec();
        }
        let mut index = vec![0; self.shape.len()];
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            let at = index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum::<usize>();
            values.push(storage[self.offset + at]);
            for (position, &n) in index.iter_mut().zip(&self.shape).rev() {
                *position += 1;
                if *position < n {
                    break;
                }
                *position = 0;
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_honoured() {
        let storage: Vec<f32> = (0..7u8).map(f32::from).collect();
        let view = |shape: &[usize], strides: &[usize]| {
            let (shape, strides) = (shape.to_vec(), strides.to_vec());
            View { storage: String::new(), kind: Float::F32, offset: 1, shape, strides }
        };
        assert_eq!(view(&[2, 3], &[3, 1]).gather(&storage), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(view(&[3, 2], &[1, 3]).gather(&storage), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(view(&[], &[]).gather(&storage), [1.0]);
        assert_eq!(view(&[2, 3], &[3, 1]).last(), Some(6));
        assert_eq!(view(&[usize::MAX, 3], &[usize::MAX, 1]).last(), None);
    }
}
