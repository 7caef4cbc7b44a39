//! Dumps in foreign formats where a store would do, too.

use crate::{Place, fixture, run};

/// Two images, not in the order of their ids.
const UNORDERED: &str = "lxmert_order.tsv";

#[test]
fn a_dump_is_compared_with_a_store_in_any_order() {
    let place = Place::new();
    let (all, some) = (fixture("volta.h5"), fixture(UNORDERED));
    let store = place.path("store");
    assert_eq!(run(&["store", "convert", &all, &store]).0, 0);
    assert_eq!(run(&["store", "diff", &store, &all]), run(&["store", "diff", &all, &store]));
    assert_eq!(run(&["store", "diff", &all, &store]).0, 0);
    let (code, out, _) = run(&["store", "diff", &some, &store]);
    assert_eq!(code, 1);
    assert!(out.contains("only first   0") && out.contains("different    0"), "{out}");
    let (common, missing) = (count(&out, "in both"), count(&out, "only second"));
    assert!(common > 1 && missing > 0 && common + missing == 8, "{out}");
    let swapped = run(&["store", "diff", &store, &some]).1;
    assert_eq!(count(&swapped, "only first"), missing, "{swapped}");

    let twice = std::fs::read_to_string(&some).unwrap().repeat(2);
    std::fs::write(place.path("twice.tsv"), twice).unwrap();
    let (code, out, _) = run(&["store", "diff", &store, &place.path("twice.tsv")]);
    assert!(code == 1 && out.contains("it comes twice in the second"), "{out}");
    assert_eq!(count(&out, "different"), common, "{out}");
}

/// The number behind a word of the report.
fn count(report: &str, what: &str) -> u64 {
    let line = report.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn two_dumps_are_compared_in_one_order_and_otherwise_it_is_said_what_to_do() {
    let place = Place::new();
    let all = fixture("volta.h5");
    let (volta, npy, store) = (place.path("volta"), place.path("npy"), place.path("store"));
    for (target, to) in [(&volta, "volta"), (&npy, "npy"), (&store, "store")] {
        assert_eq!(run(&["store", "convert", &all, target, "--to", to]).0, 0);
    }
    let (code, out, said) = run(&["store", "diff", &all, &volta]);
    assert_eq!((code, count(&out, "in both")), (0, 8), "{said}");
    // Dumps say the same as the stores that are made of them, images that are missing included.
    let id = run(&["store", "ls", &all]).1.lines().nth(3).unwrap().to_owned();
    for file in ["", "_info"] {
        std::fs::remove_file(format!("{npy}/{id}{file}.npy")).unwrap();
    }
    let of_dumps = run(&["store", "diff", &volta, &npy]);
    assert!(of_dumps.1.contains("only in the first"), "{}", of_dumps.1);
    assert_eq!(of_dumps.0, 1);
    let npy_store = place.path("npy.store");
    assert_eq!(run(&["store", "convert", &npy, &npy_store]).0, 0);
    assert_eq!(run(&["store", "diff", &store, &npy_store]), of_dumps);

    // In the same order, whichever, nothing is needed of it.
    let some = fixture(UNORDERED);
    let gz = place.path("some.tsv.gz");
    assert_eq!(run(&["store", "convert", &some, &gz]).0, 0);
    assert_eq!(run(&["store", "diff", &some, &gz]).0, 0);
    let (code, _, said) = run(&["store", "diff", &all, &some]);
    assert_eq!(code, 2);
    assert!(said.contains("different orders") && said.contains("xenc store convert"), "{said}");
    assert!(said.contains(UNORDERED), "{said}");
}

#[test]
fn dumps_are_merged_with_stores_and_with_each_other() {
    let place = Place::new();
    let (all, some) = (fixture("volta.h5"), fixture(UNORDERED));
    let merged = |name: &str, inputs: [&str; 2], rule: &str| {
        let target = place.path(name);
        let merge = ["store", "merge", &target, inputs[0], inputs[1], "--on-conflict", rule];
        let (code, out, said) = run(&merge);
        assert_eq!(code, 0, "{said}");
        (target, out)
    };
    let (both, out) = merged("both", [&some, &all], "fail");
    assert!(out.contains("8 images, 2 repeated, 0 conflicts"), "{out}");
    assert_eq!(run(&["store", "diff", &both, &all]).0, 0);

    // Encoded as the store is, whose own records are copied: rounding them again would make others of them.
    let int8 = place.path("int8");
    assert_eq!(run(&["store", "convert", &all, &int8, "--precision", "int8"]).0, 0);
    let (again, out) = merged("again", [&some, &int8], "fail");
    assert!(out.contains("8 images, 2 repeated, 0 conflicts"), "{out}");
    let digest = |store: &str| {
        let told = run(&["store", "info", store]).1;
        told.lines().find(|line| line.starts_with("digest")).unwrap().to_owned()
    };
    assert_eq!(digest(&again), digest(&int8));

    // The same ids with other contents: the labels are missing.
    let npy = place.path("npy");
    assert_eq!(run(&["store", "convert", &some, &npy, "--to", "npy"]).0, 0);
    let (first, out) = merged("first", [&all, &npy], "first");
    assert!(out.contains("8 images, 0 repeated, 2 conflicts"), "{out}");
    assert_eq!(run(&["store", "diff", &first, &all]).0, 0);
    let (last, _) = merged("last", [&both, &npy], "last");
    assert_eq!(count(&run(&["store", "diff", &last, &all]).1, "different"), 2);
    let (code, _, said) = run(&["store", "merge", &place.path("fail"), &npy, &all]);
    assert!(code == 2 && said.contains("--on-conflict"), "{said}");
}

#[test]
fn ids_stay_on_their_lines_and_move_no_cursor() {
    let place = Place::new();
    let (store, id) = (place.path("store"), "a\nb\u{1b}[31m");
    let options = feature_store::WriterOptions::default();
    let mut writer = feature_store::StoreWriter::create(store.as_ref(), options).unwrap();
    let regions = feature_store::Regions {
        width: 9,
        height: 9,
        boxes: vec![[0.0, 0.0, 5.0, 5.0]],
        features: vec![f32::NAN],
        dim: 1,
        ..Default::default()
    };
    writer.append(id, &regions).unwrap();
    writer.finish().unwrap();
    let spelled = r"a\nb\u{1b}[31m";
    assert_eq!(run(&["store", "ls", &store]).1, format!("{spelled}\n"));
    let json: Vec<String> =
        serde_json::from_str(&run(&["store", "ls", &store, "--json"]).1).unwrap();
    assert_eq!(json, [id]);
    let (_, out, _) = run(&["store", "validate", &store]);
    assert!(out.contains(&format!("  {spelled}: region 0")), "{out}");
    let (_, out, _) = run(&["store", "diff", &store, &fixture("volta.h5")]);
    assert!(out.contains(&format!("  {spelled}: only in the first")), "{out}");
    // No text file can hold it.
    let (code, _, said) =
        run(&["store", "convert", &store, &place.path("a.tsv"), "--to", "tsv-bottomup"]);
    assert!(code == 2 && said.contains("--rename") && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn paths_stay_on_their_lines_and_move_no_cursor() {
    let place = Place::new();
    let (store, spelled) = (place.path("s\n\u{1b}[31m"), r"/s\n\u{1b}[31m: ");
    let source = fixture("volta.h5");
    let [other, tsv] = ["o\n\u{1b}", "t\n\u{1b}.tsv"].map(|name| place.path(name));
    let commands: [(&[&str], &str); 5] = [
        (&["convert", &source, &store], spelled),
        (&["convert", &store, &tsv], r"/t\n\u{1b}.tsv: "),
        (&["append", &store, &source], spelled),
        (&["compact", &store], spelled),
        (&["merge", &other, &store], r"/o\n\u{1b}: "),
    ];
    for (command, spelled) in commands {
        let (code, out, said) = run(&[&["store"], command].concat());
        assert!(code == 0 && out.contains(spelled), "{command:?}: {out}{said}");
        assert_eq!(out.lines().count(), 1, "{out}");
    }
    let (code, _, said) = run(&["store", "get", &store, "\u{1b}\n"]);
    assert!(code == 2 && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn what_is_wrong_with_a_dumps_own_list_is_told_by_every_command_that_reads_it() {
    let place = Place::new();
    let (uniter, store) = (place.path("uniter"), place.path("store"));
    assert_eq!(run(&["store", "convert", &fixture("volta.h5"), &uniter, "--to", "uniter"]).0, 0);
    let convert = ["store", "convert", &uniter, &store, "--force", "--json"];
    let findings = |out: &str| -> serde_json::Value {
        serde_json::from_str::<serde_json::Value>(out).unwrap()["list_findings"].clone()
    };
    let (code, out, said) = run(&convert);
    assert!(code == 0 && !said.contains("cut off"), "{said}");
    assert_eq!(findings(&out), serde_json::json!([]));
    std::fs::remove_file(format!("{uniter}/nbb_th0.2_max100_min10.json")).unwrap();
    let (code, out, said) = run(&convert);
    assert!(code == 1 && said.contains("no boxes are cut off"), "{said}");
    assert!(findings(&out)[0].as_str().unwrap().contains("no boxes are cut off"), "{out}");
    let count = serde_json::from_str::<serde_json::Value>(&out).unwrap()["schema"]["count"].clone();
    assert_eq!(count, 8, "everything is taken all the same");
    assert_eq!(run(&["store", "validate", &uniter]).0, 1);
    let (code, out, _) = run(&["store", "append", &store, &uniter, "--json"]);
    assert!(code == 1 && findings(&out)[0].is_string(), "{out}");
}

#[test]
fn a_comparison_that_does_not_reach_the_end_says_what_it_has_found() {
    let place = Place::new();
    let (store, tsv) = (place.path("store"), place.path("a.tsv"));
    assert_eq!(run(&["store", "convert", &fixture("volta.h5"), &store]).0, 0);
    assert_eq!(run(&["store", "convert", &store, &tsv]).0, 0);
    let whole = std::fs::read(&tsv).unwrap();
    let cut = place.path("cut.tsv");
    std::fs::write(&cut, &whole[..whole.len() - 100]).unwrap();
    for [first, second] in [[&tsv, &cut], [&store, &cut], [&cut, &store]] {
        let (code, out, said) = run(&["store", "diff", first, second, "--json"]);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        let why = report["incomplete"].as_str().unwrap();
        assert!(code == 2 && said.contains("to the end") && said.contains(why), "{said}");
        let numbers = ["common", "only_first", "only_second"].map(|name| report[name].as_u64());
        assert_eq!(numbers, [Some(7), Some(0), Some(0)], "{first} {second}");
        let (code, out, _) = run(&["store", "diff", first, second]);
        assert!(code == 2 && out.contains("incomplete   what follows was not compared"), "{out}");
    }
    let (_, out, _) = run(&["store", "diff", &tsv, &store, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(report["incomplete"].is_null(), "{out}");
}
