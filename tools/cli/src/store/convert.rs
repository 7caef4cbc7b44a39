//! `xenc store convert`: from any format into a store, or into a foreign format.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::ValueEnum;
use feature_store::convert::{ConvertError, OnError, convert};
use feature_store::export::{ForeignFormat, export};
use feature_store::formats::FeatureSource;
use feature_store::formats::tsv::{TsvCompression, TsvOrder};
use feature_store::formats::uniter::UniterEncoding;
use feature_store::formats::volta::VoltaEncoding;
use feature_store::target::outside_of;
use feature_store::{RoundingError, WriterOptions, formats};

use super::choices::{CompressionArg, ConflictArg, OnErrorArgs, PrecisionArg};
use super::count;
use super::outcome::{
    explain, interrupted, report_json, say_settled, say_skipped, skipped_remark, verdict,
};
use super::selection::{Asked, SelectionArgs};
use super::target::{check_promise, named_format};
use crate::console::shown;
use crate::interrupt;
use crate::progress::Progress;

/// Convert a feature dump into a store, or into another format
///
/// The source's format is found from its content. An interrupted conversion into a store goes on where it stopped when
/// the same command is given again; one into a foreign format starts anew. Exit codes: 0 done, 1 done with findings,
/// skipped records, or ids that are not there, 2 could not run.
#[derive(clap::Args)]
pub struct Args {
    /// The dump: an LMDB directory (VOLTA's, UNITER's, a store), a TSV or HDF5 file, a folder of .npy or .npz files
    source: PathBuf,
    /// What to write: a directory or file that does not exist yet
    target: PathBuf,
    /// The format to write; without it the target's name tells (.tsv, .tsv.gz, .tsv.zst, .h5, .hdf5), otherwise a store
    #[arg(long, value_enum)]
    to: Option<Format>,
    /// How features are stored; stores take all, UNITER's formats f32 and f16, the others f32
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32)]
    precision: PrecisionArg,
    /// How records of a store are compressed, where that saves a sixteenth or more
    #[arg(long, value_enum, default_value_t = CompressionArg::None)]
    compression: CompressionArg,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    on_error: OnErrorArgs,
    /// What to do with an image that comes twice in the source, with different contents; first and last are for stores
    /// (make one first, then write it in another format)
    #[arg(long, value_enum, default_value_t = ConflictArg::Fail)]
    on_conflict: ConflictArg,
    /// Replace the target if it is a store or of the format that is written, once the new one is complete, and drop what
    /// an interrupted run with other options has left
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    /// xenc's own store
    Store,
    /// VOLTA's LMDB, arrays in base64
    Volta,
    /// VOLTA's LMDB, arrays as NumPy pickles
    VoltaRaw,
    /// VOLTA's HDF5, a group per image
    Hdf5,
    /// HDF5 with one dataset per field
    Hdf5Indexed,
    /// TSV with LXMERT's ten columns
    Tsv,
    /// TSV with bottom-up-attention's six columns
    TsvBottomup,
    /// As tsv-bottomup, in gzip
    TsvBottomupGz,
    /// As tsv-bottomup, in Zstandard
    TsvBottomupZst,
    /// As tsv, in gzip
    TsvGz,
    /// As tsv, in Zstandard
    TsvZst,
    /// UNITER's image LMDB of msgpack, with its list of counts
    Uniter,
    /// UNITER's image LMDB of deflated npz
    UniterCompressed,
    /// A folder of UNITER's npz files
    Npz,
    /// A folder of .npy and _info.npy files
    Npy,
}

/// Converts, with progress on stderr and the report on stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let format = match args.to {
        Some(format) => format,
        None => named_by(&args.target)?,
    };
    check_promise(&args.target, &spelling(format))?;
    let foreign = foreign(format, args.precision)?;
    if foreign.is_some() && args.compression != CompressionArg::None {
        bail!("--compression is for stores; tsv-gz and tsv-zst are formats of their own")
    }
    if foreign.is_some() && !matches!(args.on_conflict, ConflictArg::Fail) {
        bail!("--on-conflict is for stores; make one first, then write it as another format")
    }
    let source = formats::open(&args.source).context("cannot read the source")?;
    // The dump itself may lie further down in the folder that was named.
    outside_of(&args.target, &args.source)?;
    let (source, asked) = args.selection.apply(source)?;
    let on_error = args.on_error.resolve(&args.target);
    let outcome = match foreign {
        None => to_store(&args, source, &asked, &on_error),
        Some(format) => to_foreign(&args, source, &asked, format, &on_error),
    };
    match outcome {
        Err(error) => match error.downcast_ref::<ConvertError>() {
            Some(stopped @ (ConvertError::Interrupted { .. } | ConvertError::Abandoned)) => {
                Ok(interrupted(stopped))
            }
            _ => Err(error.context(format!("cannot convert {}", shown(&args.source)))),
        },
        done => done,
    }
}

/// The format that a target's name stands for.
fn named_by(target: &Path) -> anyhow::Result<Format> {
    let Some(name) = named_format(target)? else { return Ok(Format::Store) };
    errln!("writing {name}, as the target's name says (--to writes something else)");
    Format::from_str(name, false).map_err(anyhow::Error::msg)
}

fn foreign(format: Format, precision: PrecisionArg) -> anyhow::Result<Option<ForeignFormat>> {
    let half = precision == PrecisionArg::F16;
    let tsv = |order, compression| Some(ForeignFormat::Tsv(order, compression));
    let (foreign, halves) = match format {
        Format::Store => return Ok(None),
        Format::Volta => (Some(ForeignFormat::Volta(VoltaEncoding::Base64)), false),
        Format::VoltaRaw => (Some(ForeignFormat::Volta(VoltaEncoding::Raw)), false),
        Format::Hdf5 => (Some(ForeignFormat::Hdf5), false),
        Format::Hdf5Indexed => (Some(ForeignFormat::IndexedHdf5), false),
        Format::Tsv => (tsv(TsvOrder::Lxmert, TsvCompression::Plain), false),
        Format::TsvBottomup => (tsv(TsvOrder::BottomUp, TsvCompression::Plain), false),
        Format::TsvBottomupGz => (tsv(TsvOrder::BottomUp, TsvCompression::Gzip), false),
        Format::TsvBottomupZst => (tsv(TsvOrder::BottomUp, TsvCompression::Zstd), false),
        Format::TsvGz => (tsv(TsvOrder::Lxmert, TsvCompression::Gzip), false),
        Format::TsvZst => (tsv(TsvOrder::Lxmert, TsvCompression::Zstd), false),
        Format::Uniter => {
            (Some(ForeignFormat::Uniter { encoding: UniterEncoding::Msgpack, half }), true)
        }
        Format::UniterCompressed => {
            (Some(ForeignFormat::Uniter { encoding: UniterEncoding::Npz, half }), true)
        }
        Format::Npz => (Some(ForeignFormat::Npz { half }), true),
        Format::Npy => (Some(ForeignFormat::Npy), false),
    };
    if precision != PrecisionArg::F32 && !(halves && half) {
        let holds = if halves { "f32 or f16" } else { "f32 only" };
        bail!("{} holds {holds}; stores hold every precision", spelling(format));
    }
    Ok(foreign)
}

/// A format's name on the command line.
fn spelling(format: Format) -> String {
    format.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn to_store(
    args: &Args,
    source: Box<dyn FeatureSource>,
    asked: &Asked,
    on_error: &OnError,
) -> anyhow::Result<ExitCode> {
    let options = WriterOptions {
        precision: args.precision.into(),
        compression: args.compression.into(),
        overwrite: args.force,
        restart: args.force,
        conflict: args.on_conflict.into(),
        ..WriterOptions::default()
    };
    let (started, total) = (Instant::now(), source.info().count);
    let progress = Progress::start("convert", "images", total);
    let converted =
        convert(source, &args.target, options, on_error, interrupt::flag(), &mut |at| {
            progress.set(at.images, &skipped_remark(at.skipped));
        });
    progress.finish();
    let report = converted.map_err(|error| explain(error, asked))?;
    say_skipped(&report.skipped, on_error, args.json);
    if args.json {
        outln!("{}", report_json(&report, asked)?);
    } else {
        let schema = &report.schema;
        outln!(
            "{}: {} of {} x {}, {} skipped, {} taken over{}, {:.1} s",
            shown(&args.target),
            count(schema.count, "image"),
            super::info::region_count(schema),
            schema.dim,
            report.skipped.len(),
            report.resumed,
            again(report.repeated, report.conflicts),
            started.elapsed().as_secs_f64(),
        );
    }
    say_settled(report.conflicts, &report.settled, Some(asked), args.json);
    Ok(verdict(&report.skipped, &report.findings, &args.target, asked))
}

/// Says that what was written is not what was first given, if the source had been rounded, or was when it was read.
fn say_rounding(rounding: &RoundingError) {
    match rounding.is_known() {
        true if rounding.largest > 0.0 => errln!(
            "features are not to the last bit what was first given: they were rounded, by {:.1e} at most, when the source \
             was made or read",
            rounding.largest
        ),
        true => {}
        false => errln!("the source holds rounded features; nobody knows by how much"),
    }
}

/// What came more than once, if anything did.
fn again(repeated: u64, conflicts: u64) -> String {
    let mut said = String::new();
    if repeated > 0 {
        said += &format!(", {repeated} repeated");
    }
    if conflicts > 0 {
        said += &format!(", {} settled by --on-conflict", count(conflicts, "conflict"));
    }
    said
}

fn to_foreign(
    args: &Args,
    source: Box<dyn FeatureSource>,
    asked: &Asked,
    format: ForeignFormat,
    on_error: &OnError,
) -> anyhow::Result<ExitCode> {
    let (started, total) = (Instant::now(), source.info().count);
    let progress = Progress::start("convert", "images", total);
    let target: &Path = &args.target;
    let exported =
        export(source, target, format, args.force, on_error, interrupt::flag(), &mut |at| {
            progress.set(at.images, &skipped_remark(at.skipped));
        });
    progress.finish();
    let report = exported.map_err(|error| explain(error, asked))?;
    say_skipped(&report.skipped, on_error, args.json);
    say_rounding(&report.source_rounding);
    if !report.left_out.is_empty() {
        let part = |(name, &images)| format!("{name} ({})", count(images, "image"));
        let parts: Vec<String> = report.left_out.iter().map(part).collect();
        errln!("the format has no place for: {}", parts.join(", "));
    }
    if args.json {
        outln!("{}", report_json(&report, asked)?);
    } else {
        outln!(
            "{}: {}, {} repeated, {} skipped, {:.1} s",
            shown(target),
            count(report.images, "image"),
            report.repeated,
            report.skipped.len(),
            started.elapsed().as_secs_f64(),
        );
    }
    Ok(verdict(&report.skipped, &report.findings, &args.target, asked))
}
