//! What is in a picture: coloured shapes in the cells of a grid.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

/// Cells side by side.
pub const COLUMNS: usize = 4;
/// Cells above each other.
pub const ROWS: usize = 3;
/// Side of a cell in pixels.
pub const CELL: usize = 80;
/// Shapes in a picture, at least and at most.
const OBJECTS: std::ops::RangeInclusive<usize> = 3..=5;
/// Edits between two pictures, at most.
const MOST_EDITS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Circle,
    Square,
    Triangle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Red,
    Green,
    Blue,
    Yellow,
}

impl Shape {
    pub const ALL: [Shape; 3] = [Shape::Circle, Shape::Square, Shape::Triangle];

    pub fn name(self) -> &'static str {
        match self {
            Shape::Circle => "circle",
            Shape::Square => "square",
            Shape::Triangle => "triangle",
        }
    }
}

impl Colour {
    pub const ALL: [Colour; 4] = [Colour::Red, Colour::Green, Colour::Blue, Colour::Yellow];

    pub fn name(self) -> &'static str {
        match self {
            Colour::Red => "red",
            Colour::Green => "green",
            Colour::Blue => "blue",
            Colour::Yellow => "yellow",
        }
    }

    pub fn rgb(self) -> [f32; 3] {
        match self {
            Colour::Red => [214.0, 39.0, 40.0],
            Colour::Green => [44.0, 160.0, 44.0],
            Colour::Blue => [31.0, 90.0, 200.0],
            Colour::Yellow => [240.0, 210.0, 30.0],
        }
    }
}

/// Colour and shape: how an object is spoken of.
pub type Kind = (Colour, Shape);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    pub kind: Kind,
    pub column: usize,
    pub row: usize,
}

/// No two objects share a cell, and no two a kind, so that "the red circle" is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    pub objects: Vec<Object>,
}

impl Scene {
    pub fn find(&self, kind: Kind) -> Option<Object> {
        self.objects.iter().copied().find(|object| object.kind == kind)
    }

    /// The same things in the same places, in whatever order.
    fn equals(&self, other: &Scene) -> bool {
        self.objects.len() == other.objects.len()
            && self.objects.iter().all(|object| other.objects.contains(object))
    }

    fn random(random: &mut ChaCha8Rng) -> Scene {
        let mut scene = Scene { objects: Vec::new() };
        let count = random.random_range(OBJECTS);
        while scene.objects.len() < count {
            scene.add(random);
        }
        scene
    }

    fn add(&mut self, random: &mut ChaCha8Rng) {
        if let (Some(kind), Some((column, row))) = (self.free_kind(random), self.free_cell(random))
        {
            self.objects.push(Object { kind, column, row });
        }
    }

    fn free_cell(&self, random: &mut ChaCha8Rng) -> Option<(usize, usize)> {
        let cells = (0..COLUMNS).flat_map(|column| (0..ROWS).map(move |row| (column, row)));
        let taken = |&(column, row): &(usize, usize)| {
            self.objects.iter().any(|o| (o.column, o.row) == (column, row))
        };
        cells.filter(|cell| !taken(cell)).collect::<Vec<_>>().choose(random).copied()
    }

    fn free_kind(&self, random: &mut ChaCha8Rng) -> Option<Kind> {
        let kinds =
            Colour::ALL.into_iter().flat_map(|colour| Shape::ALL.map(|shape| (colour, shape)));
        kinds.filter(|&kind| self.find(kind).is_none()).collect::<Vec<_>>().choose(random).copied()
    }

    /// One small change.
    fn edit(&mut self, random: &mut ChaCha8Rng) {
        let index = random.random_range(0..self.objects.len());
        let Object { kind: (colour, shape), .. } = self.objects[index];
        match random.random_range(0..12) {
            0..5 => {
                let colours: Vec<Colour> =
                    Colour::ALL.into_iter().filter(|&c| self.find((c, shape)).is_none()).collect();
                if let Some(&colour) = colours.choose(random) {
                    self.objects[index].kind = (colour, shape);
                }
            }
            5..9 => {
                let shapes: Vec<Shape> =
                    Shape::ALL.into_iter().filter(|&s| self.find((colour, s)).is_none()).collect();
                if let Some(&shape) = shapes.choose(random) {
                    self.objects[index].kind = (colour, shape);
                }
            }
            9 if self.objects.len() > *OBJECTS.start() => {
                self.objects.remove(index);
            }
            10 if self.objects.len() < *OBJECTS.end() => self.add(random),
            _ => {
                if let Some((column, row)) = self.free_cell(random) {
                    (self.objects[index].column, self.objects[index].row) = (column, row);
                }
            }
        }
    }
}

/// Pictures that differ little from one that they are all made from.
pub fn variations(random: &mut ChaCha8Rng, count: usize) -> Vec<Scene> {
    let base = Scene::random(random);
    let mut scenes = Vec::new();
    while scenes.len() < count {
        push_edited(random, &base, &mut scenes);
    }
    scenes.shuffle(random);
    scenes
}

/// Pictures that each differ little from the one before.
pub fn frames(random: &mut ChaCha8Rng, count: usize) -> Vec<Scene> {
    let mut scenes = vec![Scene::random(random)];
    while scenes.len() < count {
        let last = scenes[scenes.len() - 1].clone();
        push_edited(random, &last, &mut scenes);
    }
    scenes
}

/// Adds an edited copy, unless there is one like it already.
fn push_edited(random: &mut ChaCha8Rng, from: &Scene, scenes: &mut Vec<Scene>) {
    let mut scene = from.clone();
    for _ in 0..random.random_range(1..=MOST_EDITS) {
        scene.edit(random);
    }
    if !scenes.iter().any(|other| other.equals(&scene)) {
        scenes.push(scene);
    }
}
