//! A conversion that is interrupted ends as one that is not: with the same digest, findings and refusals.

#[path = "common/image.rs"]
mod image;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use feature_store::convert::{ConvertError, ConvertReport, OnError, convert};
use feature_store::formats::tsv::{TsvCompression, TsvOrder, TsvSink};
use feature_store::formats::{self, FeatureSink as _};
use feature_store::{Conflict, Regions, StoreError, WriterOptions};

use image::image;

fn regions(seed: u32) -> Regions {
    image(seed, 64)
}

/// A dump of images with these ids and contents, in this order.
fn tsv(folder: &Path, images: impl IntoIterator<Item = (String, Regions)>) -> PathBuf {
    let path = folder.join("dump.tsv");
    let mut sink = TsvSink::create(&path, TsvOrder::BottomUp, TsvCompression::Plain).unwrap();
    images.into_iter().for_each(|(id, regions)| sink.append(&id, &regions).unwrap());
    Box::new(sink).finish().unwrap();
    path
}

/// Converts until so many images are taken.
fn run(
    source: &Path,
    target: &Path,
    conflict: Conflict,
    stop_at: u64,
) -> Result<ConvertReport, ConvertError> {
    let cancelled = AtomicBool::new(false);
    let options = WriterOptions { conflict, ..WriterOptions::default() };
    let source = formats::open(source).unwrap();
    convert(source, target, options, &OnError::Fail, &cancelled, &mut |progress| {
        cancelled.store(progress.images == stop_at, Ordering::Relaxed);
    })
}

fn to_the_end(
    source: &Path,
    target: &Path,
    conflict: Conflict,
) -> Result<ConvertReport, ConvertError> {
    run(source, target, conflict, u64::MAX)
}

#[test]
fn an_interrupted_conversion_resumes_to_the_same_digest() {
    let folder = tempfile::tempdir().unwrap();
    let source = tsv(folder.path(), (0..100).map(|i| (format!("img{i}"), regions(i))));
    let whole = to_the_end(&source, &folder.path().join("whole"), Conflict::Fail).unwrap();

    let target = folder.path().join("resumed");
    let stopped = run(&source, &target, Conflict::Fail, 40);
    assert!(matches!(stopped, Err(ConvertError::Interrupted { images: 40 })));
    assert!(!target.exists());
    let resumed = to_the_end(&source, &target, Conflict::Fail).unwrap();
    assert_eq!((resumed.schema.digest, resumed.schema.count), (whole.schema.digest, 100));
    assert_eq!((resumed.resumed, resumed.repeated), (40, 0));
}

#[test]
fn a_resumed_conversion_tells_the_findings_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let images = (0..100).map(|image| {
        let mut regions = regions(image);
        if image % 10 == 0 {
            regions.features[5] = f32::NAN;
        }
        (format!("img{image:02}"), regions)
    });
    let source = tsv(folder.path(), images);
    let target = folder.path().join("store");
    let stopped = run(&source, &target, Conflict::Fail, 40);
    assert!(matches!(stopped, Err(ConvertError::Interrupted { images: 40 })));
    let report = to_the_end(&source, &target, Conflict::Fail).unwrap();
    assert_eq!((report.resumed, report.schema.count, report.findings.images), (40, 100, 10));
    assert_eq!(report.findings.first.unwrap().id, "img00");
}

/// Images of which one comes again with other contents and one with the same.
fn with_repeats(folder: &Path) -> PathBuf {
    let images = (0..100).map(|i| (format!("img{i}"), regions(i)));
    let again = [("img7".to_owned(), regions(7)), ("img3".to_owned(), regions(99))];
    tsv(folder, images.chain(again))
}

#[test]
fn a_conflict_with_an_image_that_an_interrupted_run_has_committed_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (with_repeats(folder.path()), folder.path().join("store"));
    let stopped = run(&source, &target, Conflict::Fail, 40);
    assert!(matches!(stopped, Err(ConvertError::Interrupted { images: 40 })));
    match to_the_end(&source, &target, Conflict::Fail) {
        Err(ConvertError::Store(StoreError::Duplicate { id, .. })) => assert_eq!(id, "img3"),
        other => panic!("{other:?}"),
    }
    // Nothing can go on from it.
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn repeats_and_conflicts_are_counted_with_and_without_an_interruption() {
    for conflict in [Conflict::First, Conflict::Last] {
        let folder = tempfile::tempdir().unwrap();
        let source = with_repeats(folder.path());
        let whole = to_the_end(&source, &folder.path().join("whole"), conflict).unwrap();
        assert_eq!((whole.repeated, whole.conflicts), (1, 1));
        let target = folder.path().join("resumed");
        assert!(run(&source, &target, conflict, 40).is_err());
        let resumed = to_the_end(&source, &target, conflict).unwrap();
        assert_eq!((resumed.repeated, resumed.conflicts), (1, 1), "{conflict:?}");
        assert_eq!(resumed.schema.digest, whole.schema.digest);
    }
}
