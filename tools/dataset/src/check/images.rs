//! Are a data set's images there, as pictures and as features?

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::super::{DatasetError, Findings, Kind, PictureTree, SET_SIZE, id_prefix, is_static};
use super::{CheckOptions, Checked, ImagesReport};
use feature_store::{FeatureStore, StoreError};

/// Sets whose pictures are read in parallel at a time.
const PAGE: usize = 64;

/// Reports of the pictures and of the features.
type Reports = (Option<ImagesReport>, Option<ImagesReport>);

/// What one source of images, pictures or features, has of a data set.
struct Found {
    /// All images of the source.
    images: u64,
    /// Numbers of the images of every set.
    numbers: BTreeMap<String, BTreeSet<u64>>,
    /// Candidates of JSON Lines.
    candidates: HashSet<String>,
}

impl Found {
    fn new(images: u64, checked: &Checked) -> Found {
        let numbers = checked.sets.keys().map(|set| (set.clone(), BTreeSet::new())).collect();
        Found { images, numbers, candidates: HashSet::new() }
    }

    fn report(&self, checked: &Checked) -> ImagesReport {
        let is_complete = |numbers: &&BTreeSet<u64>| numbers.len() == SET_SIZE;
        ImagesReport {
            images: self.images,
            sets: self.numbers.len() as u64,
            complete: self.numbers.values().filter(is_complete).count() as u64,
            candidates: checked.candidates.len() as u64,
            found: self.candidates.len() as u64,
        }
    }
}

/// Looks for the images of all sets and candidates.
pub(super) fn check_images(
    checked: &mut Checked,
    options: &CheckOptions,
    whole: bool,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Reports>, DatasetError> {
    let mut pictures = None;
    if let Some(path) = options.pictures {
        let tree = PictureTree::open(path)?;
        pictures = Some(pictures_of(&tree, checked, whole));
        if !compare_bytes(&tree, checked, cancelled, progress) {
            return Ok(None);
        }
    }
    let mut features = None;
    if let Some(store) = options.features {
        features = features_of(store, checked, whole, cancelled)?;
        if features.is_none() {
            return Ok(None);
        }
    }
    for (source, found) in [("pictures", &pictures), ("features", &features)] {
        if let Some(found) = found {
            check_counts(source, found, &mut checked.findings);
            check_candidates(source, found, checked);
        }
    }
    if let (Some(pictures), Some(features)) = (&pictures, &features) {
        compare(pictures, features, &mut checked.findings);
    }
    let report = |found: Option<Found>| found.map(|found| found.report(checked));
    Ok(Some((report(pictures), report(features))))
}

/// What a tree of pictures has; pictures with one id, and those that are of no set, are findings.
fn pictures_of(tree: &PictureTree, checked: &mut Checked, whole: bool) -> Found {
    let mut found = Found::new(tree.len(), checked);
    let mut prefixes: HashMap<String, &str> = HashMap::new();
    for set in tree.sets() {
        if let Some(other) = prefixes.insert(id_prefix(set), set) {
            let what = format!("its pictures have the ids of `{other}`, too");
            checked.findings.add(Kind::CollidingIds, format!("pictures, `{set}`"), what);
        }
        let mut last = None;
        for (number, file) in tree.files(set) {
            if last.replace(number) == Some(number) {
                let what = format!("another picture has number {number}, too");
                checked.findings.add(Kind::CollidingIds, format!("pictures, `{set}/{file}`"), what);
            }
        }
        let mut images = tree.images(set);
        images.retain(|id| checked.candidates.contains_key(id));
        let is_used = !images.is_empty();
        found.candidates.extend(images);
        if let Some(numbers) = found.numbers.get_mut(set) {
            numbers.extend(tree.numbers(set));
        } else if whole && !is_used {
            let what = format!("a set of no split (pictures: {})", tree.numbers(set).len());
            checked.findings.add(Kind::SuperfluousImage, format!("pictures, `{set}`"), what);
        }
    }
    for stranger in tree.strangers().iter().filter(|_| whole) {
        let (place, what) =
            (format!("pictures, `{stranger}`"), "no picture of a set (SET/imgN.jpg)");
        checked.findings.add(Kind::SuperfluousImage, place, what);
    }
    found
}

/// What a store has; features that are of no set are findings. `None` if `cancelled` was set.
fn features_of(
    store: &FeatureStore,
    checked: &mut Checked,
    whole: bool,
    cancelled: &AtomicBool,
) -> Result<Option<Found>, StoreError> {
    let sets: HashMap<String, String> =
        checked.sets.keys().map(|set| (id_prefix(set), set.clone())).collect();
    let mut found = Found::new(store.len(), checked);
    for id in store.ids() {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let id = id?;
        let prefix = id.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = id[prefix.len()..].parse().ok();
        let set = sets.get(prefix).and_then(|set| found.numbers.get_mut(set));
        let is_of_set = set.zip(number).map(|(numbers, number)| numbers.insert(number)).is_some();
        if checked.candidates.contains_key(&id) {
            found.candidates.insert(id);
        } else if whole && !is_of_set {
            let place = format!("features, `{id}`");
            checked.findings.add(Kind::SuperfluousImage, place, "it is of no set of any split");
        }
    }
    Ok(Some(found))
}

/// Candidates of JSON Lines that a source does not have.
fn check_candidates(source: &str, found: &Found, checked: &mut Checked) {
    let lacks = |id: &&String| !found.candidates.contains(*id);
    for id in checked.candidates.keys().filter(lacks) {
        let what = format!("candidate `{id}` is not among the {source}");
        checked.findings.add(Kind::MissingImage, &checked.candidates[id], what);
    }
}

/// Sets without exactly ten images; photographs are known by their numbers.
fn check_counts(source: &str, found: &Found, findings: &mut Findings) {
    for (set, numbers) in &found.numbers {
        let place = format!("{source}, set `{set}`");
        if numbers.len() != SET_SIZE {
            let what = format!("{} of {SET_SIZE} images", numbers.len());
            findings.add(Kind::ImageCount, &place, what);
        }
        if !is_static(set) || numbers.is_empty() {
            continue;
        }
        for missing in (0..SET_SIZE as u64).filter(|number| !numbers.contains(number)) {
            findings.add(Kind::MissingImage, &place, format!("img{missing} is not there"));
        }
        for other in numbers.iter().filter(|number| **number >= SET_SIZE as u64) {
            let what = format!("img{other} is there, but photographs are numbered 0 to 9");
            findings.add(Kind::SuperfluousImage, &place, what);
        }
    }
}

/// Frames that only one side has: which frames a video's set has is said nowhere else.
fn compare(pictures: &Found, features: &Found, findings: &mut Findings) {
    for (set, with_picture) in &pictures.numbers {
        let Some(with_features) = features.numbers.get(set) else { continue };
        // A set that is missing as a whole is told by its number of images.
        if with_picture.is_empty() || with_features.is_empty() || is_static(set) {
            continue;
        }
        for (has, lacks, source) in
            [(with_picture, with_features, "features"), (with_features, with_picture, "pictures")]
        {
            for number in has.difference(lacks) {
                let other = if source == "features" { "a picture" } else { "features" };
                let what = format!("img{number} is not there, but there is {other} of it");
                let place = format!("{source}, set `{set}`");
                findings.add(Kind::MissingImage, place, what);
            }
        }
    }
}

/// Pictures of a set with the same bytes, and those that cannot be read; false if `cancelled` was set.
fn compare_bytes(
    tree: &PictureTree,
    checked: &mut Checked,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> bool {
    let sets: Vec<&String> = checked.sets.keys().collect();
    for page in sets.chunks(PAGE) {
        if cancelled.load(Ordering::Relaxed) {
            return false;
        }
        let compared: Vec<_> = page.par_iter().map(|set| tree.compare_files(set)).collect();
        for (set, found) in page.iter().zip(compared) {
            for (first, second) in found.equal {
                let place = format!("pictures, `{set}/{second}`");
                let what = format!("the same bytes as {first}");
                checked.findings.add(Kind::EqualImages, place, what);
            }
            for (name, error) in found.unreadable {
                let place = format!("pictures, `{set}/{name}`");
                checked.findings.add(Kind::Unreadable, place, error.to_string());
            }
        }
        progress(page.len() as u64);
    }
    true
}
