//! The files of descriptions, each by itself.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::super::jsonl::{self, LineFault};
use super::super::split::{of_json, read_json};
use super::super::{Description, Fault, Kind, files, volta};
use super::{Checked, FileReport, unreadable};

/// Checks one of ImageCoDe's splits.
pub(super) fn check_split(file: &Path, checked: &mut Checked) {
    let name = files::name(file);
    let json = match read_json(file) {
        Ok(json) => json,
        Err(error) => return unreadable(file, &error, &mut checked.findings),
    };
    if volta::is_questions(&json) {
        checked.questions.push(file.to_owned());
        return;
    }
    let split = of_json(json);
    if split.descriptions.is_empty() && split.faults.is_empty() {
        checked.findings.add(Kind::Unreadable, name, "it holds no descriptions");
        return;
    }
    if split.is_of_annotators() {
        let what = "it tells who has written the descriptions, not what they say";
        checked.findings.add(Kind::Layout, name, what);
        return;
    }
    for Fault { kind, entry, what } in split.faults {
        let place = if entry.is_empty() { name.clone() } else { format!("{name}, `{entry}`") };
        checked.findings.add(kind, place, what);
    }
    for set in split.undescribed {
        let place = format!("{name}, set `{set}`");
        checked.findings.add(Kind::EmptyDescription, place, "it has no descriptions");
        // Its images are superfluous no more than those of others.
        checked.sets.entry(set).or_default().insert(files::split_name(&name).to_owned());
    }
    let layout = layout(&split.descriptions);
    if layout == "mixed" {
        let what = "some descriptions have a target, others have none";
        checked.findings.add(Kind::Layout, &name, what);
    }
    check_texts(&name, &split.descriptions, checked);
    let mut sets = BTreeSet::new();
    for Description { directory, text, target, distractor } in &split.descriptions {
        sets.insert(directory);
        let splits = checked.sets.entry(directory.clone()).or_default();
        splits.insert(files::split_name(&name).to_owned());
        if let (Some(target), None) = (target, distractor) {
            let texts = checked.texts.entry(directory.clone()).or_default();
            texts.insert(*target, text.clone());
        }
    }
    let (sets, descriptions) = (sets.len() as u64, split.descriptions.len() as u64);
    checked.reports.push(FileReport { file: name, layout, sets, descriptions });
}

fn layout(descriptions: &[Description]) -> &'static str {
    let labelled = descriptions.iter().filter(|description| description.target.is_some()).count();
    match (descriptions.iter().any(|description| description.distractor.is_some()), labelled) {
        (true, _) => "simple",
        (false, 0) => "unlabelled",
        (false, labelled) if labelled == descriptions.len() => "labelled",
        _ => "mixed",
    }
}

/// Empty descriptions, and those that a set has twice: they cannot be about one image each. Different sets may share
/// one.
fn check_texts(name: &str, descriptions: &[Description], checked: &mut Checked) {
    // ImageCoDe-simple may ask for one description twice, with different wrong images.
    let mut first: HashMap<(&str, &str), &Description> = HashMap::new();
    for description in descriptions {
        let number = match description.target {
            Some(target) => format!(", target {target}"),
            None => String::new(),
        };
        let place = format!("{name}, set `{}`{number}", description.directory);
        let text = description.text.trim();
        if text.is_empty() {
            checked.findings.add(Kind::EmptyDescription, place, "it says nothing");
            continue;
        }
        let Some(other) = first.insert((&description.directory, text), description) else {
            continue;
        };
        let is_other_pair = other.target == description.target
            && other.distractor.is_some()
            && other.distractor != description.distractor;
        if !is_other_pair {
            let what = match other.target.filter(|target| Some(*target) != description.target) {
                Some(target) => format!("the same words as for target {target}: {}", short(text)),
                None => format!("it comes twice: {}", short(text)),
            };
            checked.findings.add(Kind::RepeatedDescription, place, what);
        }
    }
}

/// The beginning of a text, in quotes.
pub(super) fn short(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("\"{}…\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}

/// Checks a data set of one's own.
pub(super) fn check_examples(file: &Path, checked: &mut Checked) {
    let name = files::name(file);
    let lines = match jsonl::read(file) {
        Ok(lines) => lines,
        Err(error) => return unreadable(file, &error, &mut checked.findings),
    };
    if lines.examples.is_empty() && lines.faults.is_empty() {
        checked.findings.add(Kind::Unreadable, name, "it holds no descriptions");
        return;
    }
    for LineFault { kind, line, what } in lines.faults {
        checked.findings.add(kind, format!("{name}, line {line}"), what);
    }
    let mut sets = BTreeSet::new();
    let mut first: HashMap<(&str, &[String]), usize> = HashMap::new();
    for (line, example) in &lines.examples {
        let place = format!("{name}, line {line}");
        let text = example.description.trim();
        if text.is_empty() {
            checked.findings.add(Kind::EmptyDescription, &place, "`description` says nothing");
        } else if let Some(other) = first.insert((text, &example.candidates), *line) {
            let what = format!("the same words and candidates as in line {other}: {}", short(text));
            checked.findings.add(Kind::RepeatedDescription, &place, what);
        }
        sets.extend(example.set.as_deref());
        for candidate in &example.candidates {
            if !checked.candidates.contains_key(candidate) {
                checked.candidates.insert(candidate.clone(), place.clone());
            }
        }
    }
    let labelled = lines.examples.iter().filter(|(_, example)| example.target.is_some()).count();
    if (1..lines.examples.len()).contains(&labelled) {
        let what = "some descriptions have a target, others have none";
        checked.findings.add(Kind::Layout, &name, what);
    }
    let (sets, descriptions) = (sets.len() as u64, lines.examples.len() as u64);
    checked.reports.push(FileReport { file: name, layout: "jsonl", sets, descriptions });
}
