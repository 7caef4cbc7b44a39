//! Products of matrices, and normalisation.

use super::{GraphBuilder, Value, float, int, text};
use crate::error::{BuildError, BuildFault};
use crate::shape::{Dim, Shape};
use crate::tensor::{Dtype, Elements, TensorData};

impl GraphBuilder {
    /// The product of matrices `[..., m, k]` and `[..., k, n]`, whose leading sides are broadcast.
    ///
    /// # Errors
    /// Operands of different types or not floating point, of rank below 2, or whose inner sides differ.
    pub fn matmul(&mut self, one: Value, two: Value) -> Result<Value, BuildError> {
        self.need_float("MatMul", one)?;
        let dtype = self.need_same("MatMul", one, two)?;
        let shape = self.matmul_shape("MatMul", one, two)?;
        Ok(self.node("MatMul", &[one, two], Vec::new(), dtype, shape))
    }

    fn matmul_shape(&self, op: &str, one: Value, two: Value) -> Result<Shape, BuildError> {
        let (left, right) = (self.shape(one), self.shape(two));
        let fault = || self.fault(op, BuildFault::Shapes(left.clone(), right.clone()));
        let ([left_batch @ .., rows, inner], [right_batch @ .., other, columns]) =
            (&left.0[..], &right.0[..])
        else {
            return Err(fault());
        };
        if !inner.may_equal(other) {
            return Err(fault());
        }
        let batch =
            Shape(left_batch.to_vec()).broadcast(&Shape(right_batch.to_vec())).ok_or_else(fault)?;
        Ok(batch.0.into_iter().chain([rows.clone(), columns.clone()]).collect())
    }

    /// x Wᵀ + b for a weight `[out, in]` and a bias `[out]`, both f32. The weight is stored transposed, once for all uses
    /// of these numbers.
    ///
    /// # Errors
    /// A weight that is not a matrix of f32; sides that do not fit.
    pub fn linear(
        &mut self,
        x: Value,
        weight: &TensorData,
        bias: Option<&TensorData>,
    ) -> Result<Value, BuildError> {
        let transposed = transposed(weight).ok_or_else(|| {
            let wanted = "a matrix of f32 is needed".to_owned();
            self.fault("MatMul", BuildFault::Rank { wanted, found: Shape::fixed(weight.shape()) })
        })?;
        let outputs = weight.shape()[0];
        let name = self.place("weight");
        let weight = self.constant(&name, transposed)?;
        let Some(bias) = bias else { return self.matmul(x, weight) };
        let name = self.place("bias");
        let bias = self.constant(&name, bias.clone())?;
        let [batch, Dim::Fixed(rows), Dim::Fixed(width)] = &self.shape(x).clone().0[..] else {
            let product = self.matmul(x, weight)?;
            return self.add(product, bias);
        };
        // Of matrices, ONNX Runtime makes product and bias one operation; of three axes two.
        let matrix = self.reshape(x, &[-1, *width as i64])?;
        let product = self.matmul(matrix, weight)?;
        let sum = self.add(product, bias)?;
        let sides = self.int_list(&[-1, *rows as i64, outputs as i64])?;
        // Given here, for a reshape would not know the name of the side that it finds out.
        let shape = Shape(vec![batch.clone(), (*rows).into(), outputs.into()]);
        let dtype = self.dtype(sum);
        Ok(self.node("Reshape", &[sum, sides], Vec::new(), dtype, shape))
    }

    /// (x - mean) / √(variance + ε) × scale + bias over the last axis; scale and bias are f32 `[width]`.
    ///
    /// # Errors
    /// An operand that is not floating point; a width that does not fit.
    pub fn layer_norm(
        &mut self,
        x: Value,
        scale: &TensorData,
        bias: &TensorData,
        epsilon: f32,
    ) -> Result<Value, BuildError> {
        const OP: &str = "LayerNormalization";
        let dtype = self.need_float(OP, x)?;
        let shape = self.shape(x).clone();
        let width = shape.0.last().cloned().unwrap_or(Dim::Fixed(1));
        for part in [scale, bias] {
            let found = Shape::fixed(part.shape());
            if found.rank() != 1 || !found.0[0].may_equal(&width) {
                return Err(self.fault(OP, BuildFault::Shapes(shape, found)));
            }
        }
        let (name, other) = (self.place("scale"), self.place("bias"));
        let scale = self.constant(&name, scale.clone())?;
        let bias = self.constant(&other, bias.clone())?;
        let attributes = vec![int("axis", -1), float("epsilon", epsilon)];
        Ok(self.node(OP, &[x, scale, bias], attributes, dtype, shape))
    }

    /// exp(x) / Σ exp(x) along an axis.
    ///
    /// # Errors
    /// An operand that is not floating point; an axis that it does not have.
    pub fn softmax(&mut self, x: Value, axis: i64) -> Result<Value, BuildError> {
        let dtype = self.need_float("Softmax", x)?;
        let shape = self.shape(x).clone();
        self.axis("Softmax", &shape, axis)?;
        Ok(self.node("Softmax", &[x], vec![int("axis", axis)], dtype, shape))
    }

    /// The maximum of the map `[1, C, H, W]` in each of `side` × `side` bins of each region `[n, 5]` (0, then x1, y1, x2,
    /// y2 in the image): `[n, C, side, side]`. Has no CUDA kernel.
    ///
    /// # Errors
    /// Operands that are not f32 or of these ranks.
    pub fn max_roi_pool(
        &mut self,
        map: Value,
        regions: Value,
        side: usize,
        scale: f32,
    ) -> Result<Value, BuildError> {
        const OP: &str = "MaxRoiPool";
        self.need_dtype(OP, map, Dtype::F32, "f32 is needed")?;
        self.need_same(OP, map, regions)?;
        let channels = self.need_rank(OP, map, 4)?.0[1].clone();
        let count = self.need_rank(OP, regions, 2)?.0[0].clone();
        let shape = Shape(vec![count, channels, side.into(), side.into()]);
        let attributes =
            vec![super::ints("pooled_shape", &[side as i64; 2]), float("spatial_scale", scale)];
        Ok(self.node(OP, &[map, regions], attributes, Dtype::F32, shape))
    }

    /// Products of sums written with letters: `bij,bjk->bik`.
    ///
    /// # Errors
    /// Operands of different types, or letters that do not fit their shapes.
    pub fn einsum(&mut self, equation: &str, operands: &[Value]) -> Result<Value, BuildError> {
        let shape = self.einsum_shape(equation, operands)?;
        let dtype = self.need_float("Einsum", operands[0])?;
        for operand in operands {
            self.need_same("Einsum", operands[0], *operand)?;
        }
        Ok(self.node("Einsum", operands, vec![text("equation", equation)], dtype, shape))
    }

    fn einsum_shape(&self, equation: &str, operands: &[Value]) -> Result<Shape, BuildError> {
        let fault = || {
            self.fault(
                "Einsum",
                BuildFault::Attribute(format!("`{equation}` does not fit its operands")),
            )
        };
        let (left, right) = equation.split_once("->").ok_or_else(fault)?;
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != operands.len() || operands.is_empty() {
            return Err(fault());
        }
        let mut sides: Vec<(char, Dim)> = Vec::new();
        for (term, operand) in terms.iter().zip(operands) {
            let shape = self.shape(*operand);
            if term.chars().count() != shape.rank() {
                return Err(fault());
            }
            for (letter, dim) in term.chars().zip(&shape.0) {
                match sides.iter_mut().find(|(known, _)| *known == letter) {
                    Some((_, known)) if !known.may_equal(dim) => return Err(fault()),
                    Some((_, known)) => *known = known.merge(dim),
                    None => sides.push((letter, dim.clone())),
                }
            }
        }
        let side =
            |letter| sides.iter().find(|(known, _)| *known == letter).map(|(_, dim)| dim.clone());
        right.chars().map(side).collect::<Option<Vec<_>>>().map(Shape).ok_or_else(fault)
    }
}

/// The transpose of a matrix of f32; nothing for other tensors.
fn transposed(matrix: &TensorData) -> Option<TensorData> {
    let (&[rows, columns], Elements::F32(values)) = (matrix.shape(), matrix.elements()) else {
        return None;
    };
    let mut out = vec![0.0f32; values.len()];
    // Blocks that fit the cache: a plain loop takes a cache miss per element.
    const BLOCK: usize = 32;
    for top in (0..rows).step_by(BLOCK) {
        for left in (0..columns).step_by(BLOCK) {
            for row in top..rows.min(top + BLOCK) {
                for column in left..columns.min(left + BLOCK) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    TensorData::new([columns, rows], out).ok()
}
