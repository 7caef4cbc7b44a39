//! An image that tells which one it is.

use feature_store::Regions;

/// An image of `dim` values in two regions; every seed gives other values.
pub fn image(seed: u32, dim: usize) -> Regions {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state % 4096) as f32 / 512.0
    };
    Regions {
        width: 100,
        height: 80,
        boxes: vec![[1.0, 2.0, 50.0, 60.0], [0.0, 0.0, 100.0, 80.0]],
        features: (0..2 * dim).map(|_| next()).collect(),
        dim,
        ..Regions::default()
    }
}
