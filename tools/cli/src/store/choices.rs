//! Words that several commands share: precisions, compressions, what to take from a source.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use feature_store::convert::OnError;
use feature_store::formats::FeatureSource;
use feature_store::formats::select::{Rename, Selected, Selection};
use feature_store::validate::Coverage;
use feature_store::{Compression, Precision, dataset};

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

/// What to do with records that cannot be read.
#[derive(clap::Args)]
pub struct OnErrorArgs {
    /// What to do with a record that cannot be read
    #[arg(long, value_enum, default_value_t = OnErrorArg::Fail)]
    on_error: OnErrorArg,
    /// Leave bad records out and keep them, with the reasons, in this folder
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
            let mut name = target.as_os_str().to_owned();
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

/// What to take from a source, and under which ids.
#[derive(clap::Args)]
pub struct SelectionArgs {
    /// Take only the ids in this file, one a line
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Take only images of the sets in this ImageCoDe annotation file, or in those of a directory
    #[arg(long, value_name = "PATH")]
    dataset: Option<PathBuf>,
    /// Rename ids, before choosing: `stem` (a/007.jpg -> 007), `imagecode` (set/img5.jpg -> setimg5), or
    /// `s/PATTERN/REPLACEMENT/`; may be given several times
    #[arg(long, value_name = "RULE")]
    rename: Vec<Rename>,
}

impl SelectionArgs {
    /// The source, or what was chosen of it.
    pub fn apply(&self, source: Box<dyn FeatureSource>) -> anyhow::Result<Box<dyn FeatureSource>> {
        let mut selection = Selection { rename: self.rename.clone(), ..Selection::default() };
        if let Some(path) = &self.ids {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the list of ids {}", path.display()))?;
            let ids = text.lines().map(str::trim).filter(|id| !id.is_empty());
            selection.ids = Some(ids.map(str::to_owned).collect());
        }
        if let Some(path) = &self.dataset {
            let sets = splits(path)?.into_iter().flat_map(|split| split.sets);
            let prefixes: HashSet<String> = sets.map(|set| dataset::id_prefix(&set)).collect();
            selection.prefixes = Some(prefixes);
        }
        if selection.is_all() {
            return Ok(source);
        }
        Ok(Box::new(Selected::new(source, selection)))
    }
}

/// The sets that each annotation file names; files of a directory that are no annotations are left out, with a word.
pub fn splits(path: &Path) -> anyhow::Result<Vec<Coverage>> {
    if path.is_file() {
        return Ok(vec![coverage(path)?]);
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut splits = Vec::new();
    for file in files {
        match coverage(&file) {
            Ok(split) => splits.push(split),
            Err(error) => eprintln!("left out: {error:#}"),
        }
    }
    if splits.is_empty() {
        bail!("{} holds no ImageCoDe annotation file (*.json)", path.display());
    }
    Ok(splits)
}

fn coverage(file: &Path) -> anyhow::Result<Coverage> {
    let descriptions = dataset::load_split(file)?;
    let sets: BTreeSet<String> =
        descriptions.into_iter().map(|description| description.directory).collect();
    let split = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Coverage { split, sets: sets.into_iter().collect() })
}
