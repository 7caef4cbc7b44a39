//! Where described and chosen candidates lie among the candidates.

use serde::Serialize;

use super::Labelled;

/// Counts by position among the candidates, from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Positions {
    /// How often each position is described.
    pub described: Vec<u64>,
    /// How often each is chosen.
    pub chosen: Vec<u64>,
    /// `confusion[described][chosen]`.
    pub confusion: Vec<Vec<u64>>,
    /// For frames of videos, by how many frames the choice is off: `off[0]` are right. Neighbouring frames are alike.
    pub off: Vec<u64>,
}

impl Positions {
    pub(super) fn new(labelled: &[Labelled]) -> Positions {
        let most = labelled.iter().map(|l| l.prediction.images.len()).max().unwrap_or(0);
        let mut positions = Positions {
            described: vec![0; most],
            chosen: vec![0; most],
            confusion: vec![vec![0; most]; most],
            off: vec![0; most],
        };
        for Labelled { prediction, target, .. } in labelled {
            let best = prediction.best();
            positions.described[*target] += 1;
            positions.chosen[best] += 1;
            positions.confusion[*target][best] += 1;
            if prediction.video {
                positions.off[target.abs_diff(best)] += 1;
            }
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::predictions;
    use super::*;

    #[test]
    fn choices_are_counted_by_position() {
        let list =
            predictions(&[(0, &[9.0, 0.0, 0.0]), (2, &[9.0, 0.0, 0.0]), (1, &[0.0, 0.0, 9.0])]);
        let labelled: Vec<Labelled> = list.iter().filter_map(Labelled::new).collect();
        let positions = Positions::new(&labelled);
        assert_eq!((positions.described, positions.chosen), (vec![1, 1, 1], vec![2, 0, 1]));
        assert_eq!(positions.confusion, [[1, 0, 0], [0, 0, 1], [1, 0, 0]]);
        assert_eq!(positions.off, [1, 1, 1]);
    }
}
