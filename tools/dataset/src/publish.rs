//! Small files appear complete or not at all: written beside their targets, then renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::conversion::ConversionError;
use feature_store::target::{Claim, outside_of_stores};

/// A file that is going to be written.
pub(super) struct Output {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

/// Writes files that belong together; the first is the one that the others go by, and is renamed last.
///
/// # Errors
/// [`ConversionError::Exists`] and [`ConversionError::Irreplaceable`], before anything is written; so is a target
/// inside a store refused.
pub(super) fn publish(
    outputs: &[Output],
    source: &Path,
    overwrite: bool,
) -> Result<(), ConversionError> {
    let Some(main) = outputs.first() else { return Ok(()) };
    outside_of_stores(&main.path, "the target")?;
    let claims = outputs.iter().map(|output| Claim::take(&output.path));
    let claims: Vec<Claim> = claims.collect::<Result<_, _>>()?;
    for output in outputs {
        check(&output.path, source, overwrite)?;
    }
    let mut partials = Vec::new();
    let written = outputs.iter().zip(&claims).try_for_each(|(output, claim)| {
        let partial = claim.beside("new")?;
        partials.push(partial.clone());
        write(&partial, &output.bytes).map_err(ConversionError::io(&partial))
    });
    let renamed = written.and_then(|()| {
        partials.iter().zip(outputs).rev().try_for_each(|(partial, output)| {
            fs::rename(partial, &output.path).map_err(ConversionError::io(&output.path))
        })
    });
    if renamed.is_err() {
        // What cannot be removed is litter, no failure of its own.
        partials.iter().for_each(|partial| drop(fs::remove_file(partial)));
    }
    renamed
}

fn check(path: &Path, source: &Path, overwrite: bool) -> Result<(), ConversionError> {
    // A dangling link is something that is there, too.
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if matches!((path.canonicalize(), source.canonicalize()), (Ok(a), Ok(b)) if a == b) {
        return Err(ConversionError::IsSource(path.to_owned()));
    }
    match (metadata.is_file(), overwrite) {
        (false, _) => Err(ConversionError::Irreplaceable(path.to_owned())),
        (true, false) => Err(ConversionError::Exists(path.to_owned())),
        (true, true) => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
