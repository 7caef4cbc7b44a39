//! A training run as one HTML page: curves, accuracy, the most confident mistakes, configuration.
//!
//! The page needs nothing but itself: curves are inline SVG, pictures are data URIs, there is no script, and its content
//! security policy forbids whatever else a text in it might ask for. All text passes through `maud`, which escapes it.

mod chart;
mod log;
pub(crate) mod mistake_view;
pub(crate) mod mistakes;
mod page;
pub(crate) mod pictures;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use evaluation::{
    AnnotationsError, Bootstrap, Evaluation, EvaluationError, Origin, Phenomena, Prediction,
    Predictions, PredictionsError, read_predictions, write_whole,
};
use tch::Device;

use crate::config::Config;
use crate::data::DataError;
use crate::digests::{self, DigestError};
use crate::eval::{self, EvalError};
use crate::ranker::{RECIPE, Ranker, RankerError};
use crate::train::{Recipe, RecipeError};
use log::Log;
use mistakes::Mistake;

/// The look of our pages.
pub(crate) const STYLE: &str = include_str!("style.css");

/// Descriptions that are ranked at once.
const BATCH_SIZE: usize = 8;

/// A page says within so many bytes that it is one of ours.
const MARKED_WITHIN: u64 = 1024;

/// What a report is made from, beside the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Leave out what needs model and features: ranking, mistakes, attention.
    pub curves_only: bool,
    /// The feature store; the recipe's by default.
    pub features: Option<PathBuf>,
    /// The folder of the pictures, `DIRECTORY/imgN.jpg`; without it boxes are drawn on an empty canvas.
    pub images: Option<PathBuf>,
    /// Annotations of phenomena, ImageCoDe's YAML.
    pub phenomena: Option<PathBuf>,
    /// What is ranked: `valid` or `train` of the recipe, or an annotation file.
    pub split: String,
    /// Predictions that the run's model has made of the split before; without them it ranks the split now.
    pub predictions: Option<PathBuf>,
    /// How many mistakes are shown.
    pub mistakes: usize,
    /// Where the model runs.
    pub device: Device,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            curves_only: false,
            features: None,
            images: None,
            phenomena: None,
            split: "valid".into(),
            predictions: None,
            mistakes: 12,
            device: Device::Cpu,
        }
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A folder without a recipe.
    #[error("{0} is no training run: it has no recipe.toml; `xenc train` makes one")]
    NotARun(PathBuf),
    /// The run's recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A line of the log.
    #[error("{path}, line {line}: {reason}")]
    Log {
        /// `metrics.jsonl`.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Model or features cannot be used.
    #[error("{0}; --curves-only makes a report without model and features")]
    Ranker(#[from] RankerError),
    /// The split cannot be ranked.
    #[error("{0}; --curves-only makes a report without model and features")]
    Eval(#[from] EvalError),
    /// What was ranked cannot be evaluated.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The predictions file.
    #[error(transparent)]
    Predictions(#[from] PredictionsError),
    /// Predictions that do not say what they are of.
    #[error(
        "{0} does not say which model and split it is of; `xenc eval RUN --predictions FILE` writes predictions that do"
    )]
    Unknown(PathBuf),
    /// Predictions of another model.
    #[error(
        "{predictions} is of {model}, whose weights are not those of {run}'s best checkpoint; `xenc eval {run} --predictions \
         FILE` ranks with those"
    )]
    OtherModel {
        /// The predictions file.
        predictions: PathBuf,
        /// The model that it names.
        model: String,
        /// The run that the report is of.
        run: PathBuf,
    },
    /// Predictions of another split.
    #[error(
        "{predictions} is of the split {found}, not of {expected}; give --split {found} to report that"
    )]
    OtherSplit {
        /// The predictions file.
        predictions: PathBuf,
        /// The split that it names.
        found: String,
        /// The split of the report.
        expected: PathBuf,
    },
    /// The weights cannot be read again.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The file of phenomena.
    #[error(transparent)]
    Phenomena(#[from] AnnotationsError),
    /// The folder of pictures.
    #[error(
        "{0} is no folder with pictures: --images names the folder that has one folder per set"
    )]
    NoImages(PathBuf),
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl From<DataError> for ReportError {
    fn from(error: DataError) -> Self {
        ReportError::Ranker(error.into())
    }
}

/// What stands on the page.
#[derive(Debug)]
pub struct Report {
    name: String,
    recipe: Recipe,
    /// `None` if the model's configuration is not where the recipe says.
    config: Option<Config>,
    log: Log,
    ranking: Option<RankingReport>,
}

/// How the model ranks a split.
#[derive(Debug)]
struct RankingReport {
    /// The annotation file.
    split: PathBuf,
    /// What of it was left out; not known of predictions that were made before.
    remarks: Vec<String>,
    parameters: usize,
    evaluation: Evaluation,
    /// How many labelled descriptions are ranked wrong.
    wrong: usize,
    mistakes: Vec<Mistake>,
    /// Pictures that should have been there.
    missing_pictures: Vec<PathBuf>,
}

impl Report {
    /// Reads a run, ranks the split unless predictions are given, and looks at the mistakes; `None` if cancelled.
    /// `progress` is told how many descriptions are ranked, of how many.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn new(
        run: &Path,
        options: &Options,
        cancelled: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Report>, ReportError> {
        let recipe_file = run.join(RECIPE);
        if !recipe_file.is_file() {
            return Err(ReportError::NotARun(run.to_owned()));
        }
        if let Some(images) = options.images.as_ref().filter(|images| !images.is_dir()) {
            return Err(ReportError::NoImages(images.clone()));
        }
        let recipe = Recipe::load(&recipe_file, &[])?;
        let log = Log::read(&run.join("metrics.jsonl"))?;
        let name = run.canonicalize().unwrap_or_else(|_| run.to_owned());
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (config, ranking) = match options.curves_only {
            true => (Config::load(&recipe.model).ok(), None),
            false => {
                let ranker = Ranker::load(run, &[], options.device)?;
                let Some(ranking) = rank(run, &ranker, options, cancelled, progress)? else {
                    return Ok(None);
                };
                (Some(ranker.config), Some(ranking))
            }
        };
        Ok(Some(Report { name, recipe, config, log, ranking }))
    }

    /// The page.
    pub fn to_html(&self) -> String {
        page::page(self).into_string()
    }

    /// Writes the page; the file is complete or as it was.
    ///
    /// # Errors
    /// [`ReportError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let html = self.to_html();
        write_whole(path, |out| std::io::Write::write_all(out, html.as_bytes()))
            .map_err(|source| ReportError::Io { path: path.to_owned(), source })
    }
}

/// Whether a file is a page that [`Report::write`] has written.
pub fn is_report(file: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MARKED_WITHIN).read_to_end(&mut start));
    read.is_ok() && String::from_utf8_lossy(&start).contains(page::GENERATOR)
}

fn rank(
    run: &Path,
    ranker: &Ranker,
    options: &Options,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Option<RankingReport>, ReportError> {
    let phenomena = options.phenomena.as_deref().map(Phenomena::load).transpose()?;
    let images = ranker.open_images(options.features.as_deref())?;
    let split = ranker.recipe.data.split(&options.split);
    let mut remarks = Vec::new();
    let predictions = match &options.predictions {
        Some(file) => {
            let Predictions { origin, list } = read_predictions(file)?;
            let origin = origin.ok_or_else(|| ReportError::Unknown(file.clone()))?;
            check_origin(file, origin, run, ranker, split)?;
            list
        }
        None => {
            let sets = Arc::new(ranker.image_sets(split, &images)?);
            remarks = sets.remarks();
            let total = sets.examples.len();
            let mut told = |done| progress(done, total);
            match eval::predict(&mut &*ranker, &images, &sets, BATCH_SIZE, cancelled, &mut told)? {
                Some(predictions) => predictions,
                None => return Ok(None),
            }
        }
    };
    let bootstrap = Bootstrap::default();
    let evaluation = Evaluation::new(&predictions, None, phenomena.as_ref(), &bootstrap)?;
    let wrong = mistakes::most_confident(&predictions);
    let shown: Vec<_> =
        wrong.iter().take(options.mistakes).map(|wrong| (*wrong, wrong.best())).collect();
    let mut pictures = pictures::Pictures::new(options.images.as_deref());
    let mut picture = |prediction: &Prediction, position: usize| {
        pictures.get(&prediction.directory, &prediction.images[position])
    };
    let mistakes = mistakes::look(ranker, &images, &shown, &mut picture)?;
    Ok(Some(RankingReport {
        split: split.to_owned(),
        remarks,
        parameters: ranker.variables.trainable_variables().iter().map(|v| v.numel()).sum(),
        evaluation,
        wrong: wrong.len(),
        mistakes,
        missing_pictures: pictures.missing,
    }))
}

/// Fails unless predictions are of the run's model and of the split.
fn check_origin(
    file: &Path,
    origin: Origin,
    run: &Path,
    ranker: &Ranker,
    split: &Path,
) -> Result<(), ReportError> {
    let predictions = file.to_owned();
    let weights = ranker.loaded.as_ref().map(|loaded| digests::digest(&loaded.path)).transpose()?;
    if weights.as_ref() != Some(&origin.weights) {
        let (model, run) = (origin.model, run.to_owned());
        return Err(ReportError::OtherModel { predictions, model, run });
    }
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    if real(split) != real(Path::new(&origin.split)) {
        let (found, expected) = (origin.split, split.to_owned());
        return Err(ReportError::OtherSplit { predictions, found, expected });
    }
    Ok(())
}
