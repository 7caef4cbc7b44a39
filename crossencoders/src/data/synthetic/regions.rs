//! Region features of a scene, as an ideal detector with noise would give them.

use feature_store::{Labels, Regions};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::render::{HEIGHT, RADIUS, WIDTH, centre};
use super::scene::{Colour, Object, Scene, Shape};

/// The detector is the same for every data set, whatever its seed.
const CODE_SEED: u64 = 0x7865_6e63;
/// Part of a code's values that are not zero, as in features after a rectifier.
const CODE_DENSITY: f64 = 0.1;
/// Noise on every value, half its width.
const NOISE: f32 = 0.3;
/// Proposals around an object are off by at most this part of its size.
const JITTER: f32 = 0.35;

/// Knows what every colour and shape looks like.
pub struct Detector {
    regions: usize,
    dim: usize,
    colours: Vec<Vec<f32>>,
    shapes: Vec<Vec<f32>>,
    background: Vec<f32>,
}

/// A box in pixels, what it shows, and how sure the detector is.
struct Proposal {
    corners: [f32; 4],
    object: Option<(Object, f32)>,
    confidence: f32,
}

impl Detector {
    pub fn new(regions: usize, dim: usize) -> Detector {
        let mut random = ChaCha8Rng::seed_from_u64(CODE_SEED);
        let mut code = || -> Vec<f32> {
            let mut value = || {
                if random.random_bool(CODE_DENSITY) { random.random_range(0.5..2.0) } else { 0.0 }
            };
            (0..dim).map(|_| value()).collect()
        };
        Detector {
            regions,
            dim,
            colours: Colour::ALL.iter().map(|_| code()).collect(),
            shapes: Shape::ALL.iter().map(|_| code()).collect(),
            background: code(),
        }
    }

    /// Regions from the surest to the least sure.
    pub fn detect(&self, random: &mut ChaCha8Rng, scene: &Scene) -> Regions {
        let mut proposals: Vec<Proposal> = (0..self.regions)
            .map(|number| match scene.objects.get(number) {
                Some(object) => around(random, object, JITTER / 4.0),
                None if random.random_bool(0.5) => {
                    let object = &scene.objects[random.random_range(0..scene.objects.len())];
                    around(random, object, JITTER)
                }
                None => anywhere(random, scene),
            })
            .collect();
        proposals.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        let mut features = Vec::with_capacity(self.regions * self.dim);
        for proposal in &proposals {
            self.describe(random, proposal, &mut features);
        }
        Regions {
            width: WIDTH as u32,
            height: HEIGHT as u32,
            boxes: proposals.iter().map(|proposal| proposal.corners).collect(),
            features,
            dim: self.dim,
            objects: Some(Labels {
                ids: proposals.iter().map(class).collect(),
                confidences: proposals.iter().map(|proposal| proposal.confidence).collect(),
            }),
            attributes: None,
            ..Regions::default()
        }
    }

    /// Colour and shape as far as the box shows them, background for the rest, noise, a rectifier.
    fn describe(&self, random: &mut ChaCha8Rng, proposal: &Proposal, features: &mut Vec<f32>) {
        let (codes, seen) = match proposal.object {
            Some((object, seen)) => {
                let (colour, shape) = object.kind;
                (Some((&self.colours[colour as usize], &self.shapes[shape as usize])), seen)
            }
            None => (None, 0.0),
        };
        for value in 0..self.dim {
            let signal = codes.map_or(0.0, |(colour, shape)| colour[value] + shape[value]);
            // The difference of two uniform numbers: nearly normal, and cheap.
            let bits = random.next_u32();
            let noise = ((bits >> 16) as f32 - (bits & 0xffff) as f32) / 65536.0 * NOISE;
            features.push((signal * seen + self.background[value] * (1.0 - seen) + noise).max(0.0));
        }
    }
}

fn object_box(object: &Object) -> [f32; 4] {
    let (x, y) = centre(object);
    [x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS]
}

/// A box that is off its object by part of its size.
fn around(random: &mut ChaCha8Rng, object: &Object, jitter: f32) -> Proposal {
    let mut off = || random.random_range(-jitter..jitter) * 2.0 * RADIUS;
    let corners = inside_picture(object_box(object).map(|corner| corner + off()));
    let seen = overlap(corners, object_box(object));
    Proposal { corners, object: Some((*object, seen)), confidence: 0.05 + 0.9 * seen }
}

/// A box wherever; it shows the object that it overlaps with most, if any.
fn anywhere(random: &mut ChaCha8Rng, scene: &Scene) -> Proposal {
    let (w, h) = (random.random_range(40.0..160.0), random.random_range(40.0..160.0));
    let x = random.random_range(0.0..WIDTH as f32 - w);
    let y = random.random_range(0.0..HEIGHT as f32 - h);
    let corners = inside_picture([x, y, x + w, y + h]);
    let object = scene
        .objects
        .iter()
        .map(|object| (*object, overlap(corners, object_box(object))))
        .filter(|&(_, seen)| seen > 0.1)
        .max_by(|(_, a), (_, b)| a.total_cmp(b));
    let confidence = 0.05 + 0.4 * object.map_or(0.0, |(_, seen)| seen);
    Proposal { corners, object, confidence }
}

fn inside_picture([x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
    let (w, h) = (WIDTH as f32, HEIGHT as f32);
    [x1.clamp(0.0, w), y1.clamp(0.0, h), x2.clamp(0.0, w), y2.clamp(0.0, h)]
}

/// Intersection over union.
fn overlap(a: [f32; 4], b: [f32; 4]) -> f32 {
    let area = |[x1, y1, x2, y2]: [f32; 4]| (x2 - x1).max(0.0) * (y2 - y1).max(0.0);
    let common = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    common / (area(a) + area(b) - common)
}

/// 0 for background, then one class per shape.
fn class(proposal: &Proposal) -> i64 {
    proposal.object.map_or(0, |(object, _)| 1 + object.kind.1 as i64)
}
