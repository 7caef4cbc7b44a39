//! Layers and small sums that all stations of a graph share.

use onnx::{Dtype, GraphBuilder, TensorData, Value};

use super::{ExportError, Inputs, Weights};
use crate::config::{Activation, ModelConfig};

/// BERT's.
const LAYER_NORM_EPS: f32 = 1e-12;

/// A graph in the making, of a network with this configuration.
pub(super) struct Parts<'g, 'w, C = &'w ModelConfig> {
    pub graph: &'g mut GraphBuilder,
    pub weights: &'w Weights,
    pub config: C,
}

impl<'w, C> Parts<'_, 'w, C> {
    /// A parameter.
    pub fn parameter(&self, name: &str) -> Result<&'w TensorData, ExportError> {
        self.weights.get(name).ok_or_else(|| ExportError::Missing(name.to_owned()))
    }

    /// x Wᵀ + b.
    pub fn linear(&mut self, name: &str, x: Value) -> Result<Value, ExportError> {
        let (weight, bias) = self.pair(name)?;
        Ok(self.graph.scope(name, |graph| graph.linear(x, weight, Some(bias)))?)
    }

    /// Several layers over the same x, as one product; the first one's results times `factor`.
    pub fn linears(
        &mut self,
        names: &[String],
        x: Value,
        factor: f32,
    ) -> Result<Vec<Value>, ExportError> {
        let (mut weights, mut biases, mut widths) = (Vec::new(), Vec::new(), Vec::new());
        let mut inputs = 0;
        for (number, name) in names.iter().enumerate() {
            let factor = if number == 0 { factor } else { 1.0 };
            let (weight, bias) = self.pair(name)?;
            let fault = |what: String| ExportError::Parameter { name: name.clone(), what };
            let scaled = |data: &TensorData| -> Result<Vec<f32>, ExportError> {
                let values = data.f32s().map_err(|error| fault(error.to_string()))?;
                Ok(values.iter().map(|value| value * factor).collect())
            };
            let &[outputs, width] = weight.shape() else {
                return Err(fault(format!("{:?} is no matrix", weight.shape())));
            };
            inputs = width;
            weights.extend(scaled(weight)?);
            biases.extend(scaled(bias)?);
            widths.push(outputs);
        }
        let fault = |error: onnx::TensorError| ExportError::Parameter {
            name: names.join(", "),
            what: error.to_string(),
        };
        let all: usize = widths.iter().sum();
        let weight = TensorData::new([all, inputs], weights).map_err(fault)?;
        let bias = TensorData::new([all], biases).map_err(fault)?;
        let scope = names.first().cloned().unwrap_or_default();
        Ok(self.graph.scope(&scope, |graph| {
            let whole = graph.linear(x, &weight, Some(&bias))?;
            match widths.len() {
                1 => Ok(vec![whole]),
                _ => graph.split(whole, -1, &widths),
            }
        })?)
    }

    fn pair(&self, name: &str) -> Result<(&'w TensorData, &'w TensorData), ExportError> {
        let weight = self.parameter(&format!("{name}.weight"))?;
        Ok((weight, self.parameter(&format!("{name}.bias"))?))
    }

    pub fn layer_norm(&mut self, name: &str, x: Value) -> Result<Value, ExportError> {
        let (scale, bias) = self.pair(name)?;
        Ok(self.graph.scope(name, |graph| graph.layer_norm(x, scale, bias, LAYER_NORM_EPS))?)
    }

    pub fn activate(&mut self, activation: Activation, x: Value) -> Result<Value, ExportError> {
        Ok(match activation {
            Activation::Gelu => self.graph.gelu(x)?,
            Activation::Relu => self.graph.relu(x)?,
            Activation::Swish => {
                let gate = self.graph.sigmoid(x)?;
                self.graph.mul(x, gate)?
            }
        })
    }

    /// Rows of a table, by i64 numbers.
    pub fn embedding(&mut self, name: &str, ids: Value) -> Result<Value, ExportError> {
        let table = self.parameter(&format!("{name}.weight"))?.clone();
        let table = self.graph.constant(&format!("{name}.weight"), table)?;
        Ok(self.graph.gather(table, ids, 0)?)
    }

    /// One row of a table, `[width]`.
    pub fn row(&mut self, name: &str, number: usize) -> Result<Value, ExportError> {
        let table = self.parameter(&format!("{name}.weight"))?;
        let fault = |what: String| ExportError::Parameter { name: name.to_owned(), what };
        let values = table.f32s().map_err(|error| fault(error.to_string()))?;
        let width = table.shape().last().copied().unwrap_or(0);
        let row = values.get(number * width..(number + 1) * width).ok_or_else(|| {
            fault(format!("it has {} rows, number {number} is needed", table.shape()[0]))
        })?;
        let row =
            TensorData::new([width], row.to_vec()).map_err(|error| fault(error.to_string()))?;
        Ok(self.graph.constant(&format!("{name}.{number}"), row)?)
    }

    /// 1, 2, 3, … along an axis, of the shape of a tensor: f32.
    pub fn count(&mut self, like: Value, axis: i64) -> Result<Value, ExportError> {
        Ok(self.graph.scope("positions", |graph| {
            let same = graph.equal(like, like)?;
            let ones = graph.cast(same, Dtype::F32)?;
            graph.cumulative_sum(ones, axis)
        })?)
    }

    /// Whole numbers as i64.
    pub fn whole(&mut self, x: Value) -> Result<Value, ExportError> {
        Ok(self.graph.cast(x, Dtype::I64)?)
    }

    /// Zeros `[sets, candidates]`, which give what they are added to as many candidates.
    pub fn zeros(&mut self, inputs: &Inputs) -> Result<Value, ExportError> {
        Ok(self.graph.scope("candidates", |graph| {
            let regions = graph.reduce_max(inputs.region_mask, &[-1], false)?;
            graph.sub(regions, regions)
        })?)
    }
}
