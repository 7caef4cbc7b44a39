//! What `--force` replaces, and what it never does.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::{text, volta_lmdb, xenc};

/// Runs a command that must be refused; what it says.
fn refused(arguments: &[&str]) -> String {
    let output = xenc(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

fn done(arguments: &[&str]) {
    let output = xenc(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
}

#[test]
fn force_replaces_nothing_but_stores_and_exports_and_never_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let dump = volta_lmdb("raw_p4_np2");
    let dump = dump.to_str().unwrap();
    let store = path("home/store");
    std::fs::create_dir(path("home")).unwrap();
    done(&["store", "convert", dump, &store]);
    let home = path("home");
    let thesis = path("papers/thesis.txt");
    std::fs::create_dir(path("papers")).unwrap();
    std::fs::write(&thesis, "years of work").unwrap();
    std::fs::create_dir(path("x-00000-of-00002")).unwrap();
    std::fs::write(path("x-00000-of-00002/thesis.txt"), "years of work").unwrap();
    let papers = path("papers");
    let table = path("table.tsv");
    std::fs::write(&table, "1\t2\t3\t4\t5\t6\n").unwrap();
    let shards = path("x");
    let (own, file) = (path("own"), path("own.h5"));
    done(&["store", "convert", dump, &own, "--to", "volta"]);
    done(&["store", "convert", dump, &file, "--to", "hdf5"]);

    for arguments in [
        vec!["store", "convert", dump, &papers, "--force"],
        vec!["store", "convert", dump, &papers, "--to", "npz", "--force"],
        vec!["store", "convert", dump, &thesis, "--to", "tsv", "--force"],
        // Six columns alone make no dump.
        vec!["store", "convert", dump, &table, "--to", "tsv", "--force"],
        vec!["store", "repair", &store, &papers, "--force"],
        vec!["store", "merge", &papers, &store, "--force"],
        vec!["store", "shard", "-n", "2", &store, &shards, "--force"],
        // Somebody's dump, which no store and no export in another format replaces.
        vec!["store", "convert", dump, &own, "--to", "store", "--force"],
        vec!["store", "convert", dump, &own, "--to", "npz", "--force"],
        vec!["store", "convert", dump, &file, "--to", "store", "--force"],
        vec!["store", "repair", &store, &own, "--force"],
        vec!["store", "merge", &own, &store, "--force"],
        vec!["store", "convert", dump, &own],
        // Another store in a folder is none of this program's output at that folder.
        vec!["store", "convert", dump, &home, "--force"],
        // Without --force, it must not be recommended.
        vec!["store", "convert", dump, &papers],
    ] {
        let said = refused(&arguments);
        assert!(said.contains("move it away") && !said.contains("--force"), "{said}");
    }
    for arguments in [
        vec!["store", "convert", &store, &home, "--force"],
        vec!["store", "convert", &store, &store, "--force"],
        vec!["store", "convert", &store, &home, "--to", "npz", "--force"],
        vec!["store", "repair", &store, &home, "--force"],
        vec!["store", "merge", &home, &store, &store, "--force"],
        vec!["store", "append", &store, &store],
    ] {
        let said = refused(&arguments);
        assert!(said.contains("the source"), "{arguments:?}: {said}");
    }
    std::fs::write(path("home/store/notes.txt"), "mine").unwrap();
    assert!(refused(&["store", "compact", &store]).contains("notes.txt"));
    let fixture = volta_lmdb("raw_p4_np1");
    let more = fixture.to_str().unwrap();
    assert!(refused(&["store", "append", &store, more]).contains("notes.txt"));
    assert_eq!(std::fs::read_to_string(&thesis).unwrap(), "years of work");
    done(&["store", "diff", &own, dump]);
    done(&["store", "diff", &file, dump]);
    assert!(Path::new(&path("x-00000-of-00002/thesis.txt")).exists());
    std::fs::remove_file(path("home/store/notes.txt")).unwrap();
    done(&["store", "validate", &store]);
}

#[test]
fn force_replaces_every_output_of_this_program() {
    let folder = tempfile::tempdir().unwrap();
    let dump = volta_lmdb("raw_p4_np2");
    let dump = dump.to_str().unwrap();
    let formats = [
        "store",
        "volta",
        "volta-raw",
        "hdf5",
        "hdf5-indexed",
        "tsv",
        "tsv-bottomup",
        "tsv-gz",
        "tsv-zst",
        "uniter",
        "uniter-compressed",
        "npz",
        "npy",
    ];
    for format in formats {
        let target = folder.path().join(format);
        let command = ["store", "convert", dump, target.to_str().unwrap(), "--to", format];
        done(&command);
        assert!(refused(&command).contains("--force"), "{format}");
        done(&[&command[..], &["--force"]].concat());
    }
}

/// A TSV of images with one region of two values each.
fn tsv(path: &str, images: &[(&str, [f32; 2])]) {
    let mut text = String::new();
    for (id, values) in images {
        let base64 = |values: &[f32]| {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            BASE64_STANDARD.encode(bytes)
        };
        let (boxes, features) = (base64(&[1.0, 1.0, 9.0, 9.0]), base64(values));
        text += &format!("{id}\t20\t20\t1\t{boxes}\t{features}\n");
    }
    std::fs::write(path, text).unwrap();
}

#[test]
fn values_beyond_a_precision_are_refused_by_name_or_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (source, out) = (path("s.tsv"), path("out"));
    tsv(&source, &[("good", [1.0, 2.0]), ("huge", [70_000.0, 3e38])]);
    for format in ["store", "uniter", "uniter-compressed", "npz"] {
        let command =
            ["store", "convert", &source, &out, "--to", format, "--precision", "f16", "--force"];
        let said = refused(&command);
        assert!(said.contains("huge") && said.contains("7e4") && said.contains("bf16"), "{said}");
        let skipping = xenc(&[&command[..], &["--on-error", "skip"]].concat());
        assert_eq!(skipping.status.code(), Some(1), "{format}: {}", text(&skipping.stderr));
        std::fs::remove_dir_all(&out).unwrap();
    }
    done(&["store", "convert", &source, &out, "--precision", "int8"]);
    let deep = text(&xenc(&["store", "validate", &out, "--deep"]).stdout);
    assert!(!deep.contains("inf"), "{deep}");
}

#[test]
fn what_failed_without_an_image_does_not_block_its_target() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (bad, good, out) = (path("bad.tsv"), path("good.tsv"), path("out"));
    tsv(&bad, &[(&"x".repeat(600), [1.0, 2.0])]);
    tsv(&good, &[("good", [1.0, 2.0])]);
    refused(&["store", "convert", &bad, &out]);
    assert!(!Path::new(&path(".out.partial")).exists());
    done(&["store", "convert", &good, &out]);
}

#[test]
fn ids_whose_files_would_be_one_are_both_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (source, out) = (path("s.tsv"), path("out"));
    for ids in [["a", "a_info"], ["a_info", "a"]] {
        tsv(&source, &ids.map(|id| (id, [1.0, 2.0])));
        let said = refused(&["store", "convert", &source, &out, "--to", "npy"]);
        assert!(said.contains("`a`") && said.contains("`a_info`"), "{said}");
        assert!(said.contains("--rename"), "{said}");
    }
}

#[test]
fn images_of_one_id_are_refused_by_every_format_unless_they_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (source, out) = (path("s.tsv"), path("out"));
    let formats =
        ["store", "volta", "hdf5", "hdf5-indexed", "tsv-bottomup", "npz", "npy", "uniter"];
    for format in formats {
        let command = ["store", "convert", &source, &out, "--to", format, "--rename", "s/.*/x/"];
        tsv(&source, &[("a", [1.0, 2.0]), ("b", [1.0, 3.0])]);
        let said = refused(&command);
        assert!(said.contains("`x` comes again") && said.contains("--on-conflict"), "{said}");
        assert!(said.contains("`x` of `a` and `b`"), "{said}");
        assert!(!Path::new(&out).exists(), "{format}");
        tsv(&source, &[("a", [1.0, 2.0]), ("b", [1.0, 2.0])]);
        done(&command);
        assert_eq!(text(&xenc(&["store", "ls", &out]).stdout), "x\n", "{format}");
        match Path::new(&out).is_dir() {
            true => std::fs::remove_dir_all(&out).unwrap(),
            false => std::fs::remove_file(&out).unwrap(),
        }
    }
}

#[test]
fn stores_and_exports_have_the_mode_of_other_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let dump = volta_lmdb("raw_p4_np2");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    std::fs::write(folder.path().join("any"), "").unwrap();
    for format in ["store", "volta"] {
        let out = folder.path().join(format);
        done(&["store", "convert", dump.to_str().unwrap(), out.to_str().unwrap(), "--to", format]);
        assert_eq!(mode(&out.join("data.mdb")), mode(&folder.path().join("any")), "{format}");
    }
}

#[test]
fn help_that_cannot_be_written_is_an_error() {
    for argument in ["--help", "--version"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xenc"));
        let status = command.arg(argument).stdout(full).output().unwrap().status;
        assert_eq!(status.code(), Some(2), "{argument}");
        done(&[argument]);
    }
}

#[test]
fn images_with_findings_are_taken_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (source, store, out) = (path("s.tsv"), path("store"), path("out"));
    tsv(&source, &[("good", [1.0, 2.0]), ("nan", [1.0, f32::NAN]), ("inf", [f32::INFINITY, 2.0])]);
    for arguments in [
        ["store", "convert", &source, &store, "--to", "store"],
        ["store", "convert", &source, &out, "--to", "volta"],
        ["store", "merge", &path("merged"), &source, "--on-conflict", "first"],
    ] {
        let told = xenc(&arguments);
        assert_eq!(told.status.code(), Some(1), "{arguments:?}");
        let told = text(&told.stderr);
        assert!(told.contains("2 images with findings") && told.contains("`nan` first"), "{told}");
    }
    assert_eq!(text(&xenc(&["store", "ls", &store]).stdout).lines().count(), 3);
}

#[test]
fn an_empty_file_gives_way_to_whatever_replaces_it() {
    let folder = tempfile::tempdir().unwrap();
    let dump = volta_lmdb("raw_p4_np2");
    for to in ["store", "npz", "tsv"] {
        let target = folder.path().join(to);
        std::fs::write(&target, "").unwrap();
        let arguments = ["store", "convert", dump.to_str().unwrap(), target.to_str().unwrap()];
        done(&[&arguments[..], &["--to", to, "--force"]].concat());
        done(&["store", "validate", target.to_str().unwrap()]);
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 3);
}

#[test]
fn what_lies_beside_a_target_is_nobody_s_to_remove() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let dump = volta_lmdb("raw_p4_np2");
    let dump = dump.to_str().unwrap();
    let source = path(".o.tsv.export");
    done(&["store", "convert", dump, &source, "--to", "tsv"]);
    let before = std::fs::read(&source).unwrap();
    let said = refused(&["store", "convert", &source, &path("o.tsv")]);
    assert!(said.contains("in the way"), "{said}");
    assert_eq!(std::fs::read(&source).unwrap(), before);
    std::fs::create_dir(path(".o.partial")).unwrap();
    std::fs::write(path(".o.partial/thesis.txt"), "years of work").unwrap();
    for arguments in
        [vec!["store", "convert", dump, "o"], vec!["store", "convert", dump, "o", "--force"]]
    {
        let target = path("o");
        let arguments: Vec<&str> =
            arguments.into_iter().map(|a| if a == "o" { target.as_str() } else { a }).collect();
        assert!(refused(&arguments).contains("in the way"));
    }
    assert!(Path::new(&path(".o.partial/thesis.txt")).exists());
}

#[test]
fn a_folder_that_is_read_is_no_place_for_a_target() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let dump = volta_lmdb("raw_p4_np2");
    let dump = dump.to_str().unwrap();
    // UNITER's environment lies one level down in it.
    for format in ["npy", "npz", "uniter"] {
        let (source, inside) = (path(format), path(&format!("{format}/x.xenc")));
        done(&["store", "convert", dump, &source, "--to", format]);
        for arguments in [
            vec!["store", "convert", &source, &inside],
            vec!["store", "convert", &source, &inside, "--to", "tsv"],
            vec!["store", "merge", &inside, &source],
        ] {
            let said = refused(&arguments);
            assert!(said.contains("is or lies inside"), "{arguments:?}: {said}");
        }
        done(&["store", "info", &source]);
    }
}

#[test]
fn what_cannot_be_exported_is_told_of_the_target() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let dump = volta_lmdb("raw_p4_np2");
    for format in ["npy", "npz", "hdf5"] {
        // No file name, and no name of a group.
        let rename = ["--rename", "s#^#a/../#"];
        let target = path(format);
        let command = ["store", "convert", dump.to_str().unwrap(), &target, "--to", format];
        let said = refused(&[&command[..], &rename].concat());
        assert!(said.contains(&format!("{target}: image")) && !said.contains(".export"), "{said}");
    }
}
