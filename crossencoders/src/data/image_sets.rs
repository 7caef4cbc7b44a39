//! The descriptions of a split with their candidate images, as far as a store has them.

use std::collections::HashMap;
use std::path::Path;

use evaluation::{Question, SkippedSet, SubmissionError};
use feature_store::dataset::{self, Description, SET_SIZE};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::{DataError, ImageSource, Limits, Tokenizer};

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

impl Example {
    /// What a model is asked.
    pub fn question(&self) -> Question {
        Question {
            directory: self.directory.clone(),
            number: self.number,
            text: self.text.clone(),
            images: self.images.clone(),
            target: self.target,
            video: self.video,
        }
    }
}

impl ImageSets {
    /// Reads an annotation file (see [`dataset`]) and finds the images of its sets in a source. Sets without all ten
    /// images are left out and listed.
    ///
    /// # Errors
    /// [`DataError::Annotations`], [`DataError::Store`]; [`DataError::NoFeatures`] if not one set is complete.
    pub fn load(
        annotations: &Path,
        source: &ImageSource,
        tokenizer: &Tokenizer,
        limits: Limits,
    ) -> Result<ImageSets, DataError> {
        let mut images: HashMap<String, Vec<String>> = HashMap::new();
        let mut unlabelled: HashMap<String, usize> = HashMap::new();
        let mut split = ImageSets { limits, ..ImageSets::default() };
        for description in dataset::load_split(annotations)? {
            let directory = &description.directory;
            if !images.contains_key(directory) {
                let found = source.set_images(directory)?;
                split.sets += 1;
                if found.len() != SET_SIZE {
                    let (directory, found) = (directory.clone(), found.len());
                    split.skipped.push(SkippedSet { directory, found });
                } else {
                    split.limits.count_images(source, &found)?;
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
                source_path: source.path().to_owned(),
                sets: split.sets,
                skipped: split.skipped,
            });
        }
        Ok(split)
    }

    /// The same descriptions, each with nine images drawn from all sets in place of the others of its own set: what
    /// ImageCoDe's non-contrastive CLIP learns from. They are drawn once, by a seed; sets without labels stay as they are.
    pub fn with_random_distractors(mut self, seed: u64) -> ImageSets {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut all: Vec<String> =
            self.examples.iter().flat_map(|example| example.images.iter().cloned()).collect();
        all.sort_unstable();
        all.dedup();
        for example in &mut self.examples {
            let Some(target) = example.target.replace(0) else { continue };
            let described = example.images[target].clone();
            let drawn = index::sample(&mut random, all.len(), SET_SIZE.min(all.len()));
            let others = drawn.into_iter().map(|number| all[number].clone());
            let others = others.filter(|other| *other != described).take(SET_SIZE - 1);
            example.images = std::iter::once(described.clone()).chain(others).collect();
        }
        self
    }

    /// Fails unless the leaderboard takes predictions of this split.
    ///
    /// # Errors
    /// If sets are skipped, or have other than ten candidates.
    pub fn check_submission(&self) -> Result<(), SubmissionError> {
        let candidates = self.examples.iter().map(|example| example.images.len());
        evaluation::check_submission(self.sets, &self.skipped, candidates)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_distractors_are_nine_others_and_a_function_of_the_seed() {
        let sets = || {
            let example = |set: usize| Example {
                directory: format!("set{set}"),
                number: 3,
                text: String::new(),
                input_ids: vec![1, 2],
                images: (0..SET_SIZE).map(|n| format!("set{set}img{n}")).collect(),
                target: Some(3),
                video: false,
            };
            let examples = (0..4).map(example).collect();
            ImageSets { examples, sets: 4, ..ImageSets::default() }
        };
        let drawn = sets().with_random_distractors(1);
        let mut foreign = 0;
        for (set, example) in drawn.examples.iter().enumerate() {
            assert_eq!((example.target, &example.images[0]), (Some(0), &format!("set{set}img3")));
            let mut distinct = example.images.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), SET_SIZE);
            let own = format!("set{set}img");
            foreign += example.images.iter().filter(|image| !image.starts_with(&own)).count();
        }
        assert!(foreign > 0);
        assert_eq!(drawn.examples, sets().with_random_distractors(1).examples);
        assert_ne!(drawn.examples, sets().with_random_distractors(2).examples);
    }
}
