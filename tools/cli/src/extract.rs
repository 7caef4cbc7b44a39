//! `xenc extract`: pictures through the region detector into a store.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use onnx::runtime::names_a_model;
use vision::detector::{
    Detector, Preprocess, SelectionRule, Settings, Sizing, Variant, random_weights, read_names,
};
use vision::extract::{Boxes, Names, RegionOptions, extract};
use vision::weights::Weights;

use crate::interrupt;
use crate::pictures::{DeviceArgs, PictureArgs, show_progress};

/// Find regions in pictures with the detector, and write them into a store
///
/// Finds regions in pictures and writes their features, boxes, objects and attributes into a store. Broken pictures are
/// left out and named (exit code 1). The same command goes on with an interrupted run.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pictures: PictureArgs,
    /// The detector: an exported .onnx, or its weights (faster_rcnn_from_caffe_attr.pkl, pytorch_model.bin, .safetensors);
    /// `random:SEED` is one of full size with drawn weights, to measure speed
    #[arg(long, value_name = "FILE")]
    detector: String,
    #[command(flatten)]
    device: DeviceArgs,
    /// Pixels of the shorter side of the network's image (600 is Caffe's)
    #[arg(long, value_name = "PIXELS", default_value_t = Sizing::default().short, value_parser = side())]
    short: usize,
    /// Most pixels of its longer side (1000 is Caffe's)
    #[arg(long, value_name = "PIXELS", default_value_t = Sizing::default().longest, value_parser = side())]
    longest: usize,
    /// Whose preprocessing
    #[arg(long, value_enum, default_value_t = PreprocessingArg::Detectron2)]
    preprocessing: PreprocessingArg,
    /// Feed red, green, blue to the network, as Hugging Face's code does to local files by mistake
    #[arg(long)]
    swap_colours: bool,
    /// How regions are chosen: `volta` tries overlaps from 0.5 to 0.9, `coco` from 0.3
    #[arg(long, value_enum, default_value_t = RuleArg::Volta)]
    rule: RuleArg,
    /// The first overlap that leaves this many regions is taken
    #[arg(long, value_name = "N", default_value_t = 36)]
    min_regions: usize,
    /// Most regions of a picture
    #[arg(long, value_name = "N", default_value_t = 36)]
    max_regions: usize,
    /// Take what there is of a picture with fewer regions, instead of leaving it out
    #[arg(long)]
    accept_fewer: bool,
    /// Describe these boxes instead of finding some: a store, or JSON {"ID": [[x1, y1, x2, y2], ...]}
    #[arg(long, value_name = "STORE|FILE")]
    boxes: Option<PathBuf>,
    /// Draw boxes and labels on the first N pictures, to look at
    #[arg(long, value_name = "N")]
    show: Option<usize>,
    /// Folder for these drawings; STORE.shown by default
    #[arg(long, value_name = "FOLDER", requires = "show")]
    show_in: Option<PathBuf>,
    /// Names of the objects (objects_vocab.txt), for these drawings
    #[arg(long, value_name = "FILE", requires = "show")]
    objects: Option<PathBuf>,
    /// Names of the attributes (attributes_vocab.txt), for these drawings
    #[arg(long, value_name = "FILE", requires = "show")]
    attributes: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum PreprocessingArg {
    /// The detectron2 fork's, with which VOLTA's and ImageCoDe's features were made
    Detectron2,
    /// That of unc-nlp/frcnn-vg-finetuned
    HuggingFace,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum RuleArg {
    Volta,
    Coco,
}

/// Extracts, with progress on stderr and the report on stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let preprocess = args.preprocess();
    let settings = args.settings()?;
    let boxes =
        args.boxes.as_deref().map(Boxes::open).transpose().context("cannot read --boxes")?;
    let pictures = args.pictures.open()?;
    let mut detector = args.open(settings, preprocess.sizing, boxes.is_some())?;
    let [objects, attributes] = detector.classes();
    let names = Names {
        objects: names(args.objects.as_deref(), "objects", objects.unwrap_or(1600))?,
        attributes: names(args.attributes.as_deref(), "attributes", attributes.unwrap_or(400))?,
    };
    let options = RegionOptions {
        preprocess,
        limits: args.pictures.limits(),
        workers: args.pictures.workers(),
        show: args.show.map(|count| (count, args.show_folder())),
        names,
        writer: args.pictures.writer("detector", &args.detector, &args.described())?,
        boxes,
    };
    let (progress, show) = show_progress("extract", pictures.len());
    let target = args.pictures.store();
    let outcome =
        extract(&pictures, target, &mut detector, options, interrupt::flag(), &mut |at| {
            show(&progress, at);
        });
    progress.finish();
    let outcome =
        outcome.with_context(|| format!("cannot extract {}", pictures.root().display()))?;
    match outcome {
        Some(report) => args.pictures.conclude(&report),
        None => {
            errln!("the same command goes on from here");
            Ok(interrupt::exit_code())
        }
    }
}

/// Pixels of a side of the network's image.
fn side() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(16..=16_384)
}

/// What a value is called on the command line.
fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn names(file: Option<&Path>, of: &'static str, count: usize) -> anyhow::Result<Vec<String>> {
    match file {
        Some(file) => Ok(read_names(file, of, count)?),
        None => Ok(Vec::new()),
    }
}

impl Args {
    fn preprocess(&self) -> Preprocess {
        Preprocess {
            sizing: Sizing { short: self.short, longest: self.longest },
            variant: match self.preprocessing {
                PreprocessingArg::Detectron2 => Variant::Detectron2,
                PreprocessingArg::HuggingFace => Variant::HuggingFace,
            },
            swap_colours: self.swap_colours,
        }
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let (min, max) = (self.min_regions, self.max_regions);
        anyhow::ensure!(
            (1..=max).contains(&min),
            "--min-regions {min} is not within 1 and --max-regions {max}"
        );
        let rule = match self.rule {
            RuleArg::Volta => SelectionRule::default(),
            RuleArg::Coco => SelectionRule::coco(),
        };
        let selection = SelectionRule { min, max, ..rule };
        Ok(Settings { selection, accept_fewer: self.accept_fewer })
    }

    /// All that the numbers depend on beside detector and pictures.
    fn described(&self) -> String {
        let swapped = if self.swap_colours { ", red and blue exchanged" } else { "" };
        let chosen = match &self.boxes {
            Some(boxes) => format!("boxes of {}", boxes.display()),
            None => {
                let fewer = if self.accept_fewer { " or fewer" } else { "" };
                let (min, max, rule) = (self.min_regions, self.max_regions, name(&self.rule));
                format!("{min} to {max} regions{fewer} by the rule `{rule}`")
            }
        };
        format!(
            "{} preprocessing to {} x {} pixels{swapped}, {chosen}",
            name(&self.preprocessing),
            self.short,
            self.longest
        )
    }

    fn show_folder(&self) -> PathBuf {
        self.show_in.clone().unwrap_or_else(|| {
            let mut name = self.pictures.store().as_os_str().to_owned();
            name.push(".shown");
            PathBuf::from(name)
        })
    }

    fn open(&self, settings: Settings, sizing: Sizing, boxes: bool) -> anyhow::Result<Detector> {
        let options = self.device.options();
        let from = |weights: &Weights| {
            Detector::from_weights(weights, sizing, boxes, settings.clone(), &options)
        };
        if let Some(seed) = self.detector.strip_prefix("random:") {
            let seed = seed.parse().context("a seed is a whole number: random:1")?;
            return Ok(from(&random_weights(seed))?);
        }
        let path = Path::new(&self.detector);
        if names_a_model(path) {
            return Ok(Detector::open(path, settings, &options)?);
        }
        Ok(from(&Weights::open(path)?)?)
    }
}
