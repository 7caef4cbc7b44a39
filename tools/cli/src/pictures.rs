//! Words that `extract` and `clip embed` share: which pictures, on what device, into what store; and what is said at the
//! end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, bail};
use feature_store::text::visible;
use feature_store::{Provenance, WriterOptions};
use onnx::runtime::{Device, Options};
use vision::extract::{IdRule, Pictures, Report, fingerprint};
use vision::image::Limits;

use crate::console::shown;
use crate::progress::Progress;
use crate::store::choices::{CompressionArg, PrecisionArg};
use crate::store::info::region_count;
use crate::store::target::check_store;

/// Bytes that are collected before they are committed: what a kill can lose.
const TRANSACTION: usize = 8 << 20;
/// Pictures that are told one by one; more are only counted.
const TOLD: usize = 20;
/// Threads at most: each costs memory, and ten times the cores of any machine help nobody.
const MOST_THREADS: i64 = 1024;

/// Which pictures, and how they become a store.
#[derive(clap::Args)]
pub struct PictureArgs {
    /// The pictures (JPEG, PNG, WebP): a folder, a zip or tar archive, or a list of paths, one a line, optionally after an
    /// id and a tab
    images: PathBuf,
    /// The store to write
    store: PathBuf,
    /// How a picture gets its id: `stem` (a/007.jpg -> 007), `path` (a/007.jpg -> a/007), `imagecode` (SET/img5.jpg ->
    /// SETimg5), `auto`: imagecode where all pictures are named so, else stem
    #[arg(long, value_name = "RULE", default_value = "auto")]
    ids: IdRule,
    /// Only part I of N (1/16 to 16/16); `xenc store merge` joins the stores
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Threads that decode and preprocess pictures ahead of the network; as many as cores by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST_THREADS))]
    workers: Option<u16>,
    /// Most pixels of a picture: a larger one may be a decompression bomb
    #[arg(long, value_name = "N", default_value_t = Limits::default().pixels)]
    max_pixels: u64,
    /// How features are stored
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32)]
    precision: PrecisionArg,
    /// How records are compressed, where that saves a sixteenth or more
    #[arg(long, value_enum, default_value_t = CompressionArg::None)]
    compression: CompressionArg,
    /// Replace the store if it exists, once the new one is complete, and drop what an interrupted run with other options
    /// has left
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// On what a network runs.
#[derive(clap::Args)]
pub struct DeviceArgs {
    /// cpu, cuda:N or tensorrt:N; one that cannot be used is an error
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Threads of the network on the processor; all cores by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST_THREADS))]
    threads: Option<u16>,
}

impl DeviceArgs {
    /// How a session is opened. Idle threads of the network leave the cores to the decoding of pictures.
    pub fn options(&self) -> Options {
        Options { threads: self.threads.map(usize::from), quiet: true, ..Options::on(self.device) }
    }
}

/// Part I of N.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shard {
    part: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(words: &str) -> Result<Shard, String> {
        let numbers = words
            .split_once('/')
            .and_then(|(part, of)| Some(Shard { part: part.parse().ok()?, of: of.parse().ok()? }));
        match numbers {
            Some(shard) if (1..=shard.of).contains(&shard.part) => Ok(shard),
            _ => Err(format!("`{words}` is no part: I/N, with I from 1 to N")),
        }
    }
}

impl PictureArgs {
    /// The pictures; an error before any work if the store cannot take its place.
    pub fn open(&self) -> anyhow::Result<Pictures> {
        check_store(&self.store)?;
        let writer = WriterOptions { overwrite: self.force, ..WriterOptions::default() };
        writer.check(&self.store, &[&self.images])?;
        let pictures = Pictures::open(&self.images, self.ids)?;
        let count = pictures.len();
        let pictures = match self.shard {
            Some(Shard { part, of }) => pictures.shard(part, of),
            None => pictures,
        };
        if pictures.is_empty() {
            bail!("{} holds {count} pictures: not every part would have one", shown(&self.images));
        }
        Ok(pictures)
    }

    /// The store to write.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// What a picture may claim.
    pub fn limits(&self) -> Limits {
        Limits { pixels: self.max_pixels, ..Limits::default() }
    }

    /// Threads that prepare pictures.
    pub fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or_else(cores, usize::from)
    }

    /// How the store is written; `made_by` and `settings` tell all that the numbers depend on.
    pub fn writer(
        &self,
        made_by: &str,
        model: &str,
        settings: &str,
    ) -> anyhow::Result<WriterOptions> {
        let identity = match model.starts_with("random:") {
            true => model.to_owned(),
            false => {
                fingerprint(Path::new(model)).with_context(|| format!("cannot read {model}"))?
            }
        };
        Ok(WriterOptions {
            precision: self.precision.into(),
            compression: self.compression.into(),
            overwrite: self.force,
            restart: self.force,
            transaction_bytes: TRANSACTION,
            provenance: Provenance {
                source_format: format!("{made_by} {model} ({settings})"),
                source: self.images.display().to_string(),
                fingerprint: format!("{identity} {settings}"),
                tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            ..WriterOptions::default()
        })
    }

    /// Says what was done; the exit code is 1 if a picture was left out or the validation found something.
    pub fn conclude(&self, report: &Report) -> anyhow::Result<ExitCode> {
        for broken in report.broken.iter().take(TOLD) {
            errln!("left out: {}", visible(&broken.reason));
        }
        if report.broken.len() > TOLD {
            errln!("left out: {} more (--json lists all)", report.broken.len() - TOLD);
        }
        if self.json {
            outln!("{}", crate::console::json(report)?);
        } else {
            self.print(report);
        }
        let good = report.broken.is_empty() && report.validation.is_good();
        Ok(ExitCode::from(u8::from(!good)))
    }

    fn print(&self, report: &Report) {
        let (schema, timing) = (&report.schema, &report.timing);
        let made = schema.count - report.resumed as u64;
        outln!(
            "{}: {} images of {} x {}, {} left out, {} taken over, {:.1} s",
            shown(&self.store),
            schema.count,
            region_count(schema),
            schema.dim,
            report.broken.len(),
            report.resumed,
            timing.total,
        );
        outln!(
            "{:.2} images/s, {:.1} % of the time outside the network",
            made as f64 / timing.total.max(1e-9),
            100.0 * timing.outside_inference(),
        );
        for finding in &report.validation.findings {
            outln!("  {}: {}", finding.id, finding.what);
        }
        for finding in &report.validation.store_findings {
            outln!("  store: {finding}");
        }
        outln!("validation: {}", if report.validation.is_good() { "good" } else { "findings" });
    }
}

/// Shows how far it is.
pub fn show_progress(
    label: &str,
    total: usize,
) -> (Progress, impl Fn(&Progress, vision::extract::Progress)) {
    let show = |progress: &Progress, at: vision::extract::Progress| {
        let remark = if at.broken > 0 { format!("{} left out", at.broken) } else { String::new() };
        progress.set((at.done + at.broken) as u64, &remark);
    };
    (Progress::start(label, "images", Some(total as u64)), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_one() {
        assert_eq!("3/16".parse(), Ok(Shard { part: 3, of: 16 }));
        for words in ["0/4", "5/4", "1", "1/0", "a/b", ""] {
            assert!(words.parse::<Shard>().is_err(), "{words}");
        }
    }
}
