//! The pictures of the held-out sets through a region detector and CLIP. Both are tiny, have drawn weights, and run from
//! the .onnx files that are made of these first: what is shown is the road, not what can be seen on it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use evaluation::Metrics;
use feature_store::{FeatureStore, WriterOptions};
use onnx::runtime::{Device, Options};
use onnx::{Model, file};
use serde::Serialize;
use vision::clip::graph::{ImageTower, TextTower, Towers, Vit};
use vision::clip::{self, ClipEncoder};
use vision::detector::{
    self, AttributeHead, Detector, Preprocess, ProposalRule, SelectionRule, Settings, Sizing,
};
use vision::extract::{
    EmbedOptions, IdRule, Names, Pictures, RegionOptions, Report, embed, extract, rank,
};
use vision::image::Limits;

use crate::export::{self, Comparison};
use crate::interrupt;
use crate::pictures::show_progress;
use crate::progress::Progress;

/// What became of the pictures.
#[derive(Serialize)]
pub struct Summary {
    /// Pictures of the held-out sets.
    pub images: usize,
    pub detector: DetectorSummary,
    pub clip: ClipSummary,
}

#[derive(Serialize)]
pub struct DetectorSummary {
    export: Export,
    /// Of every picture.
    pub regions: u32,
    /// Values of a region.
    pub dim: u32,
    pub seconds: f64,
}

#[derive(Serialize)]
pub struct ClipSummary {
    export: Export,
    pub seconds: f64,
    /// Descriptions of the held-out sets.
    pub descriptions: usize,
    /// Of drawn weights: nothing but luck is above chance.
    pub accuracy: f64,
    pub chance: f64,
}

/// A model that became a file.
#[derive(Serialize)]
struct Export {
    bytes: u64,
    /// Of all outputs, between the file and the graph that it was made of, as a part of the largest value.
    largest_difference: f64,
}

/// The folder of a demo, and what networks run on.
pub struct Stage<'a> {
    pub out: &'a Path,
    pub seed: u64,
    pub device: Device,
}

/// Sides of the drawn pictures, which are not resized.
const SIZING: Sizing = Sizing { short: 240, longest: 320 };
/// The published detector has 300.
const PROPOSALS: usize = 64;
/// How far a file may be from its graph.
const TOLERANCE: f64 = 1e-4;

impl Stage<'_> {
    /// Exports both networks and runs them; `None` if interrupted.
    pub fn run(&self) -> anyhow::Result<Option<Summary>> {
        let pictures = Pictures::open(&self.list()?, IdRule::ImageCode)?;
        let Some(detector) = self.extract(&pictures)? else { return Ok(None) };
        let Some(clip) = self.embed_and_rank(&pictures)? else { return Ok(None) };
        Ok(Some(Summary { images: pictures.len(), detector, clip }))
    }

    /// Writes a list of the pictures of the held-out sets.
    fn list(&self) -> anyhow::Result<PathBuf> {
        let mut lines = String::new();
        let mut sets: Vec<_> =
            self.held_out()?.into_iter().map(|description| description.directory).collect();
        sets.dedup();
        for set in sets {
            let folder = self.out.join("data/images").join(&set);
            for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
                lines += &format!("data/images/{set}/{}\n", entry?.file_name().to_string_lossy());
            }
        }
        let path = self.out.join("held_out_pictures.txt");
        std::fs::write(&path, lines).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn held_out(&self) -> anyhow::Result<Vec<dataset::Description>> {
        Ok(dataset::load_split(&self.out.join("data/valid_data.json"))?)
    }

    fn extract(&self, pictures: &Pictures) -> anyhow::Result<Option<DetectorSummary>> {
        let weights = detector::random_weights_of(&tiny_detector(), self.seed);
        let rule = ProposalRule { after_nms: PROPOSALS, ..ProposalRule::default() };
        let graph = detector::build(&weights, &rule, SIZING, false, self.device)?;
        let path = self.out.join("detector.onnx");
        let export = export("detector", &graph, &path, export::detector::compare)?;

        let settings = Settings { selection: SelectionRule::default(), accept_fewer: true };
        let mut detector = Detector::open(&path, settings, &self.options())?;
        let options = RegionOptions {
            preprocess: Preprocess { sizing: SIZING, ..Preprocess::default() },
            boxes: None,
            limits: Limits::default(),
            workers: workers(),
            show: None,
            names: Names::default(),
            writer: WriterOptions::default(),
        };
        let store = self.out.join("regions.xenc");
        let (progress, show) = show_progress("extract", pictures.len());
        let extracted =
            extract(pictures, &store, &mut detector, options, interrupt::flag(), &mut |at| {
                show(&progress, at);
            });
        progress.finish();
        let Some(report) = extracted? else { return Ok(None) };
        check(&report, &store)?;
        let (schema, seconds) = (&report.schema, report.timing.total);
        errln!(
            "extracted {} regions of each of {} pictures to {}",
            schema.max_regions,
            schema.count,
            store.display()
        );
        Ok(Some(DetectorSummary { export, regions: schema.max_regions, dim: schema.dim, seconds }))
    }

    fn embed_and_rank(&self, pictures: &Pictures) -> anyhow::Result<Option<ClipSummary>> {
        let weights = clip::random_weights(&tiny_clip(), self.seed);
        let graph = export::clip::build(&weights, Towers::Both)?;
        let path = self.out.join("clip.onnx");
        let export = export("CLIP", &graph, &path, |graph, file| {
            export::clip::compare(graph, &weights, file)
        })?;

        let mut encoder = ClipEncoder::open(&path, &self.options())?;
        let options = EmbedOptions {
            batch: 16,
            limits: Limits::default(),
            workers: workers(),
            writer: WriterOptions::default(),
        };
        let store = self.out.join("embeddings.xenc");
        let (progress, show) = show_progress("embed", pictures.len());
        let embedded =
            embed(pictures, &store, &mut encoder, options, interrupt::flag(), &mut |at| {
                show(&progress, at);
            });
        progress.finish();
        let Some(report) = embedded? else { return Ok(None) };
        check(&report, &store)?;
        errln!("embedded {} pictures to {}", report.schema.count, store.display());

        let descriptions = self.held_out()?;
        let (images, tokenizer) = (FeatureStore::open(&store)?, crate::clip::tokenizer(None)?);
        let progress = Progress::start("rank", "descriptions", Some(descriptions.len() as u64));
        let stop = interrupt::flag();
        let ranked = rank(&descriptions, &images, &mut encoder, &tokenizer, stop, &mut |done| {
            progress.set(done as u64, "");
        });
        progress.finish();
        let Some(ranking) = ranked? else { return Ok(None) };
        if let Some(set) = ranking.skipped.first() {
            bail!("{} lacks images: {set}", store.display());
        }
        let metrics = Metrics::new(&ranking.predictions);
        Ok(Some(ClipSummary {
            export,
            seconds: report.timing.total,
            descriptions: metrics.all.descriptions,
            accuracy: metrics.all.accuracy,
            chance: metrics.chance,
        }))
    }

    fn options(&self) -> Options {
        Options { quiet: true, ..Options::on(self.device) }
    }
}

/// Writes a model as `xenc export` does, and compares the file with what it was made of.
fn export(
    name: &str,
    graph: &Model,
    path: &Path,
    compare: impl FnOnce(&Model, &Path) -> anyhow::Result<Comparison>,
) -> anyhow::Result<Export> {
    file::write(graph, path, file::Placement::Auto)?;
    let bytes = std::fs::metadata(path)?.len();
    let comparison = compare(graph, path)?;
    let differences = &comparison.differences;
    if !comparison.is_within(TOLERANCE) {
        bail!("{} does not give the numbers of its graph: {differences:?}", path.display());
    }
    let largest = differences.iter().map(|difference| difference.relative).fold(0.0, f64::max);
    errln!("exported a tiny {name} with drawn weights to {}", path.display());
    Ok(Export { bytes, largest_difference: largest })
}

/// A store of all pictures, or what is wrong with it.
fn check(report: &Report, store: &Path) -> anyhow::Result<()> {
    if let Some(broken) = report.broken.first() {
        bail!(
            "{} pictures are missing in {}: {}",
            report.broken.len(),
            store.display(),
            broken.reason
        );
    }
    if !report.validation.is_good() {
        bail!("the store is not sound: see `xenc store validate {}`", store.display());
    }
    Ok(())
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The published detector's layers, but for their number and width.
fn tiny_detector() -> detector::Architecture {
    detector::Architecture {
        stem: 8,
        width: 4,
        out: 16,
        blocks: [1; 4],
        proposal_hidden: 16,
        classes: 32,
        attributes: Some(AttributeHead { attributes: 16, embedding: 8, hidden: 16 }),
        ..detector::Architecture::default()
    }
}

/// ViT-B/32 with two thin layers in each tower.
fn tiny_clip() -> clip::Architecture {
    clip::Architecture {
        embed: 64,
        image: ImageTower::Vit(Vit { width: 64, patch: 32, layers: 2, grid: 7 }),
        text: TextTower { width: 64, layers: 2, context: 77, vocabulary: 49408 },
    }
}
