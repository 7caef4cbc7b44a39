//! Operators that pick elements.

use super::{GraphBuilder, Value, int};
use crate::error::{BuildError, BuildFault};
use crate::shape::{Dim, Shape};
use crate::tensor::Dtype;

impl GraphBuilder {
    /// Rows of an axis by their numbers (i64 or i32): the axis is replaced by the numbers' shape.
    ///
    /// # Errors
    /// Numbers of another type; an axis that is not there.
    pub fn gather(&mut self, x: Value, indices: Value, axis: i64) -> Result<Value, BuildError> {
        self.need_index("Gather", indices)?;
        let from = self.shape(x).clone();
        let place = self.axis("Gather", &from, axis)?;
        let shape = from.0[..place]
            .iter()
            .chain(&self.shape(indices).0)
            .chain(&from.0[place + 1..])
            .cloned()
            .collect();
        let dtype = self.dtype(x);
        Ok(self.node("Gather", &[x, indices], vec![int("axis", axis)], dtype, shape))
    }

    /// From `[N, T, ...]` and i64 `[N, 1]`, row `t` of each of the N: `[N, ...]`.
    ///
    /// # Errors
    /// Operands of other shapes.
    pub fn gather_row(&mut self, x: Value, rows: Value) -> Result<Value, BuildError> {
        self.need_dtype("GatherND", rows, Dtype::I64, "the positions must be i64")?;
        let (from, positions) = (self.shape(x).clone(), self.need_rank("GatherND", rows, 2)?);
        let fits = from.rank() >= 2
            && from.0[0].may_equal(&positions.0[0])
            && positions.0[1].may_equal(&Dim::Fixed(1));
        if !fits {
            return Err(self.fault("GatherND", BuildFault::Shapes(from, positions)));
        }
        let shape = from.0[..1].iter().chain(&from.0[2..]).cloned().collect();
        let dtype = self.dtype(x);
        Ok(self.node("GatherND", &[x, rows], vec![int("batch_dims", 1)], dtype, shape))
    }

    /// Elements (or rows) of x by places i64 `[..., k]`, each k positions along the first axes of x.
    ///
    /// # Errors
    /// Places of another type, or with more positions than x has axes.
    pub fn gather_nd(&mut self, x: Value, places: Value) -> Result<Value, BuildError> {
        self.need_dtype("GatherND", places, Dtype::I64, "the places must be i64")?;
        let (from, to) = (self.shape(x).clone(), self.shape(places).clone());
        let depth =
            to.0.last().and_then(Dim::fixed).filter(|depth| (1..=from.rank()).contains(depth));
        let Some(depth) = depth else {
            return Err(self.fault("GatherND", BuildFault::Shapes(from, to)));
        };
        let shape = to.0[..to.rank() - 1].iter().chain(&from.0[depth..]).cloned().collect();
        let dtype = self.dtype(x);
        Ok(self.node("GatherND", &[x, places], Vec::new(), dtype, shape))
    }

    /// The `count` largest elements of the last axis, largest first, and their positions (i64).
    ///
    /// # Errors
    /// An operand that is not floating point or has fewer elements than that.
    pub fn top_k(&mut self, x: Value, count: usize) -> Result<(Value, Value), BuildError> {
        let dtype = self.need_float("TopK", x)?;
        let mut shape = self.shape(x).clone();
        let enough =
            shape.0.last().is_some_and(|side| side.fixed().is_none_or(|side| side >= count));
        self.check("TopK", enough, || format!("{count} largest of the last axis of {shape}"))?;
        let last = shape.rank() - 1;
        shape.0[last] = Dim::Fixed(count);
        let number = self.int_list(&[count as i64])?;
        let outputs = vec![(dtype, shape.clone()), (Dtype::I64, shape)];
        let outputs =
            self.nodes_of("", "TopK", vec![Some(x), Some(number)], vec![int("axis", -1)], outputs);
        Ok((outputs[0], outputs[1]))
    }

    /// Greedy suppression of boxes f32 `[1, n, 4]` (two opposite corners) by scores f32 `[1, 1, n]`: by descending score,
    /// a box goes if it overlaps a kept one by more than `overlap`, or if its score is not above `floor`. Gives i64
    /// `[kept, 3]`: 0, 0, number of the box.
    ///
    /// # Errors
    /// Operands of other types or shapes.
    pub fn non_max_suppression(
        &mut self,
        boxes: Value,
        scores: Value,
        most: usize,
        overlap: f32,
        floor: f32,
    ) -> Result<Value, BuildError> {
        const OP: &str = "NonMaxSuppression";
        self.need_dtype(OP, boxes, Dtype::F32, "boxes must be f32")?;
        self.need_same(OP, boxes, scores)?;
        let (corners, ranks) = (self.need_rank(OP, boxes, 3)?, self.need_rank(OP, scores, 3)?);
        if !corners.0[2].may_equal(&Dim::Fixed(4)) || !corners.0[1].may_equal(&ranks.0[2]) {
            return Err(self.fault(OP, BuildFault::Shapes(corners, ranks)));
        }
        let most = self.int_list(&[most as i64])?;
        let list = |value: f32| crate::TensorData::new([1], vec![value]);
        let (overlap, floor) = match (list(overlap), list(floor)) {
            (Ok(overlap), Ok(floor)) => (overlap, floor),
            (Err(error), _) | (_, Err(error)) => return Err(self.fault(OP, error.into())),
        };
        let overlap = self.constant("constants/overlap", overlap)?;
        let floor = self.constant("constants/floor", floor)?;
        let shape = Shape(vec![Dim::Any, Dim::Fixed(3)]);
        Ok(self.node(OP, &[boxes, scores, most, overlap, floor], Vec::new(), Dtype::I64, shape))
    }

    fn need_index(&self, op: &str, value: Value) -> Result<(), BuildError> {
        let found = self.dtype(value);
        let fault = BuildFault::Dtype { wanted: "numbers of rows must be i64 or i32", found };
        if matches!(found, Dtype::I64 | Dtype::I32) { Ok(()) } else { Err(self.fault(op, fault)) }
    }
}
