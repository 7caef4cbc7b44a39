//! What tests of training and of pre-training share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// libtorch has one random generator for the whole process: whoever seeds it must be alone while it is used.
pub fn alone() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of a checkpoint's files that are not about time.
pub fn checkpoint_bytes(run: &Path, checkpoint: &str) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(run.join("checkpoints").join(checkpoint)).unwrap();
    files
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "safetensors"))
        .map(|file| {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&file).unwrap())
        })
        .collect()
}

/// Lines of `metrics.jsonl`.
pub fn log(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
