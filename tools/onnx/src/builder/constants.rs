//! Constants: equal ones are stored once.

use super::{GraphBuilder, Origin, Value};
use crate::error::BuildError;
use crate::shape::Shape;
use crate::tensor::TensorData;

/// What the names of constants begin with that are the graph's own, not a model's weights.
pub(crate) const OWN_CONSTANTS: &str = "constants/";

impl GraphBuilder {
    /// A constant. Where an equal one is there already that one is used, under its first name.
    ///
    /// # Errors
    /// None so far; constants are checked when they are made.
    pub fn constant(&mut self, name: &str, data: TensorData) -> Result<Value, BuildError> {
        let hash = hash(&data);
        for index in self.shared.get(&hash).into_iter().flatten() {
            let (value, proto) = &self.constants[*index];
            let equal = proto.data_type == data.dtype().code()
                && self.values[value.0].shape == Shape::fixed(data.shape())
                && proto.raw_data.as_deref() == Some(data.as_bytes());
            if equal {
                return Ok(*value);
            }
        }
        let name = self.unique(name);
        let (dtype, shape) = (data.dtype(), Shape::fixed(data.shape()));
        let value = self.value(name.clone(), dtype, shape, Origin::Constant);
        self.shared.entry(hash).or_default().push(self.constants.len());
        self.constants.push((value, data.into_proto(name)));
        Ok(value)
    }

    /// A single f32, of rank 0.
    ///
    /// # Errors
    /// As [`GraphBuilder::constant`].
    pub fn scalar(&mut self, value: f32) -> Result<Value, BuildError> {
        self.constant(&format!("{OWN_CONSTANTS}{value}"), TensorData::scalar(value))
    }

    /// A single i64, of rank 0.
    ///
    /// # Errors
    /// As [`GraphBuilder::constant`].
    pub fn scalar_i64(&mut self, value: i64) -> Result<Value, BuildError> {
        let data = TensorData::new([], vec![value])
            .map_err(|error| self.fault("constant", error.into()))?;
        self.constant(&format!("{OWN_CONSTANTS}int_{value}"), data)
    }

    /// A list of integers, of rank 1.
    ///
    /// # Errors
    /// As [`GraphBuilder::constant`].
    pub fn int_list(&mut self, values: &[i64]) -> Result<Value, BuildError> {
        let words: Vec<_> = values.iter().take(8).map(i64::to_string).collect();
        self.constant(&format!("{OWN_CONSTANTS}[{}]", words.join(",")), TensorData::ints(values))
    }
}

fn hash(data: &TensorData) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(data.as_bytes(), data.dtype().code() as u64)
}
