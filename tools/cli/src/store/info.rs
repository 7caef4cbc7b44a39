//! `xenc store info`: what a store, or a dump in another format, holds.

use std::path::PathBuf;
use std::process::ExitCode;

use feature_store::formats::{FeatureSource, Input};
use feature_store::{FeatureStore, Precision, Regions, Schema};
use serde_json::json;

use super::count;

/// Say what a store holds
///
/// What a store says about itself, and what its first image looks like; the other records are not read.
#[derive(clap::Args)]
pub struct Args {
    /// The store, or a dump in any format
    store: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the schema and the size on disk.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match Input::open(&args.store)? {
        Input::Store(store) => of_store(&store, args.json)?,
        Input::Dump(source) => of_dump(source, args.json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn of_store(store: &FeatureStore, as_json: bool) -> anyhow::Result<()> {
    let schema = store.schema();
    let bytes = std::fs::metadata(store.path().join("data.mdb"))?.len();
    // A damaged first record is for `validate` to tell; the rest is still worth saying.
    let first = store.ids_from("", 1)?.first().and_then(|id| store.get(id).ok());
    let relative = first.as_ref().map(Regions::is_relative);
    if as_json {
        let value = json!({ "schema": schema, "bytes": bytes, "relative_boxes": relative });
        outln!("{}", crate::console::json(&value)?);
        return Ok(());
    }
    outln!("images       {}", schema.count);
    outln!("regions      {} per image", region_count(schema));
    outln!("features     {} values, {}", schema.dim, schema.precision.name());
    if let Some(first) = &first {
        outln!("boxes        {}", Regions::convention(first.is_relative()));
    }
    let rounding = &schema.rounding;
    if !rounding.is_known() {
        outln!("rounding     not known any more");
    } else if schema.precision != Precision::F32 || rounding.largest > 0.0 {
        outln!(
            "rounding     {:.3e} at most, {:.3e} on average, of what was given",
            rounding.largest,
            rounding.mean()
        );
    }
    outln!("compression  {}", schema.compression.name());
    outln!("size         {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    outln!("digest       {:016x}", schema.digest);
    outln!("source       {} ({})", schema.provenance.source, schema.provenance.source_format);
    outln!("written by   xenc {}", schema.provenance.tool_version);
    Ok(())
}

/// Nothing in a dump describes the whole: its first image has to stand for the others.
fn of_dump(source: Box<dyn FeatureSource>, as_json: bool) -> anyhow::Result<()> {
    let info = source.info().clone();
    let first = source.records()?.next();
    let first = first.transpose()?.map(|record| record.decode()).transpose()?;
    if as_json {
        let first = first.map(|(id, regions)| {
            json!({
                "id": id,
                "regions": regions.len(),
                "dim": regions.dim,
                "width": regions.width,
                "height": regions.height,
                "relative_boxes": regions.is_relative(),
            })
        });
        let value = json!({ "format": info.format, "images": info.count, "first": first });
        outln!("{}", crate::console::json(&value)?);
        return Ok(());
    }
    outln!("format       {}, not a store (`xenc store convert` makes one of it)", info.format);
    match info.count {
        Some(images) => outln!("images       {images}"),
        None => outln!("images       not known before all are read (`xenc store validate`)"),
    }
    if let Some((id, regions)) = first {
        let regions_there = count(regions.len() as u64, "region");
        outln!("first image  {id}: {regions_there} of {} values", regions.dim);
        outln!("boxes        {}", Regions::convention(regions.is_relative()));
    }
    Ok(())
}

/// "36", or "10-100".
pub fn region_count(schema: &Schema) -> String {
    if schema.min_regions == schema.max_regions {
        schema.max_regions.to_string()
    } else {
        format!("{}-{}", schema.min_regions, schema.max_regions)
    }
}
