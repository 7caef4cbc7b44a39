//! Regions that a hidden one is to be told from, for noise-contrastive estimation (VOLTA's visual target 2).

use std::ops::Range;

use rand::Rng;

/// Of 128 wanted negatives 70 % come from other images and 30 % from the region's own, both rounded down, as in VOLTA.
const ACROSS: usize = 89;
const INSIDE: usize = 38;

/// For every chosen row 127 others, one chosen row after the other; rows are counted through the batch. `images` are the
/// rows of each image's regions, without the global feature and padding.
///
/// Where there is no other image, or no other region in an image, all come from the other source; where neither exists,
/// there are no negatives at all.
pub fn negatives(chosen: &[usize], images: &[Range<usize>], random: &mut impl Rng) -> Vec<i64> {
    let mut rows = Vec::with_capacity(chosen.len() * (ACROSS + INSIDE));
    for &row in chosen {
        let own = images.iter().find(|image| image.contains(&row)).cloned().unwrap_or(row..row + 1);
        let others: Vec<&Range<usize>> =
            images.iter().filter(|image| !image.is_empty() && !image.contains(&row)).collect();
        let (across, inside) = match (others.is_empty(), own.len() < 2) {
            (false, false) => (ACROSS, INSIDE),
            (false, true) => (ACROSS + INSIDE, 0),
            (true, false) => (0, ACROSS + INSIDE),
            (true, true) => (0, 0),
        };
        for _ in 0..across {
            let image = others[random.random_range(0..others.len())];
            rows.push(random.random_range(image.clone()) as i64);
        }
        for _ in 0..inside {
            let drawn = random.random_range(own.start..own.end - 1);
            // The last one stands in for the region itself: all others are equally likely.
            rows.push(if drawn == row { own.end - 1 } else { drawn } as i64);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::masking::random;
    use super::*;

    fn drawn(chosen: usize, images: &[Range<usize>]) -> Vec<usize> {
        let rows = negatives(&[chosen], images, &mut random(5, 0, 0));
        rows.into_iter().map(|row| row as usize).collect()
    }

    #[test]
    fn negatives_are_other_regions_in_the_proportions_of_volta() {
        // Three images of 10 rows: a global feature, 6 regions, padding.
        let images = [1..7, 11..17, 21..27];
        let rows = drawn(12, &images);
        assert_eq!(rows.iter().filter(|&row| images[1].contains(row)).count(), INSIDE);
        assert_eq!(rows.len(), 127);
        assert!(rows.iter().all(|row| images.iter().any(|image| image.contains(row))));
        assert!(!rows.contains(&12));
        // Every other region comes up sooner or later.
        let many: Vec<usize> = (0..20)
            .flat_map(|seed| negatives(&[12], &images, &mut random(seed, 0, 0)))
            .map(|row| row as usize)
            .collect();
        let possible = images.iter().cloned().flatten().filter(|&row| row != 12);
        assert!(possible.into_iter().all(|row| many.contains(&row)));
    }

    #[test]
    fn what_is_missing_is_taken_from_elsewhere() {
        let one = |image: Range<usize>| std::slice::from_ref(&image).to_vec();
        assert!(drawn(2, &one(1..4)).iter().all(|row| [1, 3].contains(row)));
        assert!(drawn(1, &[1..2, 5..7]).iter().all(|row| [5, 6].contains(row)));
        assert_eq!(drawn(2, &[1..4, 6..6]).len(), 127);
        assert!(drawn(1, &one(1..2)).is_empty());
    }
}
