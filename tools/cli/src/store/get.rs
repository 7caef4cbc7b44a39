//! `xenc store get`: the regions of one image.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use feature_store::formats::Input;
use feature_store::text::visible;
use feature_store::{Labels, Regions};
use serde_json::{Value, json};

use crate::console::shown;

/// Show the regions of one image
///
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
    outln!("{}", crate::console::json(&value)?);
    Ok(ExitCode::SUCCESS)
}

fn find(args: &Args) -> anyhow::Result<Regions> {
    let source = match Input::open(&args.store)? {
        Input::Store(store) => return Ok(store.get(&args.id)?),
        Input::Dump(source) => source,
    };
    // A record that cannot be read is not the one that was asked for, as long as that comes after it.
    let mut unreadable = None;
    for record in source.records()? {
        match record {
            Ok(record) if record.id() == args.id => return Ok(record.decode()?.1),
            Ok(_) => {}
            Err(error) => unreadable = Some(error),
        }
    }
    let none = format!("{} holds no image `{}`", shown(&args.store), visible(&args.id));
    match unreadable {
        None => bail!(none),
        Some(error) => {
            Err(anyhow!(error)
                .context(format!("{none} in what can be read of it; the rest cannot")))
        }
    }
}

fn labels(labels: Option<&Labels>) -> Value {
    labels.map_or(
        Value::Null,
        |labels| json!({ "ids": labels.ids, "confidences": labels.confidences }),
    )
}
