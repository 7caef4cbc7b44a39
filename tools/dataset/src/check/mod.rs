//! Is a data set sound, and are all its images there?

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::{DatasetError, DatasetFiles, Findings, Kind, files, id_prefix};
use feature_store::FeatureStore;

mod annotations;
mod descriptions;
mod images;

use descriptions::{check_examples, check_split};

/// What to look at beyond the annotation files.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions<'a> {
    /// The folder of pictures, `SET/imgN.jpg`.
    pub pictures: Option<&'a Path>,
    /// A store of features.
    pub features: Option<&'a FeatureStore>,
    /// Findings of a kind that are listed; more are only counted.
    pub listed: usize,
}

/// A file of descriptions, as far as it could be read.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct FileReport {
    /// The file's name.
    pub file: String,
    /// `labelled`, `unlabelled`, `mixed`, `simple` or `jsonl`.
    pub layout: &'static str,
    /// Different sets.
    pub sets: u64,
    /// Descriptions.
    pub descriptions: u64,
}

/// Pictures or features.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct ImagesReport {
    /// Images that are there.
    pub images: u64,
    /// Sets of the data set, those of JSON Lines left out.
    pub sets: u64,
    /// Those with exactly ten images.
    pub complete: u64,
    /// Different candidates of JSON Lines.
    pub candidates: u64,
    /// Those that are there.
    pub found: u64,
}

/// The result of a check.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// The files of descriptions.
    pub files: Vec<FileReport>,
    /// JSON and YAML files that are something else.
    pub left_out: Vec<String>,
    /// The pictures, if they were looked at.
    pub pictures: Option<ImagesReport>,
    /// The features, if they were looked at.
    pub features: Option<ImagesReport>,
    /// What is wrong, by kind.
    pub findings: Findings,
}

impl CheckReport {
    /// Whether nothing at all was found.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

/// What the files of a data set have said so far.
#[derive(Debug)]
struct Checked {
    findings: Findings,
    reports: Vec<FileReport>,
    /// Sets, each with the splits that have it.
    sets: BTreeMap<String, BTreeSet<String>>,
    /// Texts of described images, by set and target, of labelled splits.
    texts: BTreeMap<String, BTreeMap<usize, String>>,
    /// VOLTA's files of questions, which are not checked.
    questions: Vec<PathBuf>,
    /// Candidates of JSON Lines, each with the place where it was first.
    candidates: BTreeMap<String, String>,
}

/// Checks every file of a data set (see [`DatasetFiles`]), or a file by itself, and with pictures or a store whether
/// every set has its images. Superfluous images are looked for if a whole folder is checked. `progress` is told the
/// sets whose pictures were read; `None` comes back if `cancelled` was set.
///
/// # Errors
/// [`DatasetError::Io`] and [`DatasetError::NoDataSet`] for the folder, [`DatasetError::Questions`] if there is nothing
/// but VOLTA's, and what keeps the tree of pictures or the
/// store from being read. What is wrong with the files is a finding.
pub fn check(
    path: &Path,
    options: &CheckOptions,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<CheckReport>, DatasetError> {
    let found = DatasetFiles::find(path)?;
    let mut checked = Checked {
        findings: Findings::new(options.listed),
        reports: Vec::new(),
        sets: BTreeMap::new(),
        texts: BTreeMap::new(),
        questions: Vec::new(),
        candidates: BTreeMap::new(),
    };
    found.splits.iter().for_each(|file| check_split(file, &mut checked));
    if checked.questions.len() == found.splits.len()
        && found.examples.is_empty()
        && let Some(file) = checked.questions.pop()
    {
        return Err(DatasetError::Questions(file));
    }
    let mut left_out = found.left_out;
    left_out.extend(checked.questions.iter().map(|file| files::name(file)));
    left_out.sort();
    found.examples.iter().for_each(|file| check_examples(file, &mut checked));
    found.phenomena.iter().for_each(|file| annotations::check_phenomena(file, &mut checked));
    found.annotators.iter().for_each(|file| annotations::check_annotators(file, &mut checked));
    check_sets(&mut checked);
    let whole = path.is_dir();
    let Some((pictures, features)) =
        images::check_images(&mut checked, options, whole, cancelled, progress)?
    else {
        return Ok(None);
    };
    Ok(Some(CheckReport {
        files: checked.reports,
        left_out,
        pictures,
        features,
        findings: checked.findings,
    }))
}

/// Sets in two splits, and sets whose images would have the same ids.
fn check_sets(checked: &mut Checked) {
    let mut by_prefix: BTreeMap<String, &str> = BTreeMap::new();
    for (set, splits) in &checked.sets {
        if splits.len() > 1 {
            let splits: Vec<&str> = splits.iter().map(String::as_str).collect();
            let what = format!("it is in {}", splits.join(" and "));
            checked.findings.add(Kind::SharedSet, format!("set `{set}`"), what);
        }
        let prefix = id_prefix(set);
        if let Some(other) = by_prefix.get(&prefix) {
            let what = format!("its images have the ids of `{other}`, too: `{prefix}N`");
            checked.findings.add(Kind::CollidingIds, format!("set `{set}`"), what);
        }
        by_prefix.insert(prefix, set);
    }
}

/// A file that cannot be read at all.
fn unreadable(file: &Path, error: &DatasetError, findings: &mut Findings) {
    // The error names the whole path, which the place need not repeat.
    let text = error.to_string();
    let what = text.strip_prefix(&format!("{}", file.display())).unwrap_or(&text);
    let what = what.trim_start_matches([':', ',', ' ']);
    findings.add(Kind::Unreadable, files::name(file), what);
}
