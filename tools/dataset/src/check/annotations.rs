//! ImageCoDe's files about descriptions: phenomena and annotators. They name a description by set and target.

use std::path::Path;

use super::super::phenomena::known_codes;
use super::super::yaml::YamlFault;
use super::super::{Fault, Kind, Phenomena, files, read_split};
use super::descriptions::short;
use super::{Checked, unreadable};

/// Checks that a file of phenomena is about descriptions that are there, with the same text up to white space, and knows
/// ImageCoDe's phenomena only.
pub(super) fn check_phenomena(file: &Path, checked: &mut Checked) {
    let name = files::name(file);
    let (phenomena, faults) = match Phenomena::read(file) {
        Ok(read) => read,
        Err(error) => return unreadable(file, &error, &mut checked.findings),
    };
    for YamlFault { kind, line, what } in faults {
        checked.findings.add(kind, format!("{name}, line {line}"), what);
    }
    let mut all: Vec<(&str, usize)> = phenomena.descriptions().collect();
    all.sort_unstable();
    for (set, number) in all {
        let place = || format!("{name}, set `{set}`, target {number}");
        for code in phenomena.of(set, number).unwrap_or_default() {
            if !known_codes().any(|known| known == code) {
                let known: Vec<&str> = known_codes().collect();
                let what = format!("{} is none of {}", short(code), known.join(", "));
                checked.findings.add(Kind::UnknownPhenomenon, place(), what);
            }
        }
        let text = checked.texts.get(set).and_then(|texts| texts.get(&number));
        let Some(text) = text else {
            let what = "there is no such description";
            checked.findings.add(Kind::Annotation, place(), what);
            continue;
        };
        if phenomena.has_text(set, number, text) == Some(false) {
            let annotated = phenomena.text(set, number).unwrap_or_default();
            let (there, here) = from_difference(annotated, text);
            let what = format!("{} there, but {} in the split", short(&there), short(&here));
            checked.findings.add(Kind::Annotation, place(), what);
        }
    }
}

/// The words of two texts from the first one that is different.
fn from_difference(a: &str, b: &str) -> (String, String) {
    let same = a.split_whitespace().zip(b.split_whitespace()).take_while(|(a, b)| a == b).count();
    let rest = |text: &str| text.split_whitespace().skip(same).collect::<Vec<_>>().join(" ");
    (rest(a), rest(b))
}

/// Checks that a file of annotators is about descriptions that are there.
pub(super) fn check_annotators(file: &Path, checked: &mut Checked) {
    let name = files::name(file);
    // It has the layout of a labelled split, with a word in place of each description.
    let split = match read_split(file) {
        Ok(split) => split,
        Err(error) => return unreadable(file, &error, &mut checked.findings),
    };
    if !split.is_of_annotators() {
        let what = "`train_worker` or `unseen_worker` is expected for each description";
        checked.findings.add(Kind::Layout, name, what);
        return;
    }
    for Fault { kind, entry, what } in split.faults {
        checked.findings.add(kind, format!("{name}, `{entry}`"), what);
    }
    for description in &split.descriptions {
        let texts = checked.texts.get(&description.directory);
        let target = description.target.unwrap_or_default();
        if !texts.is_some_and(|texts| texts.contains_key(&target)) {
            let place = format!("{name}, set `{}`, target {target}", description.directory);
            checked.findings.add(Kind::Annotation, place, "there is no such description");
        }
    }
}
