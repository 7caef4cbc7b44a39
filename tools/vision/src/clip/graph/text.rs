//! The text tower.

use onnx::{BuildError, Dtype, GraphBuilder, Value};

use super::Parts;
use super::architecture::TextTower;
use super::blocks::Rows;
use crate::network::NetworkError;

/// Ids are told apart from positions by this factor; positions are fewer.
const POSITIONS: f32 = 128.0;

impl Parts<'_, '_, '_> {
    /// `[N, T]` to `[N, embed]`.
    pub(super) fn text_tower(
        &mut self,
        tower: TextTower,
        tokens: Value,
    ) -> Result<Value, NetworkError> {
        let TextTower { width, layers, context, vocabulary } = tower;
        let table = self.weights.get("token_embedding.weight", &[vocabulary, width])?;
        let places = self.weights.get("positional_embedding", &[context, width])?;
        let positions = self.graph.scope("positions", |graph| positions(graph, tokens))?;
        let end = self.graph.scope("end_of_text", |graph| end_of_text(graph, tokens, positions))?;
        self.tap("eot_index", end)?;
        let mask = self.graph.scope("causal_mask", |graph| causal_mask(graph, positions))?;
        let mut x = self.graph.scope("embedding", |graph| {
            let table = graph.constant("token_embedding.weight", table)?;
            let places = graph.constant("positional_embedding", places)?;
            let words = graph.gather(table, tokens, 0)?;
            let places = graph.gather(places, positions, 0)?;
            graph.add(words, places)
        })?;
        let whole =
            self.taps.wants("text.ln_final") || (layers == 1 && self.taps.wants("text.block0"));
        for layer in 0..layers {
            let last = layer + 1 == layers && !whole;
            let rows = if last { Rows::At(end) } else { Rows::All };
            x =
                self.block(&format!("transformer.resblocks.{layer}"), width, x, rows, Some(mask))?;
            if layer == 0 {
                self.tap("text.block0", x)?;
            }
        }
        let row = if whole {
            x = self.layer_norm("ln_final", width, x)?;
            self.tap("text.ln_final", x)?;
            self.graph.gather_row(x, end)?
        } else {
            let row = self.graph.squeeze(x, &[1])?;
            self.layer_norm("ln_final", width, row)?
        };
        let projection = self.weights.get("text_projection", &[width, self.embed])?;
        Ok(self.graph.scope("text_projection", |graph| {
            let projection = graph.constant("text_projection", projection)?;
            graph.matmul(row, projection)
        })?)
    }
}

/// 0, 1, … T - 1, i64 `[1, T]`: counted on the tokens, for a shape would be computed on the CPU.
fn positions(graph: &mut GraphBuilder, tokens: Value) -> Result<Value, BuildError> {
    let (zero, one) = (graph.scalar_i64(0)?, graph.scalar_i64(1)?);
    // Gathered, for a slice of an unknown number of texts is of an unknown number, too.
    let first = graph.int_list(&[0])?;
    let first = graph.gather(tokens, first, 0)?;
    let zeros = graph.mul(first, zero)?;
    let ones = graph.add(zeros, one)?;
    let counted = graph.cumulative_sum(ones, 1)?;
    graph.sub(counted, one)
}

/// The position of the largest id, the first one if it is there more than once: i64 `[N, 1]`. CUDA finds the largest of
/// floating point only, and promises nothing for equal ones: id × 128 - position is unique, and exact in f32.
fn end_of_text(
    graph: &mut GraphBuilder,
    tokens: Value,
    positions: Value,
) -> Result<Value, BuildError> {
    let ids = graph.cast(tokens, Dtype::F32)?;
    let ids = graph.scale(ids, POSITIONS)?;
    let positions = graph.cast(positions, Dtype::F32)?;
    let keys = graph.sub(ids, positions)?;
    graph.argmax(keys, -1, true)
}

/// 0 where a position may look, -∞ at later ones: `[1, T, T]`.
fn causal_mask(graph: &mut GraphBuilder, positions: Value) -> Result<Value, BuildError> {
    let rows = graph.unsqueeze(positions, &[-1])?;
    let columns = graph.unsqueeze(positions, &[1])?;
    let seen = graph.less_or_equal(columns, rows)?;
    let (zero, hidden) = (graph.scalar(0.0)?, graph.scalar(f32::NEG_INFINITY)?);
    graph.select(seen, zero, hidden)
}
