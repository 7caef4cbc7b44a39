//! A description and its candidates, whatever file they come from.

use serde::Serialize;

use super::{Description, id_prefix, is_static};

/// A description and the images that it may be about: a line of a JSON Lines file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The example's name, if it has one; each is in a file once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The text.
    pub description: String,
    /// Image ids, two to [`MAX_CANDIDATES`](super::MAX_CANDIDATES), each once.
    pub candidates: Vec<String>,
    /// Position of the described image among the candidates, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<usize>,
    /// Whether the candidates are frames of a video in their order; not if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<bool>,
    /// What examples about the same images have in common; ImageCoDe's set directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

impl Example {
    /// One of ImageCoDe's descriptions, with the ids of the set's images in their order. `None` if there are too few.
    pub(super) fn of(description: &Description, images: &[String]) -> Option<Example> {
        let positions = match (description.target, description.distractor) {
            // In the order of the set, so that the position tells nothing.
            (Some(target), Some(distractor)) => {
                vec![target.min(distractor), target.max(distractor)]
            }
            _ => (0..images.len()).collect(),
        };
        let candidates: Option<Vec<String>> =
            positions.iter().map(|position| images.get(*position).cloned()).collect();
        let place = |target: usize| positions.iter().position(|position| *position == target);
        Some(Example {
            id: None,
            description: description.text.clone(),
            candidates: candidates?,
            target: description.target.and_then(place),
            video: Some(!is_static(&description.directory)),
            set: Some(description.directory.clone()),
        })
    }

    /// What the ids of all candidates begin with, if they are ImageCoDe's ids of one set, and their numbers.
    pub(super) fn numbered(&self) -> Option<(&str, Vec<u64>)> {
        let prefix = self.candidates.first()?.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = |id: &String| {
            let digits = id.strip_prefix(prefix)?;
            // `img07` and `img7` would be one number.
            (digits == "0" || !digits.starts_with('0')).then(|| digits.parse().ok())?
        };
        let numbers: Option<Vec<u64>> = self.candidates.iter().map(number).collect();
        numbers.filter(|_| prefix.ends_with("img")).map(|numbers| (prefix, numbers))
    }

    /// Whether its set and the ids of its candidates go together by ImageCoDe's rule.
    pub(super) fn follows_the_rule(&self) -> bool {
        match (&self.set, self.numbered()) {
            (Some(set), Some((prefix, _))) => id_prefix(set) == prefix,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_of_a_set_are_told_by_their_ids() {
        let of = |candidates: &[&str]| Example {
            id: None,
            description: String::new(),
            candidates: candidates.iter().map(|id| (*id).to_owned()).collect(),
            target: None,
            video: None,
            set: Some("a-1".into()),
        };
        assert_eq!(of(&["a1img3", "a1img12"]).numbered(), Some(("a1img", vec![3, 12])));
        assert!(of(&["a1img3", "a1img12"]).follows_the_rule());
        assert_eq!(of(&["a1img3", "a2img12"]).numbered(), None);
        assert_eq!(of(&["a1img3", "a1img03"]).numbered(), None);
        assert_eq!(of(&["door", "house"]).numbered(), None);
        assert!(!of(&["b1img3", "b1img12"]).follows_the_rule());
    }
}
