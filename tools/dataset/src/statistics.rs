//! What a data set is made of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::similarity::{Asked, Similarities, similarities};
use super::{
    DatasetError, DatasetFiles, Description, Phenomena, SET_SIZE, files, is_static, load_examples,
    load_split,
};
use feature_store::FeatureStore;

/// Words that a class of the distribution of lengths spans.
const CLASS: usize = 5;

/// What to count beyond descriptions.
#[derive(Debug, Default)]
pub struct StatisticsOptions<'a> {
    /// Phenomena of descriptions.
    pub phenomena: Option<&'a Phenomena>,
    /// Features to tell how alike images are.
    pub features: Option<&'a FeatureStore>,
}

/// What a file of descriptions is made of.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct SplitStatistics {
    /// The file's name.
    pub file: String,
    /// Different sets; of JSON Lines, different values of `set`, and examples without one, each a set of its own.
    pub sets: u64,
    /// Sets of frames of a video.
    pub video_sets: u64,
    /// Descriptions.
    pub descriptions: u64,
    /// Descriptions of frames of a video.
    pub video_descriptions: u64,
    /// Descriptions with a target.
    pub labelled: u64,
    /// How many descriptions have so many candidates.
    pub candidates: BTreeMap<usize, u64>,
    /// How long descriptions are.
    pub words: Lengths,
    /// How many descriptions are about the image at a position: of ImageCoDe-simple, in the set of ten.
    pub targets: BTreeMap<usize, u64>,
    /// Phenomena, if they were asked for and the split has labels.
    pub phenomena: Option<PhenomenaCounts>,
    /// How alike images are, if that was asked for; of ImageCoDe's own splits only.
    pub similarity: Option<Similarities>,
}

/// Numbers of words between white space.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Lengths {
    /// Mean.
    pub mean: f64,
    /// Of the shortest description.
    pub shortest: usize,
    /// Half of the descriptions are not longer.
    pub median: usize,
    /// 95 of a hundred are not longer.
    pub percentile_95: usize,
    /// Of the longest description.
    pub longest: usize,
    /// How many descriptions have so many words up to four more: keys are multiples of 5.
    pub distribution: BTreeMap<usize, u64>,
}

/// What a file of phenomena says about a split.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct PhenomenaCounts {
    /// Descriptions that the file has.
    pub annotated: u64,
    /// Those of them that need none, or were not annotated.
    pub without: u64,
    /// Those of them that have another text there.
    pub other_text: u64,
    /// Descriptions that the file has and the split has not.
    pub absent: u64,
    /// Descriptions by code.
    pub by_code: BTreeMap<String, u64>,
}

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Lengths {
        lengths.sort_unstable();
        let (Some(&shortest), Some(&longest)) = (lengths.first(), lengths.last()) else {
            return Lengths::default();
        };
        // The smallest length that so large a part of the descriptions does not exceed.
        let quantile = |percent: usize| lengths[(percent * lengths.len()).div_ceil(100) - 1];
        let mut distribution = BTreeMap::new();
        for length in &lengths {
            *distribution.entry(length / CLASS * CLASS).or_default() += 1;
        }
        Lengths {
            mean: lengths.iter().sum::<usize>() as f64 / lengths.len() as f64,
            shortest,
            median: quantile(50),
            percentile_95: quantile(95),
            longest,
            distribution,
        }
    }
}

/// Counts every split of a folder, or a file by itself. `progress` is told the sets whose features were read; `None`
/// comes back if `cancelled` was set.
///
/// # Errors
/// [`DatasetError`] of the first file that cannot be used: `check` lists everything.
pub fn statistics(
    path: &Path,
    options: &StatisticsOptions,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Vec<SplitStatistics>>, DatasetError> {
    let found = DatasetFiles::find(path)?;
    let mut all = Vec::new();
    for file in &found.splits {
        let descriptions = load_split(file)?;
        let mut counted = of_split(&descriptions, options);
        counted.file = files::name(file);
        if let Some(store) = options.features.filter(|_| is_whole(&descriptions)) {
            let sets = asked(&descriptions);
            let Some(found) = similarities(store, &sets, cancelled, progress)? else {
                return Ok(None);
            };
            counted.similarity = Some(found);
        }
        all.push(counted);
    }
    for file in &found.examples {
        let mut counted = of_examples(file)?;
        counted.file = files::name(file);
        all.push(counted);
    }
    Ok(Some(all))
}

/// Whether all ten images of a set are candidates.
fn is_whole(descriptions: &[Description]) -> bool {
    descriptions.iter().all(|description| description.distractor.is_none())
}

/// The described images by set; where nobody knows them, each image stands for one.
fn asked(descriptions: &[Description]) -> Vec<Asked<'_>> {
    let mut sets: Vec<Asked> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for Description { directory, target, .. } in descriptions {
        let place = *places.entry(directory).or_insert_with(|| {
            sets.push(Asked { directory, targets: Vec::new() });
            sets.len() - 1
        });
        match target {
            Some(target) => sets[place].targets.push(*target),
            None => sets[place].targets = (0..SET_SIZE).collect(),
        }
    }
    sets
}

fn of_split(descriptions: &[Description], options: &StatisticsOptions) -> SplitStatistics {
    let mut counted = SplitStatistics::default();
    let mut sets = BTreeSet::new();
    let mut lengths = Vec::with_capacity(descriptions.len());
    for description in descriptions {
        let video = !is_static(&description.directory);
        if sets.insert(&description.directory) {
            counted.sets += 1;
            counted.video_sets += u64::from(video);
        }
        counted.video_descriptions += u64::from(video);
        let candidates = if description.distractor.is_some() { 2 } else { SET_SIZE };
        *counted.candidates.entry(candidates).or_default() += 1;
        if let Some(target) = description.target {
            counted.labelled += 1;
            *counted.targets.entry(target).or_default() += 1;
        }
        lengths.push(words(&description.text));
    }
    counted.descriptions = descriptions.len() as u64;
    counted.words = Lengths::of(lengths);
    let phenomena = options.phenomena.map(|phenomena| count_phenomena(descriptions, phenomena));
    counted.phenomena = phenomena.filter(|counts| counts.annotated > 0);
    counted
}

fn of_examples(file: &Path) -> Result<SplitStatistics, DatasetError> {
    let mut counted = SplitStatistics::default();
    let mut sets = BTreeSet::new();
    let mut lengths = Vec::new();
    for example in load_examples(file)? {
        let video = example.video == Some(true);
        counted.descriptions += 1;
        counted.video_descriptions += u64::from(video);
        *counted.candidates.entry(example.candidates.len()).or_default() += 1;
        if let Some(target) = example.target {
            counted.labelled += 1;
            *counted.targets.entry(target).or_default() += 1;
        }
        lengths.push(words(&example.description));
        if example.set.is_none_or(|set| sets.insert(set)) {
            counted.sets += 1;
            counted.video_sets += u64::from(video);
        }
    }
    counted.words = Lengths::of(lengths);
    Ok(counted)
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn count_phenomena(descriptions: &[Description], phenomena: &Phenomena) -> PhenomenaCounts {
    let mut counts = PhenomenaCounts::default();
    let mut found = BTreeSet::new();
    for description in descriptions.iter().filter(|description| description.distractor.is_none()) {
        let Some(target) = description.target else { continue };
        let Some(codes) = phenomena.of(&description.directory, target) else { continue };
        counts.annotated += 1;
        found.insert((&description.directory, target));
        counts.without += u64::from(codes.is_empty());
        let has_text = phenomena.has_text(&description.directory, target, &description.text);
        counts.other_text += u64::from(has_text == Some(false));
        for code in codes {
            *counts.by_code.entry(code.clone()).or_default() += 1;
        }
    }
    counts.absent = phenomena.count() - found.len() as u64;
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_described_by_their_order() {
        let lengths = Lengths::of((1..=20).rev().collect());
        assert_eq!((lengths.shortest, lengths.median, lengths.percentile_95), (1, 10, 19));
        assert_eq!((lengths.longest, lengths.mean), (20, 10.5));
        let distribution: Vec<(usize, u64)> = lengths.distribution.into_iter().collect();
        assert_eq!(distribution, [(0, 4), (5, 5), (10, 5), (15, 5), (20, 1)]);
        assert_eq!(Lengths::of(vec![3]).percentile_95, 3);
        assert_eq!(Lengths::of(Vec::new()), Lengths::default());
    }

    #[test]
    fn a_set_asks_for_its_described_images_or_for_all() {
        let description = |directory: &str, target| Description {
            directory: directory.into(),
            text: "x".into(),
            target,
            distractor: None,
        };
        let all = [description("a", Some(3)), description("b", None), description("a", Some(1))];
        let sets = asked(&all);
        assert_eq!((sets[0].directory, sets[0].targets.as_slice()), ("a", [3, 1].as_slice()));
        assert_eq!(sets[1].targets.len(), SET_SIZE);
        assert_eq!(sets.len(), 2);
    }
}
