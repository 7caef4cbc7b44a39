//! `xenc store ls`: image ids, one a line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use feature_store::formats::{FeatureSource, Input};
use feature_store::text::visible;
use feature_store::{FeatureStore, StoreError};

use crate::console::Lines;
use crate::interrupt;

/// List image ids
///
/// Ids of a store come in byte order, so that those of one image set are neighbours; those of a dump in its own order.
/// Control characters in an id are spelled out, so that each stays on its line; --json has it as it is. Exit codes: 0 done, 1 there are records whose ids cannot be read, 2 could not run.
#[derive(clap::Args)]
pub struct Args {
    /// The store, or a dump in any format
    store: PathBuf,
    /// Only ids that begin so
    #[arg(default_value = "")]
    prefix: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the ids.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut listing = Listing::start(args.json);
    let code = match Input::open(&args.store)? {
        Input::Store(store) => of_store(&store, &args.prefix, &mut listing)?,
        Input::Dump(source) => of_dump(source, &args.prefix, &mut listing)?,
    };
    listing.finish()?;
    Ok(code)
}

/// Ids are printed as they come; JSON is one array, printed at the end.
enum Listing {
    Lines(Lines),
    Json(Vec<String>),
}

impl Listing {
    fn start(as_json: bool) -> Listing {
        if as_json { Listing::Json(Vec::new()) } else { Listing::Lines(Lines::start()) }
    }

    fn add(&mut self, id: &str) {
        match self {
            Listing::Lines(lines) => lines.line(visible(id)),
            Listing::Json(ids) => ids.push(id.to_owned()),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Listing::Lines(lines) => lines.finish(),
            Listing::Json(ids) => outln!("{}", crate::console::json(&ids)?),
        }
        Ok(())
    }
}

fn of_store(
    store: &FeatureStore,
    prefix: &str,
    listing: &mut Listing,
) -> Result<ExitCode, StoreError> {
    const PAGE: usize = 4096;
    let mut start = Some(prefix.to_owned());
    while let Some(from) = start.take() {
        let ids = store.ids_from(&from, PAGE)?;
        ids.iter().take_while(|id| id.starts_with(prefix)).for_each(|id| listing.add(id));
        // The smallest id after the last one of a full page.
        let last = ids.last().filter(|last| ids.len() == PAGE && last.starts_with(prefix));
        start = last.map(|last| format!("{last}\0"));
    }
    Ok(ExitCode::SUCCESS)
}

fn of_dump(
    source: Box<dyn FeatureSource>,
    prefix: &str,
    listing: &mut Listing,
) -> anyhow::Result<ExitCode> {
    let mut unreadable = false;
    for record in source.records()? {
        if interrupt::flag().load(Ordering::Relaxed) {
            return Ok(interrupt::exit_code());
        }
        match record {
            Ok(record) if record.id().starts_with(prefix) => listing.add(record.id()),
            Ok(_) => {}
            Err(error) => {
                errln!("unreadable: {}", visible(&error.to_string()));
                unreadable = true;
            }
        }
    }
    Ok(ExitCode::from(u8::from(unreadable)))
}
