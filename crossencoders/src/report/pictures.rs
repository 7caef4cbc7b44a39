//! Pictures as data URIs.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Kinds of pictures that every browser shows: file name extensions, and what the files begin with. No SVG: it is a
/// document of its own.
const KINDS: [(&str, &[&str], &[u8]); 4] = [
    ("image/jpeg", &["jpg", "jpeg"], b"\xff\xd8\xff"),
    ("image/png", &["png"], b"\x89PNG\r\n\x1a\n"),
    ("image/webp", &["webp"], b"RIFF"),
    ("image/gif", &["gif"], b"GIF8"),
];

/// Larger files are not put into a page, bytes.
const LARGEST: u64 = 16 << 20;

/// The folder of a data set's pictures.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    folder: Option<PathBuf>,
    known: HashMap<String, Option<String>>,
    /// Pictures that were looked for in vain.
    pub missing: Vec<PathBuf>,
}

impl Pictures {
    pub fn new(folder: Option<&Path>) -> Pictures {
        Pictures { folder: folder.map(Path::to_owned), ..Pictures::default() }
    }

    /// The data URI of an image of a set; `None` without a folder and if the folder does not have it.
    pub fn get(&mut self, directory: &str, id: &str) -> Option<String> {
        let folder = self.folder.clone()?;
        if let Some(known) = self.known.get(id) {
            return known.clone();
        }
        let found = find(&folder, directory, id);
        if found.is_none() {
            let name = id.strip_prefix(&dataset::id_prefix(directory)).unwrap_or(id);
            self.missing.push(Path::new(directory).join(format!("img{name}.jpg")));
        }
        self.known.insert(id.to_owned(), found.clone());
        found
    }
}

/// The data URI of an image of a set, if the folder has a picture of it that browsers show.
pub(crate) fn find(folder: &Path, directory: &str, id: &str) -> Option<String> {
    let (kind, bytes) = read(folder, directory, id)?;
    Some(format!("data:{kind};base64,{}", STANDARD.encode(bytes)))
}

/// The kind and the bytes of an image's picture, if the folder has one that browsers show.
fn read(folder: &Path, directory: &str, id: &str) -> Option<(&'static str, Vec<u8>)> {
    let number: u64 = id.strip_prefix(&dataset::id_prefix(directory))?.parse().ok()?;
    // The name comes from an annotation file: it shall not lead out of the folder.
    if !Path::new(directory).components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    KINDS.iter().flat_map(|(_, extensions, _)| *extensions).find_map(|extension| {
        picture(&folder.join(directory).join(format!("img{number}.{extension}")))
    })
}

/// What a file holds decides on its kind, not its name.
fn picture(path: &Path) -> Option<(&'static str, Vec<u8>)> {
    let metadata = path.metadata().ok()?;
    // A pipe would wait for somebody at its other end.
    if !metadata.is_file() || metadata.len() > LARGEST {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    let (kind, ..) = KINDS.iter().find(|(_, _, start)| bytes.starts_with(start))?;
    Some((kind, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_found_by_id_and_known_by_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("images/set-a_1");
        std::fs::create_dir_all(&set).unwrap();
        std::fs::write(set.join("img7.jpg"), b"\x89PNG\r\n\x1a\n").unwrap();
        std::fs::write(set.join("img8.jpg"), "<svg/>").unwrap();
        std::fs::write(folder.path().join("img9.jpg"), b"\xff\xd8\xff").unwrap();
        let mut pictures = Pictures::new(Some(&folder.path().join("images")));
        let expected = "data:image/png;base64,iVBORw0KGgo=";
        assert_eq!(pictures.get("set-a_1", "seta1img7").as_deref(), Some(expected));
        for (directory, id) in [("set-a_1", "seta1img8"), ("..", "img9"), ("b", "bimg1")] {
            assert_eq!(pictures.get(directory, id), None);
            assert_eq!(pictures.get(directory, id), None);
        }
        assert_eq!(pictures.missing.len(), 3);
        assert_eq!(Pictures::new(None).get("set-a_1", "seta1img7"), None);
    }
}
