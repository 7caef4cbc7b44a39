//! What is said where nothing can be done, and whether that is true.

use std::path::Path;

use serde_json::Value;

use crate::{Place, fixture, run, volta_lmdb};

/// Runs a command that must be refused; what it says.
fn refused(arguments: &[&str]) -> String {
    let (code, out, said) = run(arguments);
    assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {said}");
    said
}

#[test]
fn a_store_is_not_named_like_something_else() {
    let place = Place::new();
    let (source, store) = (fixture("volta.h5"), place.path("store"));
    assert_eq!(run(&["store", "convert", &source, &store]).0, 0);
    for name in ["m.tsv", "m.tsv.bz2", "m.lmdb", "m.json", "m.hdf", "m.volta", "m.h5", "m.npz"] {
        let target = place.path(name);
        for command in ["merge", "repair"] {
            let inputs = if command == "merge" { [&target, &store] } else { [&store, &target] };
            let said = refused(&["store", command, inputs[0], inputs[1]]);
            assert!(said.contains("another name"), "{said}");
        }
        if !matches!(name, "m.tsv" | "m.h5") {
            let said = refused(&["store", "convert", &store, &target]);
            assert!(said.contains("--to"), "{said}");
        }
        assert!(!Path::new(&target).exists());
    }
    for arguments in [
        ["store", "convert", &store, "-", "--to", "tsv"],
        ["store", "merge", "-", &store, &store, "--force"],
    ] {
        assert!(refused(&arguments).contains("instead of `-`"));
    }
}

#[test]
fn a_tolerance_is_a_number_from_zero_on() {
    let source = fixture("volta.h5");
    for tolerance in ["nan", "-1", "inf", "x"] {
        let said = refused(&["store", "diff", &source, &source, "--tolerance", tolerance]);
        assert!(said.contains("tolerance"), "{said}");
    }
}

#[test]
fn what_is_cut_off_is_told_with_what_helps() {
    let place = Place::new();
    let cut = |name: &str, from: &Path| {
        let folder = place.path(name);
        std::fs::create_dir(&folder).unwrap();
        let bytes = std::fs::read(from.join("data.mdb")).unwrap();
        std::fs::write(Path::new(&folder).join("data.mdb"), &bytes[..bytes.len() / 2]).unwrap();
        folder
    };
    let foreign = cut("foreign", &volta_lmdb("raw_p4_np2"));
    let said = refused(&["store", "convert", &foreign, &place.path("x")]);
    assert!(said.contains("complete copy") && said.contains("only of one"), "{said}");
    let said = refused(&["store", "repair", &foreign, &place.path("x")]);
    assert!(said.contains("complete copy") && !said.contains("xenc store convert"), "{said}");

    let gz = place.path("t.tsv.gz");
    assert_eq!(run(&["store", "convert", &fixture("lxmert_order.tsv"), &gz]).0, 0);
    let bytes = std::fs::read(&gz).unwrap();
    std::fs::write(&gz, &bytes[..bytes.len() - 40]).unwrap();
    let said = refused(&["store", "get", &gz, "nobody"]);
    assert!(said.contains("holds no image `nobody`") && said.contains("cannot"), "{said}");
}

#[test]
fn what_an_interrupted_run_has_left_is_called_an_unfinished_store() {
    let place = Place::new();
    let (source, dump) = (fixture("lxmert_order.tsv"), place.path("dump.tsv"));
    let text = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&dump, format!("{text}broken\t1\t2\n")).unwrap();
    let (store, partial) = (place.path("s"), place.path(".s.partial"));
    let said = refused(&["store", "convert", &dump, &store]);
    assert!(said.contains("`broken`") && said.contains(&partial), "{said}");
    assert!(
        said.contains("2 of the images, is kept") && said.contains("the same command"),
        "{said}"
    );
    assert_eq!(said.matches("3 columns").count(), 1, "{said}");
    for command in ["info", "validate", "ls"] {
        let said = refused(&["store", command, &partial]);
        assert!(said.contains("unfinished store"), "{said}");
    }
    // Another run is told what is different, and loses nothing.
    for (options, differs) in [
        (["--precision", "f16"], "precision (f32)"),
        (["--compression", "zstd"], "compression (none)"),
        (["--rename", "s/^/x/"], "naming"),
        (["--to", "volta"], "format (store)"),
    ] {
        let said = refused(&[&["store", "convert", &dump, &store], &options[..]].concat());
        assert!(said.contains(differs) && said.contains("--force"), "{said}");
    }
    let other = fixture("volta.h5");
    let said = refused(&["store", "convert", &other, &store]);
    assert!(said.contains("source (") && said.contains("dump.tsv"), "{said}");
    let (code, out, _) = run(&["store", "convert", &dump, &store, "--on-error", "skip"]);
    assert!(code == 1 && out.contains("2 taken over"), "{out}");
}

#[test]
fn digests_are_the_same_in_text_and_json() {
    let place = Place::new();
    let store = place.path("s");
    let (_, out, _) = run(&["store", "convert", &fixture("volta.h5"), &store, "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    let digest = report["schema"]["digest"].as_str().unwrap().to_owned();
    assert_eq!(digest.len(), 16);
    assert!(run(&["store", "info", &store]).1.contains(&digest));
}

#[test]
fn unreadable_values_are_kept_in_quarantine_by_a_validation() {
    let place = Place::new();
    let (dump, kept) = (place.path("dump.tsv"), place.path("kept"));
    let text = std::fs::read_to_string(fixture("lxmert_order.tsv")).unwrap();
    let line = text.lines().next().unwrap();
    // An image without a width can be read.
    let mut columns: Vec<&str> = line.split('\t').collect();
    columns[1] = "0";
    let bad = columns.join("\t");
    std::fs::write(&dump, format!("{bad}\n")).unwrap();
    let (code, out, said) = run(&["store", "validate", &dump, "--deep", "--quarantine", &kept]);
    assert!(code == 1 && said.contains("1 bad record in") && said.contains(&kept), "{said}");
    assert!(!out.contains("mean"), "there is nothing to tell of: {out}");
    let report = std::fs::read_to_string(format!("{kept}/report.jsonl")).unwrap();
    let entry: Value = serde_json::from_str(report.lines().next().unwrap()).unwrap();
    let raw = std::fs::read_to_string(format!("{kept}/{}", entry["file"].as_str().unwrap()));
    assert_eq!(raw.unwrap().trim_end(), bad);
    assert_eq!(entry["source"], dump);
    // A conversion takes it, and says so.
    let (code, _, said) =
        run(&["store", "convert", &dump, &place.path("s"), "--quarantine", &place.path("none")]);
    assert!(code == 1 && said.contains("taken as they are"), "{said}");
}

#[test]
fn captions_are_listed_of_text_data_bases_only() {
    for source in [volta_lmdb("raw_p4_np2").to_str().unwrap(), &fixture("volta.h5")] {
        let said = refused(&["store", "captions", source]);
        assert!(said.contains("UNITER's text"), "{said}");
    }
}

#[cfg(not(feature = "torch"))]
#[test]
fn a_build_without_torch_promises_nothing_of_it() {
    let help = run(&["--help"]).1;
    assert!(
        !help.to_lowercase().contains("train a") && help.contains("without training"),
        "{help}"
    );
    let said = refused(&["train", "--recipe", "x"]);
    assert!(said.contains("built without `train`") && said.contains("--features torch"), "{said}");
    assert!(refused(&["trian"]).contains("unrecognized"));
}
