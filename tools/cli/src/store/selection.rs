//! Words that say what to take from a source, and what is said when the source has no answer to them.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dataset::{DatasetError, Description};
use feature_store::formats::select::{Rename, Selected, Selection, Unmet, Watch};
use feature_store::formats::{FeatureSource, Listings};
use feature_store::text::{read_list, visible, visible_id};
use feature_store::validate::Coverage;

use crate::console::shown;

/// Ids that are named one by one; more are only counted.
const NAMED: usize = 5;

/// What to take from a source, and under which ids.
#[derive(clap::Args)]
pub struct SelectionArgs {
    /// Take only the ids in this file, one a line; a line may be a JSON string, for ids with blanks at their ends or ends of
    /// lines in them. `-` is stdin
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Take only images of the sets in this ImageCoDe annotation file, or in the splits of a directory
    #[arg(long, value_name = "PATH")]
    dataset: Option<PathBuf>,
    /// Rename ids, before choosing: `stem` (a/007.jpg -> 007), `imagecode` (set/img5.jpg -> setimg5), or
    /// `s/PATTERN/REPLACEMENT/`, which replaces all matches of a regular expression (Rust's dialect: no look-around);
    /// $1 or \1 in the replacement is what the first group has matched, any sign may stand for the slash
    /// (`s#images/(.+)#$1#`). May be given several times
    #[arg(long, value_name = "RULE")]
    rename: Vec<Rename>,
}

/// What was asked of a source, to be compared with what was there once it is read.
pub struct Asked {
    /// `None` if everything was.
    watch: Option<Watch>,
    ids: usize,
    sets: usize,
    rules: Vec<Rename>,
    path: PathBuf,
    /// What the source itself lists.
    listings: Listings,
}

impl SelectionArgs {
    /// The source, or what was chosen of it, and what was asked for.
    pub fn apply(
        &self,
        source: Box<dyn FeatureSource>,
    ) -> anyhow::Result<(Box<dyn FeatureSource>, Asked)> {
        let path = source.info().path.clone();
        let (source, listings) = Listings::watch(source);
        let mut selection = Selection { rename: self.rename.clone(), ..Selection::default() };
        if let Some(path) = &self.ids {
            let ids: HashSet<String> = read_list(path)
                .with_context(|| format!("cannot read the list of ids {}", shown(path)))?
                .into_iter()
                .collect();
            if ids.is_empty() {
                bail!("the list of ids {} is empty: it has one id a line", shown(path));
            }
            selection.ids = Some(ids);
        }
        if let Some(path) = &self.dataset {
            let sets = splits(path)?.into_iter().flat_map(|split| split.sets);
            let prefixes: HashSet<String> = sets.map(|set| dataset::id_prefix(&set)).collect();
            selection.prefixes = Some(prefixes);
        }
        let mut asked = Asked {
            watch: None,
            ids: selection.ids.as_ref().map_or(0, HashSet::len),
            sets: selection.prefixes.as_ref().map_or(0, HashSet::len),
            rules: self.rename.clone(),
            path,
            listings,
        };
        if selection.is_all() {
            return Ok((source, asked));
        }
        let selected = Selected::new(source, selection);
        asked.watch = Some(selected.watch());
        Ok((Box::new(selected), asked))
    }
}

impl Asked {
    /// What is wrong with the lists of its images that the source carries beside them.
    pub fn list_findings(&self) -> Vec<String> {
        self.listings.findings()
    }

    /// Says on stderr what the source had no answer to, and what its own lists say otherwise; whether there is such a thing,
    /// but for rules that have changed no id.
    pub fn say_unmet(&self) -> bool {
        let of_lists = self.list_findings();
        of_lists.iter().for_each(|what| errln!("{}: {}", shown(&self.path), visible(what)));
        let unmet = self.unmet();
        let examples = match unmet.examples.as_slice() {
            [] => "it holds no images".to_owned(),
            some if self.rules.is_empty() => {
                format!("its ids look like {} (--rename changes them first)", quoted(some))
            }
            some => format!("its ids, renamed, look like {}", quoted(some)),
        };
        for (missing, asked, what) in
            [(&unmet.ids, self.ids, "ids"), (&unmet.prefixes, self.sets, "sets")]
        {
            if !missing.is_empty() {
                let mut names: Vec<String> = missing.iter().cloned().collect();
                names.sort_unstable();
                errln!(
                    "of {asked} {what} asked for, {} are not in the source: {}; {examples}",
                    names.len(),
                    quoted(&names)
                );
            }
        }
        for rule in unmet.rules.iter().filter_map(|&number| self.rules.get(number)) {
            errln!("`--rename {rule}` has changed no id; {examples}");
        }
        !unmet.ids.is_empty() || !unmet.prefixes.is_empty() || !of_lists.is_empty()
    }

    /// The ids asked for that are not in the source, in order.
    pub fn missing_ids(&self) -> BTreeSet<String> {
        self.unmet().ids.into_iter().collect()
    }

    /// What says that the rules have made one id of two, if they have.
    pub fn merged(&self) -> Option<String> {
        let [id, one, other] = self.unmet().merged?.map(|id| visible_id(&id).into_owned());
        Some(format!("--rename makes one id of several: `{id}` of `{one}` and `{other}`"))
    }

    /// Whether only some images were asked for.
    pub fn is_some(&self) -> bool {
        self.ids + self.sets > 0
    }

    fn unmet(&self) -> Unmet {
        self.watch.as_ref().map(Watch::unmet).unwrap_or_default()
    }
}

/// The first names, in quotes, and how many more there are.
fn quoted(names: &[String]) -> String {
    let first: Vec<String> =
        names.iter().take(NAMED).map(|name| format!("`{}`", visible_id(name))).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    first.join(", ") + &more
}

/// The sets of an annotation file, or of each split in a directory; what else lies there is left out, with a word.
pub fn splits(path: &Path) -> anyhow::Result<Vec<Coverage>> {
    if !path.is_dir() {
        return Ok(vec![coverage(path, dataset::load_split(path)?)]);
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot read {}", shown(path)))?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| is_annotation(file));
    files.sort();
    let (mut splits, mut others) = (Vec::new(), Vec::new());
    for file in files {
        match dataset::load_split(&file) {
            // ImageCoDe-simple's pairs are of the sets of a split, which is a file of its own.
            Ok(pairs) if pairs.iter().all(|pair| pair.distractor.is_some()) => {
                others.push(file_name(&file));
            }
            Ok(descriptions) => splits.push(coverage(&file, descriptions)),
            Err(DatasetError::Annotators(_)) => others.push(file_name(&file)),
            Err(error) => errln!("left out: {}", visible(&error.to_string())),
        }
    }
    if !others.is_empty() {
        errln!("left out, since they are no splits: {}", visible(&others.join(", ")));
    }
    if splits.is_empty() {
        bail!("{} holds no split of ImageCoDe (*.json)", shown(path));
    }
    Ok(splits)
}

/// By its name; ImageCoDe's folder holds tables for its scripts, too (`counter2key_val.json`).
fn is_annotation(file: &Path) -> bool {
    let name = file_name(file);
    name.ends_with(".json") && !name.starts_with("counter2key")
}

fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn coverage(file: &Path, descriptions: Vec<Description>) -> Coverage {
    let sets: BTreeSet<String> =
        descriptions.into_iter().map(|description| description.directory).collect();
    let split = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Coverage { split, sets: sets.into_iter().collect() }
}
