//! `xenc analyse`: where models are right and wrong, how sure they are, and what they have in common.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use evaluation::analysis::{
    Agreement, Analysis, Margins, Pair, Quantiles, Scaled, agreement, plot,
};
use evaluation::{Prediction, read_predictions, write_whole};
use feature_store::text::visible;
use serde::Serialize;

use crate::results::{EvaluationArgs, check_output, distinct_names, print_evaluation};

/// Look into predictions: positions, margins, calibration, length, and what several models have in common
///
/// Of each file: accuracy with intervals, recall, which positions are chosen, how far the choice is ahead, whether shares of
/// the softmax are probabilities, accuracy by length. Of several files: agreement, what an oracle and a vote would reach,
/// and the hardest descriptions. docs/evaluation.md says what each number means.
#[derive(clap::Args)]
pub struct Args {
    /// Predictions of labelled splits (*.jsonl), as `xenc eval --predictions` and `xenc clip rank --predictions` write them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write plots (SVG) into this folder, of several files into a folder in it for each
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// How many of the hardest descriptions are listed, of several files
    #[arg(long, value_name = "N", default_value_t = 10)]
    hardest: usize,
    /// Replace plots that are there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    evaluation: EvaluationArgs,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    models: Vec<Model>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<Agreement>,
}

#[derive(Serialize)]
struct Model {
    name: String,
    #[serde(flatten)]
    analysis: Analysis,
}

/// Reads, prints, plots.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let evaluator = args.evaluation.load()?;
    let names = distinct_names(&args.files)?;
    let folders: Vec<PathBuf> =
        args.plots.iter().flat_map(|folder| folders(folder, &names)).collect();
    for folder in &folders {
        check_folder(folder, args.force)?;
    }
    let (mut models, mut lists) = (Vec::new(), Vec::new());
    for (file, name) in args.files.iter().zip(&names) {
        let list = read_predictions(file)?.list;
        let analysis =
            evaluator.evaluate(&list).and_then(|evaluation| Analysis::new(&list, evaluation));
        let analysis = analysis.with_context(|| format!("cannot analyse {}", file.display()))?;
        models.push(Model { name: name.clone(), analysis });
        lists.push(list);
    }
    let lists: Vec<&[Prediction]> = lists.iter().map(Vec::as_slice).collect();
    let together = (lists.len() > 1).then(|| agreement(&lists, args.hardest));
    if together == Some(None) {
        bail!(
            "the files have no description in common: nothing can be compared; rank the same split with all models"
        );
    }
    let report = Report { models, agreement: together.flatten() };
    for (folder, model) in folders.iter().zip(&report.models) {
        write_plots(folder, model)?;
    }
    if args.json {
        outln!("{}", crate::console::json(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the plots of each model go.
fn folders(folder: &Path, names: &[String]) -> Vec<PathBuf> {
    match names {
        [_] => vec![folder.to_owned()],
        several => several.iter().map(|name| folder.join(name)).collect(),
    }
}

/// Fails if plots are there that are not to be replaced.
fn check_folder(folder: &Path, force: bool) -> anyhow::Result<()> {
    if folder.exists() && !folder.is_dir() {
        bail!("{} is no folder", folder.display());
    }
    plot::NAMES
        .iter()
        .map(|name| folder.join(name))
        .filter(|file| file.exists())
        .try_for_each(|file| check_output(&file, force))
}

fn write_plots(folder: &Path, model: &Model) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for plot in plot::plots(&model.name, &model.analysis) {
        let file = folder.join(plot.name);
        write_whole(&file, |out| std::io::Write::write_all(out, plot.svg.as_bytes()))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    errln!("plots of {}: {}", model.name, folder.display());
    Ok(())
}

fn print(report: &Report) {
    for model in &report.models {
        outln!("{}", visible(&model.name));
        print_evaluation(&model.analysis.evaluation);
        print_analysis(&model.analysis);
        outln!();
    }
    if let Some(together) = &report.agreement {
        print_agreement(together, &report.models);
    }
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

fn print_analysis(analysis: &Analysis) {
    let recall: Vec<String> = analysis.recall.iter().map(|part| percent(*part)).collect();
    outln!("recall at 1, 2, …  {}", recall.join("  "));
    let shares = |counts: &[u64]| {
        let all: u64 = counts.iter().sum();
        let share = |count: &u64| format!("{:>3.0}", 100.0 * *count as f64 / all.max(1) as f64);
        counts.iter().map(share).collect::<Vec<_>>().join(" ")
    };
    outln!("described, by position, %  {}", shares(&analysis.positions.described));
    outln!("chosen, by position, %     {}", shares(&analysis.positions.chosen));
    if analysis.positions.off.iter().any(|&count| count > 0) {
        outln!("frames off, video, %       {}", shares(&analysis.positions.off));
    }
    let Margins { right, wrong, missed_by } = &analysis.margins;
    for (name, margin) in [
        ("ahead where right", right),
        ("ahead where wrong", wrong),
        ("behind where wrong", missed_by),
    ] {
        if let Some(Quantiles { lower, median, upper, .. }) = margin {
            outln!(
                "{name:<19} {} (quarters {} and {})",
                percent(*median),
                percent(*lower),
                percent(*upper)
            );
        }
    }
    let calibration = &analysis.calibration;
    let (error, loss) = (percent(calibration.expected_error), calibration.negative_log_likelihood);
    match calibration.scaled {
        Some(Scaled { temperature, expected_error, negative_log_likelihood }) => outln!(
            "calibration error   {error}, at temperature {temperature:.2} {}; log-likelihood -{loss:.3}, then \
             -{negative_log_likelihood:.3}",
            percent(expected_error)
        ),
        None => {
            outln!("calibration error   {error}, no temperature is best; log-likelihood -{loss:.3}")
        }
    }
    for group in &analysis.lengths {
        outln!(
            "{:>3} to {:>3} words     {} of {} descriptions",
            group.fewest,
            group.most,
            percent(group.accuracy),
            group.descriptions
        );
    }
}

fn print_agreement(together: &Agreement, models: &[Model]) {
    outln!("together, on {} descriptions that all have", together.descriptions);
    for pair in &together.pairs {
        let Pair { both_right, only_first, only_second, same_mistake, other_mistake, .. } = pair;
        let [first, second] = pair.models.map(|model| visible(&models[model].name));
        let kappa = pair.kappa.map_or("not defined".to_owned(), |kappa| format!("{kappa:.2}"));
        outln!(
            "{first} and {second}: both right {both_right}, only {first} {only_first}, only {second} {only_second}, \
             the same mistake {same_mistake}, different ones {other_mistake}; kappa {kappa}"
        );
    }
    let ensemble = &together.ensemble;
    outln!(
        "any right {}, all right {}; voting by mean share {}, by mean rank {}",
        percent(ensemble.oracle),
        percent(ensemble.unanimous),
        percent(ensemble.mean_share),
        percent(ensemble.mean_rank)
    );
    for hard in &together.hardest {
        let ranks: Vec<String> = hard.ranks.iter().map(usize::to_string).collect();
        outln!(
            "ranks {}: {} {}: {}",
            ranks.join(", "),
            visible(&hard.directory),
            hard.number,
            visible(&hard.text)
        );
    }
}
