//! The descriptions of a split with their candidate images, as far as a store has them.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use feature_store::FeatureStore;
use feature_store::dataset::{self, Description, SET_SIZE};
use serde::Serialize;

use super::{DataError, Limits, Tokenizer};

/// Sets named in an error or a message.
const NAMED: usize = 3;

/// One description and its candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Directory of the image set.
    pub directory: String,
    /// The description's number in its set: in labelled splits the described image's position among the set's ten (also
    /// in ImageCoDe-simple), in unlabelled ones the position in the list.
    pub number: usize,
    /// The text.
    pub text: String,
    /// Its word pieces.
    pub input_ids: Vec<i64>,
    /// Ids of the candidate images: the set's ten, or the two of ImageCoDe-simple, in the order of the set.
    pub images: Vec<String>,
    /// Position of the described image among the candidates, if the split is labelled.
    pub target: Option<usize>,
    /// Whether the images are frames of a video.
    pub video: bool,
}

/// A set that cannot be used because images of it are not in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedSet {
    /// Its directory.
    pub directory: String,
    /// How many images the store has of it.
    pub found: usize,
}

impl fmt::Display for SkippedSet {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let SkippedSet { directory, found } = self;
        write!(out, "{directory}: {found} of {SET_SIZE} images")
    }
}

/// A split.
#[derive(Debug, Default)]
pub struct ImageSets {
    /// Descriptions whose set is complete, in the order of the file.
    pub examples: Vec<Example>,
    /// Sets that are left out.
    pub skipped: Vec<SkippedSet>,
    /// Number of sets, those left out included.
    pub sets: usize,
    /// What of descriptions and images a model is given.
    pub limits: Limits,
}

impl ImageSets {
    /// Reads an annotation file (see [`dataset`]) and finds the images of its sets in the store. Sets without all ten
    /// images are left out and listed.
    ///
    /// # Errors
    /// [`DataError::Annotations`], [`DataError::Store`]; [`DataError::NoFeatures`] if not one set is complete.
    pub fn load(
        annotations: &Path,
        store: &FeatureStore,
        tokenizer: &Tokenizer,
        limits: Limits,
    ) -> Result<ImageSets, DataError> {
        let mut images: HashMap<String, Vec<String>> = HashMap::new();
        let mut unlabelled: HashMap<String, usize> = HashMap::new();
        let mut split = ImageSets { limits, ..ImageSets::default() };
        for description in dataset::load_split(annotations)? {
            let directory = &description.directory;
            if !images.contains_key(directory) {
                let found = dataset::set_images(store, directory)?;
                split.sets += 1;
                if found.len() != SET_SIZE {
                    let (directory, found) = (directory.clone(), found.len());
                    split.skipped.push(SkippedSet { directory, found });
                } else {
                    split.limits.count_images(store, &found)?;
                }
                images.insert(directory.clone(), found);
            }
            let set = &images[directory];
            if set.len() == SET_SIZE {
                let number = description.target.unwrap_or_else(|| {
                    let next = unlabelled.entry(directory.clone()).or_default();
                    *next += 1;
                    *next - 1
                });
                let input_ids = split.limits.encode(tokenizer, &description.text);
                split.examples.push(example(description, number, set, input_ids));
            }
        }
        if split.examples.is_empty() {
            split.skipped.truncate(NAMED);
            return Err(DataError::NoFeatures {
                annotations: annotations.to_owned(),
                store: store.path().to_owned(),
                sets: split.sets,
                skipped: split.skipped,
            });
        }
        Ok(split)
    }

    /// Length of every description in word pieces.
    pub fn lengths(&self) -> Vec<usize> {
        self.examples.iter().map(|example| example.input_ids.len()).collect()
    }

    /// Says how many sets are left out and why, and what is cut, if any are and anything is.
    pub fn remarks(&self) -> Vec<String> {
        let skipped = self.skipped.first().map(|first| {
            format!(
                "{} of {} sets are skipped because the store lacks images of them (first: {first})",
                self.skipped.len(),
                self.sets
            )
        });
        skipped.into_iter().chain(self.limits.remarks("descriptions")).collect()
    }
}

fn example(
    description: Description,
    number: usize,
    set: &[String],
    input_ids: Vec<i64>,
) -> Example {
    let mut candidates: Vec<usize> = match (description.target, description.distractor) {
        (Some(target), Some(distractor)) => vec![target, distractor],
        _ => (0..set.len()).collect(),
    };
    // In the order of the set, so that the position tells nothing.
    candidates.sort_unstable();
    Example {
        input_ids,
        images: candidates.iter().map(|&position| set[position].clone()).collect(),
        target: description
            .target
            .and_then(|target| candidates.iter().position(|&candidate| candidate == target)),
        video: !dataset::is_static(&description.directory),
        number,
        directory: description.directory,
        text: description.text,
    }
}
