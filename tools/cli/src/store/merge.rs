//! `xenc store merge` and `xenc store shard`: several stores into one, one into several.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use feature_store::FeatureStore;
use feature_store::convert::ConvertError;
use feature_store::merge::{Conflict, ShardBy, merge, shard};

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

#[derive(Clone, Copy, ValueEnum)]
enum ConflictArg {
    /// Stop and name it
    Fail,
    /// Keep that of the store named first
    First,
    /// Keep that of the store named last
    Last,
}

/// Merges.
pub fn run_merge(args: MergeArgs) -> anyhow::Result<ExitCode> {
    let conflict = match args.on_conflict {
        ConflictArg::Fail => Conflict::Fail,
        ConflictArg::First => Conflict::First,
        ConflictArg::Last => Conflict::Last,
    };
    let progress = Progress::start("merge", "images", None);
    let merged =
        merge(&args.stores, &args.target, conflict, args.force, interrupt::flag(), &mut |done| {
            progress.set(done, "")
        });
    progress.finish();
    let report = match merged {
        Err(error @ ConvertError::Interrupted { .. }) => return Ok(interrupted(&error)),
        other => other?,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "{}: {} images, {} repeated, {} conflicts",
            args.target.display(),
            report.schema.count,
            report.repeated,
            report.conflicts
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
    let store = FeatureStore::open(&args.store)?;
    let by = match args.by {
        ByArg::Hash => ShardBy::Hash,
        ByArg::Range => ShardBy::Range,
    };
    let progress = Progress::start("shard", "images", Some(store.len()));
    let sharded = shard(&store, &args.target, by, args.shards, interrupt::flag(), &mut |done| {
        progress.set(done, "")
    });
    progress.finish();
    match sharded {
        Err(error @ ConvertError::Interrupted { .. }) => Ok(interrupted(&error)),
        Err(error) => Err(error.into()),
        Ok(paths) => {
            paths.iter().for_each(|path| println!("{}", path.display()));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn interrupted(error: &ConvertError) -> ExitCode {
    eprintln!("{error}");
    interrupt::exit_code()
}
