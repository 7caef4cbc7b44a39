//! Choosing and renaming images of a source.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use regex_lite::Regex;
use xxhash_rust::xxh3::xxh3_128;

use super::{FeatureSource, FormatError, RecordError, Records, SourceInfo, SourceRecord};
use crate::text::visible;
use crate::{FeatureStore, Regions, image_sets};

/// How an id is changed.
#[derive(Debug, Clone)]
pub enum Rename {
    /// Every match of a pattern (classes such as `\d` are ASCII) becomes a replacement, in which `${1}` is the first group.
    Replace {
        /// The rule as it was given.
        rule: String,
        /// What is replaced.
        pattern: Regex,
        /// By what.
        replacement: String,
    },
    /// A path becomes its file name without extension: `images/007.jpg` → `007`.
    Stem,
    /// A path in ImageCoDe's tree becomes the id that VOLTA's files use: `open-images-1_a/img5.jpg` →
    /// `openimages1aimg5`.
    ImageCode,
}

/// An unusable rename rule.
#[derive(Debug, thiserror::Error)]
#[error("rename rule `{rule}`: {what}")]
pub struct RenameError {
    rule: String,
    what: String,
}

impl std::str::FromStr for Rename {
    type Err = RenameError;

    /// `stem`, `imagecode`, or `s/PATTERN/REPLACEMENT/` with any separator for the slash; a `g` at the end, which others
    /// need for what is always done here, may stand there, too.
    fn from_str(rule: &str) -> Result<Rename, RenameError> {
        let wrong = |what: &str| RenameError { rule: rule.to_owned(), what: what.to_owned() };
        match rule {
            "stem" => return Ok(Rename::Stem),
            "imagecode" => return Ok(Rename::ImageCode),
            _ => {}
        }
        let mut chars = rule.strip_prefix('s').unwrap_or("").chars();
        let separator = chars
            .next()
            .filter(|separator| !separator.is_alphanumeric())
            .ok_or_else(|| wrong("expected `stem`, `imagecode` or `s/PATTERN/REPLACEMENT/`"))?;
        let parts: Vec<&str> = chars.as_str().split(separator).collect();
        let [pattern, replacement, "" | "g"] = parts[..] else {
            return Err(wrong(
                "expected a pattern and a replacement, each with the separator after it; where one of them holds the \
                 separator, take another (s#PATTERN#REPLACEMENT#)",
            ));
        };
        if pattern.is_empty() {
            return Err(wrong(
                "the pattern is empty; `s/^/PREFIX/` puts something before every id",
            ));
        }
        let pattern = Regex::new(pattern).map_err(|error| wrong(&error.to_string()))?;
        let replacement = braced(replacement, &pattern).map_err(|what| wrong(&what))?;
        Ok(Rename::Replace { rule: rule.to_owned(), pattern, replacement })
    }
}

/// A replacement with `${1}` for `$1` and `\1`: `$1_x` would otherwise name a group `1_x`.
///
/// # Errors
/// A group that the pattern does not have, which would be nothing.
fn braced(replacement: &str, pattern: &Regex) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = replacement;
    while let Some(at) = rest.find(['$', '\\']) {
        let (before, sign) = rest.split_at(at);
        out += before;
        // Two dollars are one.
        if let Some(after) = sign.strip_prefix("$$") {
            out += "$$";
            rest = after;
            continue;
        }
        let (is_dollar, after) = (sign.starts_with('$'), &sign[1..]);
        let in_braces = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let is_word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let digits = after.chars().take_while(char::is_ascii_digit).count();
        let word = after.chars().take_while(is_word).count();
        let (group, end) = match in_braces {
            Some((group, end)) if is_dollar => (group, end),
            _ if digits > 0 || !is_dollar => after.split_at(digits),
            _ => after.split_at(word),
        };
        if group.is_empty() {
            out += &sign[..1];
        } else {
            check_group(group, pattern)?;
            out += &format!("${{{group}}}");
        }
        rest = end;
    }
    Ok(out + rest)
}

fn check_group(group: &str, pattern: &Regex) -> Result<(), String> {
    let groups = pattern.captures_len() - 1;
    let is_there = match group.parse::<usize>() {
        Ok(number) => number <= groups,
        Err(_) => pattern.capture_names().flatten().any(|name| name == group),
    };
    if is_there {
        return Ok(());
    }
    Err(format!("the replacement names the group `{group}`, the pattern has {groups}"))
}

impl Rename {
    /// The new id.
    pub fn apply(&self, id: &str) -> String {
        let name = id.rsplit(['/', '\\']).next().unwrap_or(id);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        match self {
            Rename::Replace { pattern, replacement, .. } => {
                pattern.replace_all(id, replacement.as_str()).into_owned()
            }
            Rename::Stem => stem.to_owned(),
            Rename::ImageCode => {
                let folders = id.strip_suffix(name).unwrap_or("").trim_end_matches(['/', '\\']);
                // What lies in no set's folder may be such an id already.
                if folders.is_empty() {
                    return id.to_owned();
                }
                let directory = folders.rsplit(['/', '\\']).next().unwrap_or("");
                let number = stem.strip_prefix("img").unwrap_or(stem);
                image_sets::id_prefix(directory) + number
            }
        }
    }
}

impl fmt::Display for Rename {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Rename::Replace { rule, .. } => out.write_str(rule),
            Rename::Stem => out.write_str("stem"),
            Rename::ImageCode => out.write_str("imagecode"),
        }
    }
}

/// What to take from a source and under which ids.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Rules, applied one after the other.
    pub rename: Vec<Rename>,
    /// Ids to keep, as they are after renaming; `None` keeps all.
    pub ids: Option<HashSet<String>>,
    /// Keep ids that begin with one of these, after renaming: the images of a data set's sets.
    pub prefixes: Option<HashSet<String>>,
}

impl Selection {
    /// Whether it changes nothing.
    pub fn is_all(&self) -> bool {
        self.rename.is_empty() && self.ids.is_none() && self.prefixes.is_none()
    }

    /// The new id; the rules that change it are no longer without use.
    fn new_id(&self, id: &str, unmet: &mut Unmet) -> String {
        self.rename.iter().enumerate().fold(id.to_owned(), |id, (number, rule)| {
            let new = rule.apply(&id);
            if new != id {
                unmet.rules.remove(&number);
            }
            new
        })
    }

    /// The rule that leaves nothing of an id, if one does and none after it puts something there.
    fn emptied_by(&self, id: &str) -> Option<String> {
        let (mut id, mut emptied) = (id.to_owned(), None);
        for rule in &self.rename {
            let new = rule.apply(&id);
            match (id.is_empty(), new.is_empty()) {
                (_, false) => emptied = None,
                (false, true) => emptied = Some(rule),
                (true, true) => {}
            }
            id = new;
        }
        emptied.map(Rename::to_string)
    }

    /// Whether an image is taken; what asks for it is no longer without an answer.
    fn keeps(&self, id: &str, unmet: &mut Unmet) -> bool {
        unmet.ids.remove(id);
        let prefix = prefix_of(id);
        unmet.prefixes.remove(prefix);
        if unmet.examples.len() < EXAMPLES {
            unmet.examples.push(id.to_owned());
        }
        self.ids.as_ref().is_none_or(|ids| ids.contains(id))
            && self.prefixes.as_ref().is_none_or(|prefixes| prefixes.contains(prefix))
    }
}

/// A set's images are its prefix and a number.
fn prefix_of(id: &str) -> &str {
    id.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// Ids of the source that are kept as examples.
const EXAMPLES: usize = 3;

/// What a selection asks for and no image of the source has answered yet.
#[derive(Debug, Clone, Default)]
pub struct Unmet {
    /// Ids that no image has.
    pub ids: HashSet<String>,
    /// Prefixes of sets of which there is no image.
    pub prefixes: HashSet<String>,
    /// Numbers of the rules that have changed no id.
    pub rules: BTreeSet<usize>,
    /// The source's first ids, renamed: what ids look like in it.
    pub examples: Vec<String>,
    /// The first id that the rules have made of two, and those two.
    pub merged: Option<[String; 3]>,
}

/// What is unmet, while and after a [`Selected`] is read.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Mutex<Unmet>>);

impl Watch {
    /// As of now; of a source that was read to its end it is final.
    pub fn unmet(&self) -> Unmet {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Unmet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source of which only some images are taken, possibly under other ids.
pub struct Selected {
    source: Box<dyn FeatureSource>,
    selection: Selection,
    info: SourceInfo,
    watch: Watch,
}

impl Selected {
    /// Wraps a source.
    pub fn new(source: Box<dyn FeatureSource>, selection: Selection) -> Selected {
        let mut info = source.info().clone();
        if selection.ids.is_some() || selection.prefixes.is_some() {
            info.count = selection.ids.as_ref().map(|ids| ids.len() as u64);
        }
        // A run with another selection must not be resumed into this one.
        let mut ids: Vec<_> = selection.ids.iter().chain(&selection.prefixes).flatten().collect();
        ids.sort_unstable();
        let text = format!("{:?}{ids:?}", selection.rename);
        info.fingerprint += &format!("-{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
        let unmet = Unmet {
            ids: selection.ids.clone().unwrap_or_default(),
            prefixes: selection.prefixes.clone().unwrap_or_default(),
            rules: (0..selection.rename.len()).collect(),
            examples: Vec::new(),
            merged: None,
        };
        Selected { source, selection, info, watch: Watch(Arc::new(Mutex::new(unmet))) }
    }

    /// Tells what nothing in the source has answered.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

impl FeatureSource for Selected {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn records(self: Box<Self>) -> Result<Records, FormatError> {
        let Selected { source, selection, info, watch } = *self;
        let records = source.records()?;
        let mut names = Names::default();
        Ok(Box::new(records.filter_map(move |record| match record {
            Ok(inner) => {
                let mut unmet = watch.lock();
                let id = selection.new_id(inner.id(), &mut unmet);
                if !selection.keeps(&id, &mut unmet) {
                    return None;
                }
                if let Some(rule) = selection.emptied_by(inner.id()) {
                    let what = format!("`--rename {}` leaves nothing of its id", visible(&rule));
                    let error = RecordError::new(&info.path, inner.id(), what);
                    return Some(Err(RecordError { raw: inner.raw().to_vec(), ..error }));
                }
                if !selection.rename.is_empty()
                    && let Some(other) = names.taken(&id, inner.id())
                {
                    unmet.merged.get_or_insert_with(|| [id.clone(), other, inner.id().to_owned()]);
                }
                Some(Ok(Box::new(Renamed { id, inner }) as Box<dyn SourceRecord>))
            }
            Err(error) => Some(Err(error)),
        })))
    }
}

/// What images were called before they got new ids.
#[derive(Default)]
struct Names(HashMap<u128, Box<str>>);

impl Names {
    /// Another image that has got this id before, by its old one.
    fn taken(&mut self, id: &str, old: &str) -> Option<String> {
        let first = self.0.entry(xxh3_128(id.as_bytes())).or_insert_with(|| old.into());
        (**first != *old).then(|| first.to_string())
    }
}

struct Renamed {
    id: String,
    inner: Box<dyn SourceRecord>,
}

impl SourceRecord for Renamed {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError> {
        let Renamed { id, inner } = *self;
        inner.decode().map(|(_, regions)| (id, regions))
    }

    fn stored(&self) -> Option<(&FeatureStore, &str)> {
        self.inner.stored()
    }

    fn raw(&self) -> &[u8] {
        self.inner.raw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(rule: &str, id: &str) -> String {
        rule.parse::<Rename>().unwrap().apply(id)
    }

    #[test]
    fn rules_rename() {
        assert_eq!(renamed("stem", "a/b.c/007.tar.jpg"), "007.tar");
        assert_eq!(renamed("stem", "plain"), "plain");
        assert_eq!(renamed("imagecode", "x/open-images-1_a/img5.jpg"), "openimages1aimg5");
        assert_eq!(renamed("imagecode", "openimages1aimg5"), "openimages1aimg5");
        assert_eq!(renamed(r"s/^0*(\d+)$/coco_$1/", "000123"), "coco_123");
        assert_eq!(renamed("s|/|_|", "a/b/c"), "a_b_c");
        assert_eq!(renamed(r"s/(.*)img(\d+)/\1_$2x/", "setimg5"), "set_5x");
        assert_eq!(renamed("s#/#_#g", "a/b/c"), "a_b_c");
        assert_eq!(renamed("s/(?P<set>.*)img/${set}-$set-$0-$$1-/", "aimg5"), "a-a-aimg-$1-5");
    }

    #[test]
    fn a_rule_that_empties_an_id_is_found() {
        let rules = ["s/x/y/", "s/.*//", "s/^$//"].map(|rule| rule.parse().unwrap());
        let mut selection = Selection { rename: rules.to_vec(), ..Selection::default() };
        assert_eq!(selection.emptied_by("x").as_deref(), Some("s/.*//"));
        selection.rename.push("s/^/z/".parse().unwrap());
        assert_eq!(selection.emptied_by("x"), None);
        assert_eq!(Selection::default().emptied_by("x"), None);
    }

    #[test]
    fn unusable_rules_are_refused() {
        for rule in ["", "s", "s/a", "s/a/b", "s/(/b/", "s//b/", "sxaxbx", "other", "s/a/b/i"] {
            assert!(rule.parse::<Rename>().is_err(), "{rule}");
        }
        for rule in ["s/(a)/$2/", r"s/a/\1/", "s/a/${1}/", "s/(?P<b>a)/$c/"] {
            let said = rule.parse::<Rename>().unwrap_err().to_string();
            assert!(said.contains("the pattern has"), "{said}");
        }
        assert!("s/a/b/c/".parse::<Rename>().unwrap_err().to_string().contains("s#"));
    }
}
