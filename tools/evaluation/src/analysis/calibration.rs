//! Can shares of the softmax be taken for probabilities?
//!
//! Expected calibration error and temperature scaling as in Guo et al. 2017, "On Calibration of Modern Neural Networks".

use serde::Serialize;

use super::Labelled;

/// Bins of confidence of equal width.
const BINS: usize = 10;
/// Temperatures that are looked at, as logarithms.
const TEMPERATURES: [f64; 2] = [-5.0, 5.0];
/// A minimum lies within the limits if the loss at both is larger by more than this.
const TOLERANCE: f64 = 1e-9;
/// Steps of the search, each of which leaves 0.618 of the interval.
const STEPS: usize = 60;

/// Choices of about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Bin {
    /// How many.
    pub descriptions: u64,
    /// Their mean confidence, the share of the chosen candidate.
    pub confidence: f64,
    /// How many of them are right.
    pub accuracy: f64,
}

/// How far confidence is from accuracy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// By confidence, from 0 to 1.
    pub bins: Vec<Bin>,
    /// Mean distance between confidence and accuracy of the bins, weighted by their size.
    pub expected_error: f64,
    /// Mean negative logarithm of the described candidate's share, in nats.
    pub negative_log_likelihood: f64,
    /// What dividing the scores makes better; `None` if there is no best divisor: where all choices are right, the smaller the
    /// better, and where scores tell nothing, the larger.
    pub scaled: Option<Scaled>,
}

/// Scores divided by a temperature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scaled {
    /// What makes the negative log-likelihood least: above 1 for a model that is too sure. Fitted to the very descriptions that
    /// are measured, so that what follows is as good as it gets.
    pub temperature: f64,
    /// The expected error at that temperature.
    pub expected_error: f64,
    /// The negative log-likelihood at that temperature.
    pub negative_log_likelihood: f64,
}

impl Calibration {
    pub(super) fn new(labelled: &[Labelled]) -> Calibration {
        let bins = bins(labelled, 1.0);
        let scaled = |temperature| Scaled {
            temperature,
            expected_error: expected_error(&self::bins(labelled, temperature)),
            negative_log_likelihood: loss(labelled, temperature),
        };
        Calibration {
            expected_error: expected_error(&bins),
            bins,
            negative_log_likelihood: loss(labelled, 1.0),
            scaled: best_temperature(labelled).map(scaled),
        }
    }
}

fn bins(labelled: &[Labelled], temperature: f64) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); BINS];
    for entry in labelled {
        let confidence = entry.prediction.shares(temperature)[entry.prediction.best()];
        let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.descriptions += 1;
        bin.confidence += confidence;
        bin.accuracy += f64::from(u8::from(entry.is_right()));
    }
    for bin in bins.iter_mut().filter(|bin| bin.descriptions > 0) {
        bin.confidence /= bin.descriptions as f64;
        bin.accuracy /= bin.descriptions as f64;
    }
    bins
}

fn expected_error(bins: &[Bin]) -> f64 {
    let all: u64 = bins.iter().map(|bin| bin.descriptions).sum();
    let of = |bin: &Bin| bin.descriptions as f64 * (bin.confidence - bin.accuracy).abs();
    bins.iter().map(of).sum::<f64>() / all.max(1) as f64
}

fn loss(labelled: &[Labelled], temperature: f64) -> f64 {
    let of = |entry: &Labelled| {
        let share = entry.prediction.shares(temperature)[entry.target];
        -share.max(f64::MIN_POSITIVE).ln()
    };
    labelled.iter().map(of).sum::<f64>() / labelled.len().max(1) as f64
}

/// Golden-section search over the logarithm, in which the loss has one minimum; `None` if that is beyond the limits.
fn best_temperature(labelled: &[Labelled]) -> Option<f64> {
    let golden = (5.0f64.sqrt() - 1.0) / 2.0;
    let [mut low, mut high] = TEMPERATURES;
    let at = |log: f64| loss(labelled, log.exp());
    let inner = |low: f64, high: f64| (high - golden * (high - low), low + golden * (high - low));
    let (mut left, mut right) = inner(low, high);
    let (mut at_left, mut at_right) = (at(left), at(right));
    for _ in 0..STEPS {
        if at_left < at_right {
            (high, right, at_right) = (right, left, at_left);
            left = inner(low, high).0;
            at_left = at(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = inner(low, high).1;
            at_right = at(right);
        }
    }
    let best = (low + high) / 2.0;
    let least = at(best);
    TEMPERATURES.iter().all(|&limit| at(limit) > least + TOLERANCE).then(|| best.exp())
}

#[cfg(test)]
mod tests {
    use super::super::tests::predictions;
    use super::*;

    #[test]
    fn a_model_that_is_too_sure_has_a_temperature_above_one() {
        // Always 0.9 for the first of two, right three times of four.
        let scores = [0.9f32.ln(), 0.1f32.ln()];
        let list = predictions(&[(0, &scores), (0, &scores), (0, &scores), (1, &scores)]);
        let labelled: Vec<Labelled> = list.iter().filter_map(Labelled::new).collect();
        let calibration = Calibration::new(&labelled);
        assert!((calibration.expected_error - 0.15).abs() < 1e-6, "{calibration:?}");
        let expected = -(3.0 * 0.9f64.ln() + 0.1f64.ln()) / 4.0;
        assert!((calibration.negative_log_likelihood - expected).abs() < 1e-6);
        // At the best temperature the share of the first is 0.75: 9^(1/T) = 3.
        let scaled = calibration.scaled.unwrap();
        assert!((scaled.temperature - 2.0).abs() < 1e-4, "{scaled:?}");
        assert!(scaled.expected_error < 1e-4);
        assert!(scaled.negative_log_likelihood < calibration.negative_log_likelihood);
        assert_eq!(calibration.bins.iter().map(|bin| bin.descriptions).sum::<u64>(), 4);
    }

    #[test]
    fn where_every_choice_is_right_or_scores_tell_nothing_no_temperature_is_best() {
        for targets in [[0, 0, 0, 0], [1, 1, 1, 1]] {
            let list: Vec<(usize, &[f32])> =
                targets.iter().map(|&target| (target, [1.0, 0.0].as_slice())).collect();
            let list = predictions(&list);
            let labelled: Vec<Labelled> = list.iter().filter_map(Labelled::new).collect();
            assert_eq!(Calibration::new(&labelled).scaled, None, "{targets:?}");
        }
    }

    #[test]
    fn certainty_has_a_bin_and_a_loss() {
        let list = predictions(&[(1, &[1e30, 0.0])]);
        let labelled: Vec<Labelled> = list.iter().filter_map(Labelled::new).collect();
        let calibration = Calibration::new(&labelled);
        assert_eq!(calibration.bins[BINS - 1].descriptions, 1);
        assert!(calibration.negative_log_likelihood.is_finite());
    }
}
