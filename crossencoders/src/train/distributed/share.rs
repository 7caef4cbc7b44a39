//! Who works on which rows.

/// The rows of a batch that a rank works on: every `size`-th, from its own number on, so that all ranks get descriptions
/// of like length. Empty if the batch has too few rows. The ranks' shares together are the batch.
pub fn share<T: Clone>(rows: &[T], rank: usize, size: usize) -> Vec<T> {
    rows.iter().skip(rank).step_by(size.max(1)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_belongs_to_one_rank_and_shares_are_even() {
        for size in 1..6 {
            let rows: Vec<usize> = (0..13).collect();
            let shares: Vec<Vec<usize>> = (0..size).map(|rank| share(&rows, rank, size)).collect();
            let lengths: Vec<usize> = shares.iter().map(Vec::len).collect();
            assert!(lengths[0] - lengths[size - 1] <= 1, "{lengths:?}");
            let mut all = shares.concat();
            all.sort_unstable();
            assert_eq!(all, rows);
        }
    }

    #[test]
    fn a_batch_smaller_than_the_ranks_leaves_some_without_work() {
        assert_eq!(share(&[7], 0, 3), [7]);
        assert!(share(&[7], 2, 3).is_empty());
    }
}
