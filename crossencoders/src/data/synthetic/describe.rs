//! Descriptions that are true of exactly one picture of a set.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::scene::{Colour, Kind, Scene, Shape};

/// A description with more statements would be a list.
const MOST_FACTS: usize = 4;
/// People say more than they must.
const LEAST_FACTS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Above,
    Below,
}

/// One statement about a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    Present(Kind),
    NoShape(Shape),
    NoColour(Colour),
    Relation(Kind, Side, Kind),
}

impl Fact {
    fn holds(self, scene: &Scene) -> bool {
        match self {
            Fact::Present(kind) => scene.find(kind).is_some(),
            Fact::NoShape(shape) => scene.objects.iter().all(|object| object.kind.1 != shape),
            Fact::NoColour(colour) => scene.objects.iter().all(|object| object.kind.0 != colour),
            Fact::Relation(first, side, second) => {
                let (Some(a), Some(b)) = (scene.find(first), scene.find(second)) else {
                    return false;
                };
                match side {
                    Side::Left => a.column < b.column,
                    Side::Right => a.column > b.column,
                    Side::Above => a.row < b.row,
                    Side::Below => a.row > b.row,
                }
            }
        }
    }

    fn text(self, random: &mut ChaCha8Rng) -> String {
        let name = |(colour, shape): Kind| format!("{} {}", colour.name(), shape.name());
        let mut one_of =
            |first: String, second: String| if random.random() { first } else { second };
        match self {
            Fact::Present(kind) => {
                one_of(format!("there is a {}", name(kind)), format!("a {} is visible", name(kind)))
            }
            Fact::NoShape(shape) => one_of(
                format!("no {} is visible", shape.name()),
                format!("there is no {}", shape.name()),
            ),
            Fact::NoColour(colour) => one_of(
                format!("nothing is {}", colour.name()),
                format!("no {} shape", colour.name()),
            ),
            Fact::Relation(first, side, second) => {
                let side = match side {
                    Side::Left => "left of",
                    Side::Right => "right of",
                    Side::Above => "above",
                    Side::Below => "below",
                };
                format!("the {} is {side} the {}", name(first), name(second))
            }
        }
    }
}

/// A few facts that together hold for the target and for no other picture; `None` if that takes too many.
pub fn describe(random: &mut ChaCha8Rng, scenes: &[Scene], target: usize) -> Option<String> {
    let mut facts = facts(&scenes[target]);
    facts.shuffle(random);
    let mut others: Vec<&Scene> =
        scenes.iter().enumerate().filter(|&(number, _)| number != target).map(|(_, s)| s).collect();
    let mut chosen: Vec<Fact> = Vec::new();
    while !others.is_empty() {
        let excluded = |fact: &Fact| others.iter().filter(|scene| !fact.holds(scene)).count();
        let fact = *facts.iter().max_by_key(|fact| excluded(fact) * weight(fact))?;
        if excluded(&fact) == 0 || chosen.len() == MOST_FACTS {
            return None;
        }
        others.retain(|scene| fact.holds(scene));
        chosen.push(fact);
    }
    let differs = |fact: &Fact| scenes.iter().filter(|scene| !fact.holds(scene)).count();
    facts.retain(|fact| weight(fact) > 2 && !chosen.contains(fact));
    facts.sort_by_key(|fact| std::cmp::Reverse(differs(fact)));
    let missing = LEAST_FACTS.saturating_sub(chosen.len());
    chosen.extend(facts.into_iter().take(missing));
    chosen.shuffle(random);
    let clauses: Vec<String> = chosen.into_iter().map(|fact| fact.text(random)).collect();
    Some(clauses.join(", "))
}

/// A plain statement is preferred to a relation that excludes somewhat more.
fn weight(fact: &Fact) -> usize {
    match fact {
        Fact::Relation(..) => 2,
        _ => 3,
    }
}

/// Everything that can be said of a picture.
fn facts(scene: &Scene) -> Vec<Fact> {
    let present = scene.objects.iter().map(|object| Fact::Present(object.kind));
    let shapes = Shape::ALL.map(Fact::NoShape);
    let colours = Colour::ALL.map(Fact::NoColour);
    let relations = scene.objects.iter().flat_map(|a| {
        scene.objects.iter().flat_map(|b| {
            [Side::Left, Side::Right, Side::Above, Side::Below]
                .map(|side| Fact::Relation(a.kind, side, b.kind))
        })
    });
    let all = present.chain(shapes).chain(colours).chain(relations);
    all.filter(|fact| fact.holds(scene)).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::super::scene;
    use super::*;

    /// What a text says, found by reading it back.
    fn parse(text: &str) -> Vec<Fact> {
        let kind = |words: &[&str]| -> Kind {
            (
                *Colour::ALL.iter().find(|colour| colour.name() == words[0]).unwrap(),
                *Shape::ALL.iter().find(|shape| shape.name() == words[1]).unwrap(),
            )
        };
        let clause = |text: &str| {
            let words: Vec<&str> = text.split(' ').collect();
            match words[..] {
                ["there", "is", "a", ..] => Fact::Present(kind(&words[3..])),
                ["a", ..] => Fact::Present(kind(&words[1..])),
                ["no", colour, "shape"] | ["nothing", "is", colour] => {
                    Fact::NoColour(*Colour::ALL.iter().find(|c| c.name() == colour).unwrap())
                }
                ["no", shape, ..] | ["there", "is", "no", shape] => {
                    Fact::NoShape(*Shape::ALL.iter().find(|s| s.name() == shape).unwrap())
                }
                ["the", _, _, "is", side, ..] => {
                    let side = match side {
                        "left" => Side::Left,
                        "right" => Side::Right,
                        "above" => Side::Above,
                        _ => Side::Below,
                    };
                    Fact::Relation(kind(&words[1..]), side, kind(&words[words.len() - 2..]))
                }
                _ => panic!("{text}"),
            }
        };
        text.split(", ").map(clause).collect()
    }

    #[test]
    fn a_description_is_true_of_its_picture_and_of_no_other() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut described = 0;
        for round in 0..60 {
            let scenes = match round % 2 {
                0 => scene::variations(&mut random, 10),
                _ => scene::frames(&mut random, 10),
            };
            for target in 0..scenes.len() {
                let Some(text) = describe(&mut random, &scenes, target) else { continue };
                let facts = parse(&text);
                let fits = |scene: &Scene| facts.iter().all(|fact| fact.holds(scene));
                let fitting: Vec<usize> =
                    (0..scenes.len()).filter(|&number| fits(&scenes[number])).collect();
                assert_eq!(fitting, [target], "{text}");
                described += 1;
            }
        }
        assert!(described > 400, "{described} of 600");
    }
}
