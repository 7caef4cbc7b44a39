//! Whether one run ranks better than another on the same descriptions, or is only luckier.
//!
//! Two tests of the accuracy's difference. McNemar's exact test asks how likely the split of the descriptions that only
//! one of the two gets right would be if either were as likely to be the one; it takes descriptions as independent, which
//! those of one set are not quite. The paired [bootstrap](Bootstrap) resamples image sets, each with the answers
//! of both runs.

use std::collections::HashMap;
use std::f64::consts::LN_2;

use serde::Serialize;

use super::Prediction;
use super::bootstrap::{Bootstrap, Interval, by_set, means};

/// Two runs on the same descriptions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// All descriptions.
    pub all: Difference,
    /// Those of sets of video frames.
    pub video: Difference,
    /// Those of sets of unrelated photographs.
    #[serde(rename = "static")]
    pub photographs: Difference,
    /// Descriptions that only the first run has ranked; they do not count.
    pub left_out_first: usize,
    /// Descriptions that only the second run has ranked; they do not count.
    pub left_out_second: usize,
    /// How the bootstrap was made.
    pub bootstrap: Bootstrap,
}

/// How two runs differ over some descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Number of descriptions.
    pub descriptions: usize,
    /// Image sets that they are of.
    pub sets: usize,
    /// Accuracy of the first run, 0 to 1.
    pub first: f64,
    /// Accuracy of the second run.
    pub second: f64,
    /// The second's accuracy minus the first's.
    pub difference: f64,
    /// Bootstrap interval of the difference; `None` with fewer sets than [`FEWEST_SETS`](super::FEWEST_SETS).
    pub interval: Option<Interval>,
    /// Two-sided p value of the paired bootstrap, never lower than so many sets permit; `None` with fewer than two sets.
    pub bootstrap_p: Option<f64>,
    /// Descriptions that only the first run gets right.
    pub only_first: usize,
    /// Descriptions that only the second run gets right.
    pub only_second: usize,
    /// Two-sided p value of McNemar's exact test.
    pub mcnemar_p: f64,
}

/// Why two runs cannot be compared.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// Not the same descriptions.
    #[error(
        "{first} descriptions were ranked by the first run only, {second} by the second only \
         (such as {number} of {directory}): rank the same split, or compare with --common what both have"
    )]
    NotTheSame {
        /// How many the second lacks.
        first: usize,
        /// How many the first lacks.
        second: usize,
        /// The set of one of them.
        directory: String,
        /// Its number.
        number: usize,
    },
    /// Nothing to compare.
    #[error(
        "the runs have no description with the same candidates in common: rank the same split with both"
    )]
    NothingInCommon,
    /// The same number means different descriptions.
    #[error(
        "description {number} of {directory} has another text or target in the second run: \
         they come from different versions of the split"
    )]
    Contradiction {
        /// The set.
        directory: String,
        /// The number.
        number: usize,
    },
    /// Accuracy without answers.
    #[error(
        "description {number} of {directory} has no target: only labelled splits can be compared"
    )]
    Unlabelled {
        /// The set.
        directory: String,
        /// The number.
        number: usize,
    },
}

/// Two-sided p value of McNemar's exact test: of the descriptions that one run alone gets right, `only_first` and
/// `only_second` of them, either half is as likely to be the larger. Twice the binomial tail, at most 1.
pub fn mcnemar(only_first: usize, only_second: usize) -> f64 {
    let all = only_first + only_second;
    // The logarithm of (all choose n) / 2^all, which itself would be too small for large counts.
    let mut term = -LN_2 * all as f64;
    let mut tail = term.exp();
    for n in 1..=only_first.min(only_second) {
        term += ((all - n + 1) as f64 / n as f64).ln();
        tail += term.exp();
    }
    (2.0 * tail).min(1.0)
}

impl Comparison {
    /// Compares the accuracy of two runs. A description is the same in both if set, number and candidates are. With
    /// `common` those that only one of them has are left out and counted, else they are an error.
    ///
    /// # Errors
    /// [`CompareError`].
    pub fn new(
        first: &[Prediction],
        second: &[Prediction],
        common: bool,
        bootstrap: &Bootstrap,
    ) -> Result<Comparison, CompareError> {
        let pairs = pairs(first, second, common)?;
        let of_kind = |video| {
            let of_kind: Vec<Pair> =
                pairs.iter().filter(|(first, _)| first.video == video).copied().collect();
            Difference::new(&of_kind, bootstrap)
        };
        Ok(Comparison {
            all: Difference::new(&pairs, bootstrap),
            video: of_kind(true),
            photographs: of_kind(false),
            left_out_first: first.len() - pairs.len(),
            left_out_second: second.len() - pairs.len(),
            bootstrap: *bootstrap,
        })
    }
}

/// The same description ranked twice.
type Pair<'a> = (&'a Prediction, &'a Prediction);

impl Difference {
    fn new(pairs: &[Pair], bootstrap: &Bootstrap) -> Difference {
        let right = |prediction: &Prediction| prediction.rank == Some(1);
        let clusters = by_set(pairs.iter().map(|&(first, second)| {
            let [a, b] = [first, second].map(|prediction| f64::from(u8::from(right(prediction))));
            (first.directory.as_str(), [a, b, b - a])
        }));
        let [first, second, difference] = means(&clusters);
        let resampled: Vec<f64> = bootstrap
            .resampled_means(&clusters)
            .into_iter()
            .map(|[_, _, difference]| difference)
            .collect();
        let only_first = pairs.iter().filter(|pair| right(pair.0) && !right(pair.1)).count();
        let only_second = pairs.iter().filter(|pair| right(pair.1) && !right(pair.0)).count();
        Difference {
            descriptions: pairs.len(),
            sets: clusters.len(),
            first,
            second,
            difference,
            bootstrap_p: bootstrap.p_value(clusters.len(), difference, &resampled),
            interval: bootstrap.interval(clusters.len(), resampled),
            only_first,
            only_second,
            mcnemar_p: mcnemar(only_first, only_second),
        }
    }
}

/// What makes a description the same in both runs.
fn key(prediction: &Prediction) -> (&str, usize, &[String]) {
    (&prediction.directory, prediction.number, &prediction.images)
}

/// Descriptions that both have, in the order of the first.
fn pairs<'a>(
    first: &'a [Prediction],
    second: &'a [Prediction],
    common: bool,
) -> Result<Vec<Pair<'a>>, CompareError> {
    let mut rest: HashMap<_, &Prediction> =
        second.iter().map(|prediction| (key(prediction), prediction)).collect();
    let (mut pairs, mut only_first) = (Vec::new(), Vec::new());
    for prediction in first {
        let Some(other) = rest.remove(&key(prediction)) else {
            only_first.push(prediction);
            continue;
        };
        let (directory, number) = (prediction.directory.clone(), prediction.number);
        if prediction.text != other.text || prediction.target != other.target {
            return Err(CompareError::Contradiction { directory, number });
        }
        if prediction.target.is_none() {
            return Err(CompareError::Unlabelled { directory, number });
        }
        pairs.push((prediction, other));
    }
    if pairs.is_empty() {
        return Err(CompareError::NothingInCommon);
    }
    let only_second = second.iter().find(|prediction| rest.contains_key(&key(prediction)));
    match only_first.first().copied().or(only_second) {
        Some(lone) if !common => Err(CompareError::NotTheSame {
            first: only_first.len(),
            second: rest.len(),
            directory: lone.directory.clone(),
            number: lone.number,
        }),
        _ => Ok(pairs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description of which the first or the second candidate is ranked first; the second is right.
    fn prediction(set: usize, number: usize, right: bool) -> Prediction {
        Prediction {
            directory: format!("set_{set}"),
            number,
            text: format!("description {number}"),
            images: vec!["a".into(), "b".into()],
            target: Some(1),
            scores: vec![0.0, if right { 1.0 } else { -1.0 }],
            rank: Some(if right { 1 } else { 2 }),
            tie: false,
            video: set.is_multiple_of(2),
        }
    }

    /// Runs with so many descriptions in each set, of which so many are right; those of the second are the last ones.
    fn runs(sets: &[(usize, usize, usize)]) -> [Vec<Prediction>; 2] {
        let run = |right: fn(usize, (usize, usize, usize)) -> bool| {
            let of_set = |(set, &numbers): (usize, &(usize, usize, usize))| {
                (0..numbers.0)
                    .map(|number| prediction(set, number, right(number, numbers)))
                    .collect::<Vec<_>>()
            };
            sets.iter().enumerate().flat_map(of_set).collect()
        };
        [run(|number, (_, a, _)| number < a), run(|number, (all, _, b)| number >= all - b)]
    }

    /// Expected values: binomial tails as exact fractions, in Python: `2 * sum(Fraction(comb(n, i), 2**n) …)`.
    #[test]
    fn mcnemar_is_twice_the_binomial_tail() {
        for (first, second, expected) in [
            (0, 0, 1.0),
            (0, 1, 1.0),
            (5, 5, 1.0),
            (1, 9, 0.021484375),
            (10, 3, 0.09228515625),
            (0, 10, 0.001953125),
            (130, 190, 0.0009437174415435815),
            (700, 500, 8.535366081034334e-09),
            (1100, 1202, 0.035261534131857945),
        ] {
            let p = mcnemar(first, second);
            assert!((p / expected - 1.0).abs() < 1e-10, "{first}, {second}: {p}, not {expected}");
        }
    }

    /// Expected values: all 6^6 equally likely resamples of these sets, enumerated in Python with exact fractions: 0.11818
    /// of them are as far from 4/15 as that is from 0.
    #[test]
    fn the_paired_bootstrap_is_that_of_all_resamples() {
        let [first, second] =
            runs(&[(3, 1, 3), (2, 1, 1), (4, 2, 3), (1, 1, 0), (3, 0, 2), (2, 1, 1)]);
        let bootstrap = Bootstrap { resamples: 200_000, ..Bootstrap::default() };
        let all = Comparison::new(&first, &second, false, &bootstrap).unwrap().all;
        assert_eq!((all.descriptions, all.sets), (15, 6));
        assert!((all.first - 6.0 / 15.0).abs() < 1e-12 && (all.second - 10.0 / 15.0).abs() < 1e-12);
        assert!((all.difference - 4.0 / 15.0).abs() < 1e-12);
        assert!((all.bootstrap_p.unwrap() - 0.11818).abs() < 0.003, "{:?}", all.bootstrap_p);
        assert_eq!(all.interval, None, "six sets are too few");
    }

    /// The normal approximation: of 100 sets half differ by one in four, and the others not at all.
    #[test]
    fn the_interval_is_that_of_the_difference() {
        let sets: Vec<_> = (0..100).map(|set| (4, 1, 1 + set % 2)).collect();
        let [first, second] = runs(&sets);
        let all = Comparison::new(&first, &second, false, &Bootstrap::default()).unwrap().all;
        let Interval { low, high } = all.interval.unwrap();
        let half = 1.96 * 0.125 / 10.0;
        assert!((low - (0.125 - half)).abs() < 0.003, "{low}");
        assert!((high - (0.125 + half)).abs() < 0.003, "{high}");
    }

    #[test]
    fn what_only_one_run_gets_right_is_counted_by_kind_of_set() {
        let [first, second] = runs(&[(3, 1, 1), (4, 3, 0), (3, 0, 3)]);
        let bootstrap = Bootstrap { resamples: 50, ..Bootstrap::default() };
        let comparison = Comparison::new(&first, &second, false, &bootstrap).unwrap();
        let counts = |difference: Difference| {
            (difference.descriptions, difference.only_first, difference.only_second)
        };
        assert_eq!(counts(comparison.all), (10, 4, 4));
        assert_eq!(counts(comparison.video), (6, 1, 4));
        assert_eq!(counts(comparison.photographs), (4, 3, 0));
        // One set says nothing about how sets differ.
        assert_eq!(
            (comparison.photographs.interval, comparison.photographs.bootstrap_p),
            (None, None)
        );
        assert!((comparison.photographs.mcnemar_p - 0.25).abs() < 1e-12);
        let same = Comparison::new(&first, &first, false, &bootstrap).unwrap().all;
        assert_eq!((same.difference, same.mcnemar_p, same.bootstrap_p), (0.0, 1.0, Some(1.0)));
    }

    #[test]
    fn runs_on_other_descriptions_are_told_apart() {
        let [first, second] = runs(&[(3, 1, 1), (2, 1, 0)]);
        let bootstrap = Bootstrap { resamples: 50, ..Bootstrap::default() };
        let compare =
            |second: &[Prediction], common| Comparison::new(&first, second, common, &bootstrap);
        let error = compare(&second[1..], false).unwrap_err().to_string();
        assert!(
            error.starts_with("1 descriptions were ranked by the first run only, 0 by"),
            "{error}"
        );
        assert!(error.contains("0 of set_0") && error.contains("--common"), "{error}");
        let common = compare(&second[1..], true).unwrap();
        assert_eq!(
            (common.all.descriptions, common.left_out_first, common.left_out_second),
            (4, 1, 0)
        );

        let changed = |change: fn(&mut Prediction)| {
            let mut second = second.clone();
            second.iter_mut().for_each(change);
            compare(&second, true).unwrap_err()
        };
        let (directory, number) = ("set_0".to_owned(), 0);
        assert_eq!(
            changed(|p| p.images = vec!["c".into(), "d".into()]),
            CompareError::NothingInCommon
        );
        assert_eq!(
            changed(|p| p.text.push('x')),
            CompareError::Contradiction { directory: directory.clone(), number }
        );
        assert!(matches!(changed(|p| p.target = Some(0)), CompareError::Contradiction { .. }));
        let unlabelled: Vec<Prediction> =
            first.iter().map(|p| Prediction { target: None, rank: None, ..p.clone() }).collect();
        assert_eq!(
            Comparison::new(&unlabelled, &unlabelled, true, &bootstrap),
            Err(CompareError::Unlabelled { directory, number })
        );
    }
}
