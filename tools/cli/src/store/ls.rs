//! `xenc store ls`: image ids, one a line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use feature_store::formats::{FeatureSource, Input};
use feature_store::{FeatureStore, StoreError};

use crate::console::Lines;
use crate::interrupt;

/// Ids of a store come in byte order, so that those of one image set are neighbours; those of a dump in its own order.
#[derive(clap::Args)]
pub struct Args {
    /// The store, or a dump in any format
    store: PathBuf,
    /// Only ids that begin so
    #[arg(default_value = "")]
    prefix: String,
}

/// Prints the ids.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match Input::open(&args.store)? {
        Input::Store(store) => {
            of_store(&store, &args.prefix)?;
            Ok(ExitCode::SUCCESS)
        }
        Input::Dump(source) => of_dump(source, &args.prefix),
    }
}

fn of_store(store: &FeatureStore, prefix: &str) -> Result<(), StoreError> {
    const PAGE: usize = 4096;
    let mut out = Lines::start();
    let mut start = Some(prefix.to_owned());
    while let Some(from) = start.take() {
        let ids = store.ids_from(&from, PAGE)?;
        ids.iter().take_while(|id| id.starts_with(prefix)).for_each(|id| out.line(id));
        // The smallest id after the last one of a full page.
        let last = ids.last().filter(|last| ids.len() == PAGE && last.starts_with(prefix));
        start = last.map(|last| format!("{last}\0"));
    }
    out.finish();
    Ok(())
}

/// The exit code is 1 if there are records whose ids cannot be read.
fn of_dump(source: Box<dyn FeatureSource>, prefix: &str) -> anyhow::Result<ExitCode> {
    let mut out = Lines::start();
    let mut unreadable = false;
    for record in source.records()? {
        if interrupt::flag().load(Ordering::Relaxed) {
            out.finish();
            return Ok(interrupt::exit_code());
        }
        match record {
            Ok(record) if record.id().starts_with(prefix) => out.line(record.id()),
            Ok(_) => {}
            Err(error) => {
                errln!("unreadable: {error}");
                unreadable = true;
            }
        }
    }
    out.finish();
    Ok(ExitCode::from(u8::from(unreadable)))
}
