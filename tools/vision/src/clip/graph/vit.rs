//! The transformer over patches.

use onnx::{ConvOptions, Value};

use super::Parts;
use super::architecture::Vit;
use super::blocks::Rows;
use crate::network::{NetworkError, constant};

impl Parts<'_, '_, '_> {
    /// `[N, 3, n, n]` to `[N, embed]`.
    pub(super) fn vit(&mut self, vit: Vit, image: Value) -> Result<Value, NetworkError> {
        let Vit { width, patch, layers, grid } = vit;
        let x = self.patches(vit, image)?;
        let x = self.layer_norm("visual.ln_pre", width, x)?;
        self.tap("visual.ln_pre", x)?;
        let whole = self.taps.wants("visual.transformer")
            || (layers == 1 && self.taps.wants("visual.block0"));
        let mut x = x;
        for layer in 0..layers {
            let rows = if layer + 1 == layers && !whole { Rows::First } else { Rows::All };
            x =
                self.block(&format!("visual.transformer.resblocks.{layer}"), width, x, rows, None)?;
            if layer == 0 {
                self.tap("visual.block0", x)?;
            }
        }
        self.tap("visual.transformer", x)?;
        let class = self.graph.scope("visual", |graph| {
            let class = graph.slice(x, 1, 0, 1)?;
            graph.squeeze(class, &[1])
        })?;
        let class = self.layer_norm("visual.ln_post", width, class)?;
        self.tap("visual.ln_post_cls", class)?;
        let projection = self.weights.get("visual.proj", &[width, self.embed])?;
        debug_assert_eq!(patch * grid, super::ImageTower::Vit(vit).size());
        Ok(self.graph.scope("visual.proj", |graph| {
            let projection = graph.constant("visual.proj", projection)?;
            graph.matmul(class, projection)
        })?)
    }

    /// The class embedding and the patches, each with its position: `[N, grid² + 1, width]`.
    fn patches(&mut self, vit: Vit, image: Value) -> Result<Value, NetworkError> {
        let Vit { width, patch, grid, .. } = vit;
        let positions = grid * grid + 1;
        let kernel = self.weights.get("visual.conv1.weight", &[width, 3, patch, patch])?;
        let class = self.weights.numbers("visual.class_embedding", &[width])?;
        let mut embedding =
            self.weights.numbers("visual.positional_embedding", &[positions, width])?;
        // The class embedding stands at position 0 of every image: it and that position's embedding are one constant.
        embedding.iter_mut().zip(&class).for_each(|(position, class)| *position += class);
        let map = self.graph.scope("visual.conv1", |graph| {
            let kernel = graph.constant("visual.conv1.weight", kernel)?;
            graph.conv(image, kernel, None, ConvOptions { stride: patch, ..ConvOptions::default() })
        })?;
        self.tap("visual.patch_conv", map)?;
        let embedding =
            constant(self.graph, "visual.positional_embedding", &[positions, width], embedding)?;
        Ok(self.graph.scope("visual.embedding", |graph| {
            let rows = graph.reshape(map, &[0, 0, -1])?;
            let rows = graph.transpose(rows, &[0, 2, 1])?;
            // Zeros at position 0, to which the sum adds the class embedding.
            let rows = graph.pad(rows, 1, 1, 0)?;
            graph.add(rows, embedding)
        })?)
    }
}
