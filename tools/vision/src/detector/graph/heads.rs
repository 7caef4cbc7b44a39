//! From the feature map and boxes to features, classes, boxes and attributes.

use onnx::Value;

use super::Parts;
use crate::network::NetworkError;

const PREDICTOR: &str = "roi_heads.box_predictor";

impl Parts<'_, '_, '_> {
    pub(super) fn heads(&mut self, map: Value, boxes: Value) -> Result<(), NetworkError> {
        let pooled = self.pool(map, boxes)?;
        self.tap("roi.pooled", pooled)?;
        let maps = self.last_stage(pooled)?;
        self.tap("roi.res5", maps)?;
        let features = self.graph.scope("features", |graph| {
            let means = graph.global_average_pool(maps)?;
            graph.squeeze(means, &[2, 3])
        })?;
        let [classes, width] = self.weights.sides(&format!("{PREDICTOR}.cls_score.weight"))?;
        let [sides, _] = self.weights.sides(&format!("{PREDICTOR}.bbox_pred.weight"))?;
        let logits = self.linear("cls_score", [classes, width], features)?;
        let deltas = self.linear("bbox_pred", [sides, width], features)?;
        for (name, value) in
            [("features", features), ("class_logits", logits), ("box_deltas", deltas)]
        {
            self.graph.output(name, value)?;
        }
        if self.weights.has(&format!("{PREDICTOR}.attr_score.weight")) {
            let attributes = self.attributes(features, logits, [classes, width])?;
            self.graph.output("attribute_logits", attributes)?;
        }
        Ok(())
    }

    /// The feature and the embedding of the likeliest class, background included, to attributes.
    fn attributes(
        &mut self,
        features: Value,
        logits: Value,
        [classes, width]: [usize; 2],
    ) -> Result<Value, NetworkError> {
        let name = format!("{PREDICTOR}.cls_embedding.weight");
        let [_, size] = self.weights.sides(&name)?;
        let table = self.weights.get(&name, &[classes, size])?;
        let class = self.graph.scope("attributes", |graph| graph.argmax(logits, -1, false))?;
        self.tap("head.cls_argmax_with_bg", class)?;
        let both = self.graph.scope("attributes", |graph| {
            let table = graph.constant(&name, table)?;
            let embedding = graph.gather(table, class, 0)?;
            graph.concat(&[features, embedding], -1)
        })?;
        let [hidden, _] = self.weights.sides(&format!("{PREDICTOR}.fc_attr.weight"))?;
        let [count, _] = self.weights.sides(&format!("{PREDICTOR}.attr_score.weight"))?;
        let x = self.linear("fc_attr", [hidden, width + size], both)?;
        let x = self.graph.scope(&format!("{PREDICTOR}.fc_attr"), |graph| graph.relu(x))?;
        self.linear("attr_score", [count, hidden], x)
    }

    fn linear(&mut self, name: &str, shape: [usize; 2], x: Value) -> Result<Value, NetworkError> {
        let prefix = format!("{PREDICTOR}.{name}");
        let weight = self.weights.get(&format!("{prefix}.weight"), &shape)?;
        let bias = self.weights.get(&format!("{prefix}.bias"), &shape[..1])?;
        Ok(self.graph.scope(&prefix, |graph| graph.linear(x, &weight, Some(&bias)))?)
    }
}
