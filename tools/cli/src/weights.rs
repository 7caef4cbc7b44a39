//! `xenc weights`: what a file of weights holds, whether it fits a model, and the same in another format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use crossencoders::config::ModelConfig;
use crossencoders::tch::Kind;
use crossencoders::weights::{
    self, Convention, Conversion, LoadReport, MisShaped, SaveAs, TensorInfo, WeightsFile, convert,
    hub,
};
use serde_json::json;

use crate::console::shown;

#[derive(Subcommand)]
pub enum Command {
    /// Say what a file holds and, with --model, whether it fits: exit code 1 if tensors are missing or mis-shaped
    Inspect(InspectArgs),
    /// Write the same weights in another format, precision or naming convention: exit code 1 if tensors had to be left out
    Convert(ConvertArgs),
    /// Fetch a file of the Hugging Face hub into its cache, and print its path
    Download {
        /// hf://ORG/REPO/FILE or hf://ORG/REPO@REVISION/FILE
        address: String,
    },
}

#[derive(clap::Args)]
pub struct InspectArgs {
    /// A safetensors or PyTorch file, or an address (hf://ORG/REPO/FILE)
    file: PathBuf,
    /// A model configuration (configs/models/*.json): what would be loaded into it?
    #[arg(long, value_name = "CONFIG")]
    model: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct ConvertArgs {
    /// A safetensors or PyTorch file, or an address (hf://ORG/REPO/FILE)
    source: PathBuf,
    /// The file to write
    target: PathBuf,
    /// The model's configuration: needed to change naming conventions; with it, tied parameters are written once to
    /// safetensors, and under all of VOLTA's names to PyTorch files
    #[arg(long, value_name = "CONFIG")]
    model: Option<PathBuf>,
    /// The format; by default the target's extension tells (.safetensors, or .bin, .pt, .pth)
    #[arg(long, value_enum)]
    to: Option<To>,
    /// Round floating-point numbers to f16
    #[arg(long, conflicts_with = "bf16")]
    half: bool,
    /// Round floating-point numbers to bf16
    #[arg(long)]
    bf16: bool,
    /// Whose names to write; VOLTA's by default, which are this program's
    #[arg(long, value_enum)]
    names: Option<Names>,
    /// Replace the target if it exists
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    Safetensors,
    Pytorch,
}

#[derive(Clone, Copy, ValueEnum)]
enum Names {
    Volta,
    Bert,
    Uniter,
    Lxmert,
}

pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inspect(args) => inspect(&args),
        Command::Convert(args) => run_convert(&args),
        Command::Download { address } => {
            let path = hub::Address::parse(&address)?
                .map(|_| hub::locate(Path::new(&address)))
                .ok_or_else(|| hub::HubError::Address(address.clone()))??;
            outln!("{}", path.display());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let config = args.model.as_deref().map(ModelConfig::load).transpose()?;
    let file = WeightsFile::open(&crate::clip::weights_file(&hub::locate(&args.file)?))?;
    let summary = json!({
        "path": file.path,
        "format": file.format,
        "convention": file.convention,
        "key": file.key,
        "module_prefix": file.module_prefix,
        "parameters": file.parameters(),
        "tensors": file.listing(),
    });
    if !args.json {
        print_file(&file);
    }
    let against = config.map(|config| weights::compare(file, &config)).transpose()?;
    if args.json {
        let mut summary = summary;
        summary["model"] = serde_json::to_value(&against)?;
        outln!("{}", crate::console::json(&summary)?);
    } else if let Some(report) = &against {
        print_report(report);
    }
    let fits = |report: &LoadReport| report.missing.is_empty() && report.mis_shaped.is_empty();
    Ok(ExitCode::from(u8::from(!against.as_ref().is_none_or(fits))))
}

/// Lines of a kind that are printed; more are only counted.
const LISTED: usize = 20;

/// A name with `*` for the numbers of layers in it, which stand between dots.
fn pattern(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.split('.').map(|part| if is_number(part) { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// Equal lines once, with how many they are, in order.
fn grouped(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut counts = BTreeMap::new();
    lines.for_each(|line| *counts.entry(line).or_insert(0) += 1);
    let counted = |(line, count)| if count > 1 { format!("{line}  ({count} times)") } else { line };
    counts.into_iter().map(counted).collect()
}

fn print_file(file: &WeightsFile) {
    let line = |tensor: TensorInfo| {
        let TensorInfo { name, dtype, shape, finite, .. } = tensor;
        // One that is broken is to be found by its own name.
        let (name, remark) =
            if finite { (pattern(&name), "") } else { (name, "  NaN or infinite") };
        format!("{name:<70} {dtype:<5} {shape:?}{remark}")
    };
    grouped(file.listing().into_iter().map(line)).iter().for_each(|line| outln!("{line}"));
    outln!("format       {}", file.format.name());
    if let Some(key) = file.key {
        outln!("found under  {key}");
    }
    if file.module_prefix {
        outln!("prefix       module. (left out)");
    }
    outln!("names        {}", file.convention.name());
    outln!("tensors      {}", file.tensors.len());
    outln!("parameters   {}, tied ones counted once", file.parameters());
}

fn print_report(report: &LoadReport) {
    outln!("loaded       {} parameters of the model", report.loaded);
    let patterns = |names: &[String]| grouped(names.iter().map(|name| pattern(name)));
    let mis_shaped = report
        .mis_shaped
        .iter()
        .map(|found| MisShaped { name: pattern(&found.name), ..found.clone() }.to_string());
    for (what, count, lines) in [
        ("missing", report.missing.len(), patterns(&report.missing)),
        ("mis-shaped", report.mis_shaped.len(), grouped(mis_shaped)),
        ("unexpected", report.unexpected.len(), patterns(&report.unexpected)),
        ("tied", report.tied.len(), Vec::new()),
    ] {
        outln!("{what:<12} {count}");
        lines.iter().take(LISTED).for_each(|line| outln!("  {line}"));
        if lines.len() > LISTED {
            outln!("  and {} more kinds (--json lists all)", lines.len() - LISTED);
        }
    }
    report.notes.iter().for_each(|note| outln!("note         {note}"));
}

fn run_convert(args: &ConvertArgs) -> anyhow::Result<ExitCode> {
    let config = args.model.as_deref().map(ModelConfig::load).transpose()?;
    let conversion = Conversion {
        format: format(args)?,
        kind: match (args.half, args.bf16) {
            (true, _) => Some(Kind::Half),
            (_, true) => Some(Kind::BFloat16),
            _ => None,
        },
        names: args.names.map(|names| match names {
            Names::Volta => Convention::Volta,
            Names::Bert => Convention::Bert,
            Names::Uniter => Convention::Uniter,
            Names::Lxmert => Convention::Lxmert,
        }),
        force: args.force,
    };
    let source = hub::locate(&args.source)?;
    let report = convert(&source, &args.target, config.as_ref(), &conversion)?;
    if args.json {
        outln!("{}", crate::console::json(&report)?);
    } else {
        let (from, to) = (report.from.name(), report.to.name());
        outln!("{}: {} tensors, {from} names to {to}", shown(&args.target), report.written);
        report.left_out.iter().for_each(|name| outln!("  left out: {name}"));
    }
    if !report.left_out.is_empty() {
        let (count, to) = (report.left_out.len(), report.to.name());
        errln!("{count} tensors are left out: {to} has no names for them");
    }
    Ok(ExitCode::from(u8::from(!report.left_out.is_empty())))
}

fn format(args: &ConvertArgs) -> anyhow::Result<SaveAs> {
    let extension = args.target.extension().and_then(|extension| extension.to_str());
    match (args.to, extension) {
        (Some(To::Safetensors), _) | (None, Some("safetensors")) => Some(SaveAs::Safetensors),
        (Some(To::Pytorch), _) | (None, Some("bin" | "pt" | "pth")) => Some(SaveAs::Pytorch),
        _ => None,
    }
    .with_context(|| {
        format!("what is {} to be? give --to safetensors or --to pytorch", shown(&args.target))
    })
}
