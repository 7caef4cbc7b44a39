//! From one format of descriptions and candidates to another, without losing a word: what a format cannot say is
//! refused.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

mod pairs;
mod questions;
mod sets;

use super::json::Json;
use super::known_sets::KnownSets;
use super::publish::{Output, publish};
use super::split::{self, read_json};
use super::{DatasetError, Description, Example, SET_SIZE, is_jsonl, jsonl, volta};
use feature_store::StoreError;

/// Formats of data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// ImageCoDe's annotation files, labelled or not.
    ImageCode,
    /// ImageCoDe-simple: pairs of images.
    Simple,
    /// VOLTA's questions and answers.
    Volta,
    /// One example a line.
    #[serde(rename = "jsonl")]
    JsonLines,
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(match self {
            Format::ImageCode => "ImageCoDe",
            Format::Simple => "ImageCoDe-simple",
            Format::Volta => "VOLTA's questions",
            Format::JsonLines => "JSON Lines",
        })
    }
}

/// A key of an example that not every format has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The example's name.
    Id,
    /// Whether it is about a video.
    Video,
    /// What it has in common with others.
    Set,
}

/// What is to be converted, and how.
#[derive(Debug)]
pub struct Request<'a> {
    /// An annotation file of any format.
    pub source: &'a Path,
    /// The file that is written; VOLTA's others lie beside it.
    pub target: &'a Path,
    /// What it becomes.
    pub to: Format,
    /// Sets and their images.
    pub known: &'a KnownSets,
    /// What may be lost.
    pub dropped: &'a [Key],
    /// Replace files that are there.
    pub overwrite: bool,
}

/// A conversion that is done.
#[derive(Debug, Serialize)]
pub struct Converted {
    /// What the source was.
    pub from: Format,
    /// Descriptions that were written.
    pub descriptions: usize,
    /// The files.
    pub files: Vec<PathBuf>,
}

/// Why nothing was converted.
#[derive(Debug, thiserror::Error)]
pub enum ConversionError {
    /// The source.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The store that tells images, or the right to write the target.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The target cannot be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A target that is there.
    #[error("{0} exists; --force replaces it")]
    Exists(PathBuf),
    /// A target that is a folder, a link or a device.
    #[error("{0} is no regular file and is not replaced; choose another name")]
    Irreplaceable(PathBuf),
    /// A target that would replace what it is made of.
    #[error("{0} is the source; choose another name")]
    IsSource(PathBuf),
    /// Values that no writer takes.
    #[error("{path} cannot be written: {what}")]
    Encoding {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The target's format cannot say what the source says.
    #[error("{path}, {place} cannot be written as {format}: {reason}")]
    Inexpressible {
        /// The source.
        path: PathBuf,
        /// The line, set or question.
        place: String,
        /// What it should become.
        format: Format,
        /// Why it cannot, and what helps.
        reason: String,
    },
}

impl ConversionError {
    /// Says which file the system refuses.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ConversionError + '_ {
        |source| ConversionError::Io { path: path.to_owned(), source }
    }
}

/// Converts an annotation file.
///
/// # Errors
/// [`ConversionError`]; nothing is written then.
pub fn convert(request: &Request) -> Result<Converted, ConversionError> {
    let (from, sources) = read(request)?;
    let descriptions = sources.len();
    let outputs = match request.to {
        Format::JsonLines => {
            let all: Vec<Example> = sources.into_iter().map(|(_, example)| example).collect();
            let bytes = jsonl::write(&all).map_err(|error| ConversionError::Encoding {
                path: request.target.to_owned(),
                what: error.to_string(),
            })?;
            vec![Output { path: request.target.to_owned(), bytes }]
        }
        Format::Volta => {
            let all = sources
                .into_iter()
                .map(|(place, example)| questions::ten(request, &place, example))
                .collect::<Result<Vec<_>, _>>()?;
            volta::outputs(request.target, &all)?
        }
        Format::ImageCode => vec![json(request.target, &sets::sets(request, &sources)?)?],
        Format::Simple => vec![json(request.target, &pairs::pairs(request, &sources)?)?],
    };
    publish(&outputs, request.source, request.overwrite)?;
    let files = outputs.into_iter().map(|output| output.path).collect();
    Ok(Converted { from, descriptions, files })
}

/// An example and where it stands.
type Placed = (String, Example);

fn read(request: &Request) -> Result<(Format, Vec<Placed>), ConversionError> {
    let path = request.source;
    if is_jsonl(path) {
        let examples = jsonl::load(path)?.into_iter();
        let placed = examples.map(|(line, example)| (format!("line {line}"), example)).collect();
        return Ok((Format::JsonLines, placed));
    }
    let json = read_json(path)?;
    if volta::is_questions(&json) {
        let mut placed = volta::of_json(path, json)?;
        for (_, example) in &mut placed {
            let directory =
                example.numbered().and_then(|(prefix, _)| request.known.directory(prefix));
            example.set = directory.map(str::to_owned);
        }
        return Ok((Format::Volta, placed));
    }
    let format = match &json {
        Json::Array(_) => Format::Simple,
        _ => Format::ImageCode,
    };
    let descriptions = split::accept(path, split::of_json(json))?;
    Ok((format, annotated(request, descriptions)?))
}

/// The examples of ImageCoDe's files, with the ids of their images.
fn annotated(
    request: &Request,
    descriptions: Vec<Description>,
) -> Result<Vec<Placed>, ConversionError> {
    let mut images: HashMap<String, Vec<String>> = HashMap::new();
    let mut placed = Vec::new();
    for description in descriptions {
        let directory = &description.directory;
        let place = format!("set `{directory}`");
        if !images.contains_key(directory) {
            let found = request.known.images(directory)?.ok_or_else(|| {
                request.refuse(
                    &place,
                    "the file does not say which frames of the video the set has; name the pictures (--images) or the \
                     store (--features) that tell",
                )
            })?;
            images.insert(directory.clone(), found);
        }
        let set = &images[directory];
        let example = Example::of(&description, set).filter(|_| set.len() == SET_SIZE);
        let example = example.ok_or_else(|| {
            let what = format!("{} of its {SET_SIZE} images are there", set.len());
            request.refuse(&place, &what)
        })?;
        placed.push((place, example));
    }
    Ok(placed)
}

impl Request<'_> {
    fn refuse(&self, place: &str, reason: &str) -> ConversionError {
        ConversionError::Inexpressible {
            path: self.source.to_owned(),
            place: place.to_owned(),
            format: self.to,
            reason: reason.to_owned(),
        }
    }

    fn may_drop(&self, key: Key) -> bool {
        self.dropped.contains(&key)
    }

    /// Refuses an `id`, which only JSON Lines have.
    fn check_id(&self, place: &str, example: &Example) -> Result<(), ConversionError> {
        match example.id.is_some() && !self.may_drop(Key::Id) {
            true => {
                Err(self.refuse(place, "it has no place for an `id` (--drop id leaves it out)"))
            }
            false => Ok(()),
        }
    }

    /// Refuses a `video` that is not what the set's name says.
    fn check_video(
        &self,
        place: &str,
        example: &Example,
        says: bool,
    ) -> Result<(), ConversionError> {
        match example.video.is_some_and(|video| video != says) && !self.may_drop(Key::Video) {
            true => Err(self.refuse(
                place,
                "the name of a set says whether it is of a video, and this one says something else than `video` \
                 (--drop video goes by the name)",
            )),
            false => Ok(()),
        }
    }
}

fn json(path: &Path, value: &Value) -> Result<Output, ConversionError> {
    let encoding = |e: serde_json::Error| ConversionError::Encoding {
        path: path.to_owned(),
        what: e.to_string(),
    };
    let mut bytes = serde_json::to_vec_pretty(value).map_err(encoding)?;
    bytes.push(b'\n');
    Ok(Output { path: path.to_owned(), bytes })
}
