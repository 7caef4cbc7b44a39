//! What the dashboard shows.

use std::time::{Duration, Instant};

use crossencoders::train::Event;
use evaluation::Metrics;

use super::memory::Memory;

/// Points of a curve that are kept.
const MOST_POINTS: usize = 512;

/// The state of a run.
#[derive(Debug)]
pub struct State {
    /// What is trained, in a line.
    pub title: String,
    /// What a rate counts: `sets` or `pairs`.
    pub rows: &'static str,
    pub epochs: u64,
    pub epoch: u64,
    pub step: u64,
    pub steps: u64,
    pub loss: Curve,
    pub accuracy: Curve,
    /// Step and accuracy of every evaluation.
    pub valid: Vec<(f64, f64)>,
    pub evaluations: Vec<Evaluation>,
    /// Descriptions ranked, of so many, while an evaluation goes on.
    pub evaluating: Option<(usize, usize)>,
    pub rows_per_second: f64,
    pub memory: Option<Memory>,
    /// Whether the user has asked to stop.
    pub stopping: bool,
    started: Instant,
    /// Steps of earlier sittings.
    earlier: u64,
}

/// An epoch's metrics.
#[derive(Debug, Clone, Copy)]
pub struct Evaluation {
    pub epoch: u64,
    pub metrics: Metrics,
    /// Whether it was the best so far.
    pub improved: bool,
}

impl State {
    /// A run that begins, or goes on, after `step`.
    pub fn new(title: String, rows: &'static str, epochs: u64, (step, steps): (u64, u64)) -> State {
        State {
            title,
            rows,
            epochs,
            epoch: 0,
            step,
            steps,
            loss: Curve::default(),
            accuracy: Curve::default(),
            valid: Vec::new(),
            evaluations: Vec::new(),
            evaluating: None,
            rows_per_second: 0.0,
            memory: None,
            stopping: false,
            started: Instant::now(),
            earlier: step,
        }
    }

    /// Takes in what the trainer says.
    pub fn observe(&mut self, event: &Event) {
        match *event {
            Event::Step { step, steps, epoch, loss, accuracy, rows_per_second } => {
                (self.step, self.steps, self.epoch) = (step, steps, epoch);
                self.loss.push(step as f64, loss);
                self.accuracy.push(step as f64, 100.0 * accuracy.unwrap_or_default());
                self.rows_per_second = rows_per_second;
                self.evaluating = None;
            }
            Event::Validating(done, total) => self.evaluating = Some((done, total)),
            Event::Validated(epoch, metrics, improved) => {
                self.evaluating = None;
                self.valid.push((self.step as f64, 100.0 * metrics.all.accuracy));
                self.evaluations.push(Evaluation { epoch, metrics: *metrics, improved });
            }
        }
    }

    /// Time of this sitting.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Time left, evaluations included as far as there have been any.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let done = self.step.checked_sub(self.earlier).filter(|&done| done > 0)?;
        let left = self.steps.saturating_sub(self.step) as f64;
        let seconds = self.elapsed(now).as_secs_f64() / done as f64 * left;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Part that is done, 0 to 1.
    pub fn done(&self) -> f64 {
        (self.step as f64 / self.steps.max(1) as f64).clamp(0.0, 1.0)
    }
}

/// A curve in bounded memory: when it is full, neighbours become their mean.
#[derive(Debug, Default)]
pub struct Curve {
    points: Vec<(f64, f64)>,
    /// Values that a point is the mean of.
    together: usize,
    /// Sums and number of the values that are no point yet.
    open: (f64, f64, usize),
    last: Option<f64>,
}

impl Curve {
    /// Adds a value; one that is no number is left out.
    pub fn push(&mut self, x: f64, y: f64) {
        if !y.is_finite() {
            return;
        }
        self.last = Some(y);
        self.open = (self.open.0 + x, self.open.1 + y, self.open.2 + 1);
        let (x, y, count) = self.open;
        if count < self.together.max(1) {
            return;
        }
        self.open = (0.0, 0.0, 0);
        self.points.push((x / count as f64, y / count as f64));
        if self.points.len() == MOST_POINTS {
            let mean = |pair: &[(f64, f64)]| {
                ((pair[0].0 + pair[1].0) / 2.0, (pair[0].1 + pair[1].1) / 2.0)
            };
            self.points = self.points.chunks_exact(2).map(mean).collect();
            self.together = 2 * self.together.max(1);
        }
    }

    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    pub fn last(&self) -> Option<f64> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_keeps_its_shape_in_bounded_memory() {
        let mut curve = Curve::default();
        for step in 0..100_000 {
            curve.push(f64::from(step), 2.0 * f64::from(step) + f64::from(step % 2));
        }
        curve.push(1.0, f64::NAN);
        assert!((MOST_POINTS / 2..MOST_POINTS).contains(&curve.points().len()));
        assert!(curve.points().iter().skip(1).all(|&(x, y)| (y - 2.0 * x - 0.5).abs() < 1e-6));
        assert_eq!(curve.last(), Some(199_999.0));
    }

    #[test]
    fn time_left_counts_this_sitting_only() {
        let mut state = State::new(String::new(), "sets", 2, (50, 100));
        let now = state.started + Duration::from_secs(10);
        assert_eq!(state.left(now), None);
        state.observe(&Event::Step {
            step: 75,
            steps: 100,
            epoch: 2,
            loss: 1.0,
            accuracy: Some(0.5),
            rows_per_second: 3.0,
        });
        assert_eq!(state.left(now), Some(Duration::from_secs(10)));
        assert_eq!((state.done(), state.accuracy.last()), (0.75, Some(50.0)));
    }
}
