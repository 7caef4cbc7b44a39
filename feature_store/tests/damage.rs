//! Damaged and hostile LMDB files: what opens them refuses them, and what repairs them says what it does not know.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use feature_store::append::{AppendOptions, compact};
use feature_store::convert::{OnError, append, convert};
use feature_store::formats;
use feature_store::formats::FeatureSink as _;
use feature_store::formats::volta::{VoltaEncoding, VoltaSink};
use feature_store::merge::merge;
use feature_store::repair::{RepairReport, repair};
use feature_store::{
    Compression, Conflict, FeatureStore, Regions, Schema, StoreError, StoreWriter, WriterOptions,
    pages,
};

static RUN: AtomicBool = AtomicBool::new(false);
const PAGE: usize = 4096;

/// An image of `dim` values in two regions; every seed gives other values.
fn image(seed: u32, dim: usize) -> Regions {
    Regions {
        width: 100,
        height: 80,
        boxes: vec![[1.0, 2.0, 50.0, 60.0], [0.0, 0.0, 100.0, 80.0]],
        features: (0..2 * dim).map(|at| (seed * 5000 + at as u32) as f32).collect(),
        dim,
        ..Regions::default()
    }
}

fn id(number: u32) -> String {
    format!("img{number:05}")
}

fn write(path: &Path, ids: impl IntoIterator<Item = u32>, dim: usize) -> Schema {
    let mut writer = StoreWriter::create(path, WriterOptions::default()).unwrap();
    ids.into_iter().for_each(|n| writer.append(&id(n), &image(n, dim)).unwrap());
    writer.finish().unwrap()
}

/// Replaces images by those of other seeds.
fn replace(store: &Path, ids: impl IntoIterator<Item = u32>, dim: usize, more: u32) {
    let dump = store.with_file_name("replacements");
    let mut sink = VoltaSink::create(&dump, VoltaEncoding::Raw).unwrap();
    ids.into_iter().for_each(|n| sink.append(&id(n), &image(n + more, dim)).unwrap());
    Box::new(sink).finish().unwrap();
    let options = AppendOptions { conflict: Conflict::Last, ..AppendOptions::default() };
    let source = formats::open(&dump).unwrap();
    append(source, store, options, &OnError::Fail, &RUN, &mut |_| {}).unwrap();
    std::fs::remove_dir_all(&dump).unwrap();
}

/// A store of this file.
fn damaged(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("data.mdb"), bytes).unwrap();
    path
}

fn repaired(store: &Path) -> (RepairReport, FeatureStore) {
    let target = store.with_extension("repaired");
    let report = repair(store, &target, false, &RUN, &mut |_, _| {}).unwrap().unwrap();
    (report, FeatureStore::open(&target).unwrap())
}

/// Offsets of the leaf pages of a file.
fn leaves(bytes: &[u8]) -> Vec<usize> {
    let is_leaf = |at: &usize| {
        let number = u64::from_le_bytes(bytes[*at..at + 8].try_into().unwrap());
        number == (at / PAGE) as u64 && bytes[at + 10..at + 12] == [2, 0]
    };
    (2 * PAGE..bytes.len()).step_by(PAGE).filter(is_leaf).collect()
}

/// Offset of an entry of a page.
fn entry(bytes: &[u8], page: usize, index: usize) -> usize {
    let at = page + 16 + 2 * index;
    page + usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
}

/// Everything that opens a store refuses this one, and nothing is written.
fn refused_everywhere(store: &Path) -> String {
    let target = store.with_extension("target");
    let error = FeatureStore::open(store).unwrap_err().to_string();
    assert!(compact(store).is_err());
    assert!(formats::open(store).is_err());
    // Finding out what stands at a target looks into it, too, whatever comes of it.
    let overwrite = WriterOptions { overwrite: true, ..WriterOptions::default() };
    let _ = overwrite.check(store, &[]);
    let inputs = [store.to_owned()];
    assert!(merge(&inputs, &target, Conflict::Fail, false, &RUN, &mut |_| {}).is_err());
    refused_for_writing(store);
    assert!(!target.exists());
    error
}

fn refused_for_writing(store: &Path) -> String {
    let dump = store.with_file_name("more");
    let mut sink = VoltaSink::create(&dump, VoltaEncoding::Raw).unwrap();
    sink.append("more", &image(1, 8)).unwrap();
    Box::new(sink).finish().unwrap();
    let source = formats::open(&dump).unwrap();
    let before = std::fs::read(store.join("data.mdb")).unwrap();
    let appended =
        append(source, store, AppendOptions::default(), &OnError::Fail, &RUN, &mut |_| {});
    std::fs::remove_dir_all(&dump).unwrap();
    assert_eq!(std::fs::read(store.join("data.mdb")).unwrap(), before);
    appended.unwrap_err().to_string()
}

#[test]
fn pages_that_lmdb_believes_blindly_are_refused_by_whatever_opens_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    write(&store, 0..300, 8);
    let sound = std::fs::read(store.join("data.mdb")).unwrap();
    let of_records: Vec<usize> = leaves(&sound)
        .into_iter()
        .filter(|&page| sound[entry(&sound, page, 0) + 8..].starts_with(b"img"))
        .collect();
    let page = of_records[of_records.len() / 2];
    let try_out = |name: &str, change: &dyn Fn(&mut [u8])| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        refused_everywhere(&damaged(folder.path(), name, &bytes))
    };
    let said = try_out("an empty leaf", &|bytes| bytes[page + 12] = 16);
    assert!(said.contains("it is empty") && said.contains("xenc store repair"), "{said}");
    let said = try_out("keys out of order", &|bytes| {
        let key = entry(bytes, page, 3) + 8;
        bytes[key..key + 8].copy_from_slice(b"img00000");
    });
    assert!(said.contains("not in order"), "{said}");
    let said = try_out("a key that belongs elsewhere", &|bytes| {
        let key = entry(bytes, page, 0) + 8;
        bytes[key..key + 8].copy_from_slice(b"img00000");
    });
    assert!(said.contains("not in order"), "{said}");
    let said = try_out("an entry less", &|bytes| bytes[page + 12] -= 2);
    assert!(said.contains("not as many entries"), "{said}");
    let said = try_out("no way in", &|bytes| bytes[..2 * PAGE].fill(0));
    assert!(said.contains("at its beginning") && said.contains("xenc store repair"), "{said}");
    // A page that LMDB would take for a copy of its own, and write to.
    let said = try_out("a page in hand", &|bytes| bytes[page + 10] |= 0x10);
    assert!(said.contains("no page of a tree"), "{said}");
}

#[test]
fn a_list_of_free_pages_that_are_in_use_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    write(&store, 0..100, 8);
    replace(&store, 3..5, 8, 1000);
    let mut bytes = std::fs::read(store.join("data.mdb")).unwrap();
    let lists: Vec<usize> = leaves(&bytes)
        .into_iter()
        .map(|page| entry(&bytes, page, 0) + 8)
        .filter(|&key| bytes[key + 2..key + 8] == [0; 6])
        .collect();
    let in_use: Vec<usize> = leaves(&bytes)
        .into_iter()
        .filter(|page| bytes[entry(&bytes, *page, 0) + 8..].starts_with(b"img"))
        .collect();
    // Each list, also that of an earlier transaction, is of one page then.
    for (key, page) in lists.iter().zip(in_use.iter().rev()) {
        bytes[key + 8..key + 16].copy_from_slice(&1u64.to_le_bytes());
        bytes[key + 16..key + 24].copy_from_slice(&((page / PAGE) as u64).to_le_bytes());
    }
    let hostile = damaged(folder.path(), "hostile", &bytes);
    FeatureStore::open(&hostile).unwrap();
    let said = refused_for_writing(&hostile);
    assert!(said.contains("listed as free"), "{said}");
    assert!(compact(&hostile).is_err());
}

#[test]
fn pages_at_the_end_that_were_never_written_are_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    write(&store, 0..50, 8);
    let mut bytes = std::fs::read(store.join("data.mdb")).unwrap();
    for meta in [0, PAGE] {
        let last = meta + 16 + 120;
        bytes[last] = bytes[last].checked_add(7).unwrap();
    }
    let store = damaged(folder.path(), "taken and given back", &bytes);
    pages::check(&store).unwrap();
    replace(&store, 3..5, 8, 1000);
    assert_eq!(FeatureStore::open(&store).unwrap().get(&id(4)).unwrap(), image(1004, 8));
    bytes.truncate(bytes.len() - 3 * PAGE);
    let said = refused_everywhere(&damaged(folder.path(), "cut", &bytes));
    assert!(said.contains("truncated"), "{said}");
}

#[test]
fn a_store_with_fewer_images_than_it_says_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let schema = write(&store, 0..50, 8);
    let mut bytes = std::fs::read(store.join("data.mdb")).unwrap();
    let digest = schema.digest.to_le_bytes();
    let found = (0..bytes.len() - 8).filter(|&at| bytes[at..at + 8] == digest);
    let found: Vec<usize> = found.collect();
    assert!(!found.is_empty());
    found.iter().for_each(|at| bytes[at - 8] = 51);
    let said = refused_everywhere(&damaged(folder.path(), "lies", &bytes));
    assert!(said.contains("says that it holds 51 images, and holds 50"), "{said}");
}

#[test]
fn a_damaged_partial_is_told_and_dropped_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let (target, partial) = (folder.path().join("store"), folder.path().join(".store.partial"));
    let begin = |restart| {
        StoreWriter::create(&target, WriterOptions { restart, ..WriterOptions::default() })
    };
    let mut writer = begin(false).unwrap();
    (0..100).for_each(|n| writer.append(&id(n), &image(n, 600)).unwrap());
    writer.commit().unwrap();
    drop(writer);
    let sound = std::fs::read(partial.join("data.mdb")).unwrap();
    let cut = &sound[..sound.len() / 2];
    let mut headless = sound.clone();
    headless[..PAGE].fill(0);
    let mut holed = sound.clone();
    leaves(&sound).iter().for_each(|&page| holed[page..page + 100].fill(0xFF));
    for bytes in [cut, &headless, &holed, b"garbage".repeat(9999).as_slice(), b"x"] {
        std::fs::write(partial.join("data.mdb"), bytes).unwrap();
        let error = begin(false).err().unwrap();
        assert!(matches!(error, StoreError::DamagedPartial { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains(".store.partial") && said.contains("--force"), "{said}");
        assert_eq!(begin(true).unwrap().committed(), 0);
    }
    std::fs::write(partial.join("data.mdb"), &sound).unwrap();
    assert_eq!(begin(false).unwrap().committed(), 100);
}

#[test]
fn a_store_whose_images_were_replaced_is_repaired_to_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    // Records in their leaves, and on pages of their own.
    for (name, dim) in [("small", 8), ("large", 600)] {
        let store = folder.path().join(name);
        write(&store, 0..300, dim);
        replace(&store, (0..300).step_by(8), dim, 1000);
        let bytes = std::fs::read(store.join("data.mdb")).unwrap();
        let digest = FeatureStore::open(&store).unwrap().schema().digest;
        let (report, found) = repaired(&store);
        assert!(report.is_whole && report.lost.is_empty() && report.older.is_empty());
        assert_eq!((found.len(), found.schema().digest), (300, digest));
        // Without the pages that lead to the trees: what is there twice cannot be told, unless it is said.
        let mut headless = bytes.clone();
        headless[..2 * PAGE].fill(0);
        let (report, found) =
            repaired(&damaged(folder.path(), &format!("{name} headless"), &headless));
        assert!(report.lost.is_empty(), "{:?}", report.lost);
        assert_eq!((report.expected, found.len()), (Some(300), 300));
        for number in 0..300 {
            let last = if number % 8 == 0 { number + 1000 } else { number };
            let told = report.older.iter().any(|(older, _)| *older == id(number));
            assert!(told || found.get(&id(number)).unwrap() == image(last, dim), "{number}");
        }
    }
}

#[test]
fn an_earlier_record_takes_the_place_of_a_lost_one_only_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    write(&store, 0..1000, 600);
    let replaced = || (0..1000).step_by(50);
    replace(&store, replaced(), 600, 1000);
    let mut bytes = std::fs::read(store.join("data.mdb")).unwrap();
    // One value of the new record of all images that were replaced but one, and of the only record of another.
    for seed in replaced().skip(1).map(|number| number + 1000).chain([7]) {
        let values = image(seed, 600).features;
        let values: Vec<u8> = values[..64].iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut places = (0..bytes.len() - values.len()).step_by(16);
        let at = places.find(|&at| bytes[at..at + values.len()] == values).unwrap();
        bytes[at + 9] ^= 0x55;
    }
    let (report, found) = repaired(&damaged(folder.path(), "damaged", &bytes));
    assert_eq!((report.is_whole, report.expected), (false, Some(1000)));
    // The leaf that led to an earlier record may have been written over, too.
    let lost: Vec<&str> = report.lost.iter().map(|(id, _)| id.as_str()).collect();
    let older: Vec<&str> = report.older.iter().map(|(id, _)| id.as_str()).collect();
    assert!(report.older.iter().all(|(_, why)| why.contains("earlier")), "{:?}", report.older);
    assert!(lost.contains(&"img00007") && older.len() > 5, "{lost:?} {older:?}");
    for number in replaced().skip(1) {
        let id = id(number);
        assert!(older.contains(&id.as_str()) != lost.contains(&id.as_str()), "{id}");
        assert!(found.get(&id).map_or(true, |regions| regions == image(number, 600)), "{id}");
    }
    assert_eq!((lost.len() + older.len(), found.len()), (20, 1000 - lost.len() as u64));
    assert_eq!(found.get("img00000").unwrap(), image(1000, 600));
}

#[test]
fn an_environment_in_a_file_by_itself_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let [dump, alone] = ["dump", "alone.lmdb"].map(|name| folder.path().join(name));
    let mut sink = VoltaSink::create(&dump, VoltaEncoding::Raw).unwrap();
    (0..3).for_each(|n| sink.append(&id(n), &image(n, 8)).unwrap());
    Box::new(sink).finish().unwrap();
    std::fs::rename(dump.join("data.mdb"), &alone).unwrap();
    let source = formats::open(&alone).unwrap();
    assert_eq!((source.info().format, source.info().count), ("volta-lmdb", Some(3)));
    let target = folder.path().join("store");
    let options = WriterOptions::default();
    let report = convert(source, &target, options, &OnError::Fail, &RUN, &mut |_| {}).unwrap();
    assert_eq!(report.schema.count, 3);
    let lone = folder.path().join("lone.mdb");
    std::fs::copy(target.join("data.mdb"), &lone).unwrap();
    let said = formats::open(&lone).err().unwrap().to_string();
    assert!(said.contains("data.mdb") && said.contains("folder"), "{said}");
    let bytes = std::fs::read(&lone).unwrap();
    std::fs::write(&lone, &bytes[..bytes.len() / 2]).unwrap();
    let said = formats::open(&lone).err().unwrap().to_string();
    assert!(said.contains("truncated"), "{said}");
}

#[test]
fn repair_salvages_all_but_what_was_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    write(&path, 0..400, 1024);
    let whole = std::fs::read(path.join("data.mdb")).unwrap();
    let damage = |name: &str, bytes: &[u8]| {
        let damaged = folder.path().join(name);
        std::fs::create_dir(&damaged).unwrap();
        std::fs::write(damaged.join("data.mdb"), bytes).unwrap();
        let target = folder.path().join(format!("{name}.repaired"));
        let report = repair(&damaged, &target, false, &RUN, &mut |_, _| {});
        report.map(|report| {
            let store = FeatureStore::open(&target).unwrap();
            for id in store.ids().map(|id| id.unwrap()) {
                let number: u32 = id["img".len()..].parse().unwrap();
                assert_eq!(store.get(&id).unwrap(), image(number, 1024));
            }
            (report.unwrap(), store.len())
        })
    };
    // Both meta pages gone: no tree can be found, every record can.
    let mut headless = whole.clone();
    headless[..8192].fill(0xAB);
    assert_eq!(damage("headless", &headless).unwrap().1, 400);
    // The last third cut off.
    let (report, salvaged) = damage("cut", &whole[..whole.len() * 2 / 3]).unwrap();
    assert!((150..400).contains(&salvaged), "{salvaged}");
    assert!(report.lost.iter().all(|(id, _)| id.starts_with("img")));
    // A hole in the middle: its records are lost, and named where the index survives.
    let mut holed = whole.clone();
    let middle = holed.len() / 2;
    holed[middle..middle + 40_000].fill(0);
    let (report, salvaged) = damage("holed", &holed).unwrap();
    assert!((380..400).contains(&salvaged), "{salvaged}");
    assert_eq!(report.expected, Some(400));
    assert!(damage("nothing", &[0; 100_000]).is_err());
}

#[test]
fn a_repaired_store_is_compressed_as_it_was_whatever_its_first_record_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let options = WriterOptions { compression: Compression::Lz4, ..WriterOptions::default() };
    let mut writer = StoreWriter::create(&path, options).unwrap();
    // Of the first image nothing is gained by compressing it.
    writer.append("a", &Regions { features: vec![0.37; 2], dim: 1, ..image(0, 1) }).unwrap();
    writer.append("b", &Regions { features: vec![0.5; 2], dim: 1, ..image(0, 1) }).unwrap();
    let large = Regions {
        boxes: vec![[0.0, 0.0, 9.0, 9.0]; 4096],
        features: vec![0.0; 4096],
        dim: 1,
        ..image(0, 1)
    };
    writer.append("c", &large).unwrap();
    let schema = writer.finish().unwrap();
    let (report, store) = repaired(&path);
    assert!(report.is_whole);
    assert_eq!(store.schema().compression, Compression::Lz4);
    assert_eq!(*store.schema(), schema);
}

#[test]
fn a_data_file_with_any_byte_damaged_never_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    write(&path, 0..60, 8);
    let whole = std::fs::read(path.join("data.mdb")).unwrap();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut refused, mut read) = (0, 0);
    for round in 0..1500 {
        let mut bytes = whole.clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        let damaged = folder.path().join(format!("damaged{round}"));
        std::fs::create_dir(&damaged).unwrap();
        std::fs::write(damaged.join("data.mdb"), bytes).unwrap();
        if pages::check(&damaged).is_err() {
            refused += 1;
        } else if let Ok(store) = FeatureStore::open(&damaged) {
            for id in store.ids().map_while(Result::ok) {
                let _ = store.get(&id);
            }
            read += 1;
        }
        std::fs::remove_dir_all(&damaged).unwrap();
    }
    assert!(refused > 0 && read > 0, "{refused} refused, {read} read");
}
