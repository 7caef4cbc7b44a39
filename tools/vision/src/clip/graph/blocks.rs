//! The residual block that both transformers are made of.

use onnx::{BuildError, GraphBuilder, TensorData, Value};

use super::Parts;
use super::architecture::HEAD;
use crate::network::NetworkError;

/// ε of every LayerNorm.
pub(super) const EPSILON: f32 = 1e-5;

/// Which positions of a block's result are needed.
#[derive(Clone, Copy)]
pub(super) enum Rows {
    /// All.
    All,
    /// The first of each.
    First,
    /// One of each: i64 `[N, 1]`.
    At(Value),
}

impl Rows {
    /// These rows of `[N, T, width]`: `[N, T or 1, width]`.
    fn of(self, graph: &mut GraphBuilder, x: Value) -> Result<Value, BuildError> {
        match self {
            Rows::All => Ok(x),
            Rows::First => graph.slice(x, 1, 0, 1),
            Rows::At(rows) => {
                let rows = graph.gather_row(x, rows)?;
                graph.unsqueeze(rows, &[1])
            }
        }
    }
}

impl Parts<'_, '_, '_> {
    /// x += attention(ln_1(x)); x += mlp(ln_2(x)), of `[N, T, width]`; the mask `[.., rows, T]` is added to the scores.
    pub(super) fn block(
        &mut self,
        prefix: &str,
        width: usize,
        x: Value,
        rows: Rows,
        mask: Option<Value>,
    ) -> Result<Value, NetworkError> {
        let normed = self.layer_norm(&format!("{prefix}.ln_1"), width, x)?;
        let attention = self.attention(&format!("{prefix}.attn"), width, normed, rows, mask)?;
        let x = self.graph.scope(prefix, |graph| rows.of(graph, x))?;
        let x = self.graph.scope(prefix, |graph| graph.add(x, attention))?;
        let normed = self.layer_norm(&format!("{prefix}.ln_2"), width, x)?;
        let wide = self.linear(&format!("{prefix}.mlp.c_fc"), [4 * width, width], normed)?;
        let wide = self.graph.scope(&format!("{prefix}.mlp"), |graph| graph.quick_gelu(wide))?;
        let narrow = self.linear(&format!("{prefix}.mlp.c_proj"), [width, 4 * width], wide)?;
        Ok(self.graph.scope(prefix, |graph| graph.add(x, narrow))?)
    }

    fn attention(
        &mut self,
        prefix: &str,
        width: usize,
        x: Value,
        rows: Rows,
        mask: Option<Value>,
    ) -> Result<Value, NetworkError> {
        let weight =
            self.weights.numbers(&format!("{prefix}.in_proj_weight"), &[3 * width, width])?;
        let bias = self.weights.numbers(&format!("{prefix}.in_proj_bias"), &[3 * width])?;
        let (weight, bias) = (scaled(weight, width * width), scaled(bias, width));
        let [query, key, value] = self.graph.scope(prefix, |graph| match rows {
            Rows::All => {
                let whole = graph.linear(
                    x,
                    &tensor([3 * width, width], weight)?,
                    Some(&tensor([3 * width], bias)?),
                )?;
                let parts = graph.split(whole, -1, &[width; 3])?;
                Ok::<_, NetworkError>([parts[0], parts[1], parts[2]])
            }
            Rows::First | Rows::At(_) => {
                let (query, pair) =
                    (weight[..width * width].to_vec(), weight[width * width..].to_vec());
                let (query_bias, pair_bias) = (bias[..width].to_vec(), bias[width..].to_vec());
                let row = rows.of(graph, x)?;
                let query = graph.scope("query", |graph| {
                    let bias = tensor([width], query_bias)?;
                    Ok::<_, NetworkError>(graph.linear(
                        row,
                        &tensor([width, width], query)?,
                        Some(&bias),
                    )?)
                })?;
                let bias = tensor([2 * width], pair_bias)?;
                let pair = graph.linear(x, &tensor([2 * width, width], pair)?, Some(&bias))?;
                let parts = graph.split(pair, -1, &[width; 2])?;
                Ok([query, parts[0], parts[1]])
            }
        })?;
        let mask = match (mask, rows) {
            // The row that is read sees all that lies before it; what lies behind is masked for it, too.
            (Some(mask), Rows::At(at)) => Some(self.mask_of_rows(mask, at)?),
            (mask, _) => mask,
        };
        let context =
            self.graph.scope(prefix, |graph| attend(graph, [query, key, value], width, mask))?;
        self.linear(&format!("{prefix}.out_proj"), [width, width], context)
    }

    /// Rows of a mask `[1, T, T]`, one for each of the N: `[N, 1, 1, T]`.
    fn mask_of_rows(&mut self, mask: Value, rows: Value) -> Result<Value, NetworkError> {
        let graph = &mut *self.graph;
        let mask = graph.squeeze(mask, &[0])?;
        let chosen = graph.gather(mask, rows, 0)?;
        Ok(graph.unsqueeze(chosen, &[1])?)
    }

    pub(super) fn layer_norm(
        &mut self,
        prefix: &str,
        width: usize,
        x: Value,
    ) -> Result<Value, NetworkError> {
        let scale = self.weights.get(&format!("{prefix}.weight"), &[width])?;
        let bias = self.weights.get(&format!("{prefix}.bias"), &[width])?;
        Ok(self.graph.scope(prefix, |graph| graph.layer_norm(x, &scale, &bias, EPSILON))?)
    }

    pub(super) fn linear(
        &mut self,
        prefix: &str,
        shape: [usize; 2],
        x: Value,
    ) -> Result<Value, NetworkError> {
        let weight = self.weights.get(&format!("{prefix}.weight"), &shape)?;
        let bias = self.weights.get(&format!("{prefix}.bias"), &shape[..1])?;
        Ok(self.graph.scope(prefix, |graph| graph.linear(x, &weight, Some(&bias)))?)
    }
}

/// Softmax of query × key, over heads of 64, times value; the query comes scaled. `[N, rows, width]`.
pub(super) fn attend(
    graph: &mut GraphBuilder,
    [query, key, value]: [Value; 3],
    width: usize,
    mask: Option<Value>,
) -> Result<Value, BuildError> {
    let heads = [0, 0, (width / HEAD) as i64, HEAD as i64];
    let query = graph.reshape(query, &heads)?;
    let query = graph.transpose(query, &[0, 2, 1, 3])?; // [N, heads, rows, 64]
    let key = graph.reshape(key, &heads)?;
    let key = graph.transpose(key, &[0, 2, 3, 1])?; // [N, heads, 64, T]
    let value = graph.reshape(value, &heads)?;
    let value = graph.transpose(value, &[0, 2, 1, 3])?; // [N, heads, T, 64]
    let mut scores = graph.matmul(query, key)?;
    if let Some(mask) = mask {
        scores = graph.add(scores, mask)?;
    }
    let shares = graph.softmax(scores, -1)?;
    let context = graph.matmul(shares, value)?;
    let context = graph.transpose(context, &[0, 2, 1, 3])?;
    graph.reshape(context, &[0, 0, width as i64])
}

/// The first numbers, which make the query, divided by √64: a power of two, so no bit of the scores changes.
pub(super) fn scaled(mut numbers: Vec<f32>, count: usize) -> Vec<f32> {
    numbers[..count].iter_mut().for_each(|number| *number /= 8.0);
    numbers
}

fn tensor(shape: impl Into<Vec<usize>>, numbers: Vec<f32>) -> Result<TensorData, NetworkError> {
    TensorData::new(shape, numbers)
        .map_err(|source| NetworkError::Tensor { name: "attn.in_proj".into(), source })
}
