//! `xenc store bench`: how fast a store is read here and now, beside how fast this machine copies memory.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use feature_store::{BatchSpec, FeatureStore, GlobalFeature, RegionBatch};
use serde::Serialize;

use crate::console::shown;

/// Measure how fast a store is read, beside memcpy
///
/// Reads batches for a while and copies memory for as long, turn by turn, so that both meet the same machine.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Read images in random order instead of that of their ids
    #[arg(long)]
    random: bool,
    /// Threads that read
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Images in a batch
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Seconds to measure
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// Drop the store's pages from the page cache before (Linux: POSIX_FADV_DONTNEED) and read each image once
    #[arg(long)]
    cold: bool,
    /// Ask for the next batch's pages while this one is read
    #[arg(long)]
    prefetch: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.01 up to 3600 is expected".into()),
    }
}

#[derive(Serialize)]
struct Measured {
    images: u64,
    seconds: f64,
    images_per_second: f64,
    /// Of features as they are delivered, in f32.
    bytes_per_second: f64,
    memcpy_bytes_per_second: f64,
    /// `None` if cold: what is measured then is the disk.
    share_of_memcpy: Option<f64>,
    open_seconds: f64,
}

/// Measures.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    drop(super::open_store(&args.store)?);
    if args.cold {
        drop_from_cache(&args.store)?;
    }
    let started = Instant::now();
    let store = FeatureStore::open(&args.store)?;
    let open_seconds = started.elapsed().as_secs_f64();
    if store.is_empty() {
        bail!("{} holds no images", shown(&args.store));
    }
    let mut ids: Vec<String> = store.ids().collect::<Result<_, _>>()?;
    if args.random {
        shuffle(&mut ids);
    }
    // Not what the schema says: nothing ensures that any image has so many.
    let most = store.most_regions(&ids)?;
    if args.cold {
        // Listing the ids has read the index; the records are what is measured.
        drop_from_cache(&args.store)?;
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads.into()).build()?;
    let measured = pool.install(|| measure(&args, &store, &ids, most, open_seconds))?;
    if args.json {
        outln!("{}", crate::console::json(&measured)?);
    } else {
        outln!("images       {} in {:.2} s", measured.images, measured.seconds);
        outln!("rate         {:.0} images/s", measured.images_per_second);
        outln!("features     {:.2} GB/s as f32", measured.bytes_per_second / 1e9);
        outln!("memcpy       {:.2} GB/s in the same run", measured.memcpy_bytes_per_second / 1e9);
        if let Some(share) = measured.share_of_memcpy {
            outln!("share        {share:.2} of memcpy");
        }
        outln!("open         {:.6} s", measured.open_seconds);
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(
    args: &Args,
    store: &FeatureStore,
    ids: &[String],
    most: usize,
    open_seconds: f64,
) -> anyhow::Result<Measured> {
    let schema = store.schema();
    let spec = BatchSpec { max_regions: most, num_locs: 5, global_feature: GlobalFeature::None };
    let mut batch = RegionBatch::default();
    let batches: Vec<&[String]> = ids.chunks(args.batch as usize).collect();
    if !args.cold {
        // The page cache and the batch's own memory are warm from here on.
        for ids in &batches {
            store.read_batch(ids, &spec, &mut batch)?;
        }
    }
    let values = (args.batch as usize).min(ids.len()) * spec.max_regions * schema.dim as usize;
    let mut copy = Copy::new(values, args.threads.into());
    let (mut images, mut reading) = (0, Duration::ZERO);
    let limit = if args.cold { f64::INFINITY } else { args.seconds };
    'measure: loop {
        for (index, ids) in batches.iter().enumerate() {
            let started = Instant::now();
            if args.prefetch
                && let Some(next) = batches.get(index + 1)
            {
                store.prefetch(next)?;
            }
            store.read_batch(ids, &spec, &mut batch)?;
            reading += started.elapsed();
            images += ids.len() as u64;
            copy.once();
            if crate::interrupt::flag().load(std::sync::atomic::Ordering::Relaxed)
                || reading.as_secs_f64() >= limit
            {
                break 'measure;
            }
        }
        if args.cold {
            break;
        }
    }
    let seconds = reading.as_secs_f64();
    let bytes = images as f64 * most as f64 * f64::from(schema.dim) * 4.0;
    let memcpy = copy.bytes_per_second();
    Ok(Measured {
        images,
        seconds,
        images_per_second: images as f64 / seconds,
        bytes_per_second: bytes / seconds,
        memcpy_bytes_per_second: memcpy,
        share_of_memcpy: (!args.cold).then_some(bytes / seconds / memcpy),
        open_seconds,
    })
}

/// Copies as many bytes as a batch has, from memory that is as far away as the store's: many times the cache's size.
struct Copy {
    from: Vec<f32>,
    to: Vec<f32>,
    values: usize,
    threads: usize,
    offset: usize,
    bytes: f64,
    spent: Duration,
}

impl Copy {
    fn new(values: usize, threads: usize) -> Copy {
        let many = values.max((256 << 20) / 4);
        let (from, to) = (vec![1.0; many], vec![0.0; values]);
        Copy { from, to, values, threads, offset: 0, bytes: 0.0, spent: Duration::ZERO }
    }

    fn once(&mut self) {
        use rayon::prelude::*;
        if self.offset + self.values > self.from.len() {
            self.offset = 0;
        }
        let from = &self.from[self.offset..self.offset + self.values];
        self.offset += self.values;
        let share = self.values.div_ceil(self.threads).max(1);
        let started = Instant::now();
        let parts = self.to.par_chunks_mut(share).zip(from.par_chunks(share));
        parts.for_each(|(to, from)| to.copy_from_slice(from));
        self.spent += started.elapsed();
        self.bytes += self.values as f64 * 4.0;
        std::hint::black_box(&self.to);
    }

    fn bytes_per_second(&self) -> f64 {
        self.bytes / self.spent.as_secs_f64()
    }
}

/// A fixed random order (Fisher and Yates with xorshift): the same on every run.
fn shuffle(ids: &mut [String]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for i in (1..ids.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ids.swap(i, (state % (i as u64 + 1)) as usize);
    }
}

/// Asks the system to forget the file's pages; only clean ones go, and finished stores have no others.
fn drop_from_cache(store: &std::path::Path) -> anyhow::Result<()> {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::open(store.join("data.mdb"))?;
    // SAFETY: the descriptor is open for the whole call, and advice changes no memory.
    let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if result != 0 {
        bail!("the system keeps the file's pages: {}", std::io::Error::from_raw_os_error(result));
    }
    Ok(())
}
