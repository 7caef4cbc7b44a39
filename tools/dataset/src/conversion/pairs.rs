//! What ImageCoDe-simple can say.

use serde_json::Value;

use super::sets::directory;
use super::{ConversionError, Placed, Request};
use crate::SET_SIZE;

/// `[{directory, pos_idx, neg_idx, caption}]`.
pub(super) fn pairs(request: &Request, sources: &[Placed]) -> Result<Value, ConversionError> {
    let mut all = Vec::with_capacity(sources.len());
    for (place, example) in sources {
        let [first, second] = example.candidates.as_slice() else {
            let what = format!(
                "a pair has two candidates, and it has {}: which of the wrong ones should stay?",
                example.candidates.len()
            );
            return Err(request.refuse(place, &what));
        };
        let Some(target) = example.target else {
            return Err(
                request.refuse(place, "a pair says which image is right, and it has no `target`")
            );
        };
        let directory = directory(request, place, example)?;
        let images = request.known.images(directory)?.ok_or_else(|| {
            request.refuse(
                place,
                "positions in the set are asked for, and nothing tells its ten images; name the pictures (--images) or \
                 the store (--features)",
            )
        })?;
        let position = |id: &String| {
            images.iter().position(|image| image == id).filter(|position| *position < SET_SIZE)
        };
        let (right, wrong) = if target == 0 { (first, second) } else { (second, first) };
        let (Some(right), Some(wrong)) = (position(right), position(wrong)) else {
            let what = format!("its candidates are not among the ten images of set `{directory}`");
            return Err(request.refuse(place, &what));
        };
        all.push(serde_json::json!({
            "directory": directory, "pos_idx": right, "neg_idx": wrong, "caption": example.description,
        }));
    }
    Ok(Value::Array(all))
}
