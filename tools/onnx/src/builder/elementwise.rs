//! Operators on each element.

use super::{GraphBuilder, Value, int};
use crate::error::{BuildError, BuildFault};
use crate::tensor::Dtype;

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident $op:literal;)+) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// Operands of different types, or of shapes that cannot be broadcast.
        pub fn $name(&mut self, one: Value, two: Value) -> Result<Value, BuildError> {
            let dtype = self.need_same($op, one, two)?;
            self.broadcast($op, one, two, dtype)
        }
    )+};
}

macro_rules! compare {
    ($($(#[$doc:meta])* $name:ident $op:literal;)+) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// Operands of different types, or of shapes that cannot be broadcast.
        pub fn $name(&mut self, one: Value, two: Value) -> Result<Value, BuildError> {
            self.need_same($op, one, two)?;
            self.broadcast($op, one, two, Dtype::Bool)
        }
    )+};
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident $op:literal;)+) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// An operand that is not floating point.
        pub fn $name(&mut self, x: Value) -> Result<Value, BuildError> {
            let dtype = self.need_float($op, x)?;
            let shape = self.shape(x).clone();
            Ok(self.node($op, &[x], Vec::new(), dtype, shape))
        }
    )+};
}

impl GraphBuilder {
    binary! {
        /// one + two
        add "Add";
        /// one - two
        sub "Sub";
        /// one × two
        mul "Mul";
        /// one / two
        div "Div";
        /// one to the power of two
        pow "Pow";
        /// The smaller of the two
        min "Min";
        /// The larger of the two
        max "Max";
    }

    compare! {
        /// one = two
        equal "Equal";
        /// one > two
        greater "Greater";
        /// one ≥ two
        greater_or_equal "GreaterOrEqual";
        /// one < two
        less "Less";
        /// one ≤ two
        less_or_equal "LessOrEqual";
        /// Both true
        and "And";
        /// Either true
        or "Or";
    }

    unary! {
        /// max(x, 0)
        relu "Relu";
        /// 1 / (1 + exp(-x))
        sigmoid "Sigmoid";
        /// Hyperbolic tangent
        tanh "Tanh";
        /// The error function
        erf "Erf";
        /// e to the power of x
        exp "Exp";
        /// Natural logarithm
        log "Log";
        /// Square root
        sqrt "Sqrt";
        /// -x
        neg "Neg";
        /// Sine
        sin "Sin";
        /// Cosine
        cos "Cos";
        /// The largest integer that is not above x
        floor "Floor";
        /// The smallest integer that is not below x
        ceil "Ceil";
        /// |x|
        abs "Abs";
        /// -1, 0 or 1
        sign "Sign";
    }

    /// Not x.
    ///
    /// # Errors
    /// An operand that is not bool.
    pub fn not(&mut self, x: Value) -> Result<Value, BuildError> {
        self.need_dtype("Not", x, Dtype::Bool, "bool is needed")?;
        let shape = self.shape(x).clone();
        Ok(self.node("Not", &[x], Vec::new(), Dtype::Bool, shape))
    }

    /// `yes` where the condition holds, else `no`.
    ///
    /// # Errors
    /// A condition that is not bool; branches of different types; shapes that cannot be broadcast.
    pub fn select(&mut self, condition: Value, yes: Value, no: Value) -> Result<Value, BuildError> {
        self.need_dtype("Where", condition, Dtype::Bool, "the condition must be bool")?;
        let dtype = self.need_same("Where", yes, no)?;
        let branches = self.broadcast_shape("Where", yes, no)?;
        let Some(shape) = branches.broadcast(self.shape(condition)) else {
            let fault = BuildFault::Shapes(self.shape(condition).clone(), branches);
            return Err(self.fault("Where", fault));
        };
        Ok(self.node("Where", &[condition, yes, no], Vec::new(), dtype, shape))
    }

    /// x as another type; as it is if it is of that type.
    ///
    /// # Errors
    /// None so far.
    pub fn cast(&mut self, x: Value, dtype: Dtype) -> Result<Value, BuildError> {
        if self.dtype(x) == dtype {
            return Ok(x);
        }
        let shape = self.shape(x).clone();
        Ok(self.node("Cast", &[x], vec![int("to", dtype.code().into())], dtype, shape))
    }

    /// x, but at most `high`.
    ///
    /// # Errors
    /// An operand that is not f32.
    pub fn at_most(&mut self, x: Value, high: f32) -> Result<Value, BuildError> {
        let high = self.scalar(high)?;
        self.min(x, high)
    }

    /// x times a number.
    ///
    /// # Errors
    /// An operand that is not f32.
    pub fn scale(&mut self, x: Value, factor: f32) -> Result<Value, BuildError> {
        let factor = self.scalar(factor)?;
        self.mul(x, factor)
    }

    /// The exact GELU: x × (1 + erf(x / √2)) / 2, in the form that ONNX Runtime fuses.
    ///
    /// # Errors
    /// An operand that is not f32.
    pub fn gelu(&mut self, x: Value) -> Result<Value, BuildError> {
        self.scope("gelu", |graph| {
            let (root, one, half) =
                (graph.scalar(std::f32::consts::SQRT_2)?, graph.scalar(1.0)?, graph.scalar(0.5)?);
            let scaled = graph.div(x, root)?;
            let erf = graph.erf(scaled)?;
            let shifted = graph.add(erf, one)?;
            let product = graph.mul(x, shifted)?;
            graph.mul(product, half)
        })
    }

    /// CLIP's GELU: x × sigmoid(1.702 x), in the form that ONNX Runtime fuses.
    ///
    /// # Errors
    /// An operand that is not f32.
    pub fn quick_gelu(&mut self, x: Value) -> Result<Value, BuildError> {
        self.scope("quick_gelu", |graph| {
            let scaled = graph.scale(x, 1.702)?;
            let gate = graph.sigmoid(scaled)?;
            graph.mul(x, gate)
        })
    }

    /// x under another name.
    pub(super) fn identity(&mut self, x: Value) -> Value {
        let (dtype, shape) = (self.dtype(x), self.shape(x).clone());
        self.node("Identity", &[x], Vec::new(), dtype, shape)
    }

    fn broadcast(
        &mut self,
        op: &'static str,
        one: Value,
        two: Value,
        dtype: Dtype,
    ) -> Result<Value, BuildError> {
        let shape = self.broadcast_shape(op, one, two)?;
        Ok(self.node(op, &[one, two], Vec::new(), dtype, shape))
    }

    fn broadcast_shape(
        &self,
        op: &str,
        one: Value,
        two: Value,
    ) -> Result<crate::Shape, BuildError> {
        let (one, two) = (self.shape(one), self.shape(two));
        one.broadcast(two)
            .ok_or_else(|| self.fault(op, BuildFault::Shapes(one.clone(), two.clone())))
    }
}
