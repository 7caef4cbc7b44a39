//! What must hold when processes are killed, disks fill up, and several read and write at once.
//!
//! The test binary runs itself as the process that is killed: `XENC_CHILD` tells it what to do.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use feature_store::append::AppendOptions;
use feature_store::append::compact;
use feature_store::convert::{ConvertError, OnError, append, convert};
use feature_store::diff::{self, diff};
use feature_store::formats::volta::{VoltaEncoding, VoltaSink};
use feature_store::formats::{self, FeatureSink as _};
use feature_store::merge::merge;
use feature_store::shard::{ShardBy, shard};
use feature_store::validate::{Options, validate_store};
use feature_store::{
    Compression, Conflict, FeatureStore, Precision, Regions, Schema, StoreError, StoreWriter,
    WriterOptions,
};

static RUN: AtomicBool = AtomicBool::new(false);

/// An image of `dim` values in two regions; every seed gives other values.
fn image(seed: u32, dim: usize) -> Regions {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state % 4096) as f32 / 512.0
    };
    Regions {
        width: 100,
        height: 80,
        boxes: vec![[1.0, 2.0, 50.0, 60.0], [0.0, 0.0, 100.0, 80.0]],
        features: (0..2 * dim).map(|_| next()).collect(),
        dim,
        ..Regions::default()
    }
}

fn write(path: &Path, ids: impl IntoIterator<Item = u32>, dim: usize) -> Schema {
    let mut writer = StoreWriter::create(path, WriterOptions::default()).unwrap();
    ids.into_iter().for_each(|n| writer.append(&format!("img{n:07}"), &image(n, dim)).unwrap());
    writer.finish().unwrap()
}

fn volta(path: &Path, ids: impl IntoIterator<Item = u32>, dim: usize) {
    let mut sink = VoltaSink::create(path, VoltaEncoding::Raw).unwrap();
    ids.into_iter().for_each(|n| sink.append(&format!("img{n:07}"), &image(n, dim)).unwrap());
    Box::new(sink).finish().unwrap();
}

fn to_store(source: &Path, target: &Path) -> Schema {
    let source = formats::open(source).unwrap();
    let options = WriterOptions::default();
    convert(source, target, options, &OnError::Fail, &RUN, &mut |_| {}).unwrap().schema
}

/// Starts this binary again, to do one of the things in [`child`].
fn spawn(what: &str, paths: &[&Path]) -> Child {
    let joined = std::env::join_paths(paths).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("XENC_CHILD", what)
        .env("XENC_CHILD_PATHS", joined)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// What a child process does; nothing when the tests are run as such.
#[test]
fn child() {
    let Some(what) = std::env::var_os("XENC_CHILD") else { return };
    let joined = std::env::var_os("XENC_CHILD_PATHS").unwrap();
    let paths: Vec<PathBuf> = std::env::split_paths(&joined).collect();
    match what.to_str().unwrap() {
        "convert" => {
            // Slow enough to be killed anywhere: a commit after every few images.
            let source = formats::open(&paths[0]).unwrap();
            let options = WriterOptions { transaction_bytes: 1 << 20, ..WriterOptions::default() };
            let result = convert(source, &paths[1], options, &OnError::Fail, &RUN, &mut |_| {});
            std::process::exit(i32::from(result.is_err()));
        }
        "convert-to-a-full-disk" => {
            // A file may not grow beyond 4 MiB: to a writer that looks like a full disk, and needs no disk to fill.
            let limit = libc::rlimit { rlim_cur: 4 << 20, rlim_max: 4 << 20 };
            // SAFETY: plain system calls with valid arguments; the process is this test's own and ends below.
            unsafe {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
            }
            let source = formats::open(&paths[0]).unwrap();
            let options = WriterOptions { transaction_bytes: 1 << 20, ..WriterOptions::default() };
            let result = convert(source, &paths[1], options, &OnError::Fail, &RUN, &mut |_| {});
            std::process::exit(i32::from(result.is_err()));
        }
        "append" => {
            let source = formats::open(&paths[0]).unwrap();
            let result = append(
                source,
                &paths[1],
                AppendOptions::default(),
                &OnError::Fail,
                &RUN,
                &mut |_| {},
            );
            std::process::exit(i32::from(result.is_err()));
        }
        "validate" => loop {
            let report = validate_store(&paths[0], &Options::default(), &RUN, &mut |_| {});
            assert!(report.unwrap().unwrap().is_good());
        },
        "read" => loop {
            let store = FeatureStore::open(&paths[0]).unwrap();
            for id in store.ids().map(|id| id.unwrap()).collect::<Vec<_>>() {
                // A record that does not fit its checksum ends the child with an error.
                store.get(&id).unwrap();
            }
        },
        other => panic!("{other}"),
    }
}

#[test]
fn killed_a_hundred_times_a_conversion_ends_with_the_same_digest() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("volta"), folder.path().join("store"));
    volta(&source, 0..1000, 2048);
    let whole = to_store(&source, &folder.path().join("whole"));
    let started = Instant::now();
    assert!(spawn("convert", &[&source, &target]).wait().unwrap().success());
    let usual = started.elapsed();
    std::fs::remove_dir_all(&target).unwrap();
    let mut done = false;
    for round in 0..100u32 {
        let mut process = spawn("convert", &[&source, &target]);
        // Anywhere between the start and a little after the usual end.
        std::thread::sleep(usual * (round * 37 % 100) / 90);
        process.kill().unwrap();
        process.wait().unwrap();
        if target.exists() {
            // Whatever is visible is whole.
            assert_eq!(FeatureStore::open(&target).unwrap().schema().digest, whole.digest);
            std::fs::remove_dir_all(&target).unwrap();
            done = true;
        }
    }
    let resumed = to_store(&source, &target);
    assert_eq!((resumed.digest, resumed.count), (whole.digest, 1000));
    assert!(done, "some round was long enough to finish");
}

#[test]
fn a_full_disk_stops_a_conversion_that_can_then_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("volta"), folder.path().join("store"));
    volta(&source, 0..500, 2048);
    let whole = to_store(&source, &folder.path().join("whole"));
    for _ in 0..2 {
        let status = spawn("convert-to-a-full-disk", &[&source, &target]).wait().unwrap();
        assert_eq!(status.code(), Some(1), "an error, not a crash");
        assert!(!target.exists());
    }
    let options = WriterOptions::default();
    let source = formats::open(&source).unwrap();
    let report = convert(source, &target, options, &OnError::Fail, &RUN, &mut |_| {}).unwrap();
    assert!(report.resumed > 0, "what fitted was kept");
    assert_eq!(report.schema.digest, whole.digest);
}

#[test]
fn readers_are_not_disturbed_by_appending_and_leave_nothing_behind_when_killed() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    write(&store, 0..200, 256);
    let opened_before = FeatureStore::open(&store).unwrap();
    let mut readers: Vec<Child> = (0..6).map(|_| spawn("read", &[&store])).collect();
    for round in 1..=5u32 {
        let more = folder.path().join(format!("more{round}"));
        volta(&more, round * 200..(round + 1) * 200, 256);
        assert!(spawn("append", &[&more, &store]).wait().unwrap().success());
        // One reader is killed in the middle of whatever it does.
        if let Some(mut reader) = readers.pop() {
            assert!(reader.try_wait().unwrap().is_none(), "a reader met an error");
            reader.kill().unwrap();
            reader.wait().unwrap();
        }
    }
    for mut reader in readers {
        assert!(reader.try_wait().unwrap().is_none(), "a reader met an error");
        reader.kill().unwrap();
        reader.wait().unwrap();
    }
    assert_eq!(opened_before.len(), 200);
    opened_before.get("img0000007").unwrap();
    drop(opened_before);
    let now = FeatureStore::open(&store).unwrap();
    assert_eq!(now.len(), 1200);
    let whole = folder.path().join("whole");
    assert_eq!(write(&whole, 0..1200, 256).digest, now.schema().digest);
    let names: Vec<_> =
        std::fs::read_dir(&store).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["data.mdb"], "no lock file, so no stale readers in one");
}

#[test]
fn a_store_that_is_exchanged_while_it_is_opened_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let [store, more] = ["store", "more"].map(|name| folder.path().join(name));
    write(&store, 0..40, 8);
    let mut reader = spawn("validate", &[&store]);
    // Stores of other sizes take turns, so that what one says of itself does not hold for the next.
    for round in 1..60u32 {
        volta(&more, [round * 1000], 8);
        let source = formats::open(&more).unwrap();
        append(source, &store, AppendOptions::default(), &OnError::Fail, &RUN, &mut |_| {})
            .unwrap();
        std::fs::remove_dir_all(&more).unwrap();
        assert!(compact(&store).is_ok());
        assert!(reader.try_wait().unwrap().is_none(), "the reader met an error");
    }
    reader.kill().unwrap();
    reader.wait().unwrap();
}

#[test]
fn an_append_that_was_killed_is_resumed_or_leaves_the_store_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (store, more) = (folder.path().join("store"), folder.path().join("more"));
    let before = write(&store, 0..500, 1024);
    volta(&more, 500..1500, 1024);
    for round in 0..20u64 {
        let mut process = spawn("append", &[&more, &store]);
        std::thread::sleep(Duration::from_millis(round * 3));
        process.kill().unwrap();
        process.wait().unwrap();
        let count = FeatureStore::open(&store).unwrap().len();
        assert!(count == before.count || count == 1500, "{count}");
        if count == 1500 {
            break;
        }
    }
    if FeatureStore::open(&store).unwrap().len() == before.count {
        let source = formats::open(&more).unwrap();
        append(source, &store, AppendOptions::default(), &OnError::Fail, &RUN, &mut |_| {})
            .unwrap();
    }
    let whole = write(&folder.path().join("whole"), 0..1500, 1024);
    assert_eq!(FeatureStore::open(&store).unwrap().schema().digest, whole.digest);
}

#[test]
fn a_million_tiny_records_are_written_found_and_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut writer = StoreWriter::create(&path, WriterOptions::default()).unwrap();
    let tiny = Regions {
        width: 10,
        height: 10,
        boxes: vec![[0.0, 0.0, 5.0, 5.0]],
        features: vec![0.5],
        dim: 1,
        ..Regions::default()
    };
    // In no order: multiplication by an odd number permutes the numbers below a power of two.
    let id = |n: u32| format!("{:05x}", n.wrapping_mul(0x9_E375) & 0xF_FFFF);
    (0..1 << 20).for_each(|n| writer.append(&id(n), &tiny).unwrap());
    assert_eq!(writer.finish().unwrap().count, 1 << 20);
    let started = Instant::now();
    let store = FeatureStore::open(&path).unwrap();
    assert_eq!(store.get(&id(777_777)).unwrap(), tiny);
    assert!(started.elapsed() < Duration::from_secs(5), "opening does not list a million ids");
    drop(store);
    let (before, after) = compact(&path).unwrap();
    assert!(after < before, "{before} {after}");
    assert_eq!(FeatureStore::open(&path).unwrap().ids().count(), 1 << 20);
}

#[test]
fn a_store_moved_and_copied_while_it_is_read_stays_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("store"), folder.path().join("moved"));
    let schema = write(&path, 0..300, 512);
    let store = FeatureStore::open(&path).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                (0..300).for_each(|n| drop(store.get(&format!("img{n:07}")).unwrap()));
            }
        });
        let copy = folder.path().join("copy");
        assert!(Command::new("cp").arg("-r").args([&path, &copy]).status().unwrap().success());
        std::fs::rename(&path, &moved).unwrap();
        assert_eq!(FeatureStore::open(&copy).unwrap().schema(), &schema);
        assert_eq!(FeatureStore::open(&moved).unwrap().schema(), &schema);
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn every_precision_and_compression_survives_resuming_merging_and_sharding() {
    let folder = tempfile::tempdir().unwrap();
    for precision in Precision::ALL {
        for compression in Compression::ALL {
            let name = format!("{}-{}", precision.name(), compression.name());
            let path = folder.path().join(&name);
            let options = WriterOptions { precision, compression, ..WriterOptions::default() };
            let mut writer = StoreWriter::create(&path, options.clone()).unwrap();
            (0..60).for_each(|n| writer.append(&format!("img{n:07}"), &image(n, 64)).unwrap());
            writer.commit().unwrap();
            drop(writer);
            let mut writer = StoreWriter::create(&path, options).unwrap();
            assert_eq!(writer.committed(), 60, "{name}");
            (60..90).for_each(|n| writer.append(&format!("img{n:07}"), &image(n, 64)).unwrap());
            let schema = writer.finish().unwrap();
            assert_eq!(schema.rounding.values, 90 * 128, "{name}");
            assert_eq!(schema.rounding.largest == 0.0, precision == Precision::F32, "{name}");

            let store = FeatureStore::open(&path).unwrap();
            let largest = f64::from(store.get("img0000089").unwrap().features[3]);
            let given = f64::from(image(89, 64).features[3]);
            assert!((largest - given).abs() <= schema.rounding.largest, "{name}");
            for by in [ShardBy::Hash, ShardBy::Range] {
                let target = folder.path().join(format!("{name}-{by:?}"));
                let divide = || shard(&store, &target, by, 4, false, &RUN, &mut |_| {});
                let shards = divide().unwrap();
                assert_eq!(shards.iter().map(|shard| shard.images).sum::<u64>(), 90, "{shards:?}");
                // A run that was interrupted goes on with the shards that are missing.
                std::fs::remove_dir_all(&shards[3].path).unwrap();
                assert_eq!(divide().unwrap(), shards);
                assert!(divide().is_err(), "all are there");
                let shards: Vec<PathBuf> = shards.into_iter().map(|shard| shard.path).collect();
                let merged = folder.path().join(format!("{name}-{by:?}-merged"));
                merge(&shards, &merged, Conflict::Fail, false, &RUN, &mut |_| {}).unwrap();
                let merged = FeatureStore::open(&merged).unwrap();
                assert_eq!(merged.schema().digest, schema.digest, "{name}");
                let (one, other) = (store.clone().into(), merged.into());
                let compared = diff(one, other, &diff::Options::default(), &RUN, &mut |_| {});
                assert!(compared.unwrap().unwrap().is_equal());
            }
        }
    }
}

#[test]
fn merging_follows_its_conflict_rule() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b, dump] = ["a", "b", "dump"].map(|name| folder.path().join(name));
    write(&a, 0..4, 8);
    let mut sink = VoltaSink::create(&dump, VoltaEncoding::Raw).unwrap();
    sink.append("img0000002", &image(2, 8)).unwrap();
    sink.append("img0000003", &image(33, 8)).unwrap();
    Box::new(sink).finish().unwrap();
    to_store(&dump, &b);
    // A dump among the inputs changes nothing.
    for (kind, second) in [("store", b), ("dump", dump.clone())] {
        let inputs = [a.clone(), second];
        let run = |rule| {
            let target = folder.path().join(format!("{kind} {rule:?}"));
            let report = merge(&inputs, &target, rule, false, &RUN, &mut |_| {});
            assert!(!folder.path().join(format!(".{kind} {rule:?}.partial")).exists());
            let report = report?;
            let kept = FeatureStore::open(&target)?.get("img0000003")?;
            assert_eq!(report.schema.count, 4);
            Ok::<_, ConvertError>((report.repeated, report.conflicts, kept))
        };
        assert!(run(Conflict::Fail).unwrap_err().to_string().contains("img0000003"));
        assert_eq!(run(Conflict::First).unwrap(), (1, 1, image(3, 8)), "{kind}");
        assert_eq!(run(Conflict::Last).unwrap(), (1, 1, image(33, 8)), "{kind}");
    }
    let wide = folder.path().join("wide");
    write(&wide, 0..1, 16);
    for mixed in [[a, wide.clone()], [wide, dump]] {
        let target = folder.path().join("mixed");
        let error = merge(&mixed, &target, Conflict::Fail, false, &RUN, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains(" values per region"), "{error}");
    }
}

#[test]
fn an_interrupted_merge_with_a_dump_goes_on_and_still_sees_conflicts() {
    let folder = tempfile::tempdir().unwrap();
    let [a, dump, target] = ["a", "dump", "target"].map(|name| folder.path().join(name));
    write(&a, 0..50, 8);
    volta(&dump, 40..90, 8);
    let inputs = [dump.clone(), a.clone()];
    let stopped = AtomicBool::new(false);
    let stop = |done: u64| stopped.store(done == 70, Ordering::Relaxed);
    let error = merge(&inputs, &target, Conflict::Fail, false, &stopped, &mut { stop });
    assert!(matches!(error, Err(ConvertError::Interrupted { images: 70 })), "{error:?}");
    let report = merge(&inputs, &target, Conflict::Fail, false, &RUN, &mut |_| {}).unwrap();
    assert_eq!((report.schema.count, report.repeated, report.conflicts), (90, 10, 0));
    assert_eq!(report.schema.digest, write(&folder.path().join("whole"), 0..90, 8).digest);

    let other = folder.path().join("other");
    let mut writer = StoreWriter::create(&other, WriterOptions::default()).unwrap();
    writer.append("img0000045", &image(1, 8)).unwrap();
    writer.finish().unwrap();
    let (inputs, target) = ([dump, other], folder.path().join("conflict"));
    stopped.store(false, Ordering::Relaxed);
    let stop = |done: u64| stopped.store(done == 50, Ordering::Relaxed);
    assert!(merge(&inputs, &target, Conflict::Fail, false, &stopped, &mut { stop }).is_err());
    let error = merge(&inputs, &target, Conflict::Fail, false, &RUN, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("img0000045"), "{error}");
}

#[test]
fn a_read_only_folder_is_told_and_nothing_is_left_in_it() {
    let folder = tempfile::tempdir().unwrap();
    // Root may write anywhere; a file in place of the folder stops it as well.
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let error =
        StoreWriter::create(&blocked.join("store"), WriterOptions::default()).err().unwrap();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(error.to_string().contains("file"), "{error}");
}
