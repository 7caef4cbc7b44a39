//! `xenc clip`: embeddings of pictures, and ranking with them.

mod embed;
mod rank;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use onnx::runtime::{Options, names_a_model};
use vision::clip::graph::Towers;
use vision::clip::{Architecture, ClipEncoder, Tokenizer, image_tower_digest, random_weights};
use vision::weights::Weights;

/// What to do with CLIP.
#[derive(Subcommand)]
pub enum Command {
    Embed(embed::Args),
    Rank(rank::Args),
}

/// Runs one of them.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Embed(args) => embed::run(args),
        Command::Rank(args) => rank::run(args),
    }
}

/// A published model by name.
pub fn architecture(name: &str) -> anyhow::Result<Architecture> {
    let known = Architecture::published(name);
    known.with_context(|| format!("no CLIP `{name}`: ViT-B/32, ViT-B/16, ViT-L/14 or RN50"))
}

/// The tokenizer of a vocabulary; by default of the one that `make setup` fetched.
pub fn tokenizer(vocabulary: Option<&Path>) -> anyhow::Result<Tokenizer> {
    let found = match vocabulary {
        Some(file) => file.to_owned(),
        None => Tokenizer::find_vocabulary().context(
            "CLIP's vocabulary was not found: run `make setup`, or name it with --vocabulary",
        )?,
    };
    Ok(Tokenizer::open(&found)?)
}

/// Where a training run, or a checkpoint, keeps its weights.
const CHECKPOINTS: [&str; 2] = ["checkpoints/best/model.safetensors", "model.safetensors"];

/// A CLIP that a user names.
pub enum Model {
    /// Its weights.
    Weights(Weights),
    /// An exported graph.
    Exported(PathBuf),
}

impl Model {
    /// Finds what is named: an exported model, weights, a training run or a checkpoint, or `random:NAME` to measure speed
    /// with.
    pub fn find(name: &str) -> anyhow::Result<Model> {
        let path = Path::new(name);
        if names_a_model(path) {
            return Ok(Model::Exported(path.to_owned()));
        }
        Ok(Model::Weights(weights(name)?))
    }

    /// The digest of its image tower, if it is known.
    pub fn image_tower(&self, encoder: &ClipEncoder) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Model::Weights(weights) => Some(image_tower_digest(weights)?),
            Model::Exported(_) => encoder.image_tower(),
        })
    }

    /// Makes a tower of it.
    pub fn open(&self, towers: Towers, options: &Options) -> anyhow::Result<ClipEncoder> {
        Ok(match self {
            Model::Weights(weights) => ClipEncoder::from_weights(weights, towers, options)?,
            Model::Exported(path) => ClipEncoder::open(path, options)?,
        })
    }
}

/// The weights that a user names: a file, a training run or a checkpoint, or `random:NAME`.
pub fn weights(name: &str) -> anyhow::Result<Weights> {
    if let Some(published) = name.strip_prefix("random:") {
        return Ok(random_weights(&architecture(published)?, 1));
    }
    Ok(Weights::open(&weights_file(Path::new(name)))?)
}

/// The file of weights in a run or a checkpoint; any other path is that of a file.
pub fn weights_file(path: &Path) -> PathBuf {
    let found = CHECKPOINTS.iter().map(|name| path.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| path.to_owned())
}
