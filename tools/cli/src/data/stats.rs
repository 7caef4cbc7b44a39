//! `xenc data stats`: what a data set is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use dataset::{
    Lengths, Phenomena, PhenomenaCounts, Similarity, SplitStatistics, StatisticsOptions,
    phenomenon_name, statistics,
};
use feature_store::text::visible;

use crate::console::shown;
use crate::interrupt;
use crate::progress::Progress;
use crate::store::open_store;

/// Positions and numbers of candidates that are printed; JSON has all.
const PRINTED: usize = 16;
/// Longest bar of the distribution of lengths.
const BAR: u64 = 40;

/// Say what a data set is made of
///
/// For each split: sets, descriptions, how many are about videos, how long descriptions are, at which positions the
/// described images are; with --phenomena what is needed to find the image, with --features how alike the images of a
/// set are: the mean cosine of a described image's features (the mean of its regions) with those of the other images of
/// its set, and with those of all other sets. Unlabelled splits compare every image. Exit codes: 0 done, 2 could not
/// run.
#[derive(clap::Args)]
pub struct Args {
    /// A folder with a data set, or one of its files
    data: PathBuf,
    /// A store of features: how alike images are
    #[arg(long, value_name = "STORE")]
    features: Option<PathBuf>,
    /// Phenomena of the descriptions (ImageCoDe's manual_annotation_valid.yaml)
    #[arg(long, value_name = "YAML")]
    phenomena: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Counts and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let store = args.features.as_deref().map(open_store).transpose()?;
    let phenomena = args.phenomena.as_deref().map(Phenomena::load).transpose()?;
    let options = StatisticsOptions { phenomena: phenomena.as_ref(), features: store.as_ref() };
    let progress = Progress::start("stats", "sets", None);
    let mut done = 0;
    let counted = statistics(&args.data, &options, interrupt::flag(), &mut |sets| {
        done += sets;
        progress.set(done, "");
    });
    progress.finish();
    let counted = counted.with_context(|| {
        let data = shown(&args.data);
        format!(
            "cannot count what {data} is made of (`xenc data check {data}` lists what is wrong)"
        )
    })?;
    let Some(splits) = counted else { return Ok(interrupt::exit_code()) };
    if args.json {
        outln!("{}", crate::console::json(&splits)?);
    } else {
        for (number, split) in splits.iter().enumerate() {
            if number > 0 {
                outln!();
            }
            print(split);
        }
    }
    if phenomena.is_some() && splits.iter().all(|split| split.phenomena.is_none()) {
        errln!("the file of phenomena says nothing about any of these descriptions");
    }
    Ok(ExitCode::SUCCESS)
}

fn print(split: &SplitStatistics) {
    outln!("{}", visible(&split.file));
    let kinds = |all: u64, video: u64| format!("{all} ({video} video, {} static)", all - video);
    outln!("  sets            {}", kinds(split.sets, split.video_sets));
    outln!("  descriptions    {}", kinds(split.descriptions, split.video_descriptions));
    outln!("  with a target   {}", split.labelled);
    outln!("  candidates      {}", pairs(&split.candidates, " each: "));
    if !split.targets.is_empty() {
        outln!("  target at       {}", pairs(&split.targets, ": "));
    }
    print_lengths(&split.words);
    if let Some(phenomena) = &split.phenomena {
        print_phenomena(phenomena);
    }
    if let Some(similarity) = &split.similarity {
        print_similarity("video", &similarity.video);
        print_similarity("static", &similarity.photographs);
    }
}

/// "0: 12, 1: 15".
fn pairs(counts: &BTreeMap<usize, u64>, between: &str) -> String {
    let mut pairs: Vec<String> = counts
        .iter()
        .take(PRINTED)
        .map(|(number, count)| format!("{number}{between}{count}"))
        .collect();
    if counts.len() > PRINTED {
        pairs.push(format!("and {} more (--json has all)", counts.len() - PRINTED));
    }
    pairs.join(", ")
}

fn print_lengths(words: &Lengths) {
    outln!(
        "  words           {:.1} on average, {} to {}, median {}, 95 % up to {}",
        words.mean,
        words.shortest,
        words.longest,
        words.median,
        words.percentile_95
    );
    let largest = words.distribution.values().copied().max().unwrap_or(1).max(1);
    for (from, count) in words.distribution.iter().take(PRINTED) {
        let bar = "#".repeat((count * BAR).div_ceil(largest) as usize);
        outln!("    {:>4}-{:<4} {count:>7} {bar}", from, from + 4);
    }
    let longer: u64 = words.distribution.values().skip(PRINTED).sum();
    if longer > 0 {
        outln!("    longer    {longer:>7}");
    }
}

fn print_phenomena(phenomena: &PhenomenaCounts) {
    let PhenomenaCounts { annotated, without, other_text, absent, by_code } = phenomena;
    outln!("  phenomena       of {annotated} descriptions, {without} without any");
    let mut codes: Vec<_> = by_code.iter().collect();
    codes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (code, count) in codes {
        let percent = 100.0 * *count as f64 / (*annotated).max(1) as f64;
        let (code, name) = (visible(code), visible(phenomenon_name(code)));
        outln!("    {code:<6} {count:>7} {percent:>5.1} %  {name}");
    }
    if *other_text > 0 {
        outln!(
            "    {other_text} descriptions have another text in the file of phenomena; they count"
        );
    }
    if *absent > 0 {
        outln!(
            "    {absent} descriptions of the file of phenomena are not here; they do not count"
        );
    }
}

fn print_similarity(kind: &str, similarity: &Similarity) {
    let Similarity { sets, left_out, within_sets, across_sets } = similarity;
    if sets + left_out == 0 {
        return;
    }
    let number = |value: &Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
    outln!(
        "  similarity      {kind}: {} within a set, {} across sets ({sets} sets)",
        number(within_sets),
        number(across_sets)
    );
    if *left_out > 0 {
        outln!(
            "    {left_out} sets are left out: not all their images are in the store, or are no numbers"
        );
    }
}
