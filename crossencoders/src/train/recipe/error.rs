//! Why a recipe cannot be used.

use std::path::{Path, PathBuf};

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not TOML, an unknown or a missing key, or a value of the wrong type.
    #[error("{path}: {reason}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A run's folder in place of a recipe.
    #[error("{0} is a run, not a recipe: its recipe is {0}/recipe.toml")]
    Run(PathBuf),
    /// A recipe of another kind than the command takes.
    #[error("{path} is {what}")]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What it is, and what takes it.
        what: &'static str,
    },
    /// `--set` with something that is not `key=value`, or a key inside something that is no table.
    #[error("`{0}` sets nothing: key=value is expected, such as train.epochs=3")]
    Override(String),
    /// `--set` with a key or a value that no recipe has.
    #[error("`--set {change}`: {reason}")]
    Misfit {
        /// What was given.
        change: String,
        /// What is wrong.
        reason: String,
    },
    /// `--set` with a value that a trained model does not leave open.
    #[error(
        "`--set {change}` changes nothing about how a trained model ranks; what can be set is {}",
        open.join(", ")
    )]
    Fixed {
        /// What was given.
        change: String,
        /// The keys that are open.
        open: &'static [&'static str],
    },
    /// Values that do not go together.
    #[error("{path}: {what}")]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// A file or folder that a recipe names.
    #[error(
        "`{key}` is {path}, which is not there. `--set {key}=PATH` names another; such a path is relative to the working \
         directory{}, one in a recipe to the recipe's folder. Where ImageCoDe's data, features, weights and vocabulary come \
         from: data/README.md",
        working_directory()
    )]
    NotThere {
        /// The key.
        key: &'static str,
        /// Its value, made absolute.
        path: PathBuf,
    },
}

fn working_directory() -> String {
    std::env::current_dir().map_or(String::new(), |folder| format!(" ({})", folder.display()))
}

/// Fails unless what a recipe names under a key is there; addresses of the model hub may be.
///
/// # Errors
/// [`RecipeError::NotThere`].
pub(crate) fn expect(key: &'static str, path: &Path) -> Result<(), RecipeError> {
    match path.exists() || path.to_string_lossy().starts_with("hf://") {
        true => Ok(()),
        false => Err(RecipeError::NotThere { key, path: path.to_owned() }),
    }
}
