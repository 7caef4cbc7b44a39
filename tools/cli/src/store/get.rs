//! `xenc store get`: the regions of one image.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use feature_store::formats::Input;
use feature_store::{Labels, Regions};
use serde_json::{Value, json};

/// Printed as JSON; boxes are x1, y1, x2, y2 in pixels.
#[derive(clap::Args)]
pub struct Args {
    /// The store, or a dump in any format, which is searched from its beginning
    store: PathBuf,
    /// The image id
    id: String,
    /// Include the features
    #[arg(long)]
    features: bool,
}

/// Prints one image's regions.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let regions = find(&args)?;
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
    outln!("{}", serde_json::to_string_pretty(&value)?);
    Ok(ExitCode::SUCCESS)
}

fn find(args: &Args) -> anyhow::Result<Regions> {
    let source = match Input::open(&args.store)? {
        Input::Store(store) => return Ok(store.get(&args.id)?),
        Input::Dump(source) => source,
    };
    // Records that cannot be read are not the one that was asked for.
    match source.records()?.flatten().find(|record| record.id() == args.id) {
        Some(record) => Ok(record.decode()?.1),
        None => bail!("{} holds no image `{}`", args.store.display(), args.id),
    }
}

fn labels(labels: Option<&Labels>) -> Value {
    labels.map_or(
        Value::Null,
        |labels| json!({ "ids": labels.ids, "confidences": labels.confidences }),
    )
}
