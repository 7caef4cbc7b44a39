//! The real binary, as a user runs it.

#[cfg(feature = "onnx")]
mod analyse;
#[cfg(feature = "torch")]
mod clip;
mod data;
mod docker;
mod doctor;
#[cfg(feature = "torch")]
mod documented;
mod dumps;
#[cfg(feature = "torch")]
mod eval;
#[cfg(feature = "onnx")]
mod export;
#[cfg(feature = "onnx")]
mod extract;
#[cfg(feature = "onnx")]
mod hostile;
mod messages;
#[cfg(feature = "torch")]
mod pretrain;
#[cfg(feature = "torch")]
mod report;
mod selection;
mod store;
mod targets;
#[cfg(feature = "torch")]
mod train;
#[cfg(feature = "torch")]
mod weights;
#[cfg(feature = "torch")]
#[path = "../world/mod.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `xenc` with arguments.
fn xenc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xenc")).args(arguments).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Folder of the reference's files.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fixtures")
}

/// One of the reference's VOLTA LMDBs.
fn volta_lmdb(name: &str) -> PathBuf {
    fixtures().join("features/lmdb").join(name)
}

/// One of the reference's files of features.
fn fixture(name: &str) -> String {
    let path = fixtures().join("features").join(name);
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// A folder of its own, and paths in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

/// Exit code, stdout and stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = xenc(arguments);
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
