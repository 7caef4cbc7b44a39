//! `xenc pretrain`: captions of one's own, and pre-trained weights become better ones.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use crossencoders::device::Device;
use crossencoders::train::distributed::Launch;
use crossencoders::train::pretrain::{
    PretrainEvent, PretrainLosses, PretrainOutcome, PretrainRecipe, PretrainSummary, Pretrainer,
};
use crossencoders::weights::LoadReport;

use crate::console::shown;
use crate::interrupt;
use crate::progress::Progress;
use crate::run_args::{self, RunArgs};

/// Pre-train a cross-encoder further on captions of your own
///
/// An interrupted run goes on where it stopped when the same command is given again. `xenc train` begins with what it has
/// learnt if its recipe says init = "RUN" (docs/pretraining.md).
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,
}

/// Pre-trains, with progress on stderr and the summary on stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(Launch { size, .. }) = Launch::detect().filter(|launch| launch.size > 1) {
        anyhow::bail!("pre-training runs in one process, but {size} were started together");
    }
    let Args { run } = args;
    let recipe = PretrainRecipe::load(&run.recipe, &run.overrides.values)?;
    let out = run.out("pretrain-");
    let device: Device = run.device.parse()?;
    let pretrainer = Pretrainer::open(recipe, &out, run.force, device.get());
    let mut pretrainer = pretrainer.context("cannot pre-train")?;
    announce(&pretrainer, &out);
    let Some(summary) = pretrain(&mut pretrainer, &out)? else {
        return Ok(interrupt::exit_code());
    };
    if run.json {
        outln!("{}", crate::console::json(&summary)?);
    } else {
        print(&summary, &out);
    }
    Ok(ExitCode::SUCCESS)
}

/// Trains to the end; `None` if the user interrupts.
fn pretrain(pretrainer: &mut Pretrainer, out: &Path) -> anyhow::Result<Option<PretrainSummary>> {
    let progress = Progress::start("pretrain", "steps", Some(pretrainer.position().1));
    let outcome = pretrainer.run(interrupt::flag(), &mut |event| match event {
        PretrainEvent::Step { step, epoch, loss, rows_per_second, .. } => progress
            .set(step, &format!("epoch {epoch}  loss {loss:.3}  {rows_per_second:.0} captions/s")),
        PretrainEvent::Validating(..) => {}
        PretrainEvent::Validated(epoch, losses, improved) => {
            let mark = if improved { "  best so far" } else { "" };
            progress.say(&format!("epoch {epoch}: valid {}{mark}", describe(losses)));
        }
    });
    progress.finish();
    match outcome.with_context(|| format!("{}: pre-training stopped", shown(out)))? {
        PretrainOutcome::Finished(summary) => Ok(Some(summary)),
        PretrainOutcome::Interrupted { step } => {
            errln!("stopped after step {step}; the same command goes on from there");
            Ok(None)
        }
    }
}

fn announce(pretrainer: &Pretrainer, out: &Path) {
    for (split, captions) in ["train", "valid"].into_iter().zip(pretrainer.captions()) {
        errln!("{split}: {} captions", captions.examples.len());
        if captions.skipped > 0 {
            errln!(
                "{split}: {} captions skipped, their images are not in the store",
                captions.skipped
            );
        }
        for remark in captions.limits.remarks("captions") {
            errln!("{split}: {remark}");
        }
    }
    let parameters = pretrainer.variables().variables();
    let millions = parameters.values().map(|variable| variable.numel()).sum::<usize>() as f64 / 1e6;
    errln!("model: {millions:.1} million parameters");
    match (pretrainer.position(), pretrainer.loaded()) {
        ((0, _), None) => errln!("model: weights begin random: the recipe has no `init`"),
        ((0, _), Some(LoadReport { path, missing, .. })) => {
            errln!("model: weights from {}", shown(path));
            if !missing.is_empty() {
                errln!("model: {} begin random: {}", missing.len(), missing.join(", "));
            }
        }
        (position, _) => run_args::announce_position(position, out),
    }
}

fn print(summary: &PretrainSummary, out: &Path) {
    let PretrainSummary { steps, best_epoch, best, seconds, stopped_early } = summary;
    outln!("{}: {steps} steps in {seconds:.0} s, best epoch {best_epoch}", shown(out));
    if *stopped_early {
        outln!("ended early: no epoch since was better (train.patience)");
    }
    outln!("valid {}", describe(best));
    outln!("`xenc train` begins with it: --set init={}", shown(out));
}

fn describe(losses: &PretrainLosses) -> String {
    let parts = losses.losses.iter().map(|(name, loss)| format!("{name} {loss:.3}"));
    format!("loss {:.4} ({})", losses.loss, parts.collect::<Vec<_>>().join(", "))
}
