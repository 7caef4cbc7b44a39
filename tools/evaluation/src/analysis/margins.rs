//! How far the chosen candidate is ahead of the others.

use serde::Serialize;

use super::Labelled;

/// Five points of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Quantiles {
    /// The least.
    pub least: f64,
    /// A quarter is below.
    pub lower: f64,
    /// Half is below.
    pub median: f64,
    /// Three quarters are below.
    pub upper: f64,
    /// The largest.
    pub largest: f64,
}

/// Differences of shares of the softmax between the chosen candidate and the next best.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Margins {
    /// Where the choice is right; `None` if it never is.
    pub right: Option<Quantiles>,
    /// Where it is wrong.
    pub wrong: Option<Quantiles>,
    /// Where it is wrong, by how much the described candidate is behind.
    pub missed_by: Option<Quantiles>,
}

impl Margins {
    pub(super) fn new(labelled: &[Labelled]) -> Margins {
        let (mut right, mut wrong, mut missed) = (Vec::new(), Vec::new(), Vec::new());
        for entry in labelled {
            let shares = entry.prediction.shares(1.0);
            let best = entry.prediction.best();
            let others = shares.iter().enumerate().filter(|(position, _)| *position != best);
            let ahead = shares[best] - others.map(|(_, share)| *share).fold(0.0, f64::max);
            if entry.is_right() {
                right.push(ahead);
            } else {
                wrong.push(ahead);
                missed.push(shares[best] - shares[entry.target]);
            }
        }
        Margins { right: quantiles(right), wrong: quantiles(wrong), missed_by: quantiles(missed) }
    }
}

/// Linear between neighbouring values.
fn quantiles(mut values: Vec<f64>) -> Option<Quantiles> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let at = |part: f64| {
        let place = part * last as f64;
        let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    Some(Quantiles {
        least: at(0.0),
        lower: at(0.25),
        median: at(0.5),
        upper: at(0.75),
        largest: at(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::predictions;
    use super::*;

    #[test]
    fn margins_are_differences_of_shares() {
        // Scores are logarithms of the shares.
        let share = |part: f32| part.ln();
        let sure = [share(0.7), share(0.2), share(0.1)];
        let list = predictions(&[(0, &sure), (2, &sure)]);
        let labelled: Vec<Labelled> = list.iter().filter_map(Labelled::new).collect();
        let margins = Margins::new(&labelled);
        let near = |found: Option<Quantiles>, expected: f64| {
            assert!((found.unwrap().median - expected).abs() < 1e-6, "{found:?}");
        };
        near(margins.right, 0.5);
        near(margins.wrong, 0.5);
        near(margins.missed_by, 0.6);
        assert_eq!(quantiles(Vec::new()), None);
        let five = quantiles(vec![4.0, 0.0, 2.0, 3.0, 1.0]).unwrap();
        assert_eq!((five.least, five.lower, five.upper, five.largest), (0.0, 1.0, 3.0, 4.0));
    }
}
