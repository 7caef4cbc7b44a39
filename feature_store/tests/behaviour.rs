//! What must hold for a store whatever happens to it.

#[path = "common/image.rs"]
mod image;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use feature_store::convert::{ConvertError, OnError, convert};
use feature_store::formats::uniter::{UniterEncoding, UniterSink};
use feature_store::formats::volta::{VoltaEncoding, VoltaSink};
use feature_store::formats::{self, FeatureSink as _};
use feature_store::lmdb::LmdbError;
use feature_store::validate::{Coverage, Options, validate_source, validate_store};
use feature_store::{
    FeatureStore, Regions, Schema, StoreError, StoreWriter, WriterOptions, image_sets,
};
use unpickle::Value;

use image::image;

fn regions(seed: u32) -> Regions {
    image(seed, 64)
}

fn write(path: &Path, ids: impl IntoIterator<Item = String>) -> Schema {
    let mut writer = StoreWriter::create(path, WriterOptions::default()).unwrap();
    for (seed, id) in ids.into_iter().enumerate() {
        writer.append(&id, &regions(seed as u32)).unwrap();
    }
    writer.finish().unwrap()
}

fn volta(folder: &Path, images: u32) -> PathBuf {
    let path = folder.join("volta");
    let mut sink = VoltaSink::create(&path, VoltaEncoding::Raw).unwrap();
    (0..images).for_each(|i| sink.append(&format!("open1img{i}"), &regions(i)).unwrap());
    Box::new(sink).finish().unwrap();
    path
}

fn to_store(source: &Path, target: &Path, cancelled: &AtomicBool) -> Result<Schema, ConvertError> {
    let options = WriterOptions::default();
    let report =
        convert(formats::open(source)?, target, options, &OnError::Fail, cancelled, &mut |_| {})?;
    Ok(report.schema)
}

#[test]
fn ids_come_in_order_across_pages_and_at_the_length_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let longest = "z".repeat(511);
    write(&path, (0..3000).map(|i| format!("{i:05}")).chain([longest.clone()]));
    let store = FeatureStore::open(&path).unwrap();
    let ids: Vec<String> = store.ids().collect::<Result<_, _>>().unwrap();
    assert_eq!(ids.len(), 3001);
    assert!(ids.is_sorted());
    assert_eq!(store.get(&longest).unwrap(), regions(3000));
    assert!(matches!(store.get("nobody"), Err(StoreError::NotFound { .. })));
    assert!(!store.contains(&"z".repeat(512)).unwrap());
}

#[test]
fn images_with_more_regions_than_a_number_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut writer = StoreWriter::create(&path, WriterOptions::default()).unwrap();
    for (id, count) in [("a", 1), ("b", 2), ("c", 1)] {
        let Regions { boxes, features, dim, .. } = regions(0);
        let (boxes, features) = (boxes[..count].to_vec(), features[..count * dim].to_vec());
        writer.append(id, &Regions { boxes, features, ..regions(0) }).unwrap();
    }
    writer.finish().unwrap();
    let store = FeatureStore::open(&path).unwrap();
    let counted = |ids: &[&str]| [0, 1, 2].map(|most| store.count_larger(ids, most).unwrap());
    assert_eq!(counted(&["a", "b", "c"]), [3, 1, 0]);
    assert_eq!(counted(&["a", "c"]), [2, 0, 0]);
    let missing = store.count_larger(&["a", "nobody"], 1);
    assert!(matches!(missing, Err(StoreError::NotFound { id, .. }) if id == "nobody"));
}

#[test]
fn impossible_ids_and_contradictory_regions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer =
        StoreWriter::create(&folder.path().join("store"), WriterOptions::default()).unwrap();
    assert!(matches!(writer.append("", &regions(0)), Err(StoreError::IdLength { .. })));
    assert!(matches!(
        writer.append(&"x".repeat(512), &regions(0)),
        Err(StoreError::IdLength { .. })
    ));
    let short = Regions { features: vec![1.0], ..regions(0) };
    assert!(matches!(writer.append("a", &short), Err(StoreError::Regions { .. })));
    writer.append("a", &regions(0)).unwrap();
    let narrow = Regions { dim: 32, features: vec![0.0; 64], ..regions(0) };
    assert!(matches!(writer.append("b", &narrow), Err(StoreError::Regions { .. })));
    writer.append("a", &regions(0)).unwrap();
    writer.append("a", &regions(1)).unwrap();
    assert!(matches!(writer.commit(), Err(StoreError::Duplicate { id, .. }) if id == "a"));
}

#[test]
fn nothing_is_visible_before_finish_and_a_second_writer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut writer = StoreWriter::create(&path, WriterOptions::default()).unwrap();
    writer.append("a", &regions(0)).unwrap();
    writer.commit().unwrap();
    assert!(!path.exists());
    assert!(matches!(
        StoreWriter::create(&path, WriterOptions::default()),
        Err(StoreError::Locked(_))
    ));
    writer.finish().unwrap();
    assert!(matches!(
        StoreWriter::create(&path, WriterOptions::default()),
        Err(StoreError::Exists(_))
    ));
    let names: Vec<_> =
        std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["data.mdb"]);
}

#[test]
fn a_malicious_record_is_named_and_nothing_else_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volta");
    let mut sink = VoltaSink::create(&path, VoltaEncoding::Raw).unwrap();
    sink.append("a", &regions(0)).unwrap();
    sink.append("c", &regions(0)).unwrap();
    Box::new(sink).finish().unwrap();
    plant(&path, "b", b"\x80\x02cposix\nsystem\nX\x0b\0\0\0touch PWNED\x85R.");

    let target = folder.path().join("store");
    let error = to_store(&path, &target, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("`b`") && error.contains("posix.system"), "{error}");
    let source = formats::open(&path).unwrap();
    let run = AtomicBool::new(false);
    let report =
        convert(source, &target, WriterOptions::default(), &OnError::Skip, &run, &mut |_| {})
            .unwrap();
    assert_eq!((report.schema.count, report.skipped.len()), (2, 1));
    assert!(!Path::new("PWNED").exists());
}

/// Puts a raw value into a foreign LMDB.
fn plant(path: &Path, key: &str, value: &[u8]) {
    // SAFETY: the directory is this test's own.
    let env = unsafe { heed::EnvOpenOptions::new().map_size(1 << 26).open(path) }.unwrap();
    let mut transaction = env.write_txn().unwrap();
    let database: heed::Database<heed::types::Str, heed::types::Bytes> =
        env.create_database(&mut transaction, None).unwrap();
    database.put(&mut transaction, key, value).unwrap();
    transaction.commit().unwrap();
    env.prepare_for_closing().wait();
}

#[test]
fn what_is_no_store_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let missing = FeatureStore::open(&folder.path().join("missing")).err().unwrap();
    assert!(matches!(missing, StoreError::Lmdb(LmdbError::Missing(_))), "{missing}");
    let empty = FeatureStore::open(folder.path()).err().unwrap();
    assert!(matches!(empty, StoreError::Lmdb(LmdbError::NotADirectory(_))), "{empty}");
    let text = folder.path().join("text");
    std::fs::create_dir(&text).unwrap();
    std::fs::write(text.join("data.mdb"), "this is not LMDB at all".repeat(1000)).unwrap();
    let text = FeatureStore::open(&text).err().unwrap();
    assert!(matches!(text, StoreError::Lmdb(LmdbError::NotLmdb(_))), "{text}");
    let foreign = FeatureStore::open(&volta(folder.path(), 1)).err().unwrap();
    assert!(matches!(foreign, StoreError::NotAStore { .. }), "{foreign}");
    let own = folder.path().join("own");
    write(&own, ["a".to_owned()]);
    assert_eq!(formats::open(&own).unwrap().info().format, "store");
}

#[test]
fn a_file_cut_anywhere_is_an_error_not_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    write(&path, (0..200).map(|i| format!("img{i}")));
    let whole = std::fs::read(path.join("data.mdb")).unwrap();
    for eighth in 0..8 {
        let cut = folder.path().join(format!("cut{eighth}"));
        std::fs::create_dir(&cut).unwrap();
        std::fs::write(cut.join("data.mdb"), &whole[..whole.len() * eighth / 8 + 7]).unwrap();
        let error = FeatureStore::open(&cut).expect_err("a cut store cannot be opened");
        assert!(
            matches!(error, StoreError::Lmdb(LmdbError::Truncated { .. } | LmdbError::NotLmdb(_))),
            "{error}"
        );
    }
}

#[test]
fn a_flipped_bit_is_found_by_get_and_by_validation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    write(&path, (0..20).map(|i| format!("img{i}")));
    let mut bytes = std::fs::read(path.join("data.mdb")).unwrap();
    // The last feature values of img0's record.
    let features = regions(0).features;
    let needle: Vec<u8> = features[124..].iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at] ^= 1;
    let damaged = folder.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("data.mdb"), bytes).unwrap();
    let store = FeatureStore::open(&damaged).unwrap();
    assert!(matches!(store.get("img0"), Err(StoreError::Damaged { .. })));
    let report =
        validate_store(&damaged, &Options::default(), &AtomicBool::new(false), &mut |_| {})
            .unwrap()
            .unwrap();
    assert_eq!((report.bad_images, report.findings[0].id.as_str()), (1, "img0"));
    assert!(!report.is_good());
}

#[test]
fn validation_reports_boxes_values_and_coverage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut writer = StoreWriter::create(&path, WriterOptions::default()).unwrap();
    (0..10).for_each(|n| {
        writer.append(&image_sets::image_id("open-images-1_a", n), &regions(1)).unwrap()
    });
    writer
        .append("outside", &Regions { boxes: vec![[0.0, 0.0, 200.0, 80.0]; 2], ..regions(1) })
        .unwrap();
    let mut nan = regions(1);
    nan.features[70] = f32::NAN;
    writer.append("nan", &nan).unwrap();
    writer.finish().unwrap();
    let coverage = Coverage {
        split: "valid".into(),
        sets: vec!["open-images-1_a".into(), "open-images-2_b".into()],
    };
    let options = Options { coverage: vec![coverage], ..Options::default() };
    let report =
        validate_store(&path, &options, &AtomicBool::new(false), &mut |_| {}).unwrap().unwrap();
    let bad: Vec<&str> = report.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!(bad, ["nan", "outside"]);
    assert_eq!((report.coverage[0].sets, report.coverage[0].incomplete), (2, 1));
    let missing = &report.coverage[0].missing;
    assert!(
        missing.iter().any(|set| set.set == "open-images-2_b" && (set.images, set.of) == (0, 10))
    );
    assert!(missing.is_sorted_by_key(|set| std::cmp::Reverse(set.images)), "{missing:?}");
}

#[test]
fn a_store_in_a_read_only_directory_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    write(&path, ["a".to_owned()]);
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions.clone()).unwrap();
    assert_eq!(FeatureStore::open(&path).unwrap().get("a").unwrap(), regions(0));
    #[allow(clippy::permissions_set_readonly_false)]
    permissions.set_readonly(false);
    std::fs::set_permissions(&path, permissions).unwrap();
}

#[test]
fn the_map_grows_as_often_as_it_must() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut writer = StoreWriter::create(&path, WriterOptions::default()).unwrap();
    let large = Regions {
        boxes: vec![[0.0, 0.0, 10.0, 10.0]; 36],
        features: vec![1.0; 36 * 20480],
        dim: 20480,
        ..regions(0)
    };
    (0..100).for_each(|i| writer.append(&format!("img{i:03}"), &large).unwrap());
    let schema = writer.finish().unwrap();
    let bytes = std::fs::metadata(path.join("data.mdb")).unwrap().len() as f64;
    assert!(bytes / (schema.count as f64 * 36.0 * 20480.0 * 4.0) < 1.03, "{bytes} bytes on disk");
    assert_eq!(FeatureStore::open(&path).unwrap().get("img099").unwrap(), large);
}

/// The arrays of a dump in several files may change without those that name them.
#[test]
fn a_dump_of_several_files_is_another_when_one_of_them_changes() {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("npy");
    let mut sink = feature_store::formats::npy::NpySink::create(&dump).unwrap();
    sink.append("a", &regions(1)).unwrap();
    Box::new(sink).finish().unwrap();
    let fingerprint = || formats::open(&dump).unwrap().info().fingerprint.clone();
    let before = fingerprint();
    assert_eq!(before, fingerprint());
    let array = dump.join("a.npy");
    let bytes = std::fs::read(&array).unwrap();
    std::fs::write(&array, [bytes, vec![0]].concat()).unwrap();
    assert_ne!(before, fingerprint());
}

/// What a validation says of a dump as a whole.
fn findings(dump: &Path) -> Vec<String> {
    let source = formats::open(dump).unwrap();
    let run = AtomicBool::new(false);
    let report = validate_source(source, &Options::default(), &run, &mut |_| {});
    let report = report.unwrap().unwrap();
    assert_eq!(report.is_good(), report.store_findings.is_empty());
    report.store_findings
}

#[test]
fn a_volta_dump_that_lists_other_images_than_it_holds_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let dump = volta(folder.path(), 2);
    assert_eq!(findings(&dump), [""; 0]);
    let text = |id: &str| Value::Str(id.into());
    let keys = |value: Value| plant(&dump, "keys", &unpickle::write(&value).unwrap());
    keys(Value::List(vec![text("open1img0"), text("ghost"), text("gone")]));
    assert_eq!(
        findings(&dump),
        [
            "`keys` names 2 images, `ghost` first, not there",
            "`keys` does not name the image `open1img1`: VOLTA's readers do not find what it leaves out",
        ]
    );
    keys(Value::List(["open1img0", "open1img1", "open1img0"].map(text).to_vec()));
    assert_eq!(findings(&dump), ["`keys` names the image `open1img0`, more than once"]);
    keys(Value::List(vec![Value::List(Vec::new()); 1 << 15]));
    let said = findings(&dump);
    assert!(said.len() == 1 && said[0].contains("values"), "{said:?}");
    keys(Value::Int(7));
    assert_eq!(findings(&dump), ["`keys`, the list of ids: it is no list"]);
    keys(Value::List(vec![Value::Int(7)]));
    assert_eq!(findings(&dump), ["`keys`, the list of ids: it holds something else than ids"]);
}

#[test]
fn a_uniter_dump_without_its_counts_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("uniter");
    let mut sink = UniterSink::create(&dump, UniterEncoding::Msgpack, false).unwrap();
    ["a", "b"].iter().for_each(|id| sink.append(id, &regions(1)).unwrap());
    Box::new(sink).finish().unwrap();
    assert_eq!(findings(&dump), [""; 0]);
    let counts = dump.join("nbb_th0.2_max100_min10.json");
    std::fs::write(&counts, r#"{"a.npz": 1, "c.npz": 1}"#).unwrap();
    assert_eq!(
        findings(&dump),
        [
            "the list of counts names the image `c`, not there",
            "the list of counts does not name the image `b`: no boxes are cut off of it",
        ]
    );
    std::fs::write(&counts, "{}").unwrap();
    let without = findings(&dump);
    assert!(without.len() == 1 && without[0].contains("no boxes are cut off"), "{without:?}");
    std::fs::remove_file(&counts).unwrap();
    assert_eq!(findings(&dump), without);
    // Counts of images that are not there may fill the memory.
    std::fs::write(&counts, format!("{{{}}}", " ".repeat(9 << 20))).unwrap();
    let said = formats::open(&dump).err().unwrap().to_string();
    assert!(said.contains("bytes of counts for 3 images"), "{said}");
    std::fs::remove_file(&counts).unwrap();
    let environment = dump.join("feat_th0.2_max100_min10");
    plant(&environment, "__keys__", b"[\"a.npz\", 7]");
    assert!(findings(&dump)[0].contains("no JSON list of keys"), "{:?}", findings(&dump));
}

#[test]
fn counts_of_a_uniter_dump_may_be_spelt_as_floating_point_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("uniter");
    let mut sink = UniterSink::create(&dump, UniterEncoding::Msgpack, false).unwrap();
    sink.append("a", &regions(1)).unwrap();
    Box::new(sink).finish().unwrap();
    let read = |count: &str| -> Result<usize, String> {
        let text = format!("{{\"a.npz\": {count}}}");
        std::fs::write(dump.join("nbb_th0.2_max100_min10.json"), text).unwrap();
        let source = formats::open(&dump).map_err(|error| error.to_string())?;
        let record = source.records().unwrap().next().unwrap().unwrap();
        Ok(record.decode().unwrap().1.len())
    };
    assert_eq!(read("1").unwrap(), 1);
    assert_eq!(read("1.0").unwrap(), 1);
    assert_eq!(read("0.1e1").unwrap(), 1);
    for count in ["1.5", "-1", "-1.0", "1e300"] {
        let said = read(count).unwrap_err();
        assert!(said.contains("the count of `a.npz`") && said.contains("no whole"), "{said}");
    }
}
