//! Progress on stderr: a bar with rate and ETA on a terminal, a plain line every few seconds otherwise.

use std::cell::Cell;
use std::fmt;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};

/// How often a line is written when stderr is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
/// How many must be done before the time that is left is estimated.
const ESTIMATED_FROM: u64 = 3;
/// How long a bar says nothing about it.
const UNSURE: Duration = Duration::from_secs(2);

/// The progress of one long piece of work.
pub struct Progress {
    label: String,
    unit: &'static str,
    total: Option<u64>,
    started: Instant,
    /// How many were done when the first word came: those of an interrupted run say nothing about this one's speed.
    first: Cell<Option<u64>>,
    /// `Some` on a terminal.
    bar: Option<ProgressBar>,
    last_line: Cell<Instant>,
}

impl Progress {
    /// Starts counting `unit`s ("images", "steps") towards `total`, if that is known.
    pub fn start(label: impl Into<String>, unit: &'static str, total: Option<u64>) -> Progress {
        let label = label.into();
        let bar = std::io::stderr().is_terminal().then(|| bar(&label, unit, total));
        let now = Instant::now();
        let (first, last_line) = (Cell::new(None), Cell::new(now));
        Progress { label, unit, total, started: now, first, bar, last_line }
    }

    /// Says how many are done, with a remark such as the current loss (may be empty).
    pub fn set(&self, done: u64, remark: &str) {
        if self.first.get().is_none() {
            self.first.set(Some(done));
            if let Some(bar) = &self.bar {
                bar.set_position(done);
                bar.reset_eta();
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(remark.to_owned());
        } else if self.last_line.get().elapsed() >= PLAIN_INTERVAL {
            self.last_line.set(Instant::now());
            errln!("{}", self.plain_line(done, remark));
        }
    }

    /// Says something above the bar.
    #[cfg_attr(
        not(feature = "torch"),
        expect(dead_code, reason = "only training talks in between")
    )]
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| errln!("{line}")),
            None => errln!("{line}"),
        }
    }

    /// Removes the bar; the caller prints its own closing line.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn plain_line(&self, done: u64, remark: &str) -> String {
        let here = done.saturating_sub(self.first.get().unwrap_or(0));
        let rate = here as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        let position = match self.total {
            Some(total) => format!("{done}/{total}"),
            None => done.to_string(),
        };
        let eta = match self.total {
            // Of a few records an estimate would be a guess.
            Some(total) if here >= ESTIMATED_FROM => {
                format!(", {:.0} s left", total.saturating_sub(done) as f64 / rate)
            }
            _ => String::new(),
        };
        let remark = if remark.is_empty() { String::new() } else { format!("  {remark}") };
        format!("{}: {position} {}, {rate:.1} {}/s{eta}{remark}", self.label, self.unit, self.unit)
    }
}

fn bar(label: &str, unit: &'static str, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => format!(
            "{{prefix}} {{wide_bar}} {{pos}}/{{len}} {unit}  {{per_sec}}  ETA {{left}}  {{msg}}"
        ),
        None => format!("{{prefix}} {{spinner}} {{pos}} {unit}  {{per_sec}}  {{elapsed}}  {{msg}}"),
    };
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    // The template is ours; should it ever be wrong, a bar in the default style is still a bar.
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.with_key("left", left));
    }
    bar.with_prefix(label.to_owned())
}

/// The time that is left, once there is something to judge it by.
fn left(state: &ProgressState, out: &mut dyn fmt::Write) {
    // Nothing can be done about a bar that cannot be drawn.
    let _ = if state.elapsed() < UNSURE {
        out.write_str("-")
    } else {
        write!(out, "{:#}", HumanDuration(state.eta()))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_names_position_rate_and_remark() {
        let progress = Progress {
            label: "convert".into(),
            unit: "images",
            total: Some(30),
            started: Instant::now() - Duration::from_secs(2),
            first: Cell::new(Some(20)),
            bar: None,
            last_line: Cell::new(Instant::now()),
        };
        let line = progress.plain_line(24, "1 skipped");
        assert!(line.starts_with("convert: 24/30 images, 2.0 images/s, 3 s left"), "{line}");
        assert!(line.ends_with("1 skipped"), "{line}");
        assert!(!progress.plain_line(21, "").contains("left"));
    }
}
