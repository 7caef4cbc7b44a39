//! What a target's name promises to those who read it.

use std::path::Path;

use anyhow::bail;

use crate::console::shown;

/// Endings that stand for a format that is written, and its name on the command line.
const WRITTEN: [(&str, &str); 5] = [
    (".tsv", "tsv"),
    (".tsv.gz", "tsv-gz"),
    (".tsv.zst", "tsv-zst"),
    (".h5", "hdf5"),
    (".hdf5", "hdf5"),
];

/// Endings of other things that are no stores.
const OTHERS: [&str; 15] = [
    ".npz", ".npy", ".csv", ".pkl", ".json", ".txt", ".hdf", ".lmdb", ".volta", ".gz", ".zst",
    ".bz2", ".xz", ".zip", ".tar",
];

/// The `--to` that a target's name stands for; `None` for what may be a store.
///
/// # Errors
/// A name that stands for something else, or for a pipe.
pub fn named_format(target: &Path) -> anyhow::Result<Option<&'static str>> {
    check_pipe(target)?;
    let name = lower_case(target);
    let ends = |ending: &str| name.ends_with(ending);
    if let Some((_, format)) = WRITTEN.iter().find(|(ending, _)| ends(ending)) {
        return Ok(Some(format));
    }
    if let Some(ending) = OTHERS.iter().find(|ending| ends(ending)) {
        bail!(
            "{} does not tell what to write: no format is known by {ending} alone; say it with --to (`--to npz` and \
             `--to npy` make folders of such files, `--to store` a store of that name), or choose another name",
            shown(target)
        );
    }
    Ok(None)
}

/// Makes sure that a store's name is not that of something else.
///
/// # Errors
/// As [`named_format`].
pub fn check_store(target: &Path) -> anyhow::Result<()> {
    check_pipe(target)?;
    let name = lower_case(target);
    let mut endings = WRITTEN.iter().map(|(ending, _)| ending).chain(&OTHERS);
    if let Some(ending) = endings.find(|ending| name.ends_with(*ending)) {
        bail!(
            "{} is to be a store, but what ends with {ending} is none; choose another name (`xenc store convert` writes \
             other formats)",
            shown(target)
        );
    }
    Ok(())
}

/// A name that promises compressed text must keep it, whatever `--to` says: readers go by the ending.
///
/// # Errors
/// Another format than the one that is promised, or a pipe.
pub fn check_promise(target: &Path, format: &str) -> anyhow::Result<()> {
    check_pipe(target)?;
    let name = lower_case(target);
    for (ending, promised) in
        [(".gz", ["tsv-gz", "tsv-bottomup-gz"]), (".zst", ["tsv-zst", "tsv-bottomup-zst"])]
    {
        if name.ends_with(ending) && !promised.contains(&format) {
            let [whole, narrow] = promised;
            bail!(
                "{} ends with {ending}: `--to {whole}` or `--to {narrow}` writes that",
                shown(target)
            );
        }
    }
    Ok(())
}

/// Refuses `-`: outputs are no streams.
///
/// # Errors
/// That target.
pub fn check_pipe(target: &Path) -> anyhow::Result<()> {
    if target.as_os_str() == "-" {
        bail!(
            "outputs are renamed into place when they are complete: name a file or directory instead of `-`"
        );
    }
    Ok(())
}

fn lower_case(target: &Path) -> String {
    target.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}
