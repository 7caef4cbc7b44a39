//! What is hidden from a model in pre-training, as VOLTA hides it: word pieces and regions, drawn one by one.
//!
//! Everything here is a pure function of its arguments and of the random numbers it is given; [`random`] gives the same
//! ones for the same example of the same epoch.

use feature_store::{BatchSpec, GlobalFeature, RegionBatch};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The label of what is not to be predicted.
pub const IGNORED: i64 = -1;
/// The label of a region that is to be predicted.
pub const PREDICTED: i64 = 1;

/// Random numbers for one example in one epoch.
pub fn random(seed: u64, epoch: u64, example: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..24].copy_from_slice([seed, epoch, example].map(u64::to_le_bytes).as_flattened());
    ChaCha8Rng::from_seed(key)
}

/// How word pieces are hidden.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WordMasking {
    /// Part of the word pieces that is to be predicted.
    pub chosen: f64,
    /// Part of those that becomes `[MASK]`.
    pub masked: f64,
    /// Part of those that becomes any word piece; the rest stays.
    pub replaced: f64,
    /// Id of `[MASK]`.
    pub mask_id: i64,
    /// Ids that a word piece can be replaced by: 0 up to this.
    pub vocab_size: i64,
}

impl WordMasking {
    /// BERT's and VOLTA's: 15 %, of which 80 % are masked and 10 % replaced.
    pub fn new(mask_id: i64, vocab_size: i64) -> WordMasking {
        WordMasking { chosen: 0.15, masked: 0.8, replaced: 0.1, mask_id, vocab_size }
    }
}

/// A description with hidden word pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedWords {
    /// What the model sees.
    pub input_ids: Vec<i64>,
    /// What it is to predict, or [`IGNORED`].
    pub labels: Vec<i64>,
}

/// Hides word pieces; the first and the last one, `[CLS]` and `[SEP]`, stay and are not predicted.
pub fn mask_words(ids: &[i64], masking: &WordMasking, random: &mut impl Rng) -> MaskedWords {
    let mut words = MaskedWords { input_ids: ids.to_vec(), labels: vec![IGNORED; ids.len()] };
    let inner = ids.len().saturating_sub(1);
    for (at, &id) in ids.iter().enumerate().take(inner).skip(1) {
        let draw: f64 = random.random();
        if draw >= masking.chosen {
            continue;
        }
        words.labels[at] = id;
        // The same draw decides what happens, as it is uniform below `chosen`.
        let what = draw / masking.chosen;
        if what < masking.masked {
            words.input_ids[at] = masking.mask_id;
        } else if what < masking.masked + masking.replaced {
            words.input_ids[at] = random.random_range(0..masking.vocab_size.max(1));
        }
    }
    words
}

/// How regions are hidden.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionMasking {
    /// Part of the regions that is to be predicted.
    pub chosen: f64,
    /// Part of those whose features become zero; the rest stays.
    pub zeroed: f64,
    /// A region overlaps with a chosen one if their intersection over union is larger than this.
    pub overlap: f64,
    /// Whether regions that overlap with a chosen one are hidden, too. VOLTA leaves them visible, and takes them out of
    /// the count only that the global feature is divided by.
    pub hide_overlapping: bool,
}

impl Default for RegionMasking {
    /// VOLTA's: 15 %, of which 90 % are zeroed; overlaps above 0.4.
    fn default() -> Self {
        RegionMasking { chosen: 0.15, zeroed: 0.9, overlap: 0.4, hide_overlapping: false }
    }
}

/// Which regions of an image are hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedRegions {
    /// [`PREDICTED`] or [`IGNORED`].
    pub labels: Vec<i64>,
    /// Whose features become zero.
    pub zeroed: Vec<bool>,
    /// Which overlap with a chosen one, those themselves included.
    pub overlapping: Vec<bool>,
}

/// Chooses regions by their boxes, x1, y1, x2, y2 in pixels.
pub fn mask_regions(
    boxes: &[[f32; 4]],
    masking: &RegionMasking,
    random: &mut impl Rng,
) -> MaskedRegions {
    let mut regions = MaskedRegions {
        labels: vec![IGNORED; boxes.len()],
        zeroed: vec![false; boxes.len()],
        overlapping: vec![false; boxes.len()],
    };
    for (at, chosen) in boxes.iter().enumerate() {
        let draw: f64 = random.random();
        if draw >= masking.chosen {
            continue;
        }
        regions.labels[at] = PREDICTED;
        let zeroed = draw / masking.chosen < masking.zeroed;
        regions.zeroed[at] |= zeroed;
        for (other, region) in boxes.iter().enumerate() {
            if intersection_over_union(chosen, region) > masking.overlap {
                regions.overlapping[other] = true;
                // The chosen region itself stays visible if it was drawn to.
                regions.zeroed[other] |= masking.hide_overlapping && zeroed;
            }
        }
    }
    regions
}

/// Both corners count as pixels of a box, as in the reference.
fn intersection_over_union(a: &[f32; 4], b: &[f32; 4]) -> f64 {
    let side = |from: f32, to: f32| (f64::from(to) - f64::from(from) + 1.0).max(0.0);
    let area = |x: &[f32; 4]| side(x[0], x[2]) * side(x[1], x[3]);
    let shared = side(a[0].max(b[0]), a[2].min(b[2])) * side(a[1].max(b[1]), a[3].min(b[3]));
    let union = area(a) + area(b) - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

/// Hides the regions of one image of a batch, and computes its global feature, if it has one, from what is left: the sum
/// of the regions' features over the number of those that do not overlap with a chosen one (at least 1).
///
/// `regions` may be of more regions than the batch keeps.
pub fn hide(batch: &mut RegionBatch, spec: &BatchSpec, image: usize, regions: &MaskedRegions) {
    let (rows, dim) = (batch.rows, batch.dim);
    let first = usize::from(spec.global_feature == GlobalFeature::First);
    let count = regions.zeroed.len().min(spec.max_regions);
    let features = &mut batch.features[image * rows * dim..][..rows * dim];
    for region in (0..count).filter(|&region| regions.zeroed[region]) {
        features[(first + region) * dim..][..dim].fill(0.0);
    }
    let global = match spec.global_feature {
        GlobalFeature::None => return,
        GlobalFeature::First => 0,
        GlobalFeature::Last => count,
    };
    let mut sum = vec![0.0f32; dim];
    for region in 0..count {
        let row = &features[(first + region) * dim..][..dim];
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    let visible = regions.overlapping[..count].iter().filter(|&&overlaps| !overlaps).count();
    sum.iter_mut().for_each(|sum| *sum /= visible.max(1) as f32);
    features[global * dim..][..dim].copy_from_slice(&sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: i64 = 103;

    fn masked(example: u64) -> (Vec<i64>, MaskedWords) {
        let ids: Vec<i64> =
            std::iter::once(101).chain(1000..3000).chain(std::iter::once(102)).collect();
        let words = mask_words(&ids, &WordMasking::new(MASK, 30522), &mut random(7, 0, example));
        (ids, words)
    }

    #[test]
    fn words_are_hidden_in_bert_s_proportions_and_never_the_special_ones() {
        let (mut chosen, mut masked_words, mut kept, mut all) = (0.0, 0.0, 0.0, 0.0);
        for example in 0..20 {
            let (ids, words) = masked(example);
            assert_eq!((words.labels[0], words.labels[ids.len() - 1]), (IGNORED, IGNORED));
            for (at, &label) in words.labels.iter().enumerate() {
                all += 1.0;
                if label == IGNORED {
                    assert_eq!(words.input_ids[at], ids[at]);
                    continue;
                }
                assert_eq!(label, ids[at]);
                chosen += 1.0;
                masked_words += f64::from(words.input_ids[at] == MASK);
                kept += f64::from(words.input_ids[at] == ids[at]);
            }
        }
        // 40,000 draws: three standard deviations are 0.5 % of all, 1.6 % of the 6,000 that are chosen.
        assert!((chosen / all - 0.15f64).abs() < 0.006, "{}", chosen / all);
        assert!((masked_words / chosen - 0.8f64).abs() < 0.016, "{}", masked_words / chosen);
        assert!((kept / chosen - 0.1f64).abs() < 0.012, "{}", kept / chosen);
    }

    #[test]
    fn the_same_example_of_the_same_epoch_is_masked_alike() {
        assert_eq!(masked(3), masked(3));
        assert_ne!(masked(3), masked(4));
        let draw = |epoch| random(7, epoch, 3).random::<u64>();
        assert_ne!(draw(0), draw(1));
    }

    #[test]
    fn a_text_without_words_has_nothing_to_hide() {
        let all = WordMasking { chosen: 1.0, ..WordMasking::new(MASK, 10) };
        let words = mask_words(&[101, 102], &all, &mut random(0, 0, 0));
        assert_eq!(words, MaskedWords { input_ids: vec![101, 102], labels: vec![IGNORED; 2] });
        assert!(mask_words(&[], &all, &mut random(0, 0, 0)).labels.is_empty());
    }

    #[test]
    fn overlap_counts_both_corners_as_pixels() {
        let box_of = |x1: f32, x2: f32| [x1, 0.0, x2, 9.0];
        // 10 x 10 pixels each, 5 columns shared: 50 of 150.
        let half = intersection_over_union(&box_of(0.0, 9.0), &box_of(5.0, 14.0));
        assert!((half - 1.0 / 3.0).abs() < 1e-12, "{half}");
        assert_eq!(intersection_over_union(&box_of(0.0, 9.0), &box_of(0.0, 9.0)), 1.0);
        assert_eq!(intersection_over_union(&box_of(0.0, 9.0), &box_of(30.0, 39.0)), 0.0);
    }

    /// Two boxes that overlap with 0.82, and one apart.
    const BOXES: [[f32; 4]; 3] =
        [[0.0, 0.0, 9.0, 9.0], [1.0, 0.0, 10.0, 9.0], [50.0, 50.0, 60.0, 60.0]];

    /// A masking by which the first region is chosen and zeroed, and no other.
    fn first_only(hide_overlapping: bool) -> MaskedRegions {
        let masking = RegionMasking { zeroed: 1.0, hide_overlapping, ..Default::default() };
        (0..)
            .map(|example| mask_regions(&BOXES, &masking, &mut random(0, 0, example)))
            .find(|regions| regions.labels == [PREDICTED, IGNORED, IGNORED])
            .unwrap()
    }

    #[test]
    fn overlapping_regions_are_marked_and_hidden_only_on_request() {
        let regions = first_only(false);
        assert_eq!(regions.zeroed, [true, false, false]);
        assert_eq!(regions.overlapping, [true, true, false]);
        assert_eq!(first_only(true).zeroed, [true, true, false]);
    }

    #[test]
    fn regions_are_hidden_in_volta_s_proportions() {
        // Far from each other.
        let boxes: Vec<[f32; 4]> =
            (0..20_000).map(|i| [20.0 * i as f32, 0.0, 20.0 * i as f32 + 5.0, 5.0]).collect();
        let sample = &boxes[..2000];
        let (mut chosen, mut zeroed) = (0, 0);
        for example in 0..10 {
            let masked =
                mask_regions(sample, &RegionMasking::default(), &mut random(1, 0, example));
            chosen += masked.labels.iter().filter(|&&label| label == PREDICTED).count();
            zeroed += masked.zeroed.iter().filter(|&&zeroed| zeroed).count();
        }
        // 20,000 draws: three standard deviations are 0.8 % of all, 1.6 % of the 3,000 chosen.
        assert!((chosen as f64 / 20_000.0 - 0.15).abs() < 0.008, "{chosen}");
        assert!((zeroed as f64 / chosen as f64 - 0.9).abs() < 0.017, "{zeroed} of {chosen}");
    }

    #[test]
    fn the_global_feature_is_made_of_what_is_left() {
        for (global_feature, first, global) in
            [(GlobalFeature::First, 1, 0), (GlobalFeature::Last, 0, 3)]
        {
            let spec = BatchSpec { max_regions: 4, num_locs: 5, global_feature };
            // Two images of 5 rows with 2 numbers: 3 regions, the global feature, padding.
            let mut batch = RegionBatch { images: 2, rows: 5, dim: 2, ..Default::default() };
            batch.features = vec![0.0; 20];
            for region in 0..3 {
                let row = 10 + 2 * (first + region);
                batch.features[row..row + 2].copy_from_slice(&[1.0 + region as f32, 10.0]);
            }
            hide(&mut batch, &spec, 1, &first_only(false));
            let row = |at: usize| &batch.features[10 + 2 * at..12 + 2 * at];
            assert_eq!(row(first), [0.0, 0.0]);
            assert_eq!(row(first + 1), [2.0, 10.0]);
            // Regions 1 and 2 are summed; only region 2 is counted.
            assert_eq!(row(global), [5.0, 20.0], "{global_feature:?}");
            assert!(batch.features[..10].iter().all(|&x| x == 0.0), "the other image");
        }
    }
}
