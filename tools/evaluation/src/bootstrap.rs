//! How far a result would move with other image sets: the cluster bootstrap.
//!
//! Descriptions of one set share its images, so they are not independent. Resampled are image sets: as many as there are,
//! drawn with replacement, each with all its descriptions. Descriptions within a set are not drawn again. A mean is over
//! descriptions, of which a resample has more or fewer than the sample. For a part of the descriptions (videos, a
//! phenomenon) the sets that have some of them are resampled.

use std::collections::HashMap;

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

/// Fewest image sets that say how far a result would move with others. Of fewer, resamples repeat the same few sets: the
/// interval of the three of a toy split can have no width at all.
pub const FEWEST_SETS: usize = 20;

/// How is resampled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bootstrap {
    /// Number of resamples.
    pub resamples: u32,
    /// Part of the resamples, between 0 and 1, that an interval spans.
    pub confidence: f64,
    /// The same seed gives the same intervals, whatever the number of threads.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Bootstrap { resamples: 10_000, confidence: 0.95, seed: 0 }
    }
}

/// A percentile interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// What is summed over the descriptions of a set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cluster<const N: usize> {
    /// Number of descriptions, at least 1.
    pub count: usize,
    /// Sums of N values per description.
    pub sums: [f64; N],
}

/// The descriptions' values, given with the directories of their sets, summed by set; sets in the order of their first
/// description.
pub fn by_set<'a, const N: usize>(
    descriptions: impl IntoIterator<Item = (&'a str, [f64; N])>,
) -> Vec<Cluster<N>> {
    let mut clusters: Vec<Cluster<N>> = Vec::new();
    let mut number_of = HashMap::new();
    for (directory, values) in descriptions {
        let number = *number_of.entry(directory).or_insert(clusters.len());
        if number == clusters.len() {
            clusters.push(Cluster { count: 0, sums: [0.0; N] });
        }
        let cluster = &mut clusters[number];
        cluster.count += 1;
        for (sum, value) in cluster.sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
    clusters
}

/// Means per description; 0 without a description.
pub fn means<'a, const N: usize>(clusters: impl IntoIterator<Item = &'a Cluster<N>>) -> [f64; N] {
    let mut total = Cluster { count: 0, sums: [0.0; N] };
    for cluster in clusters {
        total.count += cluster.count;
        for (sum, more) in total.sums.iter_mut().zip(cluster.sums) {
            *sum += more;
        }
    }
    total.sums.map(|sum| sum / total.count.max(1) as f64)
}

impl Bootstrap {
    /// The means of every resample. Fewer than two clusters say nothing about how clusters differ: no resamples.
    pub fn resampled_means<const N: usize>(&self, clusters: &[Cluster<N>]) -> Vec<[f64; N]> {
        if clusters.len() < 2 {
            return Vec::new();
        }
        let resample = |number: u32| {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            // A stream for each resample: the result does not depend on which thread draws it.
            random.set_stream(u64::from(number));
            means(clusters.iter().map(|_| &clusters[random.random_range(0..clusters.len())]))
        };
        (0..self.resamples).into_par_iter().map(resample).collect()
    }

    /// The interval of a mean over so many sets from its resamples; `None` for fewer sets than [`FEWEST_SETS`].
    pub fn interval(&self, sets: usize, resampled: Vec<f64>) -> Option<Interval> {
        if sets < FEWEST_SETS { None } else { self.percentiles(resampled) }
    }

    /// The part of values that is asked for, in the middle; `None` without values. Between two values it is interpolated
    /// linearly.
    fn percentiles(&self, mut values: Vec<f64>) -> Option<Interval> {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let quantile = |part: f64| {
            let position = part.clamp(0.0, 1.0) * last as f64;
            let (below, above) =
                (values[position.floor() as usize], values[position.ceil() as usize]);
            below + (above - below) * position.fract()
        };
        let tail = (1.0 - self.confidence) / 2.0;
        Some(Interval { low: quantile(tail), high: quantile(1.0 - tail) })
    }

    /// Two-sided p value of a mean over so many sets against 0: how often resampled means are as far from the mean as the
    /// mean is from 0; `None` without resamples. The sample itself counts as one resample, so that it is never 0.
    ///
    /// It is never below 2^(1 - sets), the p value of sets that all differ in the same direction: a test that draws the
    /// sign of each set's difference can give no lower one.
    pub fn p_value(&self, sets: usize, mean: f64, resampled: &[f64]) -> Option<f64> {
        // Equal distances must count as equal although they are rounded.
        let far = mean.abs() - 1e-12;
        let extreme = resampled.iter().filter(|&&value| (value - mean).abs() >= far).count();
        let p = (1 + extreme) as f64 / (1 + resampled.len()) as f64;
        (!resampled.is_empty()).then(|| p.max(0.5_f64.powf(sets as f64 - 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(count: usize, sum: f64) -> Cluster<1> {
        Cluster { count, sums: [sum] }
    }

    fn interval(bootstrap: &Bootstrap, clusters: &[Cluster<1>]) -> Interval {
        let means = bootstrap.resampled_means(clusters);
        bootstrap.percentiles(means.into_iter().map(|[mean]| mean).collect()).unwrap()
    }

    /// Expected values: all 6^6 equally likely resamples of these sets, enumerated with Python's `itertools.product` and
    /// exact `fractions`. The 10 % quantile is 6/17 (cumulated 0.0937 to 0.1027), the 90 % quantile 11/15 (0.8963 to
    /// 0.9091): further from both steps than 200,000 resamples err.
    #[test]
    fn the_interval_is_that_of_all_resamples() {
        let clusters = [(3, 3.0), (2, 0.0), (4, 1.0), (1, 1.0), (3, 2.0), (2, 1.0)]
            .map(|(n, s)| cluster(n, s));
        for seed in 0..3 {
            let bootstrap = Bootstrap { resamples: 200_000, confidence: 0.8, seed };
            let Interval { low, high } = interval(&bootstrap, &clusters);
            assert!((low - 6.0 / 17.0).abs() < 1e-12, "{low}");
            assert!((high - 11.0 / 15.0).abs() < 1e-12, "{high}");
        }
    }

    /// The normal approximation: 1.96 standard errors of 100 sets, not of their 400 descriptions.
    #[test]
    fn descriptions_of_one_set_count_as_one_observation() {
        let clusters: Vec<_> = (0..100).map(|n| cluster(4, f64::from(n % 2) * 4.0)).collect();
        let Interval { low, high } = interval(&Bootstrap::default(), &clusters);
        let half = 1.96 * (0.25_f64 / 100.0).sqrt();
        assert!((low - (0.5 - half)).abs() < 0.011, "{low}");
        assert!((high - (0.5 + half)).abs() < 0.011, "{high}");
    }

    /// NumPy's default and R's type 7 give the same for 0, 1, …, 10.
    #[test]
    fn a_percentile_between_two_values_is_interpolated() {
        let values: Vec<f64> = (0..=10).rev().map(f64::from).collect();
        let ends = |confidence| {
            Bootstrap { confidence, ..Bootstrap::default() }.percentiles(values.clone()).unwrap()
        };
        let ends = [ends(0.95), ends(0.5)];
        assert!((ends[0].low - 0.25).abs() < 1e-12 && (ends[0].high - 9.75).abs() < 1e-12);
        assert!((ends[1].low - 2.5).abs() < 1e-12 && (ends[1].high - 7.5).abs() < 1e-12);
        assert_eq!(Bootstrap::default().percentiles(vec![]), None);
    }

    #[test]
    fn few_sets_have_no_interval_and_no_low_p_value() {
        let bootstrap = Bootstrap::default();
        for (sets, interval, lowest) in
            [(3, false, 0.25), (12, false, 2f64.powi(-11)), (20, true, 1e-4)]
        {
            // All sets are alike.
            let clusters: Vec<_> = (0..sets).map(|_| cluster(4, 2.0)).collect();
            let means = bootstrap.resampled_means(&clusters);
            let means: Vec<f64> = means.into_iter().map(|[mean]| mean).collect();
            let p = bootstrap.p_value(sets, 0.5, &means).unwrap();
            assert!((p / lowest - 1.0).abs() < 1e-3, "{sets}: {p}");
            assert_eq!(bootstrap.interval(sets, means).is_some(), interval, "{sets}");
        }
        assert_eq!(bootstrap.p_value(1, 0.5, &[]), None);
    }

    #[test]
    fn descriptions_are_summed_by_set() {
        let clusters = by_set([("b", [1.0]), ("a", [0.0]), ("b", [0.5])]);
        assert_eq!(clusters, [cluster(2, 1.5), cluster(1, 0.0)]);
        assert_eq!(means(&clusters), [0.5]);
        let one_set = Bootstrap::default().resampled_means(&clusters[..1]);
        assert_eq!(one_set, [] as [[f64; 1]; 0]);
    }

    #[test]
    fn a_seed_gives_the_same_resamples_on_any_number_of_threads() {
        let clusters: Vec<_> =
            (0..30).map(|n| cluster(1 + n % 3, f64::from(n as u32 % 2))).collect();
        let draw = |seed, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let bootstrap = Bootstrap { resamples: 500, seed, ..Bootstrap::default() };
            pool.install(|| bootstrap.resampled_means(&clusters))
        };
        assert_eq!(draw(1, 1), draw(1, 3));
        assert_ne!(draw(1, 1), draw(2, 1));
    }
}
