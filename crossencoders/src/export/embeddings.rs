//! From word pieces and regions to the first states: five ways.

use onnx::{Dtype, TensorData, Value};

use super::parts::Parts;
use super::{ExportError, Inputs};
use crate::config::{ImageEmbeddings, TextEnd};

const TEXT: &str = "bert.embeddings";
const VISION: &str = "bert.v_embeddings";
/// Wavelengths of VL-BERT's coordinates reach from 1 to this many percent of the image.
const WAVELENGTHS: f64 = 1000.0;

impl Parts<'_, '_> {
    /// Text `[sets, candidates or 1, tokens, hidden]` and regions `[sets, candidates, regions, v_hidden]`.
    pub(super) fn embed(&mut self, inputs: &Inputs) -> Result<(Value, Value), ExportError> {
        let vision = match self.config.image_embeddings {
            ImageEmbeddings::Vilbert => self.vilbert(inputs)?,
            ImageEmbeddings::Lxmert => self.lxmert(inputs)?,
            ImageEmbeddings::Uniter => self.uniter(inputs)?,
            ImageEmbeddings::VisualBert => self.visual_bert(inputs)?,
            ImageEmbeddings::VlBert => return self.vl_bert(inputs),
        };
        let count = self.count(inputs.input_ids, 1)?;
        let one = self.graph.scalar(1.0)?;
        let positions = self.graph.sub(count, one)?;
        let sum = self.words(inputs, positions)?;
        let text = self.layer_norm(&format!("{TEXT}.LayerNorm"), sum)?;
        Ok((self.graph.unsqueeze(text, &[1])?, vision))
    }

    /// Words, segments and positions (f32 `[sets, tokens]`) before the LayerNorm: `[sets, tokens, hidden]`.
    fn words(&mut self, inputs: &Inputs, positions: Value) -> Result<Value, ExportError> {
        let words = self.embedding(&format!("{TEXT}.word_embeddings"), inputs.input_ids)?;
        let positions = self.whole(positions)?;
        let places = self.embedding(&format!("{TEXT}.position_embeddings"), positions)?;
        let types =
            self.embedding(&format!("{TEXT}.token_type_embeddings"), inputs.token_type_ids)?;
        let sum = self.graph.add(words, places)?;
        Ok(self.graph.add(sum, types)?)
    }

    /// Features and locations, projected.
    fn projected(&mut self, path: &str, inputs: &Inputs) -> Result<(Value, Value), ExportError> {
        Ok((
            self.linear(&format!("{path}.image_embeddings"), inputs.features)?,
            self.linear(&format!("{path}.image_location_embeddings"), inputs.locations)?,
        ))
    }

    fn vilbert(&mut self, inputs: &Inputs) -> Result<Value, ExportError> {
        let (features, locations) = self.projected(VISION, inputs)?;
        let sum = self.graph.add(features, locations)?;
        self.layer_norm(&format!("{VISION}.LayerNorm"), sum)
    }

    fn lxmert(&mut self, inputs: &Inputs) -> Result<Value, ExportError> {
        let (features, locations) = self.projected(VISION, inputs)?;
        let features = self.layer_norm(&format!("{VISION}.ImgLayerNorm"), features)?;
        let locations = self.layer_norm(&format!("{VISION}.LocLayerNorm"), locations)?;
        let sum = self.graph.add(features, locations)?;
        Ok(self.graph.scale(sum, 0.5)?)
    }

    fn uniter(&mut self, inputs: &Inputs) -> Result<Value, ExportError> {
        let (features, locations) = self.projected(TEXT, inputs)?;
        let features = self.layer_norm(&format!("{TEXT}.image_layer_norm"), features)?;
        let locations = self.layer_norm(&format!("{TEXT}.image_location_layer_norm"), locations)?;
        let sum = self.graph.add(features, locations)?;
        let kind = self.row(&format!("{TEXT}.token_type_embeddings"), 1)?;
        let sum = self.graph.add(sum, kind)?;
        self.layer_norm(&format!("{TEXT}.v_LayerNorm"), sum)
    }

    fn visual_bert(&mut self, inputs: &Inputs) -> Result<Value, ExportError> {
        let features = self.linear(&format!("{TEXT}.projection"), inputs.features)?;
        let place = self.row(&format!("{TEXT}.position_embeddings_visual"), 0)?;
        let kind = self.row(&format!("{TEXT}.token_type_embeddings_visual"), 1)?;
        let place = self.graph.add(place, kind)?;
        let sum = self.graph.add(features, place)?;
        self.layer_norm(&format!("{TEXT}.LayerNorm"), sum)
    }

    /// How many word pieces each text has: f32 `[sets, 1]`.
    pub(super) fn text_end(&mut self, inputs: &Inputs) -> Result<Value, ExportError> {
        Ok(self.graph.scope("positions", |graph| {
            let zero = graph.scalar_i64(0)?;
            let padding = graph.equal(inputs.input_ids, zero)?;
            let words = graph.not(padding)?;
            let words = graph.cast(words, Dtype::F32)?;
            graph.reduce_sum(words, &[1], true)
        })?)
    }
}

/// VL-BERT, in which words and regions depend on each other; see `model/embeddings/vl_bert.rs` for what is special.
impl Parts<'_, '_> {
    fn vl_bert(&mut self, inputs: &Inputs) -> Result<(Value, Value), ExportError> {
        let end = self.text_end(inputs)?;
        // The number of every region from 1, and how many there are: f32 [sets, regions], [sets, 1].
        let number = self.count(inputs.region_mask, 2)?;
        let (number, regions) = self.graph.scope("positions", |graph| {
            let of_one = graph.slice(number, 1, 0, 1)?;
            let of_one = graph.squeeze(of_one, &[1])?;
            Ok::<_, ExportError>((of_one, graph.reduce_max(of_one, &[1], true)?))
        })?;
        let last = self.graph.equal(number, regions)?;
        let masked = self.graph.scope("masked", |graph| {
            let size = graph.abs(inputs.features)?;
            let largest = graph.reduce_max(size, &[-1], true)?;
            let zero = graph.scalar(0.0)?;
            graph.equal(largest, zero)
        })?;
        let projected = self.visual(inputs, masked)?;

        let seen = self.graph.slice(projected, 2, -1, i64::MAX)?;
        let seen = self.layer_norm(&format!("{TEXT}.visual_ln_text"), seen)?;
        let positions = self.word_positions(inputs, end, regions)?;
        let words = self.words(inputs, positions)?;
        let words = self.graph.unsqueeze(words, &[1])?;
        let text = self.graph.add(words, seen)?;
        let text = self.layer_norm(&format!("{TEXT}.LayerNorm"), text)?;

        let vision = self.regions(projected, masked, last, end)?;
        Ok((text, vision))
    }

    /// Coordinates and features together, projected.
    fn visual(&mut self, inputs: &Inputs, masked: Value) -> Result<Value, ExportError> {
        let stand_in = self.row(&format!("{TEXT}.object_mask_visual_embedding"), 0)?;
        let features = self.graph.select(masked, stand_in, inputs.features)?;
        let coordinates = self.coordinates(inputs.locations)?;
        let both = self.graph.concat(&[coordinates, features], -1)?;
        let projected = self.linear(&format!("{TEXT}.obj_downsample.1"), both)?;
        Ok(self.graph.relu(projected)?)
    }

    /// Centre, width and height in percent of the image as waves.
    fn coordinates(&mut self, locations: Value) -> Result<Value, ExportError> {
        let wavelengths = self.config.v_coordinate_embeddings_dim.unwrap_or(0);
        let rate = WAVELENGTHS.ln() / wavelengths as f64;
        let inverse = (0..wavelengths).map(|number| (-(number as f64) * rate).exp() as f32);
        let inverse: Vec<f32> = inverse.collect();
        let inverse = TensorData::new([inverse.len()], inverse).map_err(|error| {
            ExportError::Parameter { name: "wavelengths".into(), what: error.to_string() }
        })?;
        Ok(self.graph.scope("coordinates", |graph| {
            let near = graph.slice(locations, -1, 0, 2)?;
            let far = graph.slice(locations, -1, 2, 4)?;
            let sum = graph.add(near, far)?;
            let centre = graph.scale(sum, 50.0)?;
            let extent = graph.sub(far, near)?;
            let extent = graph.scale(extent, 100.0)?;
            let position = graph.concat(&[centre, extent], -1)?;
            let position = graph.unsqueeze(position, &[-1])?;
            let inverse = graph.constant("coordinates/inverse_wavelengths", inverse)?;
            let phase = graph.mul(position, inverse)?;
            let (sin, cos) = (graph.sin(phase)?, graph.cos(phase)?);
            // [.., 4, 2 * wavelengths]
            let waves = graph.concat(&[sin, cos], -1)?;
            graph.reshape(waves, &[0, 0, 0, 8 * wavelengths])
        })?)
    }

    /// Positions of the words, f32 `[sets, tokens]`: those from the end on come after the regions.
    fn word_positions(
        &mut self,
        inputs: &Inputs,
        end: Value,
        regions: Value,
    ) -> Result<Value, ExportError> {
        let of_batch = self.config.vl_bert_text_end == TextEnd::Batch;
        let count = self.count(inputs.input_ids, 1)?;
        Ok(self.graph.scope("positions", |graph| {
            let end = if of_batch {
                let negative = graph.neg(end)?;
                let shortest = graph.reduce_max(negative, &[0], true)?;
                graph.neg(shortest)?
            } else {
                end
            };
            let one = graph.scalar(1.0)?;
            let position = graph.sub(count, one)?;
            let after = graph.greater_or_equal(position, end)?;
            let after = graph.cast(after, Dtype::F32)?;
            let shift = graph.mul(after, regions)?;
            graph.add(position, shift)
        })?)
    }

    /// Projected regions with their words, positions and type; `last` is bool `[sets, regions]`.
    fn regions(
        &mut self,
        projected: Value,
        masked: Value,
        last: Value,
        end: Value,
    ) -> Result<Value, ExportError> {
        let as_number = self.graph.cast(last, Dtype::F32)?;
        let position = self.graph.scope("positions", |graph| graph.add(end, as_number))?;
        let position = self.whole(position)?;
        let places = self.embedding(&format!("{TEXT}.position_embeddings"), position)?;
        let places = self.graph.unsqueeze(places, &[1])?;
        let mut word = self.row(&format!("{TEXT}.object_linguistic_embeddings"), 0)?;
        let for_masked = format!("{TEXT}.object_mask_word_embedding");
        if self.weights.contains_key(&format!("{for_masked}.weight")) {
            let masked_word = self.row(&for_masked, 0)?;
            word = self.graph.select(masked, masked_word, word)?;
        }
        let end_word = self.row(&format!("{TEXT}.end_embedding"), 0)?;
        let last = self.graph.unsqueeze(last, &[1, 3])?;
        let word = self.graph.select(last, end_word, word)?;
        let own = self.layer_norm(&format!("{TEXT}.visual_ln_object"), projected)?;
        let kind = self.row(&format!("{TEXT}.token_type_embeddings"), 2)?;
        let sum = self.graph.add(own, word)?;
        let sum = self.graph.add(sum, kind)?;
        let sum = self.graph.add(sum, places)?;
        self.layer_norm(&format!("{TEXT}.LayerNorm"), sum)
    }
}
