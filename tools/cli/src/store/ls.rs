//! `xenc store ls`: image ids, one a line.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use feature_store::FeatureStore;

/// Ids come in byte order, so that those of one image set are neighbours.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Only ids that begin so
    #[arg(default_value = "")]
    prefix: String,
}

/// Prints the ids.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    const PAGE: usize = 4096;
    let store = FeatureStore::open(&args.store)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut start = args.prefix.clone();
    loop {
        let ids = store.ids_from(&start, PAGE)?;
        for id in &ids {
            if !id.starts_with(&args.prefix) {
                out.flush()?;
                return Ok(ExitCode::SUCCESS);
            }
            writeln!(out, "{id}")?;
        }
        match ids.last() {
            Some(last) if ids.len() == PAGE => start = format!("{last}\0"),
            _ => break,
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
