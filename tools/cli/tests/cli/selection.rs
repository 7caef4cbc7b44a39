//! What is asked of a source and not there, what stands in the way, and where output cannot go.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{Place, fixture, run, text, volta_lmdb, xenc};

#[test]
fn what_was_asked_for_and_is_not_there_is_told() {
    let place = Place::new();
    let (source, store, ids) = (fixture("volta.h5"), place.path("store"), place.path("ids"));
    std::fs::write(&ids, "nobody\nopenimages411480d72ee0f97da49img9\n").unwrap();
    let (code, out, said) = run(&["store", "convert", &source, &store, "--ids", &ids, "--json"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("of 2 ids asked for, 1 are not in the source: `nobody`"), "{said}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["not_found"][0], &report["schema"]["count"]),
        (&"nobody".into(), &1.into())
    );

    std::fs::write(&ids, "nobody\n").unwrap();
    let none = place.path("none");
    let (code, _, said) = run(&["store", "convert", &source, &none, "--ids", &ids]);
    assert_eq!(code, 2);
    assert!(said.contains("none of the images that were asked for"), "{said}");
    assert!(said.contains("its ids look like `MSRVTT"), "{said}");
    let (code, _, said) = run(&["store", "append", &store, &source, "--ids", &ids]);
    assert!(code == 2 && said.contains("none of the images that were asked for"), "{said}");
    // Nothing is left that would be in the way of the next try.
    std::fs::write(&ids, "openimages411480d72ee0f97da49img9\n").unwrap();
    assert_eq!(run(&["store", "convert", &source, &none, "--ids", &ids]).0, 0);

    let renamed = place.path("renamed");
    let (code, _, said) = run(&["store", "convert", &store, &renamed, "--rename", "s/zzz/y/"]);
    assert_eq!(code, 0);
    assert!(said.contains("`--rename s/zzz/y/` has changed no id"), "{said}");
}

#[test]
fn conflicts_are_settled_by_rule_in_an_append() {
    let place = Place::new();
    let (source, store) = (fixture("volta.h5"), place.path("store"));
    assert_eq!(run(&["store", "convert", &source, &store]).0, 0);
    // The same ids with other contents: the labels are missing.
    let other = place.path("other.npy");
    assert_eq!(run(&["store", "convert", &source, &other, "--to", "npy"]).0, 0);
    let (code, _, said) = run(&["store", "append", &store, &other]);
    assert_eq!(code, 2);
    assert!(said.contains("--on-conflict"), "{said}");
    let (code, out, said) = run(&["store", "append", &store, &other, "--on-conflict", "first"]);
    assert!(code == 0 && said.contains("8 conflicts settled by --on-conflict"), "{said}");
    assert!(said.contains("and 3 more (--json lists all)"), "{said}");
    assert!(out.contains("0 images added, 0 already there, 8 of other contents"), "{out}");
    assert_eq!(run(&["store", "append", &store, &other, "--on-conflict", "last"]).0, 0);
    let plain = place.path("plain");
    assert_eq!(run(&["store", "convert", &other, &plain]).0, 0);
    assert_eq!(run(&["store", "diff", &store, &plain]).0, 0);
}

#[test]
fn conflicts_that_were_asked_to_be_settled_are_told_and_no_finding() {
    let place = Place::new();
    let (source, one) = (fixture("volta.h5"), "openimages411480d72ee0f97da49img9");
    let [store, other, target, ids] =
        ["store", "other.npy", "target", "ids"].map(|name| place.path(name));
    std::fs::write(&ids, one).unwrap();
    assert_eq!(run(&["store", "convert", &source, &store, "--ids", &ids]).0, 0);
    // The same image without its labels.
    assert_eq!(run(&["store", "convert", &store, &other, "--to", "npy"]).0, 0);
    for rule in ["first", "last"] {
        let commands: [&[&str]; 3] = [
            &["merge", &target, &store, &other, "--force"],
            &["append", &store, &other],
            &["convert", &source, &target, "--rename", "s/.*/x/", "--force"],
        ];
        for command in commands {
            let arguments = [&["store"], command, &["--on-conflict", rule]].concat();
            let (code, _, said) = run(&arguments);
            let id = if command[0] == "convert" { "x" } else { one };
            let settled = said.contains("settled by --on-conflict");
            let named = said.contains(&format!("one was kept, for `{id}`"));
            assert!(code == 0 && settled && named, "{arguments:?}: {said}");
            if command[0] == "convert" {
                continue;
            }
            // An append of the last has left nothing to settle.
            let (code, out, _) = run(&[&arguments[..], &["--json"]].concat());
            let report: Value = serde_json::from_str(&out).unwrap();
            let ids = if rule == "last" && command[0] == "append" { vec![] } else { vec![one] };
            assert_eq!((code, &report["settled"]), (0, &serde_json::json!(ids)), "{arguments:?}");
            assert_eq!(said.contains("--rename makes one id"), command[0] == "convert", "{said}");
        }
    }
}

#[test]
fn a_dump_is_listed_and_described_without_conversion() {
    let source = fixture("volta.h5");
    let (code, out, _) = run(&["store", "ls", &source, "openimages"]);
    assert_eq!((code, out.lines().count()), (0, 3), "{out}");
    let as_json = run(&["store", "ls", &source, "openimages", "--json"]).1;
    let ids: Vec<String> = serde_json::from_str(&as_json).unwrap();
    assert_eq!(ids, out.lines().collect::<Vec<_>>());
    let (_, out, _) = run(&["store", "info", &source]);
    assert!(out.contains("hdf5, not a store") && out.contains("36 regions of 2048"), "{out}");
    let uniter = fixture("uniter/img_db_fp32");
    assert!(run(&["store", "info", &uniter]).1.contains("relative to images"));
    let id = "openimages411480d72ee0f97da49img9";
    let shown: Value = serde_json::from_str(&run(&["store", "get", &source, id]).1).unwrap();
    assert_eq!(shown["regions"], 36);
    assert!(run(&["store", "get", &source, "nobody"]).2.contains("holds no image `nobody`"));
}

#[test]
fn a_data_set_folder_may_hold_other_json_and_long_lists_of_missing_sets_are_counted() {
    let place = Place::new();
    let (store, folder) = (place.path("store"), place.path("imagecode"));
    assert_eq!(run(&["store", "convert", &fixture("volta.h5"), &store]).0, 0);
    std::fs::create_dir(&folder).unwrap();
    let sets: Vec<String> =
        (0..9).map(|n| format!(r#""open-images-{n}_a": {{"3": "a door"}}"#)).collect();
    std::fs::write(format!("{folder}/valid_data.json"), format!("{{{}}}", sets.join(","))).unwrap();
    std::fs::write(format!("{folder}/counter2key_val.json"), r#"{"1": "aimg1"}"#).unwrap();
    let (code, out, said) = run(&["store", "validate", &store, "--dataset", &folder]);
    assert_eq!((code, said.as_str()), (1, ""));
    let simple =
        r#"[{"directory": "open-images-0_a", "pos_idx": 3, "neg_idx": 4, "caption": "a door"}]"#;
    std::fs::write(format!("{folder}/valid_simple.json"), simple).unwrap();
    let annotators = r#"{"open-images-0_a": {"3": "unseen_worker"}}"#;
    std::fs::write(format!("{folder}/annotator_split_valid.json"), annotators).unwrap();
    let (_, same, said) = run(&["store", "validate", &store, "--dataset", &folder]);
    assert_eq!(same, out);
    let names = "annotator_split_valid.json, valid_simple.json";
    assert!(said.lines().count() == 1 && said.contains(names), "{said}");
    assert!(out.contains("0 of 9 sets complete") && out.contains("and 4 more"), "{out}");
    let all = run(&["store", "validate", &store, "--dataset", &folder, "--json"]).1;
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all["coverage"][0]["missing"].as_array().unwrap().len(), 9);
    let (_, _, said) = run(&["store", "convert", &store, &place.path("x"), "--dataset", &folder]);
    assert!(said.contains("of 9 sets asked for, 9 are not in the source"), "{said}");
}

#[test]
fn a_target_is_written_as_its_name_says_or_refused_before_anything_is_made() {
    let place = Place::new();
    let (source, tsv) = (fixture("volta.h5"), place.path("out.tsv"));
    let (code, _, said) = run(&["store", "convert", &source, &tsv]);
    assert!(code == 0 && said.contains("writing tsv"), "{said}");
    assert!(std::path::Path::new(&tsv).is_file());
    let (target, uniter) = (place.path("uniter.tsv"), fixture("uniter/img_db_fp32"));
    let (code, _, said) = run(&["store", "convert", &uniter, &target]);
    assert!(code == 2 && said.contains("tsv-bottomup"), "{said}");
    assert!(!std::path::Path::new(&target).exists());
}

#[test]
fn shards_that_would_be_empty_are_refused_and_existing_ones_replaced_on_request() {
    let place = Place::new();
    let (store, part) = (place.path("store"), place.path("part"));
    assert_eq!(run(&["store", "convert", &fixture("volta.h5"), &store]).0, 0);
    let (code, _, said) = run(&["store", "shard", &store, &part, "-n", "20"]);
    assert!(code == 2 && said.contains("holds 8 images"), "{said}");
    let shard = ["store", "shard", &store, &part, "-n", "2", "--by", "range"];
    assert_eq!(run(&shard).0, 0);
    let (code, _, said) = run(&shard);
    assert!(code == 2 && said.contains("--force"), "{said}");
    assert_eq!(run(&[shard.as_slice(), &["--force"]].concat()).0, 0);
}

#[test]
fn shards_lie_beside_their_prefix_or_in_a_folder_under_the_store_s_name() {
    let place = Place::new();
    let store = place.path("features.xenc");
    assert_eq!(run(&["store", "convert", &fixture("volta.h5"), &store]).0, 0);
    let (a, b) = ("-00000-of-00002", "-00001-of-00002");
    for (target, prefix) in [("parts/x", "parts/x"), ("parts/", "parts/features.xenc")] {
        let shard = ["store", "shard", &store, &place.path(target), "-n", "2", "--by", "range"];
        let (code, out, said) = run(&shard);
        assert_eq!(code, 0, "{said}");
        let expected = [a, b].map(|part| place.path(&format!("{prefix}{part}")));
        assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{target}");
        assert!(expected.iter().all(|shard| run(&["store", "info", shard]).0 == 0));
    }
    let names = std::fs::read_dir(place.path("")).unwrap().count();
    assert_eq!(names, 2, "the store and the folder");
}

#[test]
fn stores_that_differ_say_in_what_and_damaged_ones_in_few_lines() {
    let place = Place::new();
    let (store, other) = (place.path("store"), place.path("other"));
    assert_eq!(run(&["store", "convert", &fixture("volta.h5"), &store]).0, 0);
    let npy = place.path("npy");
    assert_eq!(run(&["store", "convert", &store, &npy, "--to", "npy"]).0, 0);
    assert_eq!(run(&["store", "convert", &npy, &other]).0, 0);
    let (code, out, _) = run(&["store", "diff", &store, &other]);
    assert!(code == 1 && out.contains("object confidences in the first only; attribute"), "{out}");

    let attacks = concat!(env!("CARGO_MANIFEST_DIR"), "/../../attacks/features/");
    let changed = format!("{attacks}store_record_changed");
    let (code, out, _) = run(&["store", "validate", &changed]);
    assert_eq!(code, 1);
    assert!(out.lines().count() < 25 && out.contains("and 20 more"), "{out}");
    let all: Value =
        serde_json::from_str(&run(&["store", "validate", &changed, "--json"]).1).unwrap();
    assert_eq!(all["findings"].as_array().unwrap().len(), 40);
    let (code, _, said) = run(&["store", "repair", &changed, &place.path("repaired")]);
    assert!(code == 2 && said.contains("40 records are lost"), "{said}");
    let salvaged = place.path("salvaged");
    run(&["store", "repair", &format!("{attacks}store_cut"), &salvaged]);
    assert!(run(&["store", "info", &salvaged]).1.contains("written by   xenc 0."));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_stdout_is_an_error_a_closed_one_is_not_and_stderr_shows_no_escapes() {
    let source = fixture("volta.h5");
    let program = env!("CARGO_BIN_EXE_xenc");
    for arguments in [["store", "ls", &source], ["store", "info", &source]] {
        let full = std::fs::File::create("/dev/full").unwrap();
        let output = Command::new(program).args(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("cannot write to stdout"), "{arguments:?}");
        // Nobody reads: the child ends by the signal that says so, or without a word.
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert!(matches!(ended.status.code(), None | Some(0)), "{:?}", ended.status);
        assert_eq!(text(&ended.stderr), "");
    }
    let place = Place::new();
    let (dump, store) = (place.path("dump.tsv"), place.path("store"));
    std::fs::write(&dump, format!("{}\u{1b}[31m\tb\tc\td\te\tf\n", "a".repeat(80))).unwrap();
    let said = run(&["store", "convert", &dump, &store]).2;
    assert!(said.contains("a\\u{1b}[31m") && !said.contains('\u{1b}'), "{said:?}");

    let full = std::fs::File::create("/dev/full").unwrap();
    let talking =
        Command::new(program).args(["store", "info", "/nowhere"]).stderr(full).output().unwrap();
    assert_eq!(talking.status.code(), Some(2), "a full stderr changes nothing");
}

#[test]
fn a_dump_whose_own_list_is_wrong_is_converted_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let dump = volta_lmdb("raw_p4_np2");
    let (uniter, store) = (path("uniter"), path("store"));
    assert!(
        xenc(&["store", "convert", dump.to_str().unwrap(), &uniter, "--to", "uniter"])
            .status
            .success()
    );
    let convert = ["store", "convert", &uniter, &store, "--force"];
    assert_eq!(xenc(&convert).status.code(), Some(0));
    let of_counts = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        path.extension().is_some_and(|extension| extension == "json").then_some(path)
    };
    let counts = std::fs::read_dir(&uniter).unwrap().find_map(of_counts).unwrap();
    std::fs::write(counts, r#"{"absent.npz": 1}"#).unwrap();
    let output = xenc(&convert);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("names the image `absent`, not there"), "{said}");
    assert!(said.contains("does not name"), "{said}");
}

#[test]
fn ids_come_through_a_pipe_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let dump = volta_lmdb("raw_p4_np2");
    let (store, odd) = (path("store"), path("odd"));
    assert!(xenc(&["store", "convert", dump.to_str().unwrap(), &store]).status.success());
    let first = text(&xenc(&["store", "ls", &store]).stdout).lines().next().unwrap().to_owned();
    let rule = format!("s/^{first}$/ odd\n/");
    assert!(xenc(&["store", "convert", &store, &odd, "--rename", &rule]).status.success());
    let chosen = path("chosen");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_xenc"))
        .args(["store", "convert", &odd, &chosen, "--ids", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), br#"" odd\n""#).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(text(&xenc(&["store", "ls", &chosen, "--json"]).stdout), "[\n  \" odd\\n\"\n]\n");
}

#[test]
fn a_rule_that_leaves_nothing_of_an_id_is_named_with_the_image() {
    let place = Place::new();
    let source = fixture("volta.h5");
    for (target, to) in [("store", "store"), ("npy", "npy")] {
        let target = place.path(target);
        let command = ["store", "convert", &source, &target, "--to", to];
        let rule = ["--rename", "s/^x//", "--rename", "s/^open.*//"];
        let (code, _, said) = run(&[&command[..], &rule].concat());
        assert_eq!(code, 2, "{said}");
        let named = said.contains("record `openimages") && !said.contains("s/^x//` leaves");
        assert!(
            named && said.contains("`--rename s/^open.*//` leaves nothing of its id"),
            "{said}"
        );
        // The others are taken.
        let skip = [&command[..], &rule, &["--on-error", "skip", "--force"]].concat();
        let (code, out, said) = run(&skip);
        assert!(code == 1 && out.contains("3 skipped"), "{out}{said}");
    }
}
