//! Pictures of scenes.

use jpeg_encoder::{ColorType, Encoder};

use super::scene::{CELL, COLUMNS, Object, ROWS, Scene, Shape};

/// Width of a picture in pixels.
pub const WIDTH: usize = COLUMNS * CELL;
/// Height of a picture in pixels.
pub const HEIGHT: usize = ROWS * CELL;
/// Half the side of the square a shape fills, in pixels.
pub const RADIUS: f32 = 30.0;
const BACKGROUND: [f32; 3] = [225.0, 225.0, 218.0];
const QUALITY: u8 = 90;
/// Samples per pixel and direction, for smooth edges.
const SAMPLES: usize = 2;

/// Centre of an object in pixels.
pub fn centre(object: &Object) -> (f32, f32) {
    let middle = |cell: usize| (cell * CELL + CELL / 2) as f32;
    (middle(object.column), middle(object.row))
}

/// A picture as JPEG.
pub fn jpeg(scene: &Scene) -> Result<Vec<u8>, String> {
    let mut pixels = Vec::with_capacity(WIDTH * HEIGHT * 3);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            pixels.extend(pixel(scene, x, y));
        }
    }
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, QUALITY)
        .encode(&pixels, WIDTH as u16, HEIGHT as u16, ColorType::Rgb)
        .map_err(|error| error.to_string())?;
    Ok(jpeg)
}

fn pixel(scene: &Scene, x: usize, y: usize) -> [u8; 3] {
    let cell = (x / CELL, y / CELL);
    let Some(object) = scene.objects.iter().find(|object| (object.column, object.row) == cell)
    else {
        return BACKGROUND.map(|value| value as u8);
    };
    let (cx, cy) = centre(object);
    let mut inside = 0;
    for sample in 0..SAMPLES * SAMPLES {
        let offset = |n: usize| (n as f32 + 0.5) / SAMPLES as f32;
        let (dx, dy) = (offset(sample % SAMPLES), offset(sample / SAMPLES));
        let point = ((x as f32 + dx - cx) / RADIUS, (y as f32 + dy - cy) / RADIUS);
        inside += usize::from(covers(object.kind.1, point));
    }
    let part = inside as f32 / (SAMPLES * SAMPLES) as f32;
    let colour = object.kind.0.rgb();
    std::array::from_fn(|i| (colour[i] * part + BACKGROUND[i] * (1.0 - part)) as u8)
}

/// Whether a point is within a shape that fills the square from -1 to 1.
fn covers(shape: Shape, (x, y): (f32, f32)) -> bool {
    match shape {
        Shape::Circle => x * x + y * y <= 1.0,
        Shape::Square => x.abs() <= 0.9 && y.abs() <= 0.9,
        Shape::Triangle => y <= 0.85 && x.abs() <= (y + 1.0) / 1.85,
    }
}
