//! What ImageCoDe's annotation files can say.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::map::{Entry, Map};

use super::{ConversionError, Placed, Request};
use crate::{Example, SET_SIZE, id_prefix, is_static};

/// `{directory: {target: text}}`, or `{directory: [text]}` if there are no targets.
pub(super) fn sets(request: &Request, sources: &[Placed]) -> Result<Value, ConversionError> {
    let labelled = sources.iter().any(|(_, example)| example.target.is_some());
    let mut sets: Map<String, Value> = Map::new();
    let mut numbers_of: HashMap<&str, Vec<u64>> = HashMap::new();
    for (place, example) in sources {
        let refuse = |reason: &str| request.refuse(place, reason);
        if example.candidates.len() != SET_SIZE {
            let found = example.candidates.len();
            return Err(refuse(&format!(
                "a set has {SET_SIZE} images, and it has {found} candidates"
            )));
        }
        if labelled && example.target.is_none() {
            return Err(refuse("it has no `target`, but others have"));
        }
        let directory = directory(request, place, example)?;
        let (numbers, target) = in_order(example);
        if *numbers_of.entry(directory).or_insert_with(|| numbers.clone()) != numbers {
            return Err(refuse("another description of the set has other candidates"));
        }
        let text = Value::from(example.description.as_str());
        if !add(sets.entry(directory), target, text) {
            return Err(refuse("the set has one description for an image, and this is the second"));
        }
    }
    Ok(Value::Object(sets))
}

/// The numbers of an example's candidates in their order, and the target's position in it, whatever the order of the
/// candidates.
fn in_order(example: &Example) -> (Vec<u64>, Option<usize>) {
    let mut numbers = example.numbered().map(|(_, numbers)| numbers).unwrap_or_default();
    let target = example.target.and_then(|target| numbers.get(target).copied());
    numbers.sort_unstable();
    let position = target.and_then(|target| numbers.binary_search(&target).ok());
    (numbers, position)
}

/// Adds a description to a set; false if the set has one for the same image.
fn add(set: Entry, target: Option<usize>, text: Value) -> bool {
    match target {
        Some(target) => {
            let by_target = set.or_insert_with(|| Value::Object(Map::new())).as_object_mut();
            by_target.is_some_and(|texts| texts.insert(target.to_string(), text).is_none())
        }
        None => {
            let texts = set.or_insert_with(|| Value::Array(Vec::new())).as_array_mut();
            texts.map(|texts| texts.push(text)).is_some()
        }
    }
}

/// What is asked of an example before it is a description of one of ImageCoDe's sets: its directory.
pub(super) fn directory<'a>(
    request: &Request,
    place: &str,
    example: &'a Example,
) -> Result<&'a str, ConversionError> {
    request.check_id(place, example)?;
    let Some(set) = &example.set else {
        return Err(request.refuse(
            place,
            "nothing tells the directory of its set; JSON Lines have the key `set`, and for VOLTA's files pictures \
             (--images) or annotation files (--sets) tell it",
        ));
    };
    if !example.follows_the_rule() {
        let what = format!("its image ids are not those of set `{set}` (`{}N`)", id_prefix(set));
        return Err(request.refuse(place, &what));
    }
    request.check_video(place, example, !is_static(set))?;
    Ok(set)
}
