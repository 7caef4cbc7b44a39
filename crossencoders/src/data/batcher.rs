//! Which descriptions go together: those of like length, so that little is padded.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Batches that are sorted by length together: enough to find like ones, few enough to stay random.
const BATCHES_PER_BUCKET: usize = 50;

/// Random batches of like length for one epoch; a pure function of its arguments. Every index occurs once; only the
/// last batch of a bucket can be smaller than `batch_size`, and only the last bucket has such.
pub fn shuffled(lengths: &[usize], batch_size: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.shuffle(&mut random);
    let batch_size = batch_size.max(1);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for bucket in order.chunks_mut(batch_size.saturating_mul(BATCHES_PER_BUCKET)) {
        // Stable: equal lengths stay in random order.
        bucket.sort_by_key(|&index| lengths[index]);
        batches.extend(bucket.chunks(batch_size).map(<[usize]>::to_vec));
    }
    batches.shuffle(&mut random);
    batches
}

/// Batches for evaluation, from the shortest description to the longest.
pub fn by_length(lengths: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    order.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths() -> Vec<usize> {
        (0..1003).map(|i| 3 + (i * 7919) % 60).collect()
    }

    #[test]
    fn every_description_comes_once_an_epoch() {
        for batches in [shuffled(&lengths(), 8, 1, 2), by_length(&lengths(), 8)] {
            assert_eq!(batches.len(), 126);
            let mut all: Vec<usize> = batches.concat();
            all.sort_unstable();
            assert_eq!(all, (0..1003).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_order_is_a_function_of_seed_and_epoch() {
        assert_eq!(shuffled(&lengths(), 8, 1, 2), shuffled(&lengths(), 8, 1, 2));
        assert_ne!(shuffled(&lengths(), 8, 1, 2), shuffled(&lengths(), 8, 1, 3));
        assert_ne!(shuffled(&lengths(), 8, 1, 2), shuffled(&lengths(), 8, 2, 2));
    }

    #[test]
    fn little_is_padded() {
        let lengths = lengths();
        let padded = |batches: &[Vec<usize>]| -> usize {
            let longest = |batch: &Vec<usize>| batch.iter().map(|&i| lengths[i]).max().unwrap();
            batches.iter().map(|batch| batch.len() * longest(batch)).sum()
        };
        let needed: usize = lengths.iter().sum();
        assert!(padded(&shuffled(&lengths, 8, 0, 0)) < needed * 11 / 10);
    }
}
