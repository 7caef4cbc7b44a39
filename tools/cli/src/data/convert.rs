//! `xenc data convert`: ImageCoDe's files, ImageCoDe-simple, VOLTA's questions and JSON Lines, each into the others.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use dataset::{
    Converted, DatasetFiles, Format, Key, KnownSets, PictureTree, Request, convert, load_split,
};

use crate::store::target::check_pipe;
use crate::store::{count, open_store};

/// What a data set becomes.
#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    /// ImageCoDe's own: sets of ten images
    Imagecode,
    /// ImageCoDe-simple: pairs of images of a set
    Simple,
    /// VOLTA's questions and answers, for its loader: NAME.json, NAME_target.pkl and two tables
    Volta,
    /// One description with its candidates a line
    Jsonl,
}

impl From<FormatArg> for Format {
    fn from(argument: FormatArg) -> Format {
        match argument {
            FormatArg::Imagecode => Format::ImageCode,
            FormatArg::Simple => Format::Simple,
            FormatArg::Volta => Format::Volta,
            FormatArg::Jsonl => Format::JsonLines,
        }
    }
}

/// What may be lost.
#[derive(Clone, Copy, ValueEnum)]
enum KeyArg {
    /// The name of an example
    Id,
    /// That it is of a video, or is not
    Video,
    /// The name of its set
    Set,
}

impl From<KeyArg> for Key {
    fn from(argument: KeyArg) -> Key {
        match argument {
            KeyArg::Id => Key::Id,
            KeyArg::Video => Key::Video,
            KeyArg::Set => Key::Set,
        }
    }
}

/// Convert a file of descriptions between ImageCoDe, ImageCoDe-simple, VOLTA and JSON Lines
///
/// The source's format is told from its content (JSON Lines from its ending, .jsonl). Nothing is lost without a word:
/// what the target's format cannot say is refused with the reason (docs/datasets.md has the table). ImageCoDe's files
/// do not say which frames of a video a set has, so pictures or a store have to tell. The target appears when it is
/// complete.
#[derive(clap::Args)]
pub struct Args {
    /// The file of descriptions
    source: PathBuf,
    /// The file to write; VOLTA's pickles are written beside it
    target: PathBuf,
    /// What it becomes
    #[arg(long, value_name = "FORMAT")]
    to: FormatArg,
    /// The folder of pictures, SET/imgN.jpg: tells sets and their images
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// A store of features: tells the images of sets
    #[arg(long, value_name = "STORE", conflicts_with = "images")]
    features: Option<PathBuf>,
    /// ImageCoDe's annotation files (a folder or a file): tell the names of sets, which VOLTA's questions do not have
    #[arg(long, value_name = "PATH")]
    sets: Option<PathBuf>,
    /// Leave out a key that the target's format has no place for; may be given several times
    #[arg(long, value_name = "KEY")]
    drop: Vec<KeyArg>,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Converts and says what was written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    check_pipe(&args.target)?;
    let mut known = KnownSets::new();
    if let Some(path) = &args.images {
        known = known.with_pictures(PictureTree::open(path)?);
    }
    if let Some(path) = &args.features {
        known = known.with_store(open_store(path)?);
    }
    if let Some(path) = &args.sets {
        known = known.with_directories(directories(path)?);
    }
    let dropped: Vec<Key> = args.drop.iter().copied().map(Key::from).collect();
    let converted = convert(&Request {
        source: &args.source,
        target: &args.target,
        to: args.to.into(),
        known: &known,
        dropped: &dropped,
        overwrite: args.force,
    })?;
    if args.json {
        outln!("{}", crate::console::json(&converted)?);
        return Ok(ExitCode::SUCCESS);
    }
    let Converted { from, descriptions, files } = &converted;
    outln!(
        "{}",
        files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join("\n")
    );
    errln!("{} from {from}", count(*descriptions as u64, "description"));
    Ok(ExitCode::SUCCESS)
}

/// The sets of all splits.
fn directories(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut directories = Vec::new();
    for file in DatasetFiles::find(path)?.splits {
        let descriptions = load_split(&file)?;
        directories.extend(descriptions.into_iter().map(|description| description.directory));
    }
    Ok(directories)
}
