//! Where the pictures are: a folder, a list, a zip or tar archive, or one file.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use feature_store::{MAX_ID_BYTES, text};
use xxhash_rust::xxh3::xxh3_64;
use zip::ZipArchive;

use super::IdRule;
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
        "{first} and {second} would both have the id `{id}`; choose another rule (--ids path), or give each an id in a list \
         (a line each: id, tab, path)"
    )]
    SameId {
        /// The id.
        id: String,
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

enum Place {
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

/// The archive that the pictures are in, if they are in one. Reading is serial, decoding is not.
enum Archive {
    None,
    Zip(Mutex<ZipArchive<File>>),
    Tar(Mutex<File>),
}

/// A picture that was found: its path below the root, its id if it was given, and its place.
type Found = (String, Option<String>, Place);

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

fn is_picture(name: &str) -> bool {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    // macOS puts a file `._NAME` beside every file in an archive.
    let hidden = stem.rsplit('/').next().is_some_and(|name| name.starts_with("._"));
    !hidden && ENDINGS.contains(&ending.to_ascii_lowercase().as_str())
}

fn one(path: &Path) -> Found {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (name, None, Place::File(path.to_owned()))
}

/// In the order of their paths; links to folders are not followed.
fn in_folder(root: &Path) -> Result<Vec<Found>, PicturesError> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |source| PicturesError::Io { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_type().map_err(failed)?.is_dir() {
                folders.push(path);
                continue;
            }
            let below = path.strip_prefix(root).unwrap_or(&path);
            let name = below.to_string_lossy().replace('\\', "/");
            // A link that leads nowhere is a picture that cannot be read.
            if is_picture(&name) && (path.is_file() || !path.exists()) {
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

fn in_zip(path: &Path, file: File) -> Result<(Vec<Found>, Archive), PicturesError> {
    let zip = ZipArchive::new(file).map_err(|error| PicturesError::Malformed {
        path: path.to_owned(),
        what: format!("truncated or damaged: {error}"),
    })?;
    let mut found = Vec::new();
    for index in 0..zip.len() {
        let Some(Ok(name)) = zip.name_for_index(index) else { continue };
        if is_picture(&name) {
            found.push((name.into_owned(), None, Place::Zip(index)));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((found, Archive::Zip(Mutex::new(zip))))
}

fn in_tar(path: &Path, file: File) -> Result<(Vec<Found>, Archive), PicturesError> {
    let malformed = |what: String| PicturesError::Malformed { path: path.to_owned(), what };
    let failed = |error: io::Error| malformed(format!("truncated or damaged: {error}"));
    let bytes = file.metadata().map_err(failed)?.len();
    let mut archive = tar::Archive::new(file);
    let (mut found, mut links) = (Vec::new(), Vec::new());
    let mut files = HashMap::new();
    for entry in archive.entries_with_seek().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.path().map_err(failed)?.to_string_lossy().into_owned();
        let (offset, length) = (entry.raw_file_position(), entry.size());
        if offset.saturating_add(length) > bytes {
            return Err(malformed(format!("truncated or damaged: it ends before {name} does")));
        }
        let kind = entry.header().entry_type();
        if kind.is_file() {
            files.insert(normal(Path::new(&name)), (offset, length));
        }
        if kind.is_file() && is_picture(&name) {
            found.push((name, None, Place::Tar { offset, length }));
        } else if (kind.is_hard_link() || kind.is_symlink()) && is_picture(&name) {
            let to = entry.link_name().map_err(failed)?.unwrap_or_default().into_owned();
            links.push((name, to, kind.is_symlink()));
        }
    }
    for (name, to, is_symbolic) in links {
        // Hard links are named from the archive's beginning, symbolic ones from the folder that they are in.
        let from = Path::new(&name).parent().filter(|_| is_symbolic).unwrap_or(Path::new(""));
        let place = match files.get(&normal(&from.join(&to))) {
            Some(&(offset, length)) => Place::Tar { offset, length },
            None => Place::Lost(format!("a link to {}, which is not in the archive", to.display())),
        };
        found.push((name, None, place));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((found, Archive::Tar(Mutex::new(archive.into_inner()))))
}

/// A path without `.` and, where there is something before them, `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if normal.pop() => {}
            other => normal.push(other),
        }
    }
    normal
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
            return Err(PicturesError::SameId { id, first, second: name });
        }
        entries.push(Entry { id, name, place });
    }
    Ok(entries)
}

fn zipped(
    zip: &Mutex<ZipArchive<File>>,
    index: usize,
    limits: &Limits,
) -> Result<Vec<u8>, ImageFault> {
    let mut zip =
        zip.lock().map_err(|_| ImageFault::Damaged("another reader failed".to_owned()))?;
    let entry = zip.by_index(index).map_err(|error| ImageFault::Damaged(error.to_string()))?;
    let mut bytes = Vec::new();
    entry.take(limits.bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(ImageFault::Io)?;
    Ok(bytes)
}

fn part_of(
    tar: &Mutex<File>,
    offset: u64,
    length: u64,
    limits: &Limits,
) -> Result<Vec<u8>, ImageFault> {
    if length > limits.bytes {
        return Err(ImageFault::TooManyBytes { bytes: length, limit: limits.bytes });
    }
    let mut tar =
        tar.lock().map_err(|_| ImageFault::Damaged("another reader failed".to_owned()))?;
    tar.seek(SeekFrom::Start(offset)).map_err(ImageFault::Io)?;
    let mut bytes = Vec::new();
    tar.by_ref().take(length).read_to_end(&mut bytes).map_err(ImageFault::Io)?;
    Ok(bytes)
}
