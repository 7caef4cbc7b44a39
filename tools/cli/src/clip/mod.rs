//! `xenc clip`: embeddings of pictures, and ranking with them.

mod embed;
mod rank;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use onnx::runtime::Options;
use vision::clip::graph::Towers;
use vision::clip::{Architecture, ClipEncoder, Tokenizer, random_weights};
use vision::weights::Weights;

/// What to do with CLIP.
#[derive(Subcommand)]
pub enum Command {
    /// Embed pictures and write the embeddings into a store
    Embed(embed::Args),
    /// Rank the images of ImageCoDe's sets by how well they fit the descriptions, without training
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

/// Opens a tower: an exported model, weights, or `random:NAME` to measure speed with.
fn open(model: &str, towers: Towers, options: &Options) -> anyhow::Result<ClipEncoder> {
    if let Some(name) = model.strip_prefix("random:") {
        let weights = random_weights(&architecture(name)?, 1);
        return Ok(ClipEncoder::from_weights(&weights, towers, options)?);
    }
    let path = Path::new(model);
    if path.extension().is_some_and(|extension| extension == "onnx" || extension == "ort") {
        return Ok(ClipEncoder::open(path, options)?);
    }
    Ok(ClipEncoder::from_weights(&Weights::open(path)?, towers, options)?)
}
