//! Where outputs may not go, and what is said of it before any work.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use feature_store::append::AppendOptions;
use feature_store::convert::{OnError, append, convert};
use feature_store::export::{ForeignFormat, export};
use feature_store::formats::volta::VoltaEncoding;
use feature_store::merge::merge;
use feature_store::shard::{ShardBy, shard};
use feature_store::validate::{Options, validate_source, validate_store};
use feature_store::{Conflict, FeatureStore, Regions, StoreWriter, WriterOptions, formats};

static RUN: AtomicBool = AtomicBool::new(false);
const VOLTA: ForeignFormat = ForeignFormat::Volta(VoltaEncoding::Raw);

fn image() -> Regions {
    Regions {
        width: 9,
        height: 9,
        boxes: vec![[0.0, 0.0, 5.0, 5.0]],
        features: vec![1.0],
        dim: 1,
        ..Regions::default()
    }
}

/// A folder with a store of these images in it.
fn store(ids: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut writer = StoreWriter::create(&path, WriterOptions::default()).unwrap();
    ids.iter().for_each(|id| writer.append(id, &image()).unwrap());
    writer.finish().unwrap();
    (folder, path)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a conversion and an export of a store say; both must fail.
fn refusals(source: &Path, target: &Path, on_error: &OnError) -> [String; 2] {
    let open = || formats::open(source).unwrap();
    let options = WriterOptions::default();
    let converted = convert(open(), target, options, on_error, &RUN, &mut |_| {});
    let exported = export(open(), target, VOLTA, false, on_error, &RUN, &mut |_| {});
    [converted.unwrap_err().to_string(), exported.unwrap_err().to_string()]
}

#[test]
fn nothing_is_written_into_a_store() {
    let (folder, store) = store(&["a", "b"]);
    for target in [store.join("x"), store.join("x/y"), folder.path().join("store/./z")] {
        for refusal in refusals(&store, &target, &OnError::Fail) {
            assert!(refusal.contains("is or lies inside") && refusal.contains("the target"));
        }
    }
    let open = FeatureStore::open(&store).unwrap();
    let into = PathBuf::from(format!("{}/", store.display()));
    let error = shard(&open, &into, ShardBy::Range, 2, false, &RUN, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("is or lies inside"), "{error}");
    assert_eq!(
        (names(&store), names(folder.path())),
        (vec!["data.mdb".into()], vec!["store".into()])
    );
}

#[test]
fn nothing_is_written_into_a_folder_that_is_read() {
    let (folder, store) = store(&["a", "b"]);
    let dump = folder.path().join("npy");
    let npy = ForeignFormat::Npy;
    let source = formats::open(&store).unwrap();
    export(source, &dump, npy, false, &OnError::Fail, &RUN, &mut |_| {}).unwrap();
    let before = names(&dump);
    for target in [dump.join("x.xenc"), dump.join("below/x.xenc"), dump.join("a.npy")] {
        for refusal in refusals(&dump, &target, &OnError::Fail) {
            assert!(refusal.contains("is or lies inside") && refusal.contains("the target"));
        }
        let inputs = [dump.clone(), store.clone()];
        let merged = merge(&inputs, &target, Conflict::First, false, &RUN, &mut |_| {});
        assert!(merged.unwrap_err().to_string().contains("is or lies inside"));
    }
    // What is called alike lies beside it.
    let beside = folder.path().join("npy2");
    let source = formats::open(&dump).unwrap();
    export(source, &beside, npy, false, &OnError::Fail, &RUN, &mut |_| {}).unwrap();
    assert_eq!(names(&dump), before);
}

#[test]
fn a_quarantine_is_refused_where_outputs_and_sources_are() {
    let (folder, store) = store(&["a"]);
    let target = folder.path().join("target");
    for place in [target.clone(), target.join("q"), store.clone(), store.join("q")] {
        let rule = OnError::Quarantine(place.clone());
        for refusal in refusals(&store, &target, &rule) {
            assert!(refusal.contains("another place for the quarantine"), "{refusal}");
        }
    }
    let inside = Some(store.join("q"));
    let options = Options { quarantine: inside.clone(), ..Options::default() };
    assert!(validate_store(&store, &options, &RUN, &mut |_| {}).is_err());
    let source = formats::open(&store).unwrap();
    assert!(validate_source(source, &options, &RUN, &mut |_| {}).is_err());
    let (_other, source) = self::store(&["b"]);
    let rule = OnError::Quarantine(store.join("q"));
    let source = formats::open(&source).unwrap();
    let appended =
        append(source, &store, AppendOptions::default(), &rule, &RUN, &mut |_| {}).err().unwrap();
    assert!(appended.to_string().contains("the quarantine"), "{appended}");
    assert_eq!(
        (names(&store), names(folder.path())),
        (vec!["data.mdb".into()], vec!["store".into()])
    );
}

#[test]
fn whoever_comes_second_is_told_that_another_writes() {
    let (folder, store) = store(&["a"]);
    let target = folder.path().join("target");
    let writer = StoreWriter::create(&target, WriterOptions::default()).unwrap();
    for refusal in refusals(&store, &target, &OnError::Fail) {
        assert!(refusal.contains("another process is writing"), "{refusal}");
    }
    drop(writer);
}

#[test]
fn an_export_names_the_image_whose_id_is_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let uniter = ForeignFormat::Uniter { encoding: Default::default(), half: false };
    for (number, format) in [VOLTA, uniter].into_iter().enumerate() {
        let mut sink = format.create(&folder.path().join(number.to_string())).unwrap();
        let empty = sink.append("", &image()).unwrap_err().to_string();
        assert!(empty.contains("its id is empty") && empty.contains("--rename"), "{empty}");
        let long = "z".repeat(512);
        let error = sink.append(&long, &image()).unwrap_err().to_string();
        assert!(error.contains(&long) && error.contains("shorten it"), "{error}");
    }
}
