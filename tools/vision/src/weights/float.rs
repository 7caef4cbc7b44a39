//! The floating-point types of the containers, and their values as f32.

use half::{bf16, f16};

/// The floating-point types of the containers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

impl Float {
    /// Bytes per value.
    pub(super) fn size(self) -> usize {
        match self {
            Float::F16 | Float::Bf16 => 2,
            Float::F32 => 4,
            Float::F64 => 8,
        }
    }
}

/// Little-endian bytes as f32.
pub(super) fn widened(bytes: &[u8], kind: Float) -> Vec<f32> {
    let two = |c: &[u8]| [c[0], c[1]];
    match kind {
        Float::F16 => bytes.chunks_exact(2).map(|c| f16::from_le_bytes(two(c)).to_f32()).collect(),
        Float::Bf16 => {
            bytes.chunks_exact(2).map(|c| bf16::from_le_bytes(two(c)).to_f32()).collect()
        }
        Float::F32 => {
            bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
        }
        Float::F64 => bytes
            .chunks_exact(8)
            .map(|c| f64::from_le_bytes(std::array::from_fn(|n| c[n])) as f32)
            .collect(),
    }
}
