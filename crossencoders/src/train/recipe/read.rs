//! From a TOML file and overrides to a recipe.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::RecipeError;
use crate::ranker::RECIPE;

/// Keys whose values are paths.
const PATHS: [&str; 6] =
    ["model", "init", "data.features", "data.train", "data.valid", "data.tokenizer"];

/// A kind of recipe. No table is a recipe of two kinds.
pub(in crate::train) trait Kind: DeserializeOwned {
    /// What it is likely to be mistaken for.
    type Other: Kind;
    /// What such a recipe is, and what takes it.
    const WHAT: &str;

    /// Whether its values go together, or what does not.
    fn check(&self) -> Result<(), &'static str>;
}

/// Reads a recipe and applies overrides; see [`Recipe::load`](super::Recipe::load).
pub(in crate::train) fn read<T: Kind>(path: &Path, overrides: &[String]) -> Result<T, RecipeError> {
    if path.join(RECIPE).is_file() {
        return Err(RecipeError::Run(path.to_owned()));
    }
    let text = feature_store::text::read_text(path)
        .map_err(|source| RecipeError::Io { path: path.to_owned(), source })?;
    parse(&text, path, overrides)
}

/// The same from the text of a file.
pub(super) fn parse<T: Kind>(
    text: &str,
    path: &Path,
    overrides: &[String],
) -> Result<T, RecipeError> {
    let error = |reason: String| RecipeError::Toml { path: path.to_owned(), reason };
    let mut table: Table = text.parse().map_err(|e: toml::de::Error| error(e.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for key in PATHS {
        if let Some(Value::String(value)) = lookup(&mut table, key) {
            *value = absolute(folder, value);
        }
    }
    let plain = table.clone();
    for change in overrides {
        apply(&mut table, change).ok_or_else(|| RecipeError::Override(change.clone()))?;
    }
    let recipe: T = table.try_into().map_err(|e| {
        if plain.clone().try_into::<T::Other>().is_ok() {
            return RecipeError::OtherKind { path: path.to_owned(), what: T::Other::WHAT };
        }
        misfit::<T>(plain, overrides).unwrap_or_else(|| error(e.to_string().trim().to_owned()))
    })?;
    recipe.check().map_err(|what| RecipeError::Contradiction { path: path.to_owned(), what })?;
    Ok(recipe)
}

/// The override after which there is no recipe any more; `None` if there is none without them either.
fn misfit<T: Kind>(mut table: Table, overrides: &[String]) -> Option<RecipeError> {
    table.clone().try_into::<T>().ok()?;
    let mut misfit = None;
    for change in overrides {
        apply(&mut table, change)?;
        match table.clone().try_into::<T>() {
            // Two may be of use only together.
            Ok(_) => misfit = None,
            Err(fault) => {
                let reason = fault.to_string().trim().to_owned();
                misfit.get_or_insert(RecipeError::Misfit { change: change.clone(), reason });
            }
        }
    }
    misfit
}

/// Fails for overrides of other keys than those that are open.
pub(super) fn check_open(
    open: &'static [&'static str],
    overrides: &[String],
) -> Result<(), RecipeError> {
    let key = |change: &str| change.split('=').next().unwrap_or_default().trim().to_owned();
    match overrides.iter().find(|change| !open.contains(&key(change).as_str())) {
        Some(change) => Err(RecipeError::Fixed { change: change.clone(), open }),
        None => Ok(()),
    }
}

/// Addresses of the model hub are no paths.
fn absolute(folder: &Path, value: &str) -> String {
    if value.starts_with("hf://") {
        return value.to_owned();
    }
    let path = std::path::absolute(folder.join(value)).unwrap_or_else(|_| folder.join(value));
    path.to_string_lossy().into_owned()
}

fn lookup<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    match key.split_once('.') {
        None => table.get_mut(key),
        Some((first, rest)) => lookup(table.get_mut(first)?.as_table_mut()?, rest),
    }
}

/// Sets one key; a value that is no TOML is a string.
fn apply(table: &mut Table, change: &str) -> Option<()> {
    let (key, value) = change.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let parsed =
        format!("value = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("value"));
    let mut value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    if let (true, Value::String(path)) = (PATHS.contains(&key), &mut value) {
        *path = absolute(Path::new(""), path);
    }
    let mut inner = table;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return None;
        }
        if parts.peek().is_none() {
            inner.insert(part.to_owned(), value);
            return Some(());
        }
        inner = inner.entry(part).or_insert_with(|| Value::Table(Table::new())).as_table_mut()?;
    }
    None
}
