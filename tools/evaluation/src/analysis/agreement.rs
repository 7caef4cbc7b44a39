//! What several models make of the same descriptions.

use std::collections::HashMap;

use serde::Serialize;

use crate::Prediction;

/// Two models side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// Which models, by their places.
    pub models: [usize; 2],
    /// Descriptions that both rank right.
    pub both_right: usize,
    /// That only the first does.
    pub only_first: usize,
    /// That only the second does.
    pub only_second: usize,
    /// That neither does, choosing the same candidate.
    pub same_mistake: usize,
    /// That neither does, choosing different ones.
    pub other_mistake: usize,
    /// Cohen's kappa (1960) of being right: 0 is what chance gives, 1 agreement; `None` if one of them is always or never
    /// right.
    pub kappa: Option<f64>,
}

/// Accuracy of all models together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ensemble {
    /// If whoever is right were known: right where any is.
    pub oracle: f64,
    /// Right where all are.
    pub unanimous: f64,
    /// The candidate with the largest mean share of the softmax.
    pub mean_share: f64,
    /// The candidate with the best mean rank; of equals the first.
    pub mean_rank: f64,
}

/// A description that models find hard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hard {
    /// Its set.
    pub directory: String,
    /// Its number in the set.
    pub number: usize,
    /// The description.
    pub text: String,
    /// Its image's rank by each model.
    pub ranks: Vec<usize>,
}

/// Several models on the descriptions that all have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Descriptions that all have.
    pub descriptions: usize,
    /// Every two of them.
    pub pairs: Vec<Pair>,
    /// All of them together.
    pub ensemble: Ensemble,
    /// Those with the largest mean rank, the hardest first.
    pub hardest: Vec<Hard>,
}

/// Compares models on the descriptions that all have, with the same candidates and target; `None` if there are none.
pub fn agreement(models: &[&[Prediction]], hardest: usize) -> Option<Agreement> {
    let shared = shared(models);
    if shared.is_empty() {
        return None;
    }
    let pairs = (0..models.len())
        .flat_map(|first| (first + 1..models.len()).map(move |second| [first, second]));
    Some(Agreement {
        descriptions: shared.len(),
        pairs: pairs.map(|pair| compare(&shared, pair)).collect(),
        ensemble: ensemble(&shared),
        hardest: hard(&shared, hardest),
    })
}

/// One description by every model.
type Row<'a> = Vec<&'a Prediction>;

fn shared<'a>(models: &[&'a [Prediction]]) -> Vec<Row<'a>> {
    type Key<'a> = (&'a str, usize, &'a [String], Option<usize>);
    let key = |p: &'a Prediction| -> Key<'a> { (&p.directory, p.number, &p.images, p.target) };
    let Some((first, others)) = models.split_first() else { return Vec::new() };
    let others: Vec<HashMap<Key, &Prediction>> =
        others.iter().map(|list| list.iter().map(|p| (key(p), p)).collect()).collect();
    let row = |prediction: &'a Prediction| -> Option<Row<'a>> {
        prediction.rank?;
        let found = others.iter().map(|list| list.get(&key(prediction)).copied());
        std::iter::once(Some(prediction)).chain(found).collect()
    };
    first.iter().filter_map(row).collect()
}

fn is_right(prediction: &Prediction) -> bool {
    prediction.rank == Some(1)
}

fn compare(rows: &[Row], models: [usize; 2]) -> Pair {
    let [mut both, mut only_first, mut only_second, mut same, mut other] = [0; 5];
    for row in rows {
        let [a, b] = models.map(|model| row[model]);
        match (is_right(a), is_right(b)) {
            (true, true) => both += 1,
            (true, false) => only_first += 1,
            (false, true) => only_second += 1,
            (false, false) if a.best() == b.best() => same += 1,
            (false, false) => other += 1,
        }
    }
    let all = rows.len() as f64;
    let [first, second] = [both + only_first, both + only_second].map(|right| right as f64 / all);
    let expected = first * second + (1.0 - first) * (1.0 - second);
    let observed = (both + same + other) as f64 / all;
    Pair {
        models,
        both_right: both,
        only_first,
        only_second,
        same_mistake: same,
        other_mistake: other,
        kappa: (expected < 1.0).then(|| (observed - expected) / (1.0 - expected)),
    }
}

fn ensemble(rows: &[Row]) -> Ensemble {
    let part = |is_right: &dyn Fn(&Row) -> bool| {
        rows.iter().filter(|row| is_right(row)).count() as f64 / rows.len() as f64
    };
    let chosen = |row: &Row, value: &dyn Fn(&Prediction) -> Vec<f64>| {
        let mut sums = vec![0.0; row[0].images.len()];
        for prediction in row {
            sums.iter_mut().zip(value(prediction)).for_each(|(sum, value)| *sum += value);
        }
        // Of equals the first, as everywhere.
        (0..sums.len()).rev().max_by(|&a, &b| sums[a].total_cmp(&sums[b]))
    };
    Ensemble {
        oracle: part(&|row| row.iter().any(|p| is_right(p))),
        unanimous: part(&|row| row.iter().all(|p| is_right(p))),
        mean_share: part(&|row| chosen(row, &|p| p.shares(1.0)) == row[0].target),
        mean_rank: part(&|row| chosen(row, &|p| ranks(&p.scores)) == row[0].target),
    }
}

/// Ranks, the best the largest: 0 for it, -1 for the next.
fn ranks(scores: &[f32]) -> Vec<f64> {
    let better = |position: usize| {
        let score = scores[position];
        let is_before =
            |(other, value): (usize, &f32)| *value > score || (*value == score && other < position);
        scores.iter().enumerate().filter(|(other, value)| is_before((*other, value))).count()
    };
    (0..scores.len()).map(|position| -(better(position) as f64)).collect()
}

fn hard(rows: &[Row], most: usize) -> Vec<Hard> {
    let ranks = |row: &Row| -> Vec<usize> { row.iter().filter_map(|p| p.rank).collect() };
    let mut order: Vec<(usize, &Row)> =
        rows.iter().map(|row| (ranks(row).iter().sum(), row)).collect();
    // Stable: of equals the one that comes first in the split.
    order.sort_by_key(|(sum, _)| std::cmp::Reverse(*sum));
    let hard = |(_, row): &(usize, &Row)| {
        let Prediction { directory, number, text, .. } = row[0];
        Hard {
            directory: directory.clone(),
            number: *number,
            text: text.clone(),
            ranks: ranks(row),
        }
    };
    order.iter().take(most).map(hard).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::predictions;
    use super::*;

    #[test]
    fn two_models_agree_as_counted_by_hand() {
        let (a, b, c): (&[f32], &[f32], &[f32]) =
            (&[2.0, 1.0, 0.0], &[0.0, 2.0, 1.0], &[0.0, 1.0, 2.0]);
        let first = predictions(&[(0, a), (0, a), (0, b), (0, b), (0, b)]);
        let second = predictions(&[(0, a), (0, b), (0, a), (0, b), (0, c)]);
        let found = agreement(&[&first, &second], 2).unwrap();
        let pair = &found.pairs[0];
        assert_eq!(
            (
                pair.both_right,
                pair.only_first,
                pair.only_second,
                pair.same_mistake,
                pair.other_mistake
            ),
            (1, 1, 1, 1, 1)
        );
        // Observed 3 of 5; expected 0.4² + 0.6² = 0.52.
        assert!((pair.kappa.unwrap() - (0.6 - 0.52) / 0.48).abs() < 1e-12);
        assert_eq!((found.ensemble.oracle, found.ensemble.unanimous), (0.6, 0.2));
        assert_eq!(found.hardest.len(), 2);
        assert_eq!(found.hardest[0].ranks, [3, 3]);
        assert_eq!(found.hardest[1].ranks, [3, 3]);
    }

    #[test]
    fn together_two_models_can_be_right_where_neither_is() {
        let first = predictions(&[(1, &[1.0, 0.9, -9.0])]);
        let second = predictions(&[(1, &[-9.0, 0.9, 1.0])]);
        let found = agreement(&[&first, &second], 0).unwrap();
        assert_eq!((found.ensemble.oracle, found.ensemble.mean_share), (0.0, 1.0));
        // All three have the same mean rank: the first is taken.
        assert_eq!(found.ensemble.mean_rank, 0.0);
        assert_eq!(found.pairs[0].kappa, None);
    }

    #[test]
    fn other_descriptions_have_nothing_in_common() {
        let first = predictions(&[(1, &[1.0, 0.0])]);
        let second = predictions(&[(1, &[1.0, 0.0, 2.0])]);
        assert_eq!(agreement(&[&first, &second], 5), None);
    }
}
