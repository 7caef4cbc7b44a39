//! Words that several commands share: precisions, compressions, what to do with bad records and repeated ones.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use feature_store::convert::OnError;
use feature_store::{Compression, Conflict, Precision};

/// How features are stored.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// Lossless
    F32,
    /// Half the size, relative error at most 0.05 %
    F16,
    /// Half the size, relative error at most 0.4 %, the range of f32
    Bf16,
    /// A quarter of the size, error at most 0.4 % of a region's largest value
    Int8,
}

impl From<PrecisionArg> for Precision {
    fn from(argument: PrecisionArg) -> Precision {
        match argument {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::F16 => Precision::F16,
            PrecisionArg::Bf16 => Precision::Bf16,
            PrecisionArg::Int8 => Precision::Int8,
        }
    }
}

/// How records are compressed, where that pays.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompressionArg {
    /// Not at all: the fastest to read
    None,
    /// LZ4
    Lz4,
    /// Zstandard
    Zstd,
}

impl From<CompressionArg> for Compression {
    fn from(argument: CompressionArg) -> Compression {
        match argument {
            CompressionArg::None => Compression::None,
            CompressionArg::Lz4 => Compression::Lz4,
            CompressionArg::Zstd => Compression::Zstd,
        }
    }
}

/// What to do with an image that comes twice, with different contents.
#[derive(Clone, Copy, ValueEnum)]
pub enum ConflictArg {
    /// Stop and name it
    Fail,
    /// Keep the one that came first: the store's in an append, that of the store named first in a merge
    First,
    /// Keep the one that came last
    Last,
}

impl From<ConflictArg> for Conflict {
    fn from(argument: ConflictArg) -> Conflict {
        match argument {
            ConflictArg::Fail => Conflict::Fail,
            ConflictArg::First => Conflict::First,
            ConflictArg::Last => Conflict::Last,
        }
    }
}

/// What to do with records that cannot be taken.
#[derive(clap::Args)]
pub struct OnErrorArgs {
    /// What to do with a record that cannot be read, or that the target's format cannot hold
    #[arg(long, value_enum, default_value_t = OnErrorArg::Fail)]
    on_error: OnErrorArg,
    /// Leave such records out and list them, with the reasons, in report.jsonl in this folder, beside their bytes: lines
    /// of TSV, values of foreign LMDBs, .npy and .npz files that cannot be read. Of HDF5 and of stores, and of files that
    /// only the target cannot hold, nothing but the reason is kept; the source still has them. What can be read is taken,
    /// also where `validate` finds something wrong with its values
    #[arg(long, value_name = "FOLDER")]
    quarantine: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum OnErrorArg {
    /// Stop at the first one
    Fail,
    /// Leave it out, report it, exit with 1
    Skip,
    /// As skip, and keep it in the folder of --quarantine (default: TARGET.quarantine)
    Quarantine,
}

impl OnErrorArgs {
    /// What was asked for, for an output at `target`.
    pub fn resolve(&self, target: &Path) -> OnError {
        let beside = || {
            // Without a slash at its end, which would put it inside.
            let mut name = target.components().collect::<PathBuf>().into_os_string();
            name.push(".quarantine");
            PathBuf::from(name)
        };
        match (&self.quarantine, self.on_error) {
            (Some(folder), _) => OnError::Quarantine(folder.clone()),
            (None, OnErrorArg::Quarantine) => OnError::Quarantine(beside()),
            (None, OnErrorArg::Skip) => OnError::Skip,
            (None, OnErrorArg::Fail) => OnError::Fail,
        }
    }
}
