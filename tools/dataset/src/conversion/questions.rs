//! What VOLTA's questions can say.

use super::{ConversionError, Key, Request};
use crate::{Example, SET_SIZE, volta};

/// An example as VOLTA's writer takes it: ten candidates, a target, and nothing that a question has no place for.
pub(super) fn ten(
    request: &Request,
    place: &str,
    mut example: Example,
) -> Result<Example, ConversionError> {
    if example.candidates.len() != SET_SIZE {
        let what = format!(
            "VOLTA's loader cuts questions into tens, and it has {} candidates",
            example.candidates.len()
        );
        return Err(request.refuse(place, &what));
    }
    if example.target.is_none() {
        return Err(request.refuse(place, "a question has an answer, and it has no `target`"));
    }
    request.check_id(place, &example)?;
    if example.set.is_some() && !example.follows_the_rule() && !request.may_drop(Key::Set) {
        return Err(request.refuse(
            place,
            "image ids alone tell the set, and these do not tell this one (--drop set leaves it out)",
        ));
    }
    // Ids that are none of a set say nothing about videos.
    let says = example.numbered().is_some_and(|(prefix, _)| volta::is_video(prefix));
    request.check_video(place, &example, says)?;
    example.set = None;
    Ok(example)
}
