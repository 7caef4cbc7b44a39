//! Hostile and damaged input in every format: an error or a result, never a panic, a crash, or memory beyond reason.
//!
//! The same entry points as the fuzz targets in `fuzz/`, with a fixed number of mutations of sound files, and the files
//! in `attacks/`. An allocator that counts refuses what no input of these sizes can need.

#[path = "common/allocations.rs"]
mod allocations;
#[path = "common/mutation.rs"]
mod mutation;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use feature_store::convert::{OnError, convert};
use feature_store::export::{ForeignFormat, export};
use feature_store::formats::tsv::{TsvCompression, TsvOrder};
use feature_store::formats::uniter::UniterEncoding;
use feature_store::formats::volta::VoltaEncoding;
use feature_store::formats::{self, uniter_text};
use feature_store::validate::{Options, validate_source};
use feature_store::{Regions, StoreWriter, WriterOptions, pages};

use allocations::largest_while;
use mutation::{Random, mutate};

/// No input here needs more in one piece: files of some kilobytes, caches and buffers of a few megabytes.
const REASONABLE: usize = 150 << 20;

static RUN: AtomicBool = AtomicBool::new(false);

fn image(seed: usize) -> Regions {
    Regions {
        width: 100,
        height: 80,
        boxes: vec![[1.0, 2.0, 50.0, 60.0], [0.0, 0.0, 100.0, 80.0]],
        features: (0..32).map(|i| (i * (seed + 1)) as f32).collect(),
        dim: 16,
        objects: Some(feature_store::Labels { ids: vec![1, 2], confidences: vec![0.5, 0.25] }),
        attributes: Some(feature_store::Labels { ids: vec![3, 4], confidences: vec![0.5, 0.25] }),
        ..Regions::default()
    }
}

/// Sound dumps of three images in every format that can be written.
fn dumps(folder: &Path) -> Vec<PathBuf> {
    let store = folder.join("store");
    let mut writer = StoreWriter::create(&store, WriterOptions::default()).unwrap();
    (0..3).for_each(|n| writer.append(&format!("img{n}"), &image(n)).unwrap());
    writer.finish().unwrap();
    let tsv = |compression| ForeignFormat::Tsv(TsvOrder::Lxmert, compression);
    let mut paths = vec![store.clone()];
    for (name, format) in [
        ("volta", ForeignFormat::Volta(VoltaEncoding::Base64)),
        ("volta_raw", ForeignFormat::Volta(VoltaEncoding::Raw)),
        ("uniter", ForeignFormat::Uniter { encoding: UniterEncoding::Msgpack, half: true }),
        ("uniter_npz", ForeignFormat::Uniter { encoding: UniterEncoding::Npz, half: false }),
        ("npz", ForeignFormat::Npz { half: false }),
        ("tsv", tsv(TsvCompression::Plain)),
        ("tsv_gzip", tsv(TsvCompression::Gzip)),
        ("tsv_zstd", tsv(TsvCompression::Zstd)),
        ("hdf5", ForeignFormat::Hdf5),
        ("npy", ForeignFormat::Npy),
    ] {
        let path = folder.join(name);
        let source = formats::open(&store).unwrap();
        export(source, &path, format, false, &OnError::Fail, &RUN, &mut |_| {}).unwrap();
        paths.push(path);
    }
    paths
}

/// All files of a dump.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(path).unwrap().flat_map(|entry| files(&entry.unwrap().path())).collect();
    found.sort();
    found
}

/// Reads all that can be read; how many records were good.
fn read_everything(path: &Path) -> usize {
    let Ok(source) = formats::open(path) else { return 0 };
    let Ok(records) = source.records() else { return 0 };
    // A damaged index may name more rows than there are: some are enough.
    records.take(50).filter_map(|record| record.ok()?.decode().ok()).count()
}

#[test]
fn mutated_dumps_of_every_format_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for dump in dumps(folder.path()) {
        assert_eq!(read_everything(&dump), 3, "{}", dump.display());
        for file in files(&dump) {
            let sound = std::fs::read(&file).unwrap();
            // Half of what is changed in an LMDB file is its tree, which its own test changes byte by byte.
            let rounds = if file.ends_with("data.mdb") { 150 } else { 400 };
            let mutants = || {
                for _ in 0..rounds {
                    let mutant = mutate(&sound, &mut random);
                    // A new file each time: a mapped one must not change under its readers.
                    std::fs::remove_file(&file).unwrap();
                    std::fs::write(&file, mutant).unwrap();
                    read_everything(&dump);
                }
            };
            let ((), largest) = largest_while(mutants);
            assert!(largest < REASONABLE, "{}: {largest} bytes at once", file.display());
            std::fs::remove_file(&file).unwrap();
            std::fs::write(&file, sound).unwrap();
        }
        assert_eq!(read_everything(&dump), 3, "{}", dump.display());
    }
}

#[test]
fn mutated_text_data_bases_are_refused_or_read() {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/fixtures/features/uniter/txt_db");
    let sound = std::fs::read(fixture.join("data.mdb")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    for round in 0..300 {
        let path = folder.path().join(round.to_string());
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("data.mdb"), mutate(&sound, &mut random)).unwrap();
        if let Ok(records) = uniter_text::records(&path) {
            assert!(records.take(50).count() <= 50);
        }
    }
}

/// Where the hostile files are; a README says what each tries.
fn attacks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../attacks")
}

/// What must be named in the refusal of those that are more than damage.
const REASONS: [(&str, &str); 6] = [
    ("pickle_runs_a_command", "posix.system"),
    ("pickle_in_the_list_of_keys_too", "builtins.eval"),
    ("npy_that_runs_a_command", "posix.system"),
    ("hdf5_that_contains_itself.h5", "not a dataset"),
    ("hdf5_with_a_link_outside.h5", "link"),
    ("hdf5_with_data_outside.h5", "external files"),
];

#[test]
fn every_attack_is_refused_by_name() {
    let readme = std::fs::read_to_string(attacks().join("README.md")).unwrap();
    let mut tried = 0;
    let mut entries: Vec<PathBuf> = std::fs::read_dir(attacks().join("features"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(readme.contains(&format!("`{name}`")), "{name} is explained");
        let (refusal, largest) = largest_while(|| refusal_of(&path));
        let refusal = refusal.unwrap_or_else(|| panic!("{name} was taken for sound"));
        assert!(largest < REASONABLE, "{name}: {largest} bytes at once");
        let reason = REASONS.iter().find(|(attack, _)| *attack == name).map_or("", |(_, why)| why);
        assert!(!refusal.is_empty() && refusal.contains(reason), "{name}: {refusal}");
        tried += 1;
    }
    assert!(tried >= 15, "{tried}");
    assert!(!Path::new("PWNED").exists());
}

/// What is said of a file, by whatever step refuses it.
fn refusal_of(path: &Path) -> Option<String> {
    if path.join("data.mdb").exists()
        && let Err(error) = pages::check(path)
    {
        return Some(error.to_string());
    }
    let source = match formats::open(path) {
        Ok(source) => source,
        Err(error) => return Some(error.to_string()),
    };
    match validate_source(source, &Options::default(), &RUN, &mut |_| {}) {
        Err(error) => Some(error.to_string()),
        Ok(Some(report)) if report.images == 0 => Some("it holds no images".into()),
        Ok(Some(report)) => report.findings.into_iter().next().map(|finding| finding.what),
        Ok(None) => None,
    }
}

#[test]
fn ids_that_lead_out_of_a_folder_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let mut writer = StoreWriter::create(&store, WriterOptions::default()).unwrap();
    writer.append("../../outside", &image(1)).unwrap();
    writer.finish().unwrap();
    for format in [ForeignFormat::Npy, ForeignFormat::Npz { half: false }, ForeignFormat::Hdf5] {
        let source = formats::open(&store).unwrap();
        let target = folder.path().join("target");
        let error = export(source, &target, format, false, &OnError::Fail, &RUN, &mut |_| {});
        let error = error.unwrap_err().to_string();
        assert!(error.contains("../../outside") && error.contains("--rename"), "{error}");
        assert!(!target.exists());
    }
}

#[test]
fn images_that_a_format_cannot_hold_are_left_out_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let [store, target] = ["store", "target"].map(|name| folder.path().join(name));
    let (long, longer) = ("x".repeat(250), "y".repeat(509));
    let ids = ["../../outside", "a_info", "keys", "plain", "tab\t", "zero\0", &long, &longer];
    let mut writer = StoreWriter::create(&store, WriterOptions::default()).unwrap();
    ids.iter().for_each(|id| writer.append(id, &image(1)).unwrap());
    writer.finish().unwrap();
    let volta = ForeignFormat::Volta(VoltaEncoding::Raw);
    let uniter = ForeignFormat::Uniter { encoding: UniterEncoding::Msgpack, half: false };
    let tsv = ForeignFormat::Tsv(TsvOrder::BottomUp, TsvCompression::Plain);
    let left_out: [(ForeignFormat, &[&str]); 7] = [
        (ForeignFormat::Npy, &["../../outside", "a_info", &long, &longer, "zero\0"]),
        (ForeignFormat::Npz { half: false }, &["../../outside", &longer, "zero\0"]),
        (ForeignFormat::Hdf5, &["../../outside", "zero\0"]),
        (ForeignFormat::IndexedHdf5, &["zero\0"]),
        (volta, &["keys"]),
        (uniter, &[&longer]),
        (tsv, &["tab\t", "zero\0"]),
    ];
    for (format, left_out) in left_out {
        let source = formats::open(&store).unwrap();
        let report = export(source, &target, format, true, &OnError::Skip, &RUN, &mut |_| {});
        let report = report.unwrap();
        let skipped: Vec<&str> = report.skipped.iter().map(|it| &*it.key).collect();
        assert_eq!(skipped, left_out, "{format:?}");
        assert!(report.skipped[0].reason.contains("it cannot be written"), "{format:?}");
        // Nothing of them is in the output, not even in its lists.
        let source = formats::open(&target).unwrap();
        let found = validate_source(source, &Options::default(), &RUN, &mut |_| {});
        let found = found.unwrap().unwrap();
        assert!(found.is_good(), "{format:?}: {:?} {:?}", found.findings, found.store_findings);
        assert_eq!(found.images as usize, ids.len() - left_out.len(), "{format:?}");
        let _ = std::fs::remove_dir_all(&target).or_else(|_| std::fs::remove_file(&target));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn pipes_and_devices_in_place_of_files_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let npy = dumps(folder.path()).into_iter().find(|path| path.ends_with("npy")).unwrap();
    let pipe = |path: &Path| {
        let _ = std::fs::remove_file(path);
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    pipe(&npy.join("img0.npy"));
    pipe(&npy.join("img1_info.npy"));
    let report =
        validate_source(formats::open(&npy).unwrap(), &Options::default(), &RUN, &mut |_| {});
    let report = report.unwrap().unwrap();
    // The second array has lost what says what it is of.
    assert_eq!((report.images, report.bad_images), (3, 2));
    assert!(report.findings[0].what.contains("no regular file"), "{:?}", report.findings);
    pipe(&folder.path().join("pipe"));
    for path in [folder.path().join("pipe"), "/dev/zero".into()] {
        let error = formats::open(&path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("no regular file"), "{error}");
    }
}

#[test]
fn what_was_quarantined_is_there_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump.tsv");
    let sound = dumps(folder.path()).into_iter().find(|path| path.ends_with("tsv")).unwrap();
    let text = std::fs::read_to_string(sound).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(&dump, format!("{}\r\n{}\r\n{}\r\n", lines[0], &lines[1][..60], lines[2]))
        .unwrap();
    let quarantine = folder.path().join("bad");
    let (source, target) = (formats::open(&dump).unwrap(), folder.path().join("out"));
    let rule = OnError::Quarantine(quarantine.clone());
    let report =
        convert(source, &target, WriterOptions::default(), &rule, &RUN, &mut |_| {}).unwrap();
    assert_eq!((report.schema.count, report.skipped.len()), (2, 1));
    let listed = std::fs::read_to_string(quarantine.join("report.jsonl")).unwrap();
    let listed: serde_json::Value = serde_json::from_str(listed.trim()).unwrap();
    assert!(listed["reason"].as_str().unwrap().contains("line 2"), "{listed}");
    let kept = std::fs::read(quarantine.join(listed["file"].as_str().unwrap())).unwrap();
    assert_eq!(kept, &lines[1].as_bytes()[..60]);
}
