//! `xenc store info`: what a store holds.

use std::path::PathBuf;
use std::process::ExitCode;

use feature_store::{FeatureStore, Precision, Schema};
use serde_json::json;

/// What a store says about itself, without reading its records.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the schema and the size on disk.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let store = FeatureStore::open(&args.store)?;
    let schema = store.schema();
    let bytes = std::fs::metadata(args.store.join("data.mdb"))?.len();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!({ "schema": schema, "bytes": bytes }))?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("images       {}", schema.count);
    println!("regions      {} per image", region_count(schema));
    println!("features     {} values, {}", schema.dim, schema.precision.name());
    if schema.precision != Precision::F32 {
        let rounding = &schema.rounding;
        println!(
            "rounding     {:.3e} at most, {:.3e} on average, of what was given",
            rounding.largest,
            rounding.mean()
        );
    }
    println!("compression  {}", schema.compression.name());
    println!("size         {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    println!("digest       {:016x}", schema.digest);
    println!("source       {} ({})", schema.provenance.source, schema.provenance.source_format);
    println!("written by   xenc {}", schema.provenance.tool_version);
    Ok(ExitCode::SUCCESS)
}

/// "36", or "10-100".
pub fn region_count(schema: &Schema) -> String {
    if schema.min_regions == schema.max_regions {
        schema.max_regions.to_string()
    } else {
        format!("{}-{}", schema.min_regions, schema.max_regions)
    }
}
