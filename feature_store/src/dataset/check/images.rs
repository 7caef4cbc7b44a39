//! Are a data set's images there, as pictures and as features?

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::super::{DatasetError, Findings, Kind, PictureTree, SET_SIZE, id_prefix, is_static};
use super::{CheckOptions, Checked, ImagesReport};
use crate::{FeatureStore, StoreError};

/// Sets whose pictures are read in parallel at a time.
const PAGE: usize = 64;

/// Reports of the pictures and of the features.
type Reports = (Option<ImagesReport>, Option<ImagesReport>);

/// Numbers of the images of sets.
type Numbers = BTreeMap<String, BTreeSet<u64>>;

/// Looks for the images of all sets and candidates.
pub(super) fn check_images(
    checked: &mut Checked,
    options: &CheckOptions,
    whole: bool,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Reports>, DatasetError> {
    let tree = options.pictures.map(PictureTree::open).transpose()?;
    let pictures = tree.as_ref().map(|tree| pictures_of(tree, checked, whole));
    if let Some(tree) = &tree
        && !check_equal(tree, checked, cancelled, progress)?
    {
        return Ok(None);
    }
    let features = match options.features {
        Some(store) => match features_of(store, checked, whole, cancelled)? {
            Some(numbers) => Some(numbers),
            None => return Ok(None),
        },
        None => None,
    };
    if let (Some(pictures), Some(features)) = (&pictures, &features) {
        compare(pictures, features, checked);
    }
    let report = |numbers: &Numbers, images| ImagesReport {
        images,
        sets: checked.sets.len() as u64,
        complete: numbers.values().filter(|numbers| numbers.len() == SET_SIZE).count() as u64,
    };
    let of_pictures = pictures.as_ref().zip(tree.as_ref());
    let of_pictures = of_pictures.map(|(numbers, tree)| report(numbers, tree.len()));
    let of_features = features.as_ref().zip(options.features);
    let of_features = of_features.map(|(numbers, store)| report(numbers, store.len()));
    Ok(Some((of_pictures, of_features)))
}

/// The pictures of the data set's sets.
fn pictures_of(tree: &PictureTree, checked: &mut Checked, whole: bool) -> Numbers {
    let mut prefixes: HashMap<String, &str> = HashMap::new();
    let mut files: BTreeSet<String> = BTreeSet::new();
    let is_candidate = |checked: &Checked, set: &str| {
        !checked.candidates.is_empty()
            && tree.images(set).iter().any(|id| checked.candidates.contains_key(id))
    };
    for set in tree.sets() {
        if let Some(other) = prefixes.insert(id_prefix(set), set) {
            let what = format!("its pictures have the ids of `{other}`, too");
            checked.findings.add(Kind::CollidingIds, format!("pictures, `{set}`"), what);
        }
        files.clear();
        for (number, file) in tree.files(set) {
            if !files.insert(number.to_string()) {
                let what = format!("another picture has number {number}, too");
                checked.findings.add(Kind::CollidingIds, format!("pictures, `{set}/{file}`"), what);
            }
        }
        if whole && !checked.sets.contains_key(set) && !is_candidate(checked, set) {
            let what = format!("{} pictures of a set in no split", tree.numbers(set).len());
            checked.findings.add(Kind::SuperfluousImage, format!("pictures, `{set}`"), what);
        }
    }
    if whole {
        for stranger in tree.strangers() {
            let place = format!("pictures, `{stranger}`");
            checked.findings.add(
                Kind::SuperfluousImage,
                place,
                "no picture of a set (SET/imgN.jpg)",
            );
        }
    }
    let numbers: Numbers = checked
        .sets
        .keys()
        .map(|set| (set.clone(), tree.numbers(set).into_iter().collect()))
        .collect();
    check_counts("pictures", &numbers, &mut checked.findings);
    numbers
}

/// The images in a store that are of the data set's sets; `None` if `cancelled` was set.
fn features_of(
    store: &FeatureStore,
    checked: &mut Checked,
    whole: bool,
    cancelled: &AtomicBool,
) -> Result<Option<Numbers>, StoreError> {
    let sets: HashMap<String, String> =
        checked.sets.keys().map(|set| (id_prefix(set), set.clone())).collect();
    let mut numbers: Numbers =
        checked.sets.keys().map(|set| (set.clone(), BTreeSet::new())).collect();
    let mut found = 0u64;
    for id in store.ids() {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let id = id?;
        let is_candidate = checked.candidates.contains_key(&id);
        found += u64::from(is_candidate);
        let prefix = id.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = id[prefix.len()..].parse().ok();
        match (sets.get(prefix), number) {
            (Some(set), Some(number)) => {
                numbers.entry(set.clone()).or_default().insert(number);
            }
            _ if whole && !is_candidate => {
                let place = format!("features, `{id}`");
                checked.findings.add(Kind::SuperfluousImage, place, "it is of no set of any split");
            }
            _ => {}
        }
    }
    check_counts("features", &numbers, &mut checked.findings);
    if found < checked.candidates.len() as u64 {
        for (id, place) in &checked.candidates {
            if !store.contains(id)? {
                let what = format!("there are no features of candidate `{id}`");
                checked.findings.add(Kind::MissingImage, place, what);
            }
        }
    }
    Ok(Some(numbers))
}

/// Sets without exactly ten images; photographs are known by their numbers.
fn check_counts(source: &str, numbers: &Numbers, findings: &mut Findings) {
    for (set, numbers) in numbers {
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
fn compare(pictures: &Numbers, features: &Numbers, checked: &mut Checked) {
    for (set, with_picture) in pictures {
        let Some(with_features) = features.get(set) else { continue };
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
                checked.findings.add(Kind::MissingImage, place, what);
            }
        }
    }
}

/// Pictures of a set with the same bytes; false if `cancelled` was set.
fn check_equal(
    tree: &PictureTree,
    checked: &mut Checked,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<bool, DatasetError> {
    let sets: Vec<&String> = checked.sets.keys().collect();
    for page in sets.chunks(PAGE) {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let equal: Vec<_> =
            page.par_iter().map(|set| tree.equal_files(set)).collect::<Result<_, _>>()?;
        for (set, pairs) in page.iter().zip(equal) {
            for (first, second) in pairs {
                let place = format!("pictures, `{set}/{second}`");
                let what = format!("the same bytes as {first}");
                checked.findings.add(Kind::EqualImages, place, what);
            }
        }
        progress(page.len() as u64);
    }
    Ok(true)
}
