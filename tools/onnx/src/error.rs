//! What can be wrong with a graph while it is built.

use crate::shape::Shape;
use crate::tensor::{Dtype, TensorError};

/// A fault and the operator it was found at.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct BuildError {
    /// Scope and operator: `layer.3/attention/query/MatMul`.
    pub place: String,
    /// What is wrong.
    pub fault: BuildFault,
}

/// What can be wrong with an operator and what it is given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BuildFault {
    /// An operand is of a type that the operator does not take.
    #[error("operand of type {found}, {wanted}")]
    Dtype {
        /// Types that would do.
        wanted: &'static str,
        /// Type that is there.
        found: Dtype,
    },
    /// Two operands that must be of one type are not.
    #[error("operands of types {0} and {1}; they must be of one type")]
    Dtypes(Dtype, Dtype),
    /// An operand has too many or too few sides.
    #[error("operand of shape {found}, {wanted}")]
    Rank {
        /// What would do.
        wanted: String,
        /// Shape that is there.
        found: Shape,
    },
    /// Two operands do not fit each other.
    #[error("shapes {0} and {1} do not fit")]
    Shapes(Shape, Shape),
    /// An axis that the operand does not have.
    #[error("axis {axis} of shape {shape}")]
    Axis {
        /// The axis asked for.
        axis: i64,
        /// The shape.
        shape: Shape,
    },
    /// The elements cannot be arranged so.
    #[error("shape {from} cannot become {to:?}")]
    Reshape {
        /// The shape that is there.
        from: Shape,
        /// The sides asked for.
        to: Vec<i64>,
    },
    /// An attribute that makes no sense.
    #[error("{0}")]
    Attribute(String),
    /// Two inputs or outputs of one name.
    #[error("the name `{0}` is taken")]
    Name(String),
    /// A constant whose elements do not fit its shape.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}
