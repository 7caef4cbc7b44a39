//! `xenc store captions`: the descriptions in UNITER's text data base.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use feature_store::formats::uniter_text;

use crate::console::Lines;

/// List the descriptions in UNITER's text data base
///
/// One JSON object a line: id, image, word pieces and whatever else the data base holds.
#[derive(clap::Args)]
pub struct Args {
    /// UNITER's text LMDB directory
    directory: PathBuf,
}

/// Prints the records.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut out = Lines::start();
    let records = uniter_text::records(&args.directory)
        .context("captions are listed of UNITER's text LMDB only")?;
    for record in records {
        out.line(serde_json::to_string(&record?.fields)?);
    }
    out.finish();
    Ok(ExitCode::SUCCESS)
}
