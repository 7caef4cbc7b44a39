//! Where the pictures are: a folder, a list, a zip or tar archive, or one file.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use feature_store::{MAX_ID_BYTES, text};
use xxhash_rust::xxh3::xxh3_64;

use super::IdRule;
use super::archive::{Archive, in_tar, in_zip, part_of, zipped};
use super::kind::{Kind, kind};
use crate::image::{self, Image, ImageError, ImageFault, Limits};

/// Endings of the files that count as pictures in a folder or an archive; the last ones' formats are not read, which is
/// said of each.
const ENDINGS: [&str; 11] =
    ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif"];

/// Pictures that cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum PicturesError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing that pictures can be found in.
    #[error("{path}: {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// No picture at all.
    #[error("{0} holds no pictures (.jpg, .jpeg, .png, .webp)")]
    Empty(PathBuf),
    /// A list with one picture twice.
    #[error("{0} is listed twice; take one of the lines out")]
    Twice(String),
    /// Two pictures with one id.
    #[error(
        "{first} and {second} would both have the id `{id}`; {advice}give each an id in a list (a line each: id, tab, path)"
    )]
    SameId {
        /// The id.
        id: String,
        /// Another rule for ids, if that helps.
        advice: &'static str,
        /// A picture.
        first: String,
        /// Another one.
        second: String,
    },
    /// A picture that gets no id, or one that no store takes.
    #[error("{picture} gets no id: {what}")]
    NoId {
        /// The picture.
        picture: String,
        /// Why.
        what: String,
    },
}

/// A list of pictures with their ids; the files are opened when they are read.
pub struct Pictures {
    entries: Vec<Entry>,
    archive: Archive,
    root: PathBuf,
}

struct Entry {
    id: String,
    /// What errors call it.
    name: String,
    place: Place,
}

/// Where a picture is.
pub(super) enum Place {
    File(PathBuf),
    /// Index in the zip.
    Zip(usize),
    /// Bytes of the tar.
    Tar {
        offset: u64,
        length: u64,
    },
    /// A link in an archive, and why it leads to no picture.
    Lost(String),
}

/// A picture that was found: its path below the root, its id if it was given, and its place.
pub(super) type Found = (String, Option<String>, Place);

impl Pictures {
    /// Lists the pictures of a folder and all folders in it, of an archive, or of a list: a path a line, relative to the
    /// list's folder, optionally after an id and a tab.
    ///
    /// # Errors
    /// [`PicturesError`].
    pub fn open(path: &Path, rule: IdRule) -> Result<Pictures, PicturesError> {
        let failed = |source| PicturesError::Io { path: path.to_owned(), source };
        let (found, archive) = if path.is_dir() {
            (in_folder(path)?, Archive::None)
        } else {
            let mut start = Vec::new();
            let mut file = text::open(path).map_err(failed)?;
            file.by_ref().take(512).read_to_end(&mut start).map_err(failed)?;
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            match kind(&start) {
                Kind::Zip => in_zip(path, file)?,
                Kind::Tar => in_tar(path, file)?,
                Kind::Picture => (vec![one(path)], Archive::None),
                Kind::Unreadable(what) => {
                    return Err(PicturesError::Malformed { path: path.into(), what: what.into() });
                }
                Kind::Other => (in_list(path)?, Archive::None),
            }
        };
        let rule = rule.resolve(
            found.iter().filter(|(_, id, _)| id.is_none()).map(|(name, ..)| name.as_str()),
        );
        let entries = with_ids(path, found, rule)?;
        if entries.is_empty() {
            return Err(PicturesError::Empty(path.to_owned()));
        }
        Ok(Pictures { entries, archive, root: path.to_owned() })
    }

    /// Keeps one of `of` parts, each a store of its own that merges with the others: part 1 has the pictures 1, 1 + `of`,
    /// 1 + 2 · `of`, and so on.
    ///
    /// # Panics
    /// Unless part is in 1..=of.
    pub fn shard(mut self, part: usize, of: usize) -> Pictures {
        assert!((1..=of).contains(&part));
        let mut position = 0;
        self.entries.retain(|_| {
            position += 1;
            (position - 1) % of == part - 1
        });
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none: a part of too few.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where they were found.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The id of the n-th picture.
    pub fn id(&self, n: usize) -> &str {
        &self.entries[n].id
    }

    /// What the n-th picture is called in messages.
    pub fn name(&self, n: usize) -> &str {
        &self.entries[n].name
    }

    /// Reads and decodes the n-th picture.
    ///
    /// # Errors
    /// [`ImageError`] with its name.
    pub fn read(&self, n: usize, limits: &Limits) -> Result<Image, ImageError> {
        let Entry { name, place, .. } = &self.entries[n];
        let bytes = match (place, &self.archive) {
            (Place::Lost(why), _) => Err(ImageFault::Damaged(why.clone())),
            (Place::File(path), _) => return image::read(path, limits),
            (Place::Zip(index), Archive::Zip(zip)) => zipped(zip, *index, limits),
            (Place::Tar { offset, length }, Archive::Tar(tar)) => {
                part_of(tar, *offset, *length, limits)
            }
            _ => Err(ImageFault::Damaged("its archive is closed".to_owned())),
        };
        image::decode(&bytes.map_err(|fault| fault.of(name))?, name, limits)
    }

    /// When the n-th picture's file, or the archive that it is in, was last written, moved there or linked.
    pub(super) fn changed_at(&self, n: usize) -> Option<SystemTime> {
        let path = match &self.entries[n].place {
            Place::File(path) => path,
            _ => &self.root,
        };
        let changed = |metadata: Metadata| {
            let since =
                Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec() as u32);
            SystemTime::UNIX_EPOCH.checked_add(since)
        };
        let file = path.metadata().ok().and_then(changed);
        // A link may lead elsewhere since.
        file.max(path.symlink_metadata().ok().and_then(changed))
    }

    /// Changes when they are looked for somewhere else.
    pub(super) fn fingerprint(&self) -> u64 {
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        xxh3_64(root.as_os_str().as_encoded_bytes())
    }
}

/// Whether a file counts as a picture, by its name.
pub(super) fn is_picture(name: &str) -> bool {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    // macOS puts a file `._NAME` beside every file in an archive.
    let hidden = stem.rsplit('/').next().is_some_and(|name| name.starts_with("._"));
    !hidden && ENDINGS.contains(&ending.to_ascii_lowercase().as_str())
}

fn one(path: &Path) -> Found {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (name, None, Place::File(path.to_owned()))
}

/// In the order of their paths. Links are followed, but to no folder that was met already: links may lead in circles.
fn in_folder(root: &Path) -> Result<Vec<Found>, PicturesError> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    let mut met = HashSet::new();
    while let Some(folder) = folders.pop() {
        let failed = |source| PicturesError::Io { path: folder.clone(), source };
        if !met.insert(folder.canonicalize().map_err(failed)?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let below = path.strip_prefix(root).unwrap_or(&path);
            let name = below.to_string_lossy().replace('\\', "/");
            // A link that leads nowhere and a pipe are pictures that cannot be read.
            if is_picture(&name) {
                found.push((name, None, Place::File(path)));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn in_list(path: &Path) -> Result<Vec<Found>, PicturesError> {
    let lines = text::read_list(path).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidData => PicturesError::Malformed {
            path: path.to_owned(),
            what: "neither a picture, a zip or tar archive, nor a list of paths".to_owned(),
        },
        _ => PicturesError::Io { path: path.to_owned(), source },
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let entry = |line: String| {
        let (id, file) = match line.split_once('\t') {
            Some((id, file)) => (Some(id.to_owned()), file),
            None => (None, &*line),
        };
        (file.replace('\\', "/"), id, Place::File(folder.join(file)))
    };
    Ok(lines.into_iter().map(entry).collect())
}

fn with_ids(root: &Path, found: Vec<Found>, rule: IdRule) -> Result<Vec<Entry>, PicturesError> {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(found.len());
    let mut entries: Vec<Entry> = Vec::with_capacity(found.len());
    for (path, id, place) in found {
        let name = match &place {
            Place::File(file) => file.display().to_string(),
            _ => format!("{}/{path}", root.display()),
        };
        let no_id = |what: String| PicturesError::NoId { picture: name.clone(), what };
        let was_given = id.is_some();
        let id = id.or_else(|| rule.id(&path)).ok_or_else(|| {
            no_id("it is not named SET/imgN.jpg, as --ids imagecode needs".to_owned())
        })?;
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return Err(no_id(format!(
                "`{id}` has {} bytes; 1 to {MAX_ID_BYTES} are possible",
                id.len()
            )));
        }
        if let Some(first) = seen.insert(id.clone(), entries.len()) {
            let first = entries[first].name.clone();
            if first == name {
                return Err(PicturesError::Twice(name));
            }
            let advice = match rule {
                _ if was_given => "",
                IdRule::Path => "rename one, or ",
                _ => "choose another rule (--ids path), or ",
            };
            return Err(PicturesError::SameId { id, advice, first, second: name });
        }
        entries.push(Entry { id, name, place });
    }
    Ok(entries)
}
