//! What the user sees of a training run: a dashboard, or a bar and lines.

use std::path::Path;

use anyhow::Context;
use crossencoders::train::{Event, StepLog, Trainer};
use evaluation::Metrics;

use crate::dashboard::{Dashboard, State};
use crate::progress::Progress;

/// What the variant `non_contrastive` learns from.
const PAIRS: &str = "pairs";

/// What the part of rows that are right is called: to tell pairs apart is another thing than to rank sets.
pub fn accuracy_name(rows: &str) -> &'static str {
    if rows == PAIRS { "pair accuracy" } else { "accuracy" }
}

/// A view of a run.
pub struct Watch {
    view: View,
    /// What a rate counts.
    rows: &'static str,
}

enum View {
    Lines(Progress),
    /// With what is said when it is gone.
    Dashboard(Dashboard, Vec<String>),
}

impl Watch {
    /// Begins to show a run; a dashboard needs a terminal, and without one there are lines.
    pub fn start(trainer: &Trainer, out: &Path, dashboard: bool) -> anyhow::Result<Watch> {
        let recipe = &trainer.ranker().recipe;
        let rows = if trainer.ranker().learns_from_pairs() { PAIRS } else { "sets" };
        let (step, steps) = trainer.position();
        if dashboard && !Dashboard::is_possible() {
            errln!("--dashboard needs a terminal: lines instead");
        }
        let view = if dashboard && Dashboard::is_possible() {
            let title = format!("{}: {}", out.display(), recipe.model.display());
            let mut state = State::new(title, rows, recipe.train.epochs, (step, steps));
            recall(&mut state, &out.join("metrics.jsonl"));
            let dashboard = Dashboard::start(state).context("cannot draw on the terminal")?;
            View::Dashboard(dashboard, Vec::new())
        } else {
            View::Lines(Progress::start("train", "steps", Some(steps)))
        };
        Ok(Watch { view, rows })
    }

    /// Shows what the trainer says.
    pub fn observe(&mut self, event: &Event) {
        match (&mut self.view, event) {
            (View::Dashboard(dashboard, said), event) => {
                dashboard.state().observe(event);
                if let Event::Validated(epoch, metrics, improved) = event {
                    said.push(epoch_line(*epoch, metrics, *improved));
                }
            }
            (
                View::Lines(progress),
                Event::Step { step, epoch, loss, accuracy, rows_per_second, .. },
            ) => {
                let (accuracy, rows) = (100.0 * accuracy.unwrap_or_default(), self.rows);
                let name = accuracy_name(rows);
                progress.set(
                    *step,
                    &format!(
                        "epoch {epoch}  loss {loss:.3}  {name} {accuracy:.0} %  {rows_per_second:.0} {rows}/s"
                    ),
                );
            }
            (View::Lines(_), Event::Validating(..)) => {}
            (View::Lines(progress), Event::Validated(epoch, metrics, improved)) => {
                progress.say(&epoch_line(*epoch, metrics, *improved));
            }
        }
    }

    /// Ends the view; what a dashboard has shown of epochs is left behind as lines.
    pub fn finish(self) -> anyhow::Result<()> {
        match self.view {
            View::Lines(progress) => progress.finish(),
            View::Dashboard(dashboard, said) => {
                dashboard.finish().context("cannot draw on the terminal")?;
                said.iter().for_each(|line| errln!("{line}"));
            }
        }
        Ok(())
    }
}

/// Takes in the curves of earlier sittings; a log that cannot be read has none.
fn recall(state: &mut State, metrics: &Path) {
    let log = std::fs::read_to_string(metrics).unwrap_or_default();
    for line in log.lines() {
        if let Ok(step) = serde_json::from_str::<StepLog>(line) {
            state.loss.push(step.step as f64, step.loss);
            let accuracy = step.accuracy.or(step.pair_accuracy).unwrap_or_default();
            state.accuracy.push(step.step as f64, 100.0 * accuracy);
        } else if let Ok(line) = serde_json::from_str::<serde_json::Value>(line)
            && let Some(step) = line["step"].as_f64()
            && let Some(accuracy) = line["metrics"]["all"]["accuracy"].as_f64()
        {
            state.valid.push((step, 100.0 * accuracy));
        }
    }
}

fn epoch_line(epoch: u64, metrics: &Metrics, improved: bool) -> String {
    let mark = if improved { "  best so far" } else { "" };
    format!(
        "epoch {epoch}: valid accuracy {:.1} %, mean reciprocal rank {:.3}{mark}",
        100.0 * metrics.all.accuracy,
        metrics.all.mrr
    )
}
