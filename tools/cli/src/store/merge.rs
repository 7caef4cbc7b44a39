//! `xenc store merge` and `xenc store shard`: several stores into one, one into several.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use feature_store::FeatureStore;
use feature_store::convert::ConvertError;
use feature_store::merge::{ShardBy, merge, shard};

use super::choices::ConflictArg;
use super::{count, open_store};

use crate::interrupt;
use crate::progress::Progress;

/// Records are copied as they are; all stores need the same dim, precision and compression.
#[derive(clap::Args)]
pub struct MergeArgs {
    /// The store to write
    target: PathBuf,
    /// The stores to merge
    #[arg(required = true)]
    stores: Vec<PathBuf>,
    /// What to do with an image that several stores hold with different contents
    #[arg(long, value_enum, default_value_t = ConflictArg::Fail)]
    on_conflict: ConflictArg,
    /// Replace the target if it exists, once the new store is complete
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Merges.
pub fn run_merge(args: MergeArgs) -> anyhow::Result<ExitCode> {
    let conflict = args.on_conflict.into();
    // All stay open until the merge has them: a store is opened once, however often it is asked for.
    let stores: Vec<FeatureStore> =
        args.stores.iter().map(|path| open_store(path)).collect::<anyhow::Result<_>>()?;
    let progress = Progress::start("merge", "images", None);
    let merged =
        merge(&args.stores, &args.target, conflict, args.force, interrupt::flag(), &mut |done| {
            progress.set(done, "")
        });
    progress.finish();
    drop(stores);
    let report = match merged {
        Err(error @ ConvertError::Interrupted { .. }) => return Ok(interrupted(&error)),
        other => other?,
    };
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        outln!(
            "{}: {}, {} repeated, {}",
            args.target.display(),
            count(report.schema.count, "image"),
            report.repeated,
            count(report.conflicts, "conflict")
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes TARGET-00000-of-0000N and so on; `xenc store merge` makes one of them again.
#[derive(clap::Args)]
pub struct ShardArgs {
    /// The store to divide
    store: PathBuf,
    /// What the shards' names begin with
    target: PathBuf,
    /// Number of shards
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u32).range(1..=99_999))]
    shards: u32,
    /// How images are assigned
    #[arg(long, value_enum, default_value_t = ByArg::Hash)]
    by: ByArg,
    /// Replace shards that exist, each once the new one is complete
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ByArg {
    /// By a hash of the id
    Hash,
    /// By the order of ids: an image set stays together but for those at the borders
    Range,
}

/// Divides; the names of the shards go to stdout.
pub fn run_shard(args: ShardArgs) -> anyhow::Result<ExitCode> {
    let store = open_store(&args.store)?;
    let by = match args.by {
        ByArg::Hash => ShardBy::Hash,
        ByArg::Range => ShardBy::Range,
    };
    let progress = Progress::start("shard", "images", Some(store.len()));
    let (cancelled, force) = (interrupt::flag(), args.force);
    let mut tell = |done| progress.set(done, "");
    let sharded = shard(&store, &args.target, by, args.shards, force, cancelled, &mut tell);
    progress.finish();
    match sharded {
        Err(error @ ConvertError::Interrupted { .. }) => Ok(interrupted(&error)),
        Err(error) => Err(error.into()),
        Ok(paths) => {
            paths.iter().for_each(|path| outln!("{}", path.display()));
            let is_empty = |path: &&PathBuf| FeatureStore::open(path).is_ok_and(|s| s.is_empty());
            let empty = paths.iter().filter(is_empty).count();
            if empty > 0 {
                errln!(
                    "{empty} of them hold no image: a hash divides few images unevenly, --by range does not"
                );
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn interrupted(error: &ConvertError) -> ExitCode {
    errln!("{error}");
    interrupt::exit_code()
}
