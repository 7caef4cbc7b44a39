//! Ranking the validation split together.

use std::sync::Arc;

use super::{CommError, Ranks, share};
use crate::data::ImageSets;

/// A rank's share of a split.
#[derive(Debug)]
pub(in crate::train) struct Share {
    /// The descriptions that this rank ranks.
    pub sets: Arc<ImageSets>,
    /// Their numbers in the whole split.
    numbers: Vec<usize>,
    /// Where each description's scores begin among all scores of the split; the last is their number.
    offsets: Vec<usize>,
}

impl Share {
    /// Of a split that is the same on all ranks; all get descriptions of like length.
    pub fn new(split: &Arc<ImageSets>, ranks: &Ranks) -> Share {
        let mut offsets = vec![0];
        offsets.extend(split.examples.iter().scan(0, |end, example| {
            *end += example.images.len();
            Some(*end)
        }));
        let lengths = split.lengths();
        let mut numbers: Vec<usize> = (0..lengths.len()).collect();
        if ranks.size() == 1 {
            return Share { sets: Arc::clone(split), numbers, offsets };
        }
        numbers.sort_by_key(|&number| lengths[number]);
        let numbers = share(&numbers, ranks.rank(), ranks.size());
        let examples = numbers.iter().map(|&number| split.examples[number].clone()).collect();
        let sets = Arc::new(ImageSets { examples, sets: split.sets, ..ImageSets::default() });
        Share { sets, numbers, offsets }
    }

    /// The scores of the whole split, in its order, from each rank's scores of its share; `None` on all ranks if any has
    /// none, because it was cancelled.
    ///
    /// # Errors
    /// [`CommError`].
    pub fn gather(
        &self,
        ranks: &Ranks,
        scores: Option<Vec<Vec<f32>>>,
    ) -> Result<Option<Vec<Vec<f32>>>, CommError> {
        if ranks.any(scores.is_none())? {
            return Ok(None);
        }
        if ranks.size() == 1 {
            return Ok(scores);
        }
        // Every score is one rank's, so that the sum with the others' zeros is the score itself.
        let mut all = vec![0.0; self.offsets.last().copied().unwrap_or(0)];
        for (&number, scores) in self.numbers.iter().zip(scores.unwrap_or_default()) {
            all[self.offsets[number]..self.offsets[number + 1]].copy_from_slice(&scores);
        }
        ranks.sum(&mut all)?;
        Ok(Some(self.offsets.windows(2).map(|ends| all[ends[0]..ends[1]].to_vec()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Example;
    use crate::train::distributed::local;

    fn split() -> Arc<ImageSets> {
        let examples = (0..5).map(|number| Example {
            directory: format!("set-{number}"),
            number: 0,
            text: String::new(),
            input_ids: vec![1; 9 - number],
            images: vec![String::new(); 2 + number],
            target: Some(0),
            video: false,
        });
        Arc::new(ImageSets { examples: examples.collect(), sets: 5, ..ImageSets::default() })
    }

    /// Scores that tell whose they are.
    fn scores(sets: &ImageSets) -> Vec<Vec<f32>> {
        let row = |example: &Example| {
            (0..example.images.len())
                .map(|image| (100 * example.images.len() + image) as f32)
                .collect()
        };
        sets.examples.iter().map(row).collect()
    }

    #[test]
    fn scores_of_all_ranks_are_those_of_one_in_the_order_of_the_split() {
        let split = split();
        for size in [1, 2, 3, 7] {
            std::thread::scope(|scope| {
                for communicator in local(size) {
                    let split = &split;
                    scope.spawn(move || {
                        let ranks = Ranks::new(Arc::new(communicator));
                        let share = Share::new(split, &ranks);
                        let all = share.gather(&ranks, Some(scores(&share.sets))).unwrap();
                        assert_eq!(all, Some(scores(split)), "{size} ranks");
                        let mine = (ranks.rank() > 0 || size == 1).then(|| scores(&share.sets));
                        let all = share.gather(&ranks, mine).unwrap();
                        assert_eq!(all.is_none(), size > 1, "one rank was cancelled");
                    });
                }
            });
        }
    }
}
