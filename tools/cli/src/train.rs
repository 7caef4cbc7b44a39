//! `xenc train`: a recipe becomes a trained model.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use crossencoders::data::ImageSets;
use crossencoders::device::Device;
use crossencoders::train::distributed::{self, Launch, Ranks};
use crossencoders::train::{Outcome, Recipe, Summary, Trainer};
use crossencoders::weights::LoadReport;

use crate::console::shown;
use crate::distribution;
use crate::interrupt;
use crate::rank;
use crate::run_args::{self, RunArgs};
use crate::watch::Watch;

/// Train a cross-encoder on image sets
///
/// An interrupted run goes on where it stopped when the same command is given again. Under mpirun, srun or their like
/// all processes train one model together (docs/scale.md).
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// Show curves, rate and time left on the whole terminal
    #[arg(long)]
    dashboard: bool,
}

/// Trains, with progress on stderr and the summary on stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { run, dashboard } = args;
    let recipe = Recipe::load(&run.recipe, &run.overrides.values)?;
    let out = run.out("");
    let device: Device = distribution::own_device(&run.device, Launch::detect()).parse()?;
    let ranks = distributed::connect(device.get())?;
    let summary = match train(recipe, &out, run.force, device, dashboard, &ranks) {
        Ok(Some(summary)) => summary,
        Ok(None) => return Ok(interrupt::exit_code()),
        Err(error) => return distribution::fail(error, &ranks),
    };
    if !ranks.is_root() {
        return Ok(ExitCode::SUCCESS);
    }
    if run.json {
        outln!("{}", crate::console::json(&summary)?);
    } else {
        outln!(
            "{}: {} steps in {:.0} s, best epoch {}",
            shown(&out),
            summary.steps,
            summary.seconds,
            summary.best_epoch
        );
        if summary.stopped_early {
            outln!("ended early: no epoch since was better (train.patience)");
        }
        rank::print_metrics(&summary.best);
    }
    Ok(ExitCode::SUCCESS)
}

/// Trains to the end; `None` if the user interrupts. Of several ranks the first talks.
fn train(
    recipe: Recipe,
    out: &Path,
    force: bool,
    device: Device,
    dashboard: bool,
    ranks: &Ranks,
) -> anyhow::Result<Option<Summary>> {
    let mut trainer = Trainer::open_on(ranks.clone(), recipe, out, force, device.get())
        .context("cannot train")?;
    if !ranks.is_root() {
        return distribution::follow(&mut trainer);
    }
    if ranks.size() > 1 {
        errln!("ranks: {}", ranks.size());
    }
    announce(&trainer, out);
    let mut watch = Watch::start(&trainer, out, dashboard)?;
    let outcome = trainer.run(interrupt::flag(), &mut |event| watch.observe(&event));
    watch.finish()?;
    match outcome.with_context(|| format!("{}: training stopped", shown(out)))? {
        Outcome::Finished(summary) => Ok(Some(summary)),
        Outcome::Interrupted { step } => {
            errln!("stopped after step {step}; the same command goes on from there");
            Ok(None)
        }
    }
}

/// Says that sets are trained on and validated with, and that descriptions say nothing.
fn say_shared(train: &ImageSets, valid: &ImageSets) {
    let trained: HashSet<&str> = train.examples.iter().map(|one| &*one.directory).collect();
    let shared: BTreeSet<&str> = valid
        .examples
        .iter()
        .map(|one| &*one.directory)
        .filter(|set| trained.contains(set))
        .collect();
    if let Some(first) = shared.first() {
        errln!(
            "valid: {} of its sets are trained on, too (`{first}` first): its accuracy says little about others",
            shared.len()
        );
    }
    let blank =
        |sets: &ImageSets| sets.examples.iter().filter(|one| one.text.trim().is_empty()).count();
    for (split, blank) in [("train", blank(train)), ("valid", blank(valid))] {
        if blank > 0 {
            errln!("{split}: {blank} descriptions are empty (`xenc data check` names them)");
        }
    }
}

/// Says what the initial weights are, and what they are not.
fn announce_weights(report: &LoadReport) {
    let LoadReport { path, loaded, missing, mis_shaped, unexpected, .. } = report;
    errln!("model: {loaded} tensors from {}", shown(path));
    let mis_shaped: Vec<String> = mis_shaped.iter().map(|tensor| tensor.name.clone()).collect();
    for (names, what) in [
        (missing, "begin random: the file lacks them"),
        (&mis_shaped, "begin random: they have another shape in the file"),
        (unexpected, "of the file are not used: the model has no place for them"),
    ] {
        if let Some(first) = names.first() {
            errln!("model: {} tensors {what}; `{first}` first", names.len());
        }
    }
}

fn announce(trainer: &Trainer, out: &Path) {
    let ranker = trainer.ranker();
    let millions = |frozen: bool| {
        let variables = ranker.variables.variables();
        let of_kind = variables.values().filter(|variable| variable.requires_grad() != frozen);
        of_kind.map(|variable| variable.numel()).sum::<usize>() as f64 / 1e6
    };
    let [train, valid] = trainer.splits();
    for (split, sets) in [("train", train), ("valid", valid)] {
        errln!(
            "{split}: {} descriptions of {} sets",
            sets.examples.len(),
            sets.sets - sets.skipped.len()
        );
        sets.remarks().iter().for_each(|remark| errln!("{split}: {remark}"));
    }
    say_shared(train, valid);
    match millions(true) {
        0.0 => errln!("model: {:.1} million parameters", millions(false)),
        frozen => {
            errln!(
                "model: {:.1} million parameters and {frozen:.1} million frozen",
                millions(false)
            );
        }
    }
    match (trainer.position(), &ranker.loaded) {
        ((0, _), None) => errln!("model: weights begin random: the recipe has no `init`"),
        ((0, _), Some(report)) => announce_weights(report),
        (position, _) => run_args::announce_position(position, out),
    }
}
