//! What models are called that stand side by side.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use anyhow::bail;

/// The names of files or runs, without their endings, each with as many of its folders as tell it from the others.
///
/// # Errors
/// One that is given twice.
pub fn distinct_names(paths: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let places: Vec<PathBuf> =
        paths.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
    let mut known = HashSet::new();
    if let Some(twice) = places.iter().position(|place| !known.insert(place)) {
        bail!("{} is given twice", paths[twice].display());
    }
    let short: Vec<_> = places.iter().map(|place| components(&place.with_extension(""))).collect();
    // `a.onnx` and `a.jsonl` are told apart by their endings alone.
    let is_enough = short.iter().collect::<HashSet<_>>().len() == short.len();
    let all = if is_enough { short } else { places.iter().map(|p| components(p)).collect() };
    Ok((0..all.len()).map(|n| distinct_name(&all, n)).collect())
}

fn distinct_name(all: &[Vec<String>], n: usize) -> String {
    let is_one = |&depth: &usize| {
        let mut others = all.iter().enumerate().filter(|&(other, _)| other != n);
        !others.any(|(_, other)| last(other, depth) == last(&all[n], depth))
    };
    let depth = (1..=all[n].len()).find(is_one).unwrap_or(all[n].len());
    last(&all[n], depth).join("/")
}

/// The last so many folders and the name.
fn last(components: &[String], depth: usize) -> &[String] {
    &components[components.len().saturating_sub(depth)..]
}

/// Folders and name of a path.
fn components(path: &Path) -> Vec<String> {
    let normal = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    normal.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_as_many_folders_as_tell_them_apart() {
        let names = |paths: &[&str]| {
            distinct_names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>()).ok()
        };
        let strings = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
        assert_eq!(names(&["/x/a.jsonl"]), strings(&["a"]));
        assert_eq!(names(&["/x/1/v.jsonl", "/x/2/v.jsonl"]), strings(&["1/v", "2/v"]));
        let paths = ["/r/a/p/v.jsonl", "/r/b/p/v.jsonl", "/r/w.jsonl"];
        assert_eq!(names(&paths), strings(&["a/p/v", "b/p/v", "w"]));
        assert_eq!(names(&["/v.jsonl", "/x/v.jsonl"]), strings(&["v", "x/v"]));
        assert_eq!(names(&["/x/a.jsonl", "/x/a.onnx"]), strings(&["a.jsonl", "a.onnx"]));
        assert_eq!(names(&["/x/a.jsonl", "/x/a.jsonl"]), None);
    }
}
