//! A small data set like ImageCoDe, drawn from a seed: sets of ten minimally different pictures of coloured shapes,
//! descriptions that are true of exactly one of them, and region features.
//!
//! Nothing leaks the answer: all images of a set are drawn alike, which of them get a description is chosen afterwards,
//! and a region's features depend on what the region holds and on noise.
//!
//! ```text
//! FOLDER/images/SET/img<N>.jpg        the pictures
//! FOLDER/train_data.json              labelled splits in ImageCoDe's layout
//! FOLDER/valid_data.json
//! FOLDER/test_data_unlabeled.json     the validation sets without answers, for a leaderboard file
//! FOLDER/features.lmdb/               region features as a VOLTA LMDB
//! FOLDER/vocab.txt                    the word pieces of all descriptions
//! ```

mod describe;
mod regions;
mod render;
mod scene;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use dataset::{SET_SIZE, image_id};
use feature_store::Regions;
use feature_store::formats::FeatureSink as _;
use feature_store::formats::FormatError;
use feature_store::formats::volta::{VoltaEncoding, VoltaSink};
use rand::seq::SliceRandom;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::{Map, Value};

use scene::Scene;

/// What to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticConfig {
    /// The same seed gives the same data set, byte for byte.
    pub seed: u64,
    /// Sets to train on.
    pub train_sets: usize,
    /// Sets to validate with.
    pub valid_sets: usize,
    /// Images described per set, at most ten.
    pub descriptions_per_set: usize,
    /// Regions per image.
    pub regions: usize,
    /// Values per region.
    pub dim: usize,
}

impl Default for SyntheticConfig {
    /// Regions as in the released features of ImageCoDe: 36 of 2048 values.
    fn default() -> Self {
        SyntheticConfig {
            seed: 0,
            train_sets: 400,
            valid_sets: 50,
            descriptions_per_set: 8,
            regions: 12,
            dim: 2048,
        }
    }
}

/// What was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// Number of images.
    pub images: usize,
    /// Descriptions to train on.
    pub train_descriptions: usize,
    /// Descriptions to validate with.
    pub valid_descriptions: usize,
}

/// Why the data set cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SyntheticError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The feature database cannot be written.
    #[error(transparent)]
    Features(#[from] FormatError),
    /// A picture cannot be encoded.
    #[error("{path}: {reason}")]
    Jpeg {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A set of ten pictures.
struct DrawnSet {
    directory: String,
    /// Number in the file name, and what is in the picture.
    images: Vec<(u64, Scene)>,
    /// Target position and description.
    descriptions: Vec<(usize, String)>,
}

/// Draws a data set into a folder that is new or empty; `None` if cancelled. `progress` is told how many images are done.
///
/// # Errors
/// [`SyntheticError`].
pub fn draw(
    config: &SyntheticConfig,
    folder: &Path,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Drawn>, SyntheticError> {
    let sets: Vec<DrawnSet> = (0..config.train_sets + config.valid_sets)
        .into_par_iter()
        .map(|number| draw_set(config, number))
        .collect();
    let (train, valid) = sets.split_at(config.train_sets);
    std::fs::create_dir_all(folder).map_err(io_error(folder))?;
    write(folder, "train_data.json", &labelled(train))?;
    write(folder, "valid_data.json", &labelled(valid))?;
    write(folder, "test_data_unlabeled.json", &unlabelled(valid))?;
    write(folder, "vocab.txt", &vocabulary(&sets))?;
    sets.par_iter().try_for_each(|set| write_images(&folder.join("images"), set))?;
    if !write_features(config, &folder.join("features.lmdb"), &sets, cancelled, progress)? {
        return Ok(None);
    }
    let count = |sets: &[DrawnSet]| sets.iter().map(|set| set.descriptions.len()).sum();
    Ok(Some(Drawn {
        images: sets.len() * SET_SIZE,
        train_descriptions: count(train),
        valid_descriptions: count(valid),
    }))
}

/// Every set has random numbers of its own.
fn random(config: &SyntheticConfig, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(config.seed);
    random.set_stream(stream);
    random
}

fn draw_set(config: &SyntheticConfig, number: usize) -> DrawnSet {
    let mut random = random(config, number as u64);
    // One of three is a set of unrelated photographs, two are of video frames.
    let is_static = number.is_multiple_of(3);
    let tag = random.next_u32();
    let (directory, step) = match is_static {
        true => (format!("open-images-{number}_{tag:08x}"), 1),
        false => (format!("synthetic-video{number}-shot{}_0", tag % 4), 3 + u64::from(tag % 9)),
    };
    let scenes = match is_static {
        true => scene::variations(&mut random, SET_SIZE),
        false => scene::frames(&mut random, SET_SIZE),
    };
    let mut targets: Vec<usize> = (0..scenes.len()).collect();
    targets.shuffle(&mut random);
    let mut descriptions = Vec::new();
    for target in targets {
        if descriptions.len() == config.descriptions_per_set {
            break;
        }
        // A picture that no short description sets apart goes without.
        if let Some(text) = describe::describe(&mut random, &scenes, target) {
            descriptions.push((target, text));
        }
    }
    descriptions.sort_unstable();
    let images = (0..).map(|position| position * step).zip(scenes).collect();
    DrawnSet { directory, images, descriptions }
}

fn labelled(sets: &[DrawnSet]) -> String {
    json(sets, |set| {
        let texts = set.descriptions.iter();
        Value::Object(
            texts.map(|(target, text)| (target.to_string(), text.clone().into())).collect(),
        )
    })
}

fn unlabelled(sets: &[DrawnSet]) -> String {
    json(sets, |set| set.descriptions.iter().map(|(_, text)| text.clone()).collect())
}

fn json(sets: &[DrawnSet], entry: impl Fn(&DrawnSet) -> Value) -> String {
    let sets: Map<String, Value> = sets
        .iter()
        .filter(|set| !set.descriptions.is_empty())
        .map(|set| (set.directory.clone(), entry(set)))
        .collect();
    serde_json::to_string_pretty(&sets).unwrap_or_default() + "\n"
}

/// BERT's special tokens, then all words and commas in alphabetical order.
fn vocabulary(sets: &[DrawnSet]) -> String {
    let words: std::collections::BTreeSet<&str> = sets
        .iter()
        .flat_map(|set| &set.descriptions)
        .flat_map(|(_, text)| text.split([' ', ',']))
        .filter(|word| !word.is_empty())
        .collect();
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ","];
    specials.into_iter().chain(words).map(|word| format!("{word}\n")).collect()
}

fn write_images(folder: &Path, set: &DrawnSet) -> Result<(), SyntheticError> {
    let folder = folder.join(&set.directory);
    std::fs::create_dir_all(&folder).map_err(io_error(&folder))?;
    for (number, scene) in &set.images {
        let path = folder.join(format!("img{number}.jpg"));
        let jpeg = render::jpeg(scene)
            .map_err(|reason| SyntheticError::Jpeg { path: path.clone(), reason })?;
        std::fs::write(&path, jpeg).map_err(io_error(&path))?;
    }
    Ok(())
}

/// False if cancelled.
fn write_features(
    config: &SyntheticConfig,
    path: &Path,
    sets: &[DrawnSet],
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<bool, SyntheticError> {
    let detector = regions::Detector::new(config.regions, config.dim);
    let mut sink = VoltaSink::create(path, VoltaEncoding::Base64)?;
    for (number, set) in sets.iter().enumerate() {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        // After the streams of the sets come those of the images.
        let first = (sets.len() + number * SET_SIZE) as u64;
        let found: Vec<Regions> = set
            .images
            .par_iter()
            .enumerate()
            .map(|(image, (_, scene))| {
                detector.detect(&mut random(config, first + image as u64), scene)
            })
            .collect();
        for ((image, _), regions) in set.images.iter().zip(&found) {
            sink.append(&image_id(&set.directory, *image), regions)?;
        }
        progress((number + 1) * SET_SIZE);
    }
    Box::new(sink).finish()?;
    Ok(true)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), SyntheticError> {
    let path = folder.join(name);
    std::fs::write(&path, text).map_err(io_error(&path))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SyntheticError + '_ {
    |source| SyntheticError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> SyntheticConfig {
        let (train_sets, valid_sets) = (5, 2);
        SyntheticConfig { train_sets, valid_sets, regions: 8, dim: 16, ..Default::default() }
    }

    #[test]
    fn the_same_seed_draws_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let draw_into = |name: &str, config: &SyntheticConfig| {
            let folder = folder.path().join(name);
            draw(config, &folder, &AtomicBool::new(false), &mut |_| ()).unwrap().unwrap();
            ["train_data.json", "test_data_unlabeled.json", "vocab.txt"]
                .map(|file| std::fs::read(folder.join(file)).unwrap())
        };
        let first = draw_into("a", &small());
        assert_eq!(first, draw_into("b", &small()));
        assert_ne!(first, draw_into("c", &SyntheticConfig { seed: 1, ..small() }));
    }

    #[test]
    fn every_set_has_ten_pictures_and_descriptions_of_several() {
        for number in 0..40 {
            let set = draw_set(&small(), number);
            assert_eq!(set.images.len(), SET_SIZE);
            assert!(set.descriptions.len() >= 4, "{}: {:?}", set.directory, set.descriptions);
        }
    }
}
