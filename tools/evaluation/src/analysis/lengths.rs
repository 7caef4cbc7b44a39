//! Accuracy by the length of descriptions.

use serde::Serialize;

use super::Labelled;

/// Groups of about equally many descriptions.
const GROUPS: usize = 4;

/// Descriptions of about the same length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LengthGroup {
    /// Fewest words, between white space.
    pub fewest: usize,
    /// Most words.
    pub most: usize,
    /// How many descriptions.
    pub descriptions: usize,
    /// How many of them are ranked right.
    pub accuracy: f64,
}

/// Quarters by length; descriptions of one length are never divided, so that there may be fewer than four.
pub(super) fn by_length(labelled: &[Labelled]) -> Vec<LengthGroup> {
    let words = |entry: &Labelled| entry.prediction.text.split_whitespace().count();
    let mut sorted: Vec<(usize, bool)> =
        labelled.iter().map(|entry| (words(entry), entry.is_right())).collect();
    sorted.sort_unstable();
    let mut groups = Vec::new();
    let mut rest = &sorted[..];
    for left in (1..=GROUPS).rev() {
        let wanted = rest.len().div_ceil(left);
        let Some(&(longest, _)) = wanted.checked_sub(1).and_then(|last| rest.get(last)) else {
            break;
        };
        let (group, after) = rest.split_at(rest.partition_point(|(words, _)| *words <= longest));
        let right = group.iter().filter(|(_, is_right)| *is_right).count();
        groups.push(LengthGroup {
            fewest: group[0].0,
            most: longest,
            descriptions: group.len(),
            accuracy: right as f64 / group.len() as f64,
        });
        rest = after;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::super::tests::predictions;
    use super::*;

    #[test]
    fn quarters_by_length() {
        // The n-th has n + 1 words; every second is right.
        let scores: &[f32] = &[1.0, 0.0];
        let list = predictions(&std::array::from_fn::<_, 8, _>(|n| (n % 2, scores)));
        let labelled: Vec<Labelled> = list.iter().filter_map(Labelled::new).collect();
        let groups = by_length(&labelled);
        let bounds: Vec<_> = groups.iter().map(|group| (group.fewest, group.most)).collect();
        assert_eq!(bounds, [(1, 2), (3, 4), (5, 6), (7, 8)]);
        assert!(groups.iter().all(|group| group.descriptions == 2 && group.accuracy == 0.5));
        assert!(by_length(&[]).is_empty());
    }
}
