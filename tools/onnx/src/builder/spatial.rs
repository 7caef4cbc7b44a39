//! Convolution and pooling of maps `[N, C, H, W]`.

use super::{GraphBuilder, Value, int, ints};
use crate::error::{BuildError, BuildFault};
use crate::shape::{Dim, Shape};

/// How a kernel moves over a map; the same in both directions.
#[derive(Debug, Clone, Copy)]
pub struct ConvOptions {
    /// Step of the kernel.
    pub stride: usize,
    /// Zeros added on every side.
    pub padding: usize,
    /// Distance of the kernel's elements.
    pub dilation: usize,
}

impl Default for ConvOptions {
    fn default() -> ConvOptions {
        ConvOptions { stride: 1, padding: 0, dilation: 1 }
    }
}

/// How a window moves over a map.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// Height and width of the window.
    pub window: [usize; 2],
    /// Its step.
    pub stride: usize,
    /// Added at the bottom and the right.
    pub padding_end: [usize; 2],
    /// Windows that reach over the border count.
    pub ceil: bool,
}

impl GraphBuilder {
    /// Convolution of `[N, C, H, W]` with a weight `[out, C, h, w]` and a bias `[out]`.
    ///
    /// # Errors
    /// Operands of different types or ranks; channels that do not fit; a stride or a dilation of 0.
    pub fn conv(
        &mut self,
        x: Value,
        weight: Value,
        bias: Option<Value>,
        options: ConvOptions,
    ) -> Result<Value, BuildError> {
        self.need_float("Conv", x)?;
        let dtype = self.need_same("Conv", x, weight)?;
        let (map, kernel) = (self.need_rank("Conv", x, 4)?, self.need_rank("Conv", weight, 4)?);
        let ConvOptions { stride, padding, dilation } = options;
        self.check("Conv", stride > 0 && dilation > 0, || {
            "stride and dilation must be 1 or more".into()
        })?;
        let fixed = kernel.0.iter().map(Dim::fixed).collect::<Option<Vec<_>>>();
        let (Some(kernel), true) = (fixed, map.0[1].may_equal(&kernel.0[1])) else {
            return Err(self.fault("Conv", BuildFault::Shapes(map, kernel)));
        };
        if let Some(bias) = bias
            && *self.shape(bias) != Shape::fixed(&kernel[..1])
        {
            return Err(self.fault(
                "Conv",
                BuildFault::Shapes(Shape::fixed(&kernel), self.shape(bias).clone()),
            ));
        }
        let side = |dim: &Dim, kernel: usize| {
            dim.map(|side| {
                (side + 2 * padding).saturating_sub(dilation * (kernel - 1) + 1) / stride + 1
            })
        };
        let shape = Shape(vec![
            map.0[0].clone(),
            kernel[0].into(),
            side(&map.0[2], kernel[2]),
            side(&map.0[3], kernel[3]),
        ]);
        let attributes = vec![
            ints("kernel_shape", &[kernel[2] as i64, kernel[3] as i64]),
            ints("strides", &[stride as i64; 2]),
            ints("pads", &[padding as i64; 4]),
            ints("dilations", &[dilation as i64; 2]),
        ];
        let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
        Ok(self.node("Conv", &inputs, attributes, dtype, shape))
    }

    /// Maximum of each window.
    ///
    /// # Errors
    /// A map that is not floating point `[N, C, H, W]`; an empty window or stride.
    pub fn max_pool(&mut self, x: Value, options: PoolOptions) -> Result<Value, BuildError> {
        self.pool("MaxPool", x, options)
    }

    /// Mean of each window of this side; what does not fill a window at the border is left out.
    ///
    /// # Errors
    /// A map that is not floating point `[N, C, H, W]`; an empty window.
    pub fn average_pool(&mut self, x: Value, side: usize) -> Result<Value, BuildError> {
        let options =
            PoolOptions { window: [side; 2], stride: side, padding_end: [0; 2], ceil: false };
        self.pool("AveragePool", x, options)
    }

    /// Mean of each map, `[N, C, 1, 1]`. On a processor this reads what convolutions write as they leave it, where a mean over
    /// two axes has it laid out anew first.
    ///
    /// # Errors
    /// A map that is not floating point `[N, C, H, W]`.
    pub fn global_average_pool(&mut self, x: Value) -> Result<Value, BuildError> {
        const OP: &str = "GlobalAveragePool";
        let dtype = self.need_float(OP, x)?;
        let map = self.need_rank(OP, x, 4)?;
        let shape = Shape(vec![map.0[0].clone(), map.0[1].clone(), 1.into(), 1.into()]);
        Ok(self.node(OP, &[x], Vec::new(), dtype, shape))
    }

    fn pool(
        &mut self,
        op: &'static str,
        x: Value,
        options: PoolOptions,
    ) -> Result<Value, BuildError> {
        let dtype = self.need_float(op, x)?;
        let map = self.need_rank(op, x, 4)?;
        let PoolOptions { window, stride, padding_end, ceil } = options;
        let sound = stride > 0 && window.iter().all(|side| *side > 0);
        self.check(op, sound, || "window and stride must be 1 or more".into())?;
        let side = |axis: usize| {
            map.0[2 + axis].map(|side| {
                let room = (side + padding_end[axis]).saturating_sub(window[axis]);
                1 + if ceil { room.div_ceil(stride) } else { room / stride }
            })
        };
        let shape = Shape(vec![map.0[0].clone(), map.0[1].clone(), side(0), side(1)]);
        let [bottom, right] = padding_end.map(|padding| padding as i64);
        let attributes = vec![
            ints("kernel_shape", &window.map(|side| side as i64)),
            ints("strides", &[stride as i64; 2]),
            ints("pads", &[0, 0, bottom, right]),
            int("ceil_mode", ceil.into()),
        ];
        Ok(self.node(op, &[x], attributes, dtype, shape))
    }
}
