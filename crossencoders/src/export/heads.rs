//! From fused vectors to scores.

use onnx::Value;

use super::parts::Parts;
use super::{ExportError, Inputs};
use crate::model::RankingHead;

impl Parts<'_, '_> {
    /// Scores `[sets, candidates]` of fused vectors `[sets, candidates, pooler]`.
    pub(super) fn scores(
        &mut self,
        head: &RankingHead,
        fused: Value,
        inputs: &Inputs,
    ) -> Result<Value, ExportError> {
        let scores = match head {
            RankingHead::Alignment => {
                let logits = self.linear("cls.bi_seq_relationship", fused)?;
                let shares = self.graph.softmax(logits, -1)?;
                self.graph.slice(shares, -1, 0, 1)?
            }
            RankingHead::Linear => self.linear("clfs_dict.TASK3", fused)?,
            RankingHead::Contextual(context) => {
                return self.contextual(context, self.config.pooler_size, fused, inputs.video);
            }
        };
        Ok(self.graph.squeeze(scores, &[-1])?)
    }
}
