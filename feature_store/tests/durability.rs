//! What must hold when processes are killed, disks fill up, and several read and write at once.
//!
//! The test binary runs itself as the process that is killed: `XENC_CHILD` tells it what to do.

#[path = "common/stores.rs"]
mod stores;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use feature_store::append::AppendOptions;
use feature_store::append::compact;
use feature_store::convert::{OnError, append, convert};
use feature_store::formats;
use feature_store::validate::{Options, validate_store};
use feature_store::{FeatureStore, Regions, StoreError, StoreWriter, WriterOptions};

use stores::{RUN, to_store, volta, write};

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
