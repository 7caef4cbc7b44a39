//! `xenc clip embed`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use vision::clip::EMBEDDED_BY;
use vision::clip::graph::Towers;
use vision::extract::{EmbedOptions, embed};

use super::Model;
use crate::interrupt;
use crate::pictures::{DeviceArgs, PictureArgs, show_progress};

/// Embed pictures and write the embeddings into a store
///
/// Embeds pictures with CLIP's image tower: a store with one region per picture, the whole of it. Embeddings are not
/// normalised. Broken pictures are left out and named (exit code 1). The same command goes on with an interrupted run.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pictures: PictureArgs,
    /// CLIP: an exported .onnx, its weights (OpenAI's .pt, a state dictionary, .safetensors), or a training run;
    /// `random:ViT-B/32` has drawn weights, to measure speed
    #[arg(long, value_name = "FILE")]
    model: String,
    #[command(flatten)]
    device: DeviceArgs,
    /// Pictures in one run of the network
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
}

/// Embeds, with progress on stderr and the report on stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let pictures = args.pictures.open()?;
    let model = Model::find(&args.model)?;
    let file = super::weights_file(Path::new(&args.model)).display().to_string();
    let mut encoder = model.open(Towers::Image, &args.device.options())?;
    let settings = match model.image_tower(&encoder)? {
        Some(digest) => format!("image embeddings, {EMBEDDED_BY}{digest}"),
        None => "image embeddings".to_owned(),
    };
    let options = EmbedOptions {
        batch: args.batch,
        limits: args.pictures.limits(),
        workers: args.pictures.workers(),
        writer: args.pictures.writer("clip", &file, &settings)?,
    };
    let (progress, show) = show_progress("embed", pictures.len());
    let target = args.pictures.store();
    let outcome = embed(&pictures, target, &mut encoder, options, interrupt::flag(), &mut |at| {
        show(&progress, at);
    });
    progress.finish();
    match outcome.with_context(|| format!("cannot embed {}", pictures.root().display()))? {
        Some(report) => args.pictures.conclude(&report),
        None => {
            errln!("the same command goes on from here");
            Ok(interrupt::exit_code())
        }
    }
}
