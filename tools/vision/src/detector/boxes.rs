//! Boxes: x1, y1, x2, y2 in continuous pixels, so that a width is x2 - x1. All arithmetic is f32.

/// x1, y1, x2, y2.
pub type Box4 = [f32; 4];

/// Largest logarithm by which a box may grow: ln(1000/16). There is no smallest.
const MAX_GROWTH: f32 = 4.135_166_6;

/// Deltas of the proposals are taken as they are.
pub const PROPOSAL_WEIGHTS: [f32; 4] = [1.0; 4];
/// Deltas of the classes' boxes are divided by these.
pub const CLASS_WEIGHTS: [f32; 4] = [10.0, 10.0, 5.0, 5.0];

/// The box that deltas (dx, dy, dw, dh), divided by the weights, make of a box.
pub fn decode(from: Box4, deltas: [f32; 4], weights: [f32; 4]) -> Box4 {
    let (width, height) = (from[2] - from[0], from[3] - from[1]);
    let (x, y) = (from[0] + 0.5 * width, from[1] + 0.5 * height);
    let [dx, dy, dw, dh] = std::array::from_fn(|n| deltas[n] / weights[n]);
    let (x, y) = (dx * width + x, dy * height + y);
    let half_width = 0.5 * (dw.min(MAX_GROWTH).exp() * width);
    let half_height = 0.5 * (dh.min(MAX_GROWTH).exp() * height);
    [x - half_width, y - half_height, x + half_width, y + half_height]
}

/// The part of a box within an image of that width and height (not width - 1).
pub fn clip([x1, y1, x2, y2]: Box4, width: f32, height: f32) -> Box4 {
    [x1.clamp(0.0, width), y1.clamp(0.0, height), x2.clamp(0.0, width), y2.clamp(0.0, height)]
}

/// Whether a box has no inside.
pub fn is_empty([x1, y1, x2, y2]: Box4) -> bool {
    // Written so that a box with a NaN is empty, too.
    !(x2 - x1 > 0.0 && y2 - y1 > 0.0)
}

/// A box of the network's image in pixels of the picture itself, within it. Sizes are height and width.
pub fn rescale(of: Box4, network: (usize, usize), raw: (usize, usize)) -> Box4 {
    // The quotient in f64 and the product in f32, as in the original.
    let x = (raw.1 as f64 / network.1 as f64) as f32;
    let y = (raw.0 as f64 / network.0 as f64) as f32;
    clip([of[0] * x, of[1] * y, of[2] * x, of[3] * y], raw.1 as f32, raw.0 as f32)
}
