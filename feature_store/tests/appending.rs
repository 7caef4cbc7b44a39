//! What an append does with images that are there already, and with what an earlier one has left.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use feature_store::append::{AppendOptions, compact, reopen};
use feature_store::convert::{AppendReport, ConvertError, OnError, append};
use feature_store::formats::volta::{VoltaEncoding, VoltaSink};
use feature_store::formats::{self, FeatureSink as _};
use feature_store::validate::{self, validate_store};
use feature_store::{
    Conflict, FeatureStore, Provenance, Regions, Schema, StoreError, StoreWriter, WriterOptions,
};

static RUN: AtomicBool = AtomicBool::new(false);

fn image(seed: u32) -> Regions {
    Regions {
        width: 100,
        height: 80,
        boxes: vec![[1.0, 2.0, 50.0, 60.0], [0.0, 0.0, 100.0, 80.0]],
        features: (0..16).map(|i| (i * (seed + 1)) as f32).collect(),
        dim: 8,
        ..Regions::default()
    }
}

/// A store of ten images.
fn store(path: &Path) -> Schema {
    let mut writer = StoreWriter::create(path, WriterOptions::default()).unwrap();
    (0..10).for_each(|n| writer.append(&format!("img{n}"), &image(n)).unwrap());
    writer.finish().unwrap()
}

/// A dump of one image.
fn dump(path: &Path, id: &str, image: &Regions) {
    let mut sink = VoltaSink::create(path, VoltaEncoding::Raw).unwrap();
    sink.append(id, image).unwrap();
    Box::new(sink).finish().unwrap();
}

fn add(dump: &Path, store: &Path, options: AppendOptions) -> Result<AppendReport, ConvertError> {
    append(formats::open(dump).unwrap(), store, options, &OnError::Fail, &RUN, &mut |_| {})
}

#[test]
fn an_image_that_is_there_with_other_contents_is_appended_only_by_rule() {
    let folder = tempfile::tempdir().unwrap();
    let (path, more) = (folder.path().join("store"), folder.path().join("more"));
    let before = store(&path);
    dump(&more, "img3", &image(99));
    let error = add(&more, &path, AppendOptions::default()).unwrap_err().to_string();
    assert!(error.contains("img3") && error.contains("--on-conflict"), "{error}");
    assert_eq!(FeatureStore::open(&path).unwrap().schema().digest, before.digest);
    assert!(!folder.path().join(".store.partial").exists(), "a failed append is in nobody's way");

    let kept = |conflict| {
        let options = AppendOptions { conflict, ..AppendOptions::default() };
        let report = add(&more, &path, options).unwrap();
        assert_eq!((report.conflicts, report.schema.count), (1, 10));
        let found = FeatureStore::open(&path).unwrap();
        (found.get("img3").unwrap(), found.schema().digest)
    };
    assert_eq!(kept(Conflict::First), (image(3), before.digest));
    let (replaced, digest) = kept(Conflict::Last);
    assert_eq!(replaced, image(99));
    assert_ne!(digest, before.digest);
    let checked = validate_store(&path, &validate::Options::default(), &RUN, &mut |_| {});
    assert!(checked.unwrap().unwrap().is_good());
}

#[test]
fn an_interrupted_append_of_another_source_is_dropped_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other, more] = ["store", "other", "more"].map(|name| folder.path().join(name));
    store(&path);
    dump(&other, "img20", &image(20));
    dump(&more, "img10", &image(10));
    let stopped = append(
        formats::open(&other).unwrap(),
        &path,
        AppendOptions::default(),
        &OnError::Fail,
        &AtomicBool::new(true),
        &mut |_| {},
    );
    assert!(matches!(stopped, Err(ConvertError::Interrupted { .. })));
    let refused = add(&more, &path, AppendOptions::default()).unwrap_err().to_string();
    assert!(refused.contains(".store.partial") && refused.contains("--force"), "{refused}");
    let options = AppendOptions { restart: true, ..AppendOptions::default() };
    assert_eq!(add(&more, &path, options).unwrap().schema.count, 11);
    let ids: Vec<String> =
        FeatureStore::open(&path).unwrap().ids().collect::<Result<_, _>>().unwrap();
    assert!(ids.contains(&"img10".to_owned()) && !ids.contains(&"img20".to_owned()), "{ids:?}");
}

#[test]
fn a_damaged_rest_of_an_append_is_told_and_dropped_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let [path, more] = ["store", "more"].map(|name| folder.path().join(name));
    store(&path);
    dump(&more, "img10", &image(10));
    let partial = folder.path().join(".store.partial");
    std::fs::create_dir(&partial).unwrap();
    let mut rest = std::fs::read(path.join("data.mdb")).unwrap();
    rest[4096..8192].fill(0);
    std::fs::write(partial.join("data.mdb"), rest).unwrap();
    let refused = add(&more, &path, AppendOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("are damaged") && refused.contains("--force"), "{refused}");
    let options = AppendOptions { restart: true, ..AppendOptions::default() };
    assert_eq!(add(&more, &path, options).unwrap().schema.count, 11);
}

#[test]
fn a_resumed_append_counts_what_the_store_had_and_not_what_the_first_run_added() {
    let folder = tempfile::tempdir().unwrap();
    let [path, more] = ["store", "more"].map(|name| folder.path().join(name));
    store(&path);
    let mut sink = VoltaSink::create(&more, VoltaEncoding::Raw).unwrap();
    (5..40).for_each(|n| sink.append(&format!("img{n}"), &image(n)).unwrap());
    Box::new(sink).finish().unwrap();
    let stop = AtomicBool::new(false);
    let stopped = append(
        formats::open(&more).unwrap(),
        &path,
        AppendOptions::default(),
        &OnError::Fail,
        &stop,
        &mut |at| stop.store(at.images == 20, std::sync::atomic::Ordering::Relaxed),
    );
    assert!(matches!(stopped, Err(ConvertError::Interrupted { .. })));
    let report = add(&more, &path, AppendOptions::default()).unwrap();
    assert_eq!((report.added, report.present, report.conflicts), (30, 5, 0));
    assert_eq!(report.schema.count, 40);
}

/// One command at a time writes a store, whatever the command.
#[test]
fn commands_that_write_one_store_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    store(&path);
    let writer = reopen(&path, Provenance::default(), AppendOptions::default()).unwrap();
    let locked = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::Locked(_))), "{result:?}");
    };
    locked(compact(&path).map(drop));
    locked(reopen(&path, Provenance::default(), AppendOptions::default()).map(drop));
    let overwrite = WriterOptions { overwrite: true, ..WriterOptions::default() };
    locked(StoreWriter::create(&path, overwrite).map(drop));
    drop(writer);
    compact(&path).unwrap();
}

#[test]
fn a_store_that_was_replaced_while_it_was_open_is_not_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other, more] = ["store", "other", "more"].map(|name| folder.path().join(name));
    store(&path);
    dump(&more, "img10", &image(10));
    let before = FeatureStore::open(&path).unwrap();
    let mut writer = StoreWriter::create(&other, WriterOptions::default()).unwrap();
    writer.append("other", &image(1)).unwrap();
    writer.finish().unwrap();
    std::fs::rename(&path, folder.path().join("away")).unwrap();
    std::fs::rename(&other, &path).unwrap();
    let said = compact(&path).unwrap_err().to_string();
    assert!(said.contains("has been replaced"), "{said}");
    assert!(add(&more, &path, AppendOptions::default()).is_err());
    assert_eq!(before.get("img3").unwrap(), image(3));
    drop(before);
    compact(&path).unwrap();
    assert_eq!(add(&more, &path, AppendOptions::default()).unwrap().schema.count, 2);
}

#[test]
fn readers_find_the_store_at_every_moment_of_its_replacement() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    store(&path);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::metadata(path.join("data.mdb")).unwrap();
            }
        });
        for _ in 0..50 {
            compact(&path).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let names = folder.path().read_dir().unwrap().count();
    assert_eq!(names, 1, "something is left beside the store");
}

#[test]
fn a_successor_has_the_permissions_of_the_store() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    store(&path);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&path, 0o700);
    set(&path.join("data.mdb"), 0o600);
    compact(&path).unwrap();
    assert_eq!((mode(&path), mode(&path.join("data.mdb"))), (0o700, 0o600));
    let mut writer = reopen(&path, Provenance::default(), AppendOptions::default()).unwrap();
    writer.append("c", &image(3)).unwrap();
    writer.finish().unwrap();
    assert_eq!((mode(&path), mode(&path.join("data.mdb"))), (0o700, 0o600));
}

#[test]
fn a_store_that_nothing_comes_to_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (path, more) = (folder.path().join("store"), folder.path().join("more"));
    let before = store(&path);
    dump(&more, "img3", &image(3));
    let report = add(&more, &path, AppendOptions::default()).unwrap();
    assert_eq!((report.added, report.present), (0, 1));
    assert_eq!((&report.schema, FeatureStore::open(&path).unwrap().schema()), (&before, &before));
    assert!(!folder.path().join(".store.partial").exists());
    // The same source once more, with something new in it, is not named twice.
    let named = |seed: u32| {
        std::fs::remove_dir_all(&more).unwrap();
        dump(&more, &format!("new{seed}"), &image(seed));
        add(&more, &path, AppendOptions::default()).unwrap().schema.provenance.source
    };
    assert_eq!([named(20), named(21)], [more.to_str().unwrap(); 2]);
}

/// Writes other numbers into the schema of a store of two regions of eight values in f32, wherever it stands in the file.
fn forge(store: &Path, [dim, precision, compression]: [u32; 3]) {
    let schema = |[dim, precision, compression]: [u32; 3]| {
        let numbers = [dim, 2, 2, precision, compression].map(u32::to_le_bytes);
        [&[2], numbers.as_flattened()].concat()
    };
    let (written, forged) = (schema([8, 0, 0]), schema([dim, precision, compression]));
    let file = store.join("data.mdb");
    let mut bytes = std::fs::read(&file).unwrap();
    let places = (0..bytes.len() - written.len()).filter(|&at| bytes[at..].starts_with(&written));
    let places: Vec<usize> = places.collect();
    assert!(!places.is_empty());
    places.iter().for_each(|&at| bytes[at..at + forged.len()].copy_from_slice(&forged));
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn nothing_is_appended_to_a_store_whose_schema_is_not_that_of_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let more = folder.path().join("more");
    dump(&more, "more", &image(1));
    for (name, forged, reason) in [
        ("sound", [8, 0, 0], ""),
        ("f16", [8, 1, 0], "its features are f32; the store says f16"),
        ("dim", [9, 0, 0], "8 values per region; the store says 9"),
    ] {
        let path = folder.path().join(name);
        store(&path);
        forge(&path, forged);
        let before = std::fs::read(path.join("data.mdb")).unwrap();
        let added = add(&more, &path, AppendOptions::default());
        if reason.is_empty() {
            assert_eq!(added.unwrap().added, 1);
            continue;
        }
        let error = added.unwrap_err();
        let is_told = matches!(error, ConvertError::Store(StoreError::Schema { .. }));
        let said = error.to_string();
        assert!(is_told && said.contains(reason) && said.contains("`img0`"), "{said}");
        assert!(
            said.contains("xenc store validate") && said.contains("xenc store repair"),
            "{said}"
        );
        assert_eq!(std::fs::read(path.join("data.mdb")).unwrap(), before);
        assert!(!folder.path().join(format!(".{name}.partial")).exists());
    }
}
