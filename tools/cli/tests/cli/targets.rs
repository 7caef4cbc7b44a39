//! What `--force` replaces, and what it never does.

use std::path::Path;

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
    let shards = path("x");

    for arguments in [
        vec!["store", "convert", dump, &papers, "--force"],
        vec!["store", "convert", dump, &papers, "--to", "npz", "--force"],
        vec!["store", "convert", dump, &thesis, "--to", "tsv", "--force"],
        vec!["store", "repair", &store, &papers, "--force"],
        vec!["store", "merge", &papers, &store, "--force"],
        vec!["store", "shard", "-n", "2", &store, &shards, "--force"],
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
