//! `xenc export`: models as ONNX files.

mod card;
pub mod clip;
#[cfg(feature = "torch")]
mod clip_head;
#[cfg(feature = "torch")]
mod crossencoder;
pub mod detector;
mod difference;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use onnx::passes::QuantizeOptions;
use onnx::runtime::{ORT_ENDING, write_ort};
use onnx::{Model, file, passes};
use serde_json::json;
use tempfile::TempDir;

use crate::console::shown;
use crate::interrupt;
use card::Card;

pub use difference::{Comparison, Difference};

/// What to export.
#[derive(Subcommand)]
pub enum Command {
    #[cfg(feature = "torch")]
    Crossencoder(crossencoder::Args),
    Clip(clip::Args),
    Detector(detector::Args),
}

/// Exports.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        #[cfg(feature = "torch")]
        Command::Crossencoder(args) => crossencoder::run(args),
        Command::Clip(args) => clip::run(args),
        Command::Detector(args) => detector::run(args),
    }
}

/// The file and what is in it.
#[derive(clap::Args)]
pub struct FileArgs {
    /// The file to write (*.onnx, *.ort), with its card (*.onnx.md) beside it; constants of more than 1.5 GiB lie in a
    /// file of their own beside an .onnx
    out: PathBuf,
    /// For whom, which the file's name has to end with; by default what it ends with
    #[arg(long = "target", value_enum)]
    format: Option<Format>,
    /// Weights and arithmetic in half precision; normalisation stays in f32
    #[arg(long, conflicts_with = "int8")]
    fp16: bool,
    /// Products with 8-bit weights, for processors
    #[arg(long)]
    int8: bool,
    /// Run the file and what it was made of on the same inputs, print what was compared with what and how far they are
    /// apart: exit code 1 beyond the tolerance
    #[arg(long)]
    verify: bool,
    /// Largest difference, as a part of the largest value [default: 0.0001; 0.02 with --fp16, 0.2 with --int8]
    #[arg(long, value_name = "PART", requires = "verify", value_parser = part)]
    tolerance: Option<f64>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What a model is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Standard operators: runs wherever ONNX is read
    Onnx,
    /// ONNX Runtime's own format, optimised already, for processors: opens faster
    Ort,
}

impl Format {
    /// What the name of a file says.
    fn of(path: &Path) -> Option<Format> {
        let ending = path.extension()?;
        [Format::Onnx, Format::Ort].into_iter().find(|format| *ending == *format.ending())
    }

    fn ending(self) -> &'static str {
        match self {
            Format::Onnx => "onnx",
            Format::Ort => ORT_ENDING,
        }
    }
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(part) if (0.0..=1e3).contains(&part) => Ok(part),
        _ => Err("a number from 0 on is expected".into()),
    }
}

impl FileArgs {
    /// Fails for a file for a GPU that no GPU runs.
    fn check_gpu(&self) -> anyhow::Result<()> {
        match (Format::of(&self.out), self.int8) {
            (Some(Format::Ort), _) => {
                bail!("ONNX Runtime's own format is for processors: write an .onnx for a GPU")
            }
            (_, true) => {
                bail!("8-bit products are for processors: --fp16 makes a smaller file for a GPU")
            }
            _ => Ok(()),
        }
    }

    /// Fails before the work if the file cannot take its place, which must not be that of what it is made of.
    fn check(&self, made_of: &Path) -> anyhow::Result<()> {
        let out = &self.out;
        match (self.format, Format::of(out)) {
            (Some(format), found) if found != Some(format) => {
                bail!("{}: let the file's name end with .{}", shown(out), format.ending())
            }
            (None, None) => bail!("{}: let the file's name end with .onnx or .ort", shown(out)),
            _ => {}
        }
        if out.exists() && !out.is_file() {
            bail!("{} is there, and no regular file", shown(out));
        }
        for file in [out, &Card::path(out)] {
            if file
                .canonicalize()
                .is_ok_and(|file| made_of.canonicalize().is_ok_and(|of| of == file))
            {
                bail!("{} is what is to be exported: give the file another name", shown(file));
            }
            if file.exists() && !self.force {
                bail!("{} is there already; --force replaces it", shown(file));
            }
        }
        match out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) if !folder.is_dir() => {
                bail!("cannot write {}: {} is no folder", shown(out), shown(folder))
            }
            _ => Ok(()),
        }
    }

    /// The model in the precision that is asked for; `half` knows what has to stay in f32.
    fn rounded(
        &self,
        model: Model,
        half: impl FnOnce(&Model) -> Result<Model, passes::PassError>,
    ) -> anyhow::Result<Model> {
        Ok(match (self.fp16, self.int8) {
            (true, _) => half(&model)?,
            (_, true) => passes::quantize(&model, QuantizeOptions::default())?,
            _ => model,
        })
    }

    fn precision(&self) -> &'static str {
        match (self.fp16, self.int8) {
            (true, _) => "f16",
            (_, true) => "int8",
            _ => "f32",
        }
    }

    fn tolerance(&self) -> f64 {
        self.tolerance.unwrap_or(match (self.fp16, self.int8) {
            (true, _) => 0.02,
            (_, true) => 0.2,
            _ => 1e-4,
        })
    }

    /// Writes the model, compares if that is asked for, writes its card, and prints; `weights` is what it was made of.
    fn finish(
        &self,
        model: &Model,
        weights: &str,
        compare: impl FnOnce(&Path) -> anyhow::Result<Comparison>,
    ) -> anyhow::Result<ExitCode> {
        // Neither building nor running a model can be stopped half way.
        if interrupt::flag().load(Ordering::Relaxed) {
            return Ok(interrupt::exit_code());
        }
        // A file that turns out not to run takes no other's place.
        let staged = self.verify.then(|| self.stage()).transpose()?;
        let written = staged.as_ref().map_or(self.out.clone(), |folder| {
            folder.path().join(self.out.file_name().unwrap_or_default())
        });
        write(model, &written)?;
        let bytes = std::fs::metadata(&written)?.len();
        let is_stopped = interrupt::flag().load(Ordering::Relaxed);
        let compared = self.verify && !is_stopped;
        let comparison = compared.then(|| compare(&written)).transpose()?;
        if staged.is_some() {
            file::replace(&written, &self.out)?;
        }
        let tolerance = self.tolerance();
        let (file, precision) = (&*self.out, self.precision());
        let card = Card { file, bytes, weights, precision, comparison: comparison.as_ref() };
        card.write(model).with_context(|| format!("cannot write the card of {}", shown(file)))?;
        let within = comparison.as_ref().is_none_or(|comparison| comparison.is_within(tolerance));
        if self.json {
            let summary = json!({
                "path": self.out,
                "card": Card::path(&self.out),
                "bytes": bytes,
                "constants": model.constant_bytes(),
                "nodes": model.nodes().len(),
                "precision": self.precision(),
                "without_cuda_kernel": onnx::kernels::without_cuda(model),
                "comparison": comparison,
                "tolerance": tolerance,
                "verified": self.verify.then_some(within),
            });
            outln!("{}", crate::console::json(&summary)?);
        } else {
            self.print(model, bytes, comparison.as_ref());
        }
        if is_stopped {
            let not_compared = if self.verify { ", and was not compared" } else { "" };
            errln!("interrupted: the file is whole{not_compared}");
            return Ok(interrupt::exit_code());
        }
        if !within {
            errln!("the difference is beyond the tolerance of {tolerance} (--tolerance)");
        }
        Ok(ExitCode::from(u8::from(!within)))
    }

    /// A folder beside the file, which goes when the program does.
    fn stage(&self) -> anyhow::Result<TempDir> {
        let beside = self.out.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = tempfile::Builder::new()
            .prefix(".export-")
            .tempdir_in(beside.unwrap_or(Path::new(".")));
        folder.with_context(|| format!("cannot write beside {}", shown(&self.out)))
    }

    fn print(&self, model: &Model, bytes: u64, comparison: Option<&Comparison>) {
        let (out, nodes, precision) = (shown(&self.out), model.nodes().len(), self.precision());
        outln!("{out}: {:.1} MB, {nodes} nodes, {precision}", bytes as f64 / 1e6);
        for (kind, values) in [("input", model.inputs()), ("output", model.outputs())] {
            for (name, dtype, shape) in values {
                outln!("{kind:<8} {name:<18} {dtype} {shape}");
            }
        }
        let lacking = onnx::kernels::without_cuda(model);
        if !lacking.is_empty() {
            outln!("on a GPU these operators have no kernel: {}", lacking.join(", "));
        }
        let Some(Comparison { compared, with, differences }) = comparison else { return };
        outln!("compared {compared} with {with}");
        for Difference { output, absolute, relative } in differences {
            outln!(
                "verified {output:<18} largest difference {absolute:.2e}, relative {relative:.2e}"
            );
        }
    }
}

/// Writes a model in the format that the file's name tells.
fn write(model: &Model, path: &Path) -> anyhow::Result<()> {
    match Format::of(path) {
        Some(Format::Ort) => write_ort(model, path)?,
        _ => file::write(model, path, file::Placement::Auto)?,
    }
    Ok(())
}
