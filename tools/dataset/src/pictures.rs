//! ImageCoDe's tree of pictures: `SET/imgN.jpg`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::{DatasetError, id_prefix};

/// Endings of pictures.
const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// The pictures of a folder of sets.
#[derive(Debug, Default)]
pub struct PictureTree {
    root: PathBuf,
    /// Set directories, and their pictures by number; a number has several if endings differ.
    sets: BTreeMap<String, BTreeMap<u64, Vec<String>>>,
    /// Files that are no pictures of a set, below the root.
    strangers: Vec<String>,
}

impl PictureTree {
    /// Lists a folder of sets. Neither a picture is opened nor a link to a folder followed.
    ///
    /// # Errors
    /// [`DatasetError::Io`], also for a folder without one set.
    pub fn open(root: &Path) -> Result<PictureTree, DatasetError> {
        let mut tree = PictureTree { root: root.to_owned(), ..PictureTree::default() };
        for entry in list(root)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.file_type().map_err(DatasetError::io(root))?.is_dir() {
                true => tree.add_set(&name)?,
                false => tree.strangers.push(name),
            }
        }
        if tree.sets.is_empty() {
            let what = "it holds no set with a picture (SET/img0.jpg)";
            let source = io::Error::new(io::ErrorKind::NotFound, what);
            return Err(DatasetError::Io { path: root.to_owned(), source });
        }
        tree.strangers.sort();
        Ok(tree)
    }

    fn add_set(&mut self, set: &str) -> Result<(), DatasetError> {
        let folder = self.root.join(set);
        for entry in list(&folder)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_folder = entry.file_type().map_err(DatasetError::io(&folder))?.is_dir();
            match number(&name).filter(|_| !is_folder) {
                Some(number) => {
                    let images = self.sets.entry(set.to_owned()).or_default();
                    images.entry(number).or_default().push(name);
                }
                None => self.strangers.push(format!("{set}/{name}")),
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Set directories in order.
    pub fn sets(&self) -> impl Iterator<Item = &str> {
        self.sets.keys().map(String::as_str)
    }

    /// Numbers of a set's pictures in order; none of a set that is not there.
    pub fn numbers(&self, set: &str) -> Vec<u64> {
        self.sets.get(set).map(|images| images.keys().copied().collect()).unwrap_or_default()
    }

    /// Ids of a set's images in order.
    pub fn images(&self, set: &str) -> Vec<String> {
        let prefix = id_prefix(set);
        self.numbers(set).into_iter().map(|number| format!("{prefix}{number}")).collect()
    }

    /// Files of a set by number, those of one number after each other.
    pub(super) fn files(&self, set: &str) -> impl Iterator<Item = (u64, &str)> {
        let images = self.sets.get(set).into_iter().flatten();
        images.flat_map(|(number, names)| names.iter().map(|name| (*number, name.as_str())))
    }

    /// Files that are no pictures of a set.
    pub(super) fn strangers(&self) -> &[String] {
        &self.strangers
    }

    /// Pictures of all sets.
    pub fn len(&self) -> u64 {
        self.sets.values().map(|images| images.len() as u64).sum()
    }

    /// Whether there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Compares the pictures of a set byte by byte.
    pub(super) fn compare_files(&self, set: &str) -> Comparison {
        let folder = self.root.join(set);
        let mut found = Comparison::default();
        let mut by_size: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for (_, name) in self.files(set) {
            match std::fs::metadata(folder.join(name)) {
                Ok(metadata) => by_size.entry(metadata.len()).or_default().push(name),
                Err(error) => found.unreadable.push((name.to_owned(), error)),
            }
        }
        // Only pictures of one size can be equal, and few are of one size.
        for names in by_size.values().filter(|names| names.len() > 1) {
            let mut first_of: BTreeMap<u128, &str> = BTreeMap::new();
            for name in names {
                match hash(&folder.join(name)) {
                    Ok(hash) => match first_of.get(&hash) {
                        Some(first) => found.equal.push(((*first).into(), (*name).into())),
                        None => drop(first_of.insert(hash, name)),
                    },
                    Err(error) => found.unreadable.push(((*name).to_owned(), error)),
                }
            }
        }
        found
    }
}

/// What a comparison of a set's pictures has found.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Names of pictures with the same bytes, the earlier one first.
    pub equal: Vec<(String, String)>,
    /// Pictures that cannot be read.
    pub unreadable: Vec<(String, io::Error)>,
}

fn list(folder: &Path) -> Result<Vec<std::fs::DirEntry>, DatasetError> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect);
    entries.map_err(DatasetError::io(folder))
}

/// The number in `imgN.jpg`.
fn number(name: &str) -> Option<u64> {
    let (stem, ending) = name.rsplit_once('.')?;
    let digits = stem.strip_prefix("img")?;
    let is_picture = ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known));
    digits.parse().ok().filter(|_| is_picture && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn hash(path: &Path) -> io::Result<u128> {
    let mut file = feature_store::text::open(path)?;
    let mut hasher = Xxh3::new();
    copy(&mut file, &mut hasher)?;
    Ok(hasher.digest128())
}

fn copy(file: &mut File, hasher: &mut Xxh3) -> io::Result<()> {
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            length => hasher.update(&piece[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_listed_by_number_and_equal_ones_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write("a-1/img10.jpg", "one");
        write("a-1/img9.JPG", "two");
        write("a-1/img9.png", "one");
        write("a-1/cover.jpg", "x");
        write("readme.txt", "x");
        let tree = PictureTree::open(folder.path()).unwrap();
        assert_eq!(tree.images("a-1"), ["a1img9", "a1img10"]);
        assert_eq!(tree.strangers(), ["a-1/cover.jpg", "readme.txt"]);
        assert_eq!((tree.len(), tree.numbers("b").len()), (2, 0));
        std::os::unix::fs::symlink("nowhere", folder.path().join("a-1/img11.jpg")).unwrap();
        let found = PictureTree::open(folder.path()).unwrap().compare_files("a-1");
        assert_eq!(found.equal, [("img9.png".to_owned(), "img10.jpg".to_owned())]);
        assert_eq!(
            found.unreadable.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["img11.jpg"]
        );
        let error = PictureTree::open(&folder.path().join("a-1")).unwrap_err().to_string();
        assert!(error.contains("no set with a picture"), "{error}");
    }
}
