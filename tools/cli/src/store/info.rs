//! `xenc store info`: what a store, or a dump in another format, holds.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use feature_store::formats::{FeatureSource, Input};
use feature_store::text::visible;
use feature_store::{FeatureStore, Precision, Regions, Schema};
use serde_json::{Value, json};

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
    /// Print as a card in Markdown, to be kept beside the store or put on a hub with it
    #[arg(long, conflicts_with = "json")]
    card: bool,
}

/// What is said, with a label each.
type Lines = Vec<(&'static str, String)>;

/// Prints the schema and the size on disk.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (lines, value) = match Input::open(&args.store)? {
        Input::Store(store) => of_store(&store)?,
        Input::Dump(source) => of_dump(source)?,
    };
    match () {
        _ if args.json => outln!("{}", crate::console::json(&value)?),
        _ if args.card => outln!("{}", card(&args.store, &lines)),
        _ => lines.iter().for_each(|(label, value)| outln!("{label:<12} {}", visible(value))),
    }
    Ok(ExitCode::SUCCESS)
}

fn of_store(store: &FeatureStore) -> anyhow::Result<(Lines, Value)> {
    let schema = store.schema();
    let bytes = std::fs::metadata(store.path().join("data.mdb"))?.len();
    // A damaged first record is for `validate` to tell; the rest is still worth saying.
    let first = store.ids_from("", 1)?.first().and_then(|id| store.get(id).ok());
    let relative = first.as_ref().map(Regions::is_relative);
    let mut lines = vec![
        ("images", schema.count.to_string()),
        ("regions", format!("{} per image", region_count(schema))),
        ("features", format!("{} values, {}", schema.dim, schema.precision.name())),
    ];
    lines.extend(relative.map(|relative| ("boxes", Regions::convention(relative).to_owned())));
    let rounding = &schema.rounding;
    if !rounding.is_known() {
        lines.push(("rounding", "not known any more".to_owned()));
    } else if schema.precision != Precision::F32 || rounding.largest > 0.0 {
        let (largest, mean) = (rounding.largest, rounding.mean());
        let said = format!("{largest:.3e} at most, {mean:.3e} on average, of what was given");
        lines.push(("rounding", said));
    }
    let made_of = &schema.provenance;
    lines.extend([
        ("compression", schema.compression.name().to_owned()),
        ("size", format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))),
        ("digest", format!("{:016x}", schema.digest)),
        ("source", format!("{} ({})", made_of.source, made_of.source_format)),
        ("written by", format!("xenc {}", made_of.tool_version)),
    ]);
    let rounding = json!({ "largest": rounding.largest, "mean": rounding.mean() });
    let value = json!({
        "schema": schema, "bytes": bytes, "relative_boxes": relative, "rounding": rounding,
    });
    Ok((lines, value))
}

/// Nothing in a dump describes the whole: its first image has to stand for the others.
fn of_dump(source: Box<dyn FeatureSource>) -> anyhow::Result<(Lines, Value)> {
    let info = source.info().clone();
    let first = source.records()?.next();
    let first = first.transpose()?.map(|record| record.decode()).transpose()?;
    let images = match info.count {
        Some(images) => images.to_string(),
        None => "not known before all are read (`xenc store validate`)".to_owned(),
    };
    let format = format!("{}, not a store (`xenc store convert` makes one of it)", info.format);
    let mut lines = vec![("format", format), ("images", images)];
    if let Some((id, regions)) = &first {
        let there = count(regions.len() as u64, "region");
        let size = match regions.is_relative() {
            true => String::new(),
            false => format!(" in {}x{} pixels", regions.width, regions.height),
        };
        let id = visible(id);
        lines.push(("first image", format!("{id}: {there} of {} values{size}", regions.dim)));
        lines.push(("boxes", Regions::convention(regions.is_relative()).to_owned()));
    }
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
    Ok((lines, json!({ "format": info.format, "images": info.count, "first": first })))
}

/// The same in Markdown, with the head that data set hubs read.
fn card(path: &Path, lines: &Lines) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let name = visible(&name);
    let rows: Vec<String> = lines
        .iter()
        .map(|(label, value)| format!("| {label} | {} |\n", visible(value).replace('|', "\\|")))
        .collect();
    format!(
        "---\npretty_name: {}\ntags: [region-features, vision-and-language]\n---\n\n# {name}\n\n\
         Regions of images with their features, for vision-and-language models.\n\n| | |\n| --- | --- |\n{}\n\
         `xenc store validate {name}` checks every record, `xenc store convert {name} volta.lmdb --to volta` writes \
         what VOLTA's Python readers read.\n\n## Licence\n\n\
         That of the images and of the detector; xenc does not know it: write it here.",
        serde_json::Value::from(&*name),
        rows.concat()
    )
}

/// "36", or "10-100".
pub fn region_count(schema: &Schema) -> String {
    if schema.min_regions == schema.max_regions {
        schema.max_regions.to_string()
    } else {
        format!("{}-{}", schema.min_regions, schema.max_regions)
    }
}
