//! `xenc store get`: the regions of one image.

use std::path::PathBuf;
use std::process::ExitCode;

use feature_store::{FeatureStore, Labels};
use serde_json::{Value, json};

/// Printed as JSON; boxes are x1, y1, x2, y2 in pixels.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// The image id
    id: String,
    /// Include the features
    #[arg(long)]
    features: bool,
}

/// Prints one image's regions.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let regions = FeatureStore::open(&args.store)?.get(&args.id)?;
    let mut value = json!({
        "id": args.id,
        "width": regions.width,
        "height": regions.height,
        "regions": regions.len(),
        "dim": regions.dim,
        "boxes": regions.boxes,
        "objects": labels(regions.objects.as_ref()),
        "attributes": labels(regions.attributes.as_ref()),
    });
    if args.features {
        let rows: Vec<&[f32]> = regions.features.chunks(regions.dim.max(1)).collect();
        value["features"] = json!(rows);
    }
    println!("{}", serde_json::to_string_pretty(&value)?);
    Ok(ExitCode::SUCCESS)
}

fn labels(labels: Option<&Labels>) -> Value {
    labels.map_or(
        Value::Null,
        |labels| json!({ "ids": labels.ids, "confidences": labels.confidences }),
    )
}
