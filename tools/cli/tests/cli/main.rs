//! The real binary, as a user runs it.

#[cfg(feature = "torch")]
mod eval;
#[cfg(feature = "torch")]
mod report;
mod store;
#[cfg(feature = "torch")]
mod train;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `xenc` with arguments.
fn xenc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xenc")).args(arguments).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One of the reference's VOLTA LMDBs.
fn volta_lmdb(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fixtures/features/lmdb").join(name)
}
