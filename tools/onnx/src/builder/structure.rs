//! Operators that arrange elements without computing on them.

use super::{GraphBuilder, Value, int, ints};
use crate::error::{BuildError, BuildFault};
use crate::shape::{Dim, Shape};

impl GraphBuilder {
    /// The same elements in another shape: 0 keeps the side at that place, one -1 takes what is left.
    ///
    /// # Errors
    /// [`BuildFault::Reshape`] if the elements cannot be arranged so.
    pub fn reshape(&mut self, x: Value, sides: &[i64]) -> Result<Value, BuildError> {
        let from = self.shape(x).clone();
        let fault = || BuildFault::Reshape { from: from.clone(), to: sides.to_vec() };
        let shape = reshaped(&from, sides).ok_or_else(|| self.fault("Reshape", fault()))?;
        let dtype = self.dtype(x);
        let sides = self.int_list(sides)?;
        Ok(self.node("Reshape", &[x, sides], Vec::new(), dtype, shape))
    }

    /// The axes in another order.
    ///
    /// # Errors
    /// An order that is no permutation of the axes.
    pub fn transpose(&mut self, x: Value, order: &[usize]) -> Result<Value, BuildError> {
        let from = self.shape(x).clone();
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        let whole = sorted.into_iter().eq(0..from.rank());
        self.check("Transpose", whole, || format!("{order:?} is no order of the axes of {from}"))?;
        let shape = order.iter().map(|axis| from.0[*axis].clone()).collect();
        let dtype = self.dtype(x);
        let order: Vec<_> = order.iter().map(|axis| *axis as i64).collect();
        Ok(self.node("Transpose", &[x], vec![ints("perm", &order)], dtype, shape))
    }

    /// Axes of side 1 added; positions are those in the result.
    ///
    /// # Errors
    /// A position that the result does not have, or one named twice.
    pub fn unsqueeze(&mut self, x: Value, axes: &[i64]) -> Result<Value, BuildError> {
        let from = self.shape(x).clone();
        let result = Shape(vec![Dim::Fixed(1); from.rank() + axes.len()]);
        let places = axes
            .iter()
            .map(|axis| self.axis("Unsqueeze", &result, *axis))
            .collect::<Result<Vec<_>, _>>()?;
        let mut sides = from.0.into_iter();
        let shape: Option<Shape> = (0..result.rank())
            .map(|axis| if places.contains(&axis) { Some(Dim::Fixed(1)) } else { sides.next() })
            .collect::<Option<_>>();
        let whole = shape.filter(|_| sides.next().is_none());
        let shape = whole.ok_or_else(|| {
            self.fault("Unsqueeze", BuildFault::Attribute(format!("{axes:?} names an axis twice")))
        })?;
        let dtype = self.dtype(x);
        let axes = self.int_list(axes)?;
        Ok(self.node("Unsqueeze", &[x, axes], Vec::new(), dtype, shape))
    }

    /// Axes of side 1 taken away.
    ///
    /// # Errors
    /// Axes that are not there or have another side.
    pub fn squeeze(&mut self, x: Value, axes: &[i64]) -> Result<Value, BuildError> {
        let from = self.shape(x).clone();
        let places = axes
            .iter()
            .map(|axis| self.axis("Squeeze", &from, *axis))
            .collect::<Result<Vec<_>, _>>()?;
        let single = places.iter().all(|axis| from.0[*axis].may_equal(&Dim::Fixed(1)));
        self.check("Squeeze", single, || {
            format!("not all of axes {axes:?} of {from} have side 1")
        })?;
        let sides = from.0.iter().enumerate().filter(|(axis, _)| !places.contains(axis));
        let shape = sides.map(|(_, dim)| dim.clone()).collect();
        let dtype = self.dtype(x);
        let axes = self.int_list(axes)?;
        Ok(self.node("Squeeze", &[x, axes], Vec::new(), dtype, shape))
    }

    /// Tensors one after the other along an axis.
    ///
    /// # Errors
    /// No tensor; tensors of different types, or whose other sides differ.
    pub fn concat(&mut self, parts: &[Value], axis: i64) -> Result<Value, BuildError> {
        let Some(first) = parts.first() else {
            return Err(
                self.fault("Concat", BuildFault::Attribute("nothing to put together".into()))
            );
        };
        let mut shape = self.shape(*first).clone();
        let place = self.axis("Concat", &shape, axis)?;
        for part in &parts[1..] {
            self.need_same("Concat", *first, *part)?;
            let other = self.shape(*part);
            let fits = |axis: usize| axis == place || shape.0[axis].may_equal(&other.0[axis]);
            if other.rank() != shape.rank() || !(0..shape.rank()).all(fits) {
                return Err(self.fault("Concat", BuildFault::Shapes(shape, other.clone())));
            }
            shape = (0..shape.rank())
                .map(|axis| match (axis == place, shape.0[axis].fixed(), other.0[axis].fixed()) {
                    (true, Some(one), Some(two)) => Dim::Fixed(one + two),
                    (true, ..) => Dim::Any,
                    (false, ..) => shape.0[axis].merge(&other.0[axis]),
                })
                .collect();
        }
        let dtype = self.dtype(*first);
        Ok(self.node("Concat", parts, vec![int("axis", axis)], dtype, shape))
    }

    /// Parts of these sizes along an axis.
    ///
    /// # Errors
    /// An axis that is not there; sizes that do not add up to its side.
    pub fn split(
        &mut self,
        x: Value,
        axis: i64,
        sizes: &[usize],
    ) -> Result<Vec<Value>, BuildError> {
        let from = self.shape(x).clone();
        let place = self.axis("Split", &from, axis)?;
        let total = Dim::Fixed(sizes.iter().sum());
        self.check("Split", from.0[place].may_equal(&total), || {
            format!("{sizes:?} do not add up to axis {axis} of {from}")
        })?;
        let dtype = self.dtype(x);
        let outputs = sizes
            .iter()
            .map(|size| {
                let mut shape = from.clone();
                shape.0[place] = Dim::Fixed(*size);
                (dtype, shape)
            })
            .collect();
        let sizes: Vec<_> = sizes.iter().map(|size| *size as i64).collect();
        let sizes = self.int_list(&sizes)?;
        Ok(self.nodes_of("", "Split", vec![Some(x), Some(sizes)], vec![int("axis", axis)], outputs))
    }

    /// Elements `start` up to, not including, `end` of an axis; negative positions count from the end, and an end beyond
    /// it is the end.
    ///
    /// # Errors
    /// An axis that is not there.
    pub fn slice(
        &mut self,
        x: Value,
        axis: i64,
        start: i64,
        end: i64,
    ) -> Result<Value, BuildError> {
        let mut shape = self.shape(x).clone();
        let place = self.axis("Slice", &shape, axis)?;
        shape.0[place] = shape.0[place].map(|side| {
            let at = |position: i64| if position < 0 { position + side as i64 } else { position };
            let clamp = |position: i64| at(position).clamp(0, side as i64);
            (clamp(end) - clamp(start)).max(0) as usize
        });
        let dtype = self.dtype(x);
        let (start, end, axis) =
            (self.int_list(&[start])?, self.int_list(&[end])?, self.int_list(&[axis])?);
        Ok(self.node("Slice", &[x, start, end, axis], Vec::new(), dtype, shape))
    }

    /// Zeros added before and after along an axis.
    ///
    /// # Errors
    /// An axis that is not there.
    pub fn pad(
        &mut self,
        x: Value,
        axis: i64,
        before: usize,
        after: usize,
    ) -> Result<Value, BuildError> {
        let mut shape = self.shape(x).clone();
        let place = self.axis("Pad", &shape, axis)?;
        shape.0[place] = shape.0[place].map(|side| side + before + after);
        let rank = shape.rank();
        let mut pads = vec![0; 2 * rank];
        (pads[place], pads[rank + place]) = (before as i64, after as i64);
        let dtype = self.dtype(x);
        let pads = self.int_list(&pads)?;
        Ok(self.node("Pad", &[x, pads], Vec::new(), dtype, shape))
    }
}

/// The shape after a reshape, if the elements fit.
fn reshaped(from: &Shape, sides: &[i64]) -> Option<Shape> {
    if sides.iter().any(|side| *side < -1) || sides.iter().filter(|side| **side == -1).count() > 1 {
        return None;
    }
    let known = |(axis, side): (usize, &i64)| match side {
        0 => from.0.get(axis).cloned(),
        -1 => Some(Dim::Any),
        side => Some(Dim::Fixed(*side as usize)),
    };
    let mut to: Vec<Dim> = sides.iter().enumerate().map(known).collect::<Option<_>>()?;
    // Sides that are not numbers cancel where they stand on both sides; only then are the numbers comparable.
    let open = sides.iter().position(|side| *side == -1);
    let mut left: Vec<&Dim> = from.0.iter().filter(|dim| dim.fixed().is_none()).collect();
    for (axis, dim) in to.iter().enumerate() {
        if dim.fixed().is_none() && Some(axis) != open {
            let place = left.iter().position(|other| *other == dim)?;
            left.remove(place);
        }
    }
    let product = |dims: &[Dim]| dims.iter().filter_map(Dim::fixed).product::<usize>();
    let (before, after) = (product(&from.0), product(&to));
    match (open, &left[..]) {
        (None, []) => (before == after).then_some(Shape(to)),
        // A name has become a number, or the other way round: true or not at run time only.
        (None, _) => Some(Shape(to)),
        (Some(open), []) => {
            to[open] = Dim::Fixed(before.checked_div(after).filter(|side| side * after == before)?);
            Some(Shape(to))
        }
        (Some(open), [single]) if before == after => {
            to[open] = (*single).clone();
            Some(Shape(to))
        }
        (Some(_), _) => Some(Shape(to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reshape_keeps_what_is_known() {
        let from = Shape(vec!["batch".into(), 50.into(), 768.into()]);
        let to = |sides: &[i64]| reshaped(&from, sides).map(|shape| shape.to_string());
        assert_eq!(to(&[0, 0, 12, 64]).as_deref(), Some("[batch, 50, 12, 64]"));
        assert_eq!(to(&[0, -1]).as_deref(), Some("[batch, 38400]"));
        assert_eq!(to(&[-1, 50, 768]).as_deref(), Some("[batch, 50, 768]"));
        assert_eq!(to(&[-1, 768]).as_deref(), Some("[?, 768]"));
        assert_eq!(to(&[0, 0, 12, 63]), None);
        assert_eq!(to(&[-1, -1]), None);
        assert_eq!(to(&[0, 0, 0, 0, 1]), None);
        assert_eq!(reshaped(&Shape::fixed(&[6]), &[4, -1]), None);
        assert_eq!(reshaped(&Shape::fixed(&[6]), &[0, 2]), None);
    }
}
