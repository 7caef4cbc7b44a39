//! Shapes of which some sides are only known by name, and the rules by which operators combine them.

use std::fmt;
use std::sync::Arc;

use crate::proto::{DimensionProto, DimensionValue, TensorShapeProto};

/// One side of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// So many.
    Fixed(usize),
    /// Chosen by whoever runs the graph; equal names are equal numbers.
    Named(Arc<str>),
    /// Follows from the inputs in a way that is not tracked.
    Any,
}

impl Dim {
    /// A side chosen at run time.
    pub fn named(name: &str) -> Dim {
        Dim::Named(name.into())
    }

    /// The number, if it is fixed.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Dim::Fixed(side) => Some(*side),
            Dim::Named(_) | Dim::Any => None,
        }
    }

    /// False if the two cannot be the same number.
    pub fn may_equal(&self, other: &Dim) -> bool {
        match (self, other) {
            (Dim::Fixed(one), Dim::Fixed(two)) => one == two,
            _ => true,
        }
    }

    /// The more that is known of two sides that are the same number.
    pub(crate) fn merge(&self, other: &Dim) -> Dim {
        match (self, other) {
            (Dim::Fixed(_), _) | (Dim::Named(_), Dim::Any) => self.clone(),
            (_, Dim::Fixed(_)) | (Dim::Any, _) => other.clone(),
            (Dim::Named(_), Dim::Named(_)) => self.clone(),
        }
    }

    /// A side that follows from this one by arithmetic.
    pub(crate) fn map(&self, rule: impl Fn(usize) -> usize) -> Dim {
        self.fixed().map_or(Dim::Any, |side| Dim::Fixed(rule(side)))
    }
}

impl From<usize> for Dim {
    fn from(side: usize) -> Dim {
        Dim::Fixed(side)
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Dim {
        Dim::named(name)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(side) => write!(f, "{side}"),
            Dim::Named(name) => f.write_str(name),
            Dim::Any => f.write_str("?"),
        }
    }
}

/// Sides of a tensor; its rank is always known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// From sides that are all fixed.
    pub fn fixed(sides: &[usize]) -> Shape {
        Shape(sides.iter().map(|side| Dim::Fixed(*side)).collect())
    }

    /// Number of sides.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The shape that two tensors are broadcast to, if they can be.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let side = |shape: &Shape, axis: usize| {
            let missing = rank - shape.rank();
            if axis < missing { Dim::Fixed(1) } else { shape.0[axis - missing].clone() }
        };
        (0..rank).map(|axis| broadcast_dim(&side(self, axis), &side(other, axis))).collect()
    }

    pub(crate) fn to_proto(&self) -> TensorShapeProto {
        let dim = self.0.iter().map(|dim| DimensionProto {
            value: match dim {
                Dim::Fixed(side) => Some(DimensionValue::Value(*side as i64)),
                Dim::Named(name) => Some(DimensionValue::Name(name.to_string())),
                Dim::Any => None,
            },
        });
        TensorShapeProto { dim: dim.collect() }
    }

    pub(crate) fn from_proto(proto: &TensorShapeProto) -> Shape {
        proto
            .dim
            .iter()
            .map(|dim| match &dim.value {
                Some(DimensionValue::Value(side)) => {
                    usize::try_from(*side).map_or(Dim::Any, Dim::Fixed)
                }
                Some(DimensionValue::Name(name)) => Dim::named(name),
                None => Dim::Any,
            })
            .collect()
    }
}

fn broadcast_dim(one: &Dim, two: &Dim) -> Option<Dim> {
    match (one, two) {
        (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => Some(other.clone()),
        (Dim::Fixed(one), Dim::Fixed(two)) => (one == two).then_some(Dim::Fixed(*one)),
        // Any other number than 1 is the result, whatever the one that is not known turns out to be.
        (Dim::Fixed(side), _) | (_, Dim::Fixed(side)) => Some(Dim::Fixed(*side)),
        (one, two) => Some(if one == two { one.clone() } else { Dim::Any }),
    }
}

impl FromIterator<Dim> for Shape {
    fn from_iter<I: IntoIterator<Item = Dim>>(dims: I) -> Shape {
        Shape(dims.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides: Vec<_> = self.0.iter().map(Dim::to_string).collect();
        write!(f, "[{}]", sides.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[Dim]) -> Shape {
        Shape(dims.to_vec())
    }

    #[test]
    fn broadcasting_follows_numpy_and_keeps_names() {
        let batch = || Dim::named("batch");
        let one = shape(&[batch(), 1.into(), 4.into()]);
        assert_eq!(
            one.broadcast(&shape(&[3.into(), 1.into()])),
            Some(shape(&[batch(), 3.into(), 4.into()]))
        );
        assert_eq!(one.broadcast(&Shape::default()), Some(one.clone()));
        assert_eq!(one.broadcast(&shape(&[5.into()])), None);
        assert_eq!(shape(&[batch()]).broadcast(&shape(&[batch()])), Some(shape(&[batch()])));
        assert_eq!(
            shape(&[batch()]).broadcast(&shape(&["tokens".into()])),
            Some(shape(&[Dim::Any]))
        );
    }

    #[test]
    fn shapes_survive_a_message() {
        let shape = shape(&["batch".into(), Dim::Any, 7.into()]);
        assert_eq!(Shape::from_proto(&shape.to_proto()), shape);
        assert_eq!(shape.to_string(), "[batch, ?, 7]");
    }
}
