//! What a folder holds of dumps that are folders of files.

use std::path::{Path, PathBuf};

use super::FormatError;

/// Files that belong to no dump, at most: with more of them it is some other folder that was named.
const MOST_OTHERS: usize = if cfg!(test) { 100 } else { 100_000 };

/// The files of dumps below a folder, each list in the order of paths; links to folders are not followed.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// `data.mdb` of LMDB environments.
    pub(super) environments: Vec<PathBuf>,
    /// `*_info.npy`.
    pub(super) infos: Vec<PathBuf>,
    /// `*.npy` that are none of these.
    pub(super) arrays: Vec<PathBuf>,
    /// `*.npz`.
    pub(super) archives: Vec<PathBuf>,
    /// The first folder below it that cannot be listed, and why.
    pub(super) unreadable: Option<FormatError>,
}

impl Folder {
    /// Lists the files.
    ///
    /// # Errors
    /// A folder that cannot be listed, or one that holds very many files of other kinds.
    pub(super) fn list(path: &Path) -> Result<Folder, FormatError> {
        let (mut found, mut others) = (Folder::default(), 0);
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if folder == path => return Err(FormatError::io(path)(error)),
                Err(error) => {
                    found.unreadable.get_or_insert(FormatError::io(&folder)(error));
                    continue;
                }
            };
            for entry in entries {
                let entry = entry.map_err(FormatError::io(&folder))?;
                let kind = entry.file_type().map_err(FormatError::io(&folder))?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if !found.take(&entry.path()) {
                    others += 1;
                }
                if others > MOST_OTHERS {
                    let what = format!(
                        "more than {MOST_OTHERS} files in it belong to no dump; name the folder of the dump itself"
                    );
                    return Err(FormatError::Malformed { path: path.to_owned(), what });
                }
            }
        }
        found.environments.sort();
        found.infos.sort();
        found.arrays.sort();
        found.archives.sort();
        Ok(found)
    }

    /// As [`list`](Folder::list), of a dump that must be whole.
    ///
    /// # Errors
    /// A folder below it that cannot be listed, too.
    pub(super) fn whole(path: &Path) -> Result<Folder, FormatError> {
        let mut found = Folder::list(path)?;
        match found.unreadable.take() {
            Some(error) => Err(error),
            None => Ok(found),
        }
    }

    /// Whether a file belongs to a dump; those that tell of one are noted.
    fn take(&mut self, file: &Path) -> bool {
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        let list = if name == b"data.mdb" {
            &mut self.environments
        } else if name.ends_with(b"_info.npy") {
            &mut self.infos
        } else if name.ends_with(b".npz") {
            &mut self.archives
        } else if name.ends_with(b".npy") {
            &mut self.arrays
        } else {
            return false;
        };
        if file.is_file() {
            list.push(file.to_owned());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_dumps_are_found_and_a_folder_of_other_files_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("below")).unwrap();
        for name in ["b.npz", "a.npz", "below/c_info.npy", "below/c.npy", "below/data.mdb"] {
            std::fs::write(path(name), "").unwrap();
        }
        std::fs::create_dir(path("d.npz")).unwrap();
        // Those of a dump do not count.
        (0..2 * MOST_OTHERS).for_each(|n| std::fs::write(path(&format!("{n}.npy")), "").unwrap());
        let found = Folder::whole(folder.path()).unwrap();
        assert_eq!(found.archives, [path("a.npz"), path("b.npz")]);
        assert_eq!(found.infos, [path("below/c_info.npy")]);
        assert_eq!(found.environments, [path("below/data.mdb")]);
        (0..=MOST_OTHERS).for_each(|n| std::fs::write(path(&format!("{n}.txt")), "").unwrap());
        let said = Folder::list(folder.path()).unwrap_err().to_string();
        assert!(said.contains("the dump itself"), "{said}");
    }
}
