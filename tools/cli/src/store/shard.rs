//! `xenc store shard`: one store into several.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use feature_store::convert::ConvertError;
use feature_store::shard::{ShardBy, shard};

use super::open_store;
use super::outcome::interrupted;
use crate::interrupt;
use crate::progress::Progress;

/// Divide a store
///
/// Writes stores TARGET-00000-of-0000N and so on, and their names to stdout; `xenc store merge` makes one of them again.
/// Each appears when it is complete; an interrupted run goes on when the same command is given again. Exit codes: 0 done,
/// 2 could not run.
#[derive(clap::Args)]
pub struct Args {
    /// The store to divide
    store: PathBuf,
    /// What the shards' names begin with: `parts/x` writes parts/x-00000-of-00003 and so on. What ends in a slash is a
    /// folder, made if need be, for shards named after the store: `parts/` writes parts/STORE-00000-of-00003 and so on
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
    /// Print the shards and their numbers of images as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ByArg {
    /// By a hash of the id
    Hash,
    /// By the order of ids: an image set stays together but for those at the borders
    Range,
}

/// Divides; the names of the shards go to stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
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
    let shards = match sharded {
        Err(error @ ConvertError::Interrupted { .. }) => return Ok(interrupted(&error)),
        other => other?,
    };
    if args.json {
        outln!("{}", crate::console::json(&shards)?);
    } else {
        shards.iter().for_each(|shard| outln!("{}", shard.path.display()));
    }
    let empty = shards.iter().filter(|shard| shard.images == 0).count();
    if empty > 0 {
        errln!(
            "{empty} of them hold no image: a hash divides few images unevenly, --by range does not"
        );
    }
    Ok(ExitCode::SUCCESS)
}
