//! `cargo bench -p feature_store`: reading, writing and opening, each beside the memcpy of the same bytes.
//!
//! Images have 36 regions of 2048 values, as ImageCoDe's do; stores lie in the page cache after the first round.

use std::path::{Path, PathBuf};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use feature_store::{
    BatchSpec, Compression, FeatureStore, GlobalFeature, Precision, RegionBatch, Regions,
    StoreWriter, WriterOptions,
};

const REGIONS: usize = 36;
const DIM: usize = 2048;
const IMAGES: usize = 512;
const BATCH: usize = 64;

fn image(seed: usize, dim: usize) -> Regions {
    let mut state = seed as u32 * 2_654_435_761 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // Rectified: half of the values are zero or small.
        ((state % 8192) as f32 / 1024.0 - 4.0).max(0.0)
    };
    Regions {
        width: 640,
        height: 480,
        boxes: vec![[10.0, 20.0, 300.0, 400.0]; REGIONS],
        features: (0..REGIONS * dim).map(|_| next()).collect(),
        dim,
        ..Regions::default()
    }
}

fn write(path: &Path, images: usize, dim: usize, options: WriterOptions) {
    let mut writer = StoreWriter::create(path, options).expect("a store can be made");
    for n in 0..images {
        writer.append(&format!("img{n:08}"), &image(n % 64, dim)).expect("an image fits");
    }
    writer.finish().expect("a store can be finished");
}

fn store(folder: &Path, name: &str, options: WriterOptions) -> FeatureStore {
    let path: PathBuf = folder.join(name);
    write(&path, IMAGES, DIM, options);
    FeatureStore::open(&path).expect("a store can be opened")
}

/// Ids in an order that has nothing to do with theirs.
fn order() -> Vec<String> {
    (0..IMAGES).map(|n| format!("img{:08}", n * 197 % IMAGES)).collect()
}

fn reading(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut group = criterion.benchmark_group("read a batch of 64");
    group.throughput(Throughput::Bytes((BATCH * REGIONS * DIM * 4) as u64));
    let from = vec![1.0f32; 16 * BATCH * REGIONS * DIM];
    let mut to = vec![0.0f32; BATCH * REGIONS * DIM];
    let mut turn = 0;
    group.bench_function("memcpy", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % 16;
            let values = to.len();
            to.copy_from_slice(&from[turn * values..][..values]);
            std::hint::black_box(&to);
        });
    });
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let ids = order();
    for precision in Precision::ALL {
        for compression in Compression::ALL {
            let name = format!("{}, {}", precision.name(), compression.name());
            let options = WriterOptions { precision, compression, ..WriterOptions::default() };
            let store = store(folder.path(), &name, options);
            let spec = BatchSpec {
                max_regions: REGIONS,
                num_locs: 5,
                global_feature: GlobalFeature::None,
            };
            let (mut batch, mut turn) = (RegionBatch::default(), 0);
            group.bench_function(BenchmarkId::new("one thread", name), |bencher| {
                bencher.iter(|| {
                    turn = (turn + BATCH) % IMAGES;
                    let ids = &ids[turn..turn + BATCH];
                    pool.install(|| store.read_batch(ids, &spec, &mut batch)).expect("a batch");
                });
            });
        }
    }
    group.finish();
}

fn opening(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut group = criterion.benchmark_group("open and read one image");
    for images in [1_000, 1_000_000] {
        let path = folder.path().join(images.to_string());
        write(&path, images, 1, WriterOptions::default());
        let id = format!("img{:08}", images / 2);
        group.bench_function(BenchmarkId::from_parameter(images), |bencher| {
            bencher
                .iter(|| FeatureStore::open(&path).expect("a store").get(&id).expect("an image"));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).without_plots();
    targets = reading, opening
}
criterion_main!(benches);
