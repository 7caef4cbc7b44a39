//! Operators that sum up an axis.

use super::{GraphBuilder, Value, int, ints};
use crate::error::BuildError;
use crate::shape::{Dim, Shape};
use crate::tensor::Dtype;

impl GraphBuilder {
    /// Mean over axes; `keep` leaves them with side 1.
    ///
    /// # Errors
    /// An operand that is not floating point; axes that it does not have.
    pub fn reduce_mean(&mut self, x: Value, axes: &[i64], keep: bool) -> Result<Value, BuildError> {
        self.reduce("ReduceMean", x, axes, keep)
    }

    /// Maximum over axes; `keep` leaves them with side 1.
    ///
    /// # Errors
    /// An operand that is not floating point; axes that it does not have.
    pub fn reduce_max(&mut self, x: Value, axes: &[i64], keep: bool) -> Result<Value, BuildError> {
        self.reduce("ReduceMax", x, axes, keep)
    }

    /// Root of the sum of squares over axes; `keep` leaves them with side 1.
    ///
    /// # Errors
    /// An operand that is not floating point; axes that it does not have.
    pub fn reduce_l2(&mut self, x: Value, axes: &[i64], keep: bool) -> Result<Value, BuildError> {
        self.reduce("ReduceL2", x, axes, keep)
    }

    /// Sum over axes; `keep` leaves them with side 1.
    ///
    /// # Errors
    /// An operand that is not floating point; axes that it does not have.
    pub fn reduce_sum(&mut self, x: Value, axes: &[i64], keep: bool) -> Result<Value, BuildError> {
        // Alone among the reductions of this opset, the sum takes its axes as an input.
        let dtype = self.need_float("ReduceSum", x)?;
        let shape = self.reduced("ReduceSum", x, axes, keep)?;
        let axes = self.int_list(axes)?;
        Ok(self.node("ReduceSum", &[x, axes], vec![int("keepdims", keep.into())], dtype, shape))
    }

    /// Position of the largest element along an axis (the first of equal ones), i64; `keep` leaves the axis with side 1.
    ///
    /// # Errors
    /// An operand that is not floating point (CUDA has no kernel for others); an axis that it does not have.
    pub fn argmax(&mut self, x: Value, axis: i64, keep: bool) -> Result<Value, BuildError> {
        self.need_float("ArgMax", x)?;
        let shape = self.reduced("ArgMax", x, &[axis], keep)?;
        let attributes = vec![int("axis", axis), int("keepdims", keep.into())];
        Ok(self.node("ArgMax", &[x], attributes, Dtype::I64, shape))
    }

    /// Sums of all elements up to each along an axis.
    ///
    /// # Errors
    /// An operand of 8 or 16 bits; an axis that it does not have.
    pub fn cumulative_sum(&mut self, x: Value, axis: i64) -> Result<Value, BuildError> {
        let (dtype, shape) = (self.dtype(x), self.shape(x).clone());
        self.check("CumSum", dtype.bytes() >= 4, || format!("it takes no {dtype}"))?;
        self.axis("CumSum", &shape, axis)?;
        let axis = self.scalar_i64(axis)?;
        Ok(self.node("CumSum", &[x, axis], Vec::new(), dtype, shape))
    }

    fn reduce(
        &mut self,
        op: &'static str,
        x: Value,
        axes: &[i64],
        keep: bool,
    ) -> Result<Value, BuildError> {
        let dtype = self.need_float(op, x)?;
        let shape = self.reduced(op, x, axes, keep)?;
        let attributes = vec![ints("axes", axes), int("keepdims", keep.into())];
        Ok(self.node(op, &[x], attributes, dtype, shape))
    }

    fn reduced(&self, op: &str, x: Value, axes: &[i64], keep: bool) -> Result<Shape, BuildError> {
        let shape = self.shape(x);
        let axes =
            axes.iter().map(|axis| self.axis(op, shape, *axis)).collect::<Result<Vec<_>, _>>()?;
        let sides = shape.0.iter().enumerate();
        Ok(sides
            .filter_map(|(axis, dim)| match (axes.contains(&axis), keep) {
                (false, _) => Some(dim.clone()),
                (true, true) => Some(Dim::Fixed(1)),
                (true, false) => None,
            })
            .collect())
    }
}
