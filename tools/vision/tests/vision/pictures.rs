//! Where pictures are found, and what keeps them from being.

use std::fs;
use std::path::Path;

use vision::extract::{IdRule, Pictures};
use vision::image::Limits;

use crate::extraction::photographs;
use crate::fixtures::path;

#[test]
fn links_in_a_tar_are_followed_within_it() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("links.tar");
    let photo = fs::read(path("detector/photos/landscape.jpg")).unwrap();
    let mut tar = tar::Builder::new(fs::File::create(&archive).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(photo.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "x/a.jpg", &photo[..]).unwrap();
    let links = [
        (tar::EntryType::Link, "x/hard.jpg", "x/a.jpg"),
        (tar::EntryType::Symlink, "y/soft.jpg", "../x/./a.jpg"),
        (tar::EntryType::Symlink, "y/lost.jpg", "../../etc/a.jpg"),
    ];
    for (kind, name, to) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        tar.append_link(&mut header, name, to).unwrap();
    }
    tar.finish().unwrap();
    let pictures = Pictures::open(&archive, IdRule::Stem).unwrap();
    let read: Vec<_> = (0..pictures.len())
        .map(|n| (pictures.id(n), pictures.read(n, &Limits::default()).map_err(|e| e.to_string())))
        .collect();
    assert_eq!(read.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["a", "hard", "lost", "soft"]);
    let width = |n: usize| read[n].1.as_ref().unwrap().width;
    assert_eq!([width(1), width(3)], [width(0); 2]);
    let said = read[2].1.as_ref().unwrap_err();
    assert!(said.contains("lost.jpg") && said.contains("not in the archive"), "{said}");
}

#[test]
fn archives_that_are_cut_off_or_have_a_picture_twice_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let photo = fs::read(path("detector/photos/landscape.jpg")).unwrap();
    let said = |path: &Path| Pictures::open(path, IdRule::Stem).err().unwrap().to_string();

    let file = folder.path().join("a.tar");
    let mut tar = tar::Builder::new(Vec::new());
    let mut ends = Vec::new();
    for name in ["a.jpg", "b.jpg"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(photo.len() as u64);
        tar.append_data(&mut header, name, &photo[..]).unwrap();
        ends.push(tar.get_ref().len().next_multiple_of(512));
    }
    let whole = tar.into_inner().unwrap();
    fs::write(&file, &whole).unwrap();
    assert_eq!(Pictures::open(&file, IdRule::Stem).unwrap().len(), 2);
    for end in ends {
        fs::write(&file, &whole[..end]).unwrap();
        assert!(said(&file).contains("it is cut off"), "{}", said(&file));
    }

    let file = folder.path().join("a.zip");
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["x/a.jpg", "x/b.jpg"] {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(name, options).unwrap();
        std::io::Write::write_all(&mut zip, &photo).unwrap();
    }
    let mut bytes = zip.finish().unwrap().into_inner();
    fs::write(&file, &bytes).unwrap();
    assert_eq!(Pictures::open(&file, IdRule::Stem).unwrap().len(), 2);
    while let Some(at) = bytes.windows(7).position(|name| name == b"x/b.jpg") {
        bytes[at + 2] = b'a';
    }
    fs::write(&file, &bytes).unwrap();
    assert!(said(&file).contains("x/a.jpg is listed twice"), "{}", said(&file));
}

#[test]
fn links_to_folders_are_followed_once_and_what_is_no_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let photos = photographs(folder.path());
    let linked = folder.path().join("linked");
    fs::create_dir(&linked).unwrap();
    std::os::unix::fs::symlink(&photos, linked.join("some")).unwrap();
    std::os::unix::fs::symlink(&linked, linked.join("circle")).unwrap();
    let expected = Pictures::open(&photos, IdRule::Stem).unwrap().len();
    assert_eq!(Pictures::open(&linked, IdRule::Stem).unwrap().len(), expected);
    std::os::unix::fs::symlink("/dev/zero", linked.join("zero.jpg")).unwrap();
    let pictures = Pictures::open(&linked, IdRule::Path).unwrap();
    assert_eq!(pictures.len(), expected + 1);
    let zero = (0..pictures.len()).find(|&n| pictures.id(n) == "zero").unwrap();
    assert!(pictures.read(zero, &Limits::default()).is_err());
}

#[test]
fn pictures_that_cannot_be_told_apart_or_found_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path, rule| Pictures::open(path, rule).err().unwrap().to_string();
    assert!(error(folder.path(), IdRule::Auto).contains("holds no pictures"));
    let photos = photographs(folder.path());
    fs::copy(photos.join("gray.png"), photos.join("more/gray.jpg")).unwrap();
    let same = error(&photos, IdRule::Stem);
    assert!(same.contains("`gray`") && same.contains("--ids path"), "{same}");
    assert_eq!(Pictures::open(&photos, IdRule::Path).unwrap().len(), 6);
    fs::copy(photos.join("gray.png"), photos.join("gray.jpg")).unwrap();
    let same = error(&photos, IdRule::Path);
    assert!(same.contains("rename one") && !same.contains("--ids"), "{same}");
    fs::remove_file(photos.join("gray.jpg")).unwrap();
    assert!(error(&photos, IdRule::ImageCode).contains("SET/imgN.jpg"));
    let gzip = folder.path().join("photos.tar.gz");
    fs::write(&gzip, b"\x1f\x8b\x08rest").unwrap();
    assert!(error(&gzip, IdRule::Auto).contains("unpack"));
    assert!(error(Path::new("nowhere"), IdRule::Auto).contains("nowhere"));
}
