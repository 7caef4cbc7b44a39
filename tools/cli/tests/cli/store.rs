//! `xenc store`.

use serde_json::Value;

use crate::{fixture, text, volta_lmdb, xenc};

#[test]
fn a_volta_lmdb_is_converted_listed_shown_and_validated() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("features.xenc");
    let (source, store) = (volta_lmdb("raw_p4_np2"), store.to_str().unwrap());
    let converted = xenc(&["store", "convert", source.to_str().unwrap(), store, "--json"]);
    assert!(converted.status.success(), "{}", text(&converted.stderr));
    let report: Value = serde_json::from_slice(&converted.stdout).unwrap();
    assert_eq!(report["schema"]["count"], 2);

    let listed = text(&xenc(&["store", "ls", store]).stdout);
    assert_eq!(listed.lines().count(), 2);
    let id = listed.lines().next().unwrap();
    let shown: Value = serde_json::from_slice(&xenc(&["store", "get", store, id]).stdout).unwrap();
    assert_eq!(shown["regions"], shown["boxes"].as_array().unwrap().len());
    assert!(text(&xenc(&["store", "info", store]).stdout).contains("volta-lmdb"));
    let card = text(&xenc(&["store", "info", store, "--card"]).stdout);
    assert!(card.starts_with("---\npretty_name: \"") && card.contains("| source | "), "{card}");
    assert_eq!(xenc(&["store", "validate", store]).status.code(), Some(0));

    let split = folder.path().join("valid.json");
    std::fs::write(&split, r#"{"open-images-1_x": {"3": "a red door"}}"#).unwrap();
    let uncovered = xenc(&["store", "validate", store, "--dataset", split.to_str().unwrap()]);
    assert_eq!(uncovered.status.code(), Some(1));
    assert!(text(&uncovered.stdout).contains("open-images-1_x (0 of 10 images)"));
}

#[test]
fn what_cannot_be_done_is_said_with_exit_code_2_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let source = volta_lmdb("raw_p4_np1");
    let (source, store) = (source.to_str().unwrap(), store.to_str().unwrap());
    let folder_text = folder.path().to_str().unwrap();
    let dumps = &fixture("lmdb");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("elsewhere", &link).unwrap();
    let (link, program) = (link.to_str().unwrap(), env!("CARGO_BIN_EXE_xenc"));
    for (arguments, said) in [
        (vec!["store", "convert", "/nowhere", store], "/nowhere does not exist"),
        (vec!["store", "convert", folder_text, store], "known are LMDB directories"),
        (vec!["store", "convert", dumps, store], "several dumps are in it"),
        (vec!["store", "bench", source, "--threads", "100000"], "not in 1..=256"),
        (vec!["store", "bench", source, "--seconds", "nan"], "up to 3600"),
        (vec!["store", "convert", source, link, "--force"], "it is a link"),
        (vec!["store", "bench", source], "is a dump (volta-lmdb), not a feature store"),
        (vec!["store", "diff", source, source], "is named twice"),
        (vec!["store", "merge", store, source, source], "is named twice"),
        (vec!["store", "bench", source, "--seconds", "0"], "from 0.01"),
        (vec!["store", "convert", source, "out.npz"], "--to npz"),
        (vec!["store", "convert", "/dev/zero", store], "no regular file"),
        (vec!["store", "convert", source, store, "--ids", "/dev/zero"], "no regular file"),
        (vec!["store", "convert", program, store], "a binary file that begins with 7f 45 4c 46"),
        (vec!["store", "validate", "/nowhere"], "/nowhere does not exist"),
    ] {
        let output = xenc(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
    assert!(xenc(&["store", "convert", source, store]).status.success());
    let again = xenc(&["store", "convert", source, store]);
    assert!(text(&again.stderr).contains("exists"), "{}", text(&again.stderr));
    assert!(
        xenc(&["store", "convert", source, store, "--force", "--precision", "f16"])
            .status
            .success()
    );
    assert!(text(&xenc(&["store", "info", store]).stdout).contains("f16"));
    let missing = xenc(&["store", "get", store, "nobody"]);
    assert!(text(&missing.stderr).contains("holds no image `nobody`"));
}

/// Runs a command that must succeed; what it prints.
fn done(arguments: &[&str]) -> String {
    let output = xenc(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn every_foreign_format_can_be_written_and_converted_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let source = path("source");
    done(&["store", "convert", &fixture("volta.h5"), &source]);
    for (format, lossless) in [
        ("volta", true),
        ("volta-raw", true),
        ("hdf5", true),
        ("tsv", true),
        ("tsv-gz", true),
        ("tsv-zst", true),
        ("tsv-bottomup", false),
        ("hdf5-indexed", false),
        ("npy", false),
    ] {
        let (there, back) = (path(format), path(&format!("{format}.store")));
        done(&["store", "convert", &source, &there, "--to", format]);
        done(&["store", "convert", &there, &back]);
        let compared = xenc(&["store", "diff", &source, &back]);
        assert_eq!(compared.status.code(), Some(i32::from(!lossless)), "{format}");
        assert!(text(&compared.stdout).contains("differ by at most 0"), "{format}");
        assert_eq!(xenc(&["store", "validate", &there]).status.code(), Some(0), "{format}");
    }
    for format in ["uniter", "uniter-compressed", "npz"] {
        let there = path(format);
        let written =
            xenc(&["store", "convert", &source, &there, "--to", format, "--precision", "f16"]);
        assert!(written.status.success(), "{}", text(&written.stderr));
        let left_out = "attributes (8 images), image size (8 images), object ids (8 images)";
        assert!(text(&written.stderr).contains(left_out), "{}", text(&written.stderr));
        assert_eq!(xenc(&["store", "validate", &there]).status.code(), Some(0), "{format}");
    }
    let refused =
        xenc(&["store", "convert", &source, &path("x"), "--to", "hdf5", "--precision", "f16"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn images_are_chosen_and_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (source, store) = (fixture("volta.h5"), path("store"));
    let id = "openimages411480d72ee0f97da49img9";
    std::fs::write(path("ids"), format!("{id}\n\n")).unwrap();
    done(&["store", "convert", &source, &store, "--ids", &path("ids")]);
    assert_eq!(done(&["store", "ls", &store]).trim(), id);

    let split = r#"{"open-images-1815_f91d6f546e63f20d": {"0": "a door"}}"#;
    std::fs::write(path("valid.json"), split).unwrap();
    let of_split = path("of_split");
    done(&["store", "convert", &source, &of_split, "--dataset", &path("valid.json")]);
    assert_eq!(done(&["store", "ls", &of_split]).lines().count(), 2);

    let renamed = path("renamed");
    done(&["store", "convert", &store, &renamed, "--rename", "s/^(.*)img(\\d+)$/$1_$2/"]);
    assert_eq!(done(&["store", "ls", &renamed]).trim(), "openimages411480d72ee0f97da49_9");
    let wrong = xenc(&["store", "convert", &store, &path("x"), "--rename", "s/(/"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn stores_are_appended_to_merged_sharded_compacted_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (all, some) = (path("all"), path("some"));
    done(&["store", "convert", &fixture("volta.h5"), &all]);
    done(&["store", "convert", &fixture("lxmert_order.tsv"), &some]);
    let added = done(&["store", "append", &some, &fixture("volta.h5")]);
    let told = "6 images added, 2 already there, 0 of other contents, 0 skipped; now 8 images";
    assert!(added.contains(told), "{added}");
    let again = done(&["store", "append", &some, &fixture("volta.h5"), "--json"]);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!((&again["added"], &again["present"]), (&0.into(), &8.into()));
    assert_eq!(xenc(&["store", "diff", &all, &some]).status.code(), Some(0));

    let shards = done(&["store", "shard", &all, &path("part"), "-n", "3", "--by", "range"]);
    let shards: Vec<&str> = shards.lines().collect();
    assert_eq!(shards.len(), 3);
    assert!(shards[2].ends_with("part-00002-of-00003"));
    let again =
        done(&["store", "shard", &all, &path("again"), "-n", "3", "--by", "range", "--json"]);
    let again: Value = serde_json::from_str(&again).unwrap();
    let images: Vec<_> = again.as_array().unwrap().iter().map(|shard| &shard["images"]).collect();
    assert_eq!(images, [3, 3, 2]);
    assert_eq!(again[0]["path"], path("again-00000-of-00003"));
    let merged = path("merged");
    done(&[&["store", "merge", &merged], shards.as_slice()].concat());
    assert_eq!(xenc(&["store", "diff", &all, &merged]).status.code(), Some(0));
    let sizes: Value =
        serde_json::from_str(&done(&["store", "compact", &merged, "--json"])).unwrap();
    assert!(sizes["bytes_before"].as_u64() >= sizes["bytes_after"].as_u64(), "{sizes}");
    assert_eq!(xenc(&["store", "validate", &merged, "--deep"]).status.code(), Some(0));

    let measured = done(&["store", "bench", &merged, "--seconds", "0.05", "--random", "--json"]);
    let measured: Value = serde_json::from_str(&measured).unwrap();
    assert!(measured["images_per_second"].as_f64().unwrap() > 0.0);
    assert!(measured["memcpy_bytes_per_second"].as_f64().unwrap() > 0.0);
    assert!(measured["share_of_memcpy"].as_f64().unwrap() > 0.0);
    let cold = done(&["store", "bench", &merged, "--cold", "--prefetch", "--threads", "2"]);
    assert!(cold.contains("memcpy  ") && !cold.contains("share"), "{cold}");
}

#[test]
fn lossy_stores_tell_their_error_and_compressed_ones_are_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let source = fixture("volta.h5");
    let size = |store: &str| std::fs::metadata(format!("{store}/data.mdb")).unwrap().len();
    let mut sizes = Vec::new();
    for precision in ["f32", "f16", "bf16", "int8"] {
        let store = path(precision);
        done(&["store", "convert", &source, &store, "--precision", precision]);
        let info = done(&["store", "info", &store]);
        assert!(info.contains(precision), "{info}");
        assert_eq!(info.contains("rounding"), precision != "f32", "{info}");
        assert_eq!(xenc(&["store", "validate", &store]).status.code(), Some(0));
        sizes.push(size(&store));
    }
    assert!(sizes[0] > sizes[1] && sizes[1] == sizes[2] && sizes[2] > sizes[3], "{sizes:?}");
    let packed = path("packed");
    done(&["store", "convert", &source, &packed, "--compression", "zstd"]);
    assert!(size(&packed) < sizes[0]);
    assert_eq!(xenc(&["store", "diff", &path("f32"), &packed]).status.code(), Some(0));
}

#[test]
fn a_damaged_store_is_repaired_and_captions_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (store, repaired) = (path("store"), path("repaired"));
    done(&["store", "convert", &fixture("volta.h5"), &store]);
    let file = format!("{store}/data.mdb");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[..8192].fill(0);
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(xenc(&["store", "validate", &store]).status.code(), Some(2));
    assert!(done(&["store", "repair", &store, &repaired]).contains("8 images salvaged"));
    assert_eq!(xenc(&["store", "validate", &repaired]).status.code(), Some(0));

    let captions = done(&["store", "captions", &fixture("uniter/txt_db")]);
    let first: Value = serde_json::from_str(captions.lines().next().unwrap()).unwrap();
    assert!(first["input_ids"].as_array().unwrap().len() > 1);
}

#[test]
fn a_sound_store_whose_images_were_replaced_is_repaired_to_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (store, other) = (path("store"), path("other"));
    // The same images with other features.
    let (source, again) = (fixture("lxmert_order.tsv"), path("again.tsv"));
    done(&["store", "convert", &source, &store]);
    done(&["store", "convert", &source, &other, "--precision", "int8"]);
    done(&["store", "convert", &other, &again]);
    done(&["store", "append", &store, &again, "--on-conflict", "last"]);
    // Its file still holds what was replaced.
    let said = done(&["store", "repair", &store, &path("sound")]);
    assert!(said.contains("0 of ") && !said.contains("perhaps"), "{said}");
    assert_eq!(xenc(&["store", "diff", &store, &path("sound")]).status.code(), Some(0));
}

#[test]
fn bad_records_of_a_dump_are_kept_in_quarantine() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let dump = path("dump.tsv");
    let mut lines = std::fs::read_to_string(fixture("lxmert_order.tsv")).unwrap();
    lines.push_str("broken\t1\t2\n");
    std::fs::write(&dump, lines).unwrap();
    assert_eq!(xenc(&["store", "convert", &dump, &path("a")]).status.code(), Some(2));
    let store = path("b");
    let converted = xenc(&["store", "convert", &dump, &store, "--on-error", "quarantine"]);
    assert_eq!(converted.status.code(), Some(1), "{}", text(&converted.stderr));
    let report = std::fs::read_to_string(format!("{store}.quarantine/report.jsonl")).unwrap();
    assert!(report.contains("\"broken\"") && report.contains("3 columns"), "{report}");
    let validated = xenc(&["store", "validate", &dump, "--quarantine", &path("bad")]);
    assert_eq!(validated.status.code(), Some(1));
    let kept = std::fs::read_to_string(path("bad/report.jsonl")).unwrap();
    assert_eq!(kept.lines().count(), 1, "{kept}");
    // The same record again is no news, and what a killed run has left is not continued in the middle of its line.
    std::fs::write(path("bad/report.jsonl"), format!("{kept}{{\"source\":")).unwrap();
    let again = xenc(&["store", "validate", &dump, "--quarantine", &path("bad")]);
    assert_eq!(again.status.code(), Some(1));
    let told = std::fs::read_to_string(path("bad/report.jsonl")).unwrap();
    assert_eq!(told, format!("{kept}{{\"source\":\n"));
    // Nothing bad, nothing kept: neither of a good dump nor of what cannot be read at all.
    let none = path("none");
    for dump in [&fixture("lxmert_order.tsv"), &path("a thing that is not there")] {
        xenc(&["store", "validate", dump, "--quarantine", &none]);
        assert!(!std::fs::exists(&none).unwrap(), "{dump}");
    }
}

#[test]
fn the_bytes_of_what_is_refused_are_kept_where_the_source_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let kept = |name: &str, source: &str, to: &str, more: &[&str]| {
        let target = path(name);
        let command = ["store", "convert", source, &target, "--to", to, "--on-error", "quarantine"];
        let output = xenc(&[&command[..], more].concat());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let quarantine = format!("{target}.quarantine");
        let report = std::fs::read_to_string(format!("{quarantine}/report.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(report.trim_end()).unwrap();
        let file = line["file"].as_str().map(str::to_owned);
        file.map(|file| std::fs::read(format!("{quarantine}/{file}")).unwrap())
    };
    // An id that is no file name, which only the target has no place for.
    let dump = path("dump.tsv");
    let lines = std::fs::read_to_string(fixture("lxmert_order.tsv")).unwrap();
    let bad = format!("a/{}", lines.lines().next().unwrap());
    std::fs::write(&dump, format!("{lines}{bad}\n")).unwrap();
    assert_eq!(kept("of_tsv", &dump, "npy", &[]), Some(bad.into_bytes()));
    for (format, file) in [("npy", "x.npy"), ("npy", "x_info.npy"), ("npz", "x.npz")] {
        let source = path(&format!("source of {file}"));
        done(&["store", "convert", &fixture("lxmert_order.tsv"), &source, "--to", format]);
        let first = std::fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let ids: Vec<String> = first.map(|path| name(&path)).collect();
        let suffix = file.strip_prefix('x').unwrap();
        let other =
            |id: &&String| id.ends_with(suffix) && (suffix != ".npy" || !id.ends_with("_info.npy"));
        let chosen = ids.iter().find(other).unwrap();
        std::fs::write(format!("{source}/{chosen}"), "rubbish").unwrap();
        for to in ["store", "npz"] {
            let bytes = kept(&format!("{file} to {to}"), &source, to, &[]);
            assert_eq!(bytes.as_deref(), Some(&b"rubbish"[..]), "{file} to {to}");
        }
    }
    // A whole file that only the target refuses stays where it is.
    let source = path("npy");
    done(&["store", "convert", &fixture("lxmert_order.tsv"), &source, "--to", "npy"]);
    let one = std::fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path());
    let one =
        one.map(|path| path.to_str().unwrap().to_owned()).find(|path| path.ends_with("_info.npy"));
    let id = std::path::Path::new(&one.unwrap()).file_name().unwrap().to_str().unwrap().to_owned();
    let rule = format!("s#^{}$#a/b#", id.strip_suffix("_info.npy").unwrap());
    assert_eq!(kept("whole", &source, "npz", &["--rename", &rule]), None);
}

#[test]
fn a_name_that_promises_compressed_text_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("volta.h5");
    for (name, to) in [("x.tsv.gz", "tsv"), ("x.tsv.zst", "tsv-gz"), ("x.gz", "store")] {
        let target = folder.path().join(name);
        let target = target.to_str().unwrap();
        let output = xenc(&["store", "convert", &source, target, "--to", to]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains("ends with"), "{output:?}");
        assert!(!std::path::Path::new(target).exists());
    }
}
