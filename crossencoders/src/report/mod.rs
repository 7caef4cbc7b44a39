//! A training run as one HTML page: curves, accuracy, the most confident mistakes, configuration.
//!
//! The page needs nothing but itself: curves are inline SVG, pictures are data URIs, there is no script, and its content
//! security policy forbids whatever else a text in it might ask for. All text passes through `maud`, which escapes it.

mod chart;
mod log;
mod mistake_view;
mod mistakes;
mod page;
mod pictures;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tch::Device;

use crate::config::Config;
use crate::data::DataError;
use crate::eval::whole_file::write_whole;
use crate::eval::{
    self, AnnotationsError, EvalError, Group, Metrics, Phenomena, Prediction, PredictionsError,
    read_predictions,
};
use crate::ranker::{RECIPE, Ranker, RankerError};
use crate::train::{Recipe, RecipeError};
use log::Log;
use mistakes::Mistake;

/// Descriptions that are ranked at once.
const BATCH_SIZE: usize = 8;

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
    /// Predictions that the run's model has made before, of any split; without them it ranks the recipe's validation split.
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
    /// The predictions file.
    #[error(transparent)]
    Predictions(#[from] PredictionsError),
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
    /// The split's or the predictions' file.
    source: PathBuf,
    parameters: usize,
    metrics: Metrics,
    /// Name and ranking quality, the most frequent first.
    phenomena: Vec<(String, Group)>,
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
                let ranker = Ranker::load(run, options.device)?;
                let Some(ranking) = rank(&ranker, options, cancelled, progress)? else {
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

fn rank(
    ranker: &Ranker,
    options: &Options,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Option<RankingReport>, ReportError> {
    let images = ranker.open_images(options.features.as_deref())?;
    let split = &ranker.recipe.data.valid;
    let (source, predictions) = match &options.predictions {
        Some(file) => (file, read_predictions(file)?),
        None => {
            let sets = Arc::new(ranker.image_sets(split, &images)?);
            let total = sets.examples.len();
            let mut told = |done| progress(done, total);
            match eval::predict(&mut &*ranker, &images, &sets, BATCH_SIZE, cancelled, &mut told)? {
                Some(predictions) => (split, predictions),
                None => return Ok(None),
            }
        }
    };
    let phenomena = match &options.phenomena {
        Some(file) => by_phenomenon(&Phenomena::load(file)?, &predictions)?,
        None => Vec::new(),
    };
    let wrong = mistakes::most_confident(&predictions);
    let shown = &wrong[..wrong.len().min(options.mistakes)];
    let mut pictures = pictures::Pictures::new(options.images.as_deref());
    let mistakes = mistakes::look(ranker, &images, shown, &mut pictures)?;
    Ok(Some(RankingReport {
        source: source.clone(),
        parameters: ranker.variables.trainable_variables().iter().map(|v| v.numel()).sum(),
        metrics: Metrics::new(&predictions),
        phenomena,
        wrong: wrong.len(),
        mistakes,
        missing_pictures: pictures.missing,
    }))
}

/// Ranking quality of the descriptions that need each phenomenon to be understood.
fn by_phenomenon(
    phenomena: &Phenomena,
    predictions: &[Prediction],
) -> Result<Vec<(String, Group)>, ReportError> {
    phenomena.check(predictions)?;
    let codes = |prediction: &Prediction| -> Vec<String> {
        phenomena.of(&prediction.directory, prediction.number).unwrap_or_default().to_vec()
    };
    let mut found: std::collections::BTreeMap<String, Vec<Prediction>> = Default::default();
    for prediction in predictions.iter().filter(|prediction| prediction.target.is_some()) {
        for code in codes(prediction) {
            found.entry(code).or_default().push(prediction.clone());
        }
    }
    let mut groups: Vec<(String, Group)> = found
        .into_iter()
        .map(|(code, predictions)| {
            (eval::phenomenon_name(&code).to_owned(), Metrics::new(&predictions).all)
        })
        .collect();
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.descriptions));
    Ok(groups)
}
