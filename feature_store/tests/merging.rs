//! Stores made one of others, and others of one.

#[path = "common/stores.rs"]
mod stores;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use feature_store::convert::ConvertError;
use feature_store::diff::{self, diff};
use feature_store::formats::FeatureSink as _;
use feature_store::formats::volta::{VoltaEncoding, VoltaSink};
use feature_store::merge::merge;
use feature_store::shard::{ShardBy, shard};
use feature_store::{Compression, Conflict, FeatureStore, Precision, StoreWriter, WriterOptions};

use stores::{RUN, image, to_store, volta, write};

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
        let said = run(Conflict::Fail).unwrap_err().to_string();
        let place = inputs[1].display().to_string();
        assert!(said.contains("img0000003") && said.contains(&place), "{said}");
        assert!(said.contains("features differ by up to"), "{said}");
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
