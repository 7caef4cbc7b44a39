//! The mistakes a model is most sure of, and what it looked at.

use std::sync::Arc;

use evaluation::Prediction;
use feature_store::{GlobalFeature, Regions};
use tch::{Kind, Tensor};

use super::ReportError;
use crate::data::{DataError, Example, ImageSets, ImageSource, Item, Loader};
use crate::ranker::Ranker;

/// A description, what the model makes of it, and two candidates of it looked at: of a mistake those that matter.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub directory: String,
    pub number: usize,
    pub video: bool,
    /// The description, for a model without word pieces to show.
    pub text: String,
    /// Its word pieces.
    pub words: Vec<String>,
    /// Share of every candidate in the softmax of the scores.
    pub shares: Vec<f64>,
    /// Rank of the described image, from 1; 0 if nobody knows which that is.
    pub rank: usize,
    /// The candidate that was ranked first or that is asked for, and the described one, which is the same if nobody knows it.
    pub chosen: Look,
    pub described: Look,
}

/// One candidate, and how the words attend to it.
#[derive(Debug)]
pub(crate) struct Look {
    /// Position among the candidates.
    pub position: usize,
    pub id: String,
    /// Width and height in pixels; `None` if the store does not know them.
    pub size: Option<(u32, u32)>,
    pub picture: Option<String>,
    /// x1, y1, x2, y2, relative to the image.
    pub boxes: Vec<[f32; 4]>,
    /// How much every word attends to every box, `[words][boxes]`; empty if the text does not attend to regions.
    pub attention: Vec<Vec<f32>>,
}

/// Predictions whose image is not ranked first, the one whose choice has the largest share first.
pub(super) fn most_confident(predictions: &[Prediction]) -> Vec<&Prediction> {
    let mut wrong: Vec<&Prediction> =
        predictions.iter().filter(|prediction| prediction.rank.is_some_and(|r| r > 1)).collect();
    let confidence = |prediction: &Prediction| prediction.shares(1.0)[prediction.best()];
    wrong.sort_by(|a, b| confidence(b).total_cmp(&confidence(a)));
    wrong
}

/// Runs the model once more on some descriptions and keeps what it attends to in one candidate of each, and in the described
/// one. `picture` says where the picture of an image is to be had.
pub(crate) fn look(
    ranker: &Ranker,
    images: &ImageSource,
    looked_at: &[(&Prediction, usize)],
    picture: &mut dyn FnMut(&Prediction, usize) -> Option<String>,
) -> Result<Vec<Mistake>, ReportError> {
    let examples: Vec<Example> = looked_at.iter().map(|(p, _)| example(ranker, p)).collect();
    let sets = examples.len();
    let sets = Arc::new(ImageSets { examples, sets, ..ImageSets::default() });
    let batches = (0..looked_at.len()).map(|number| vec![Item::Set(number)]).collect();
    let loader = Loader::start(images.clone(), Arc::clone(&sets), ranker.batch_spec(), batches);
    let mut mistakes = Vec::new();
    for ((batch, &(prediction, chosen)), example) in loader.zip(looked_at).zip(&sets.examples) {
        let batch = batch?.to_device(ranker.variables.device());
        let attention = ranker.words_to_regions(&batch).map(|attention| attention.get(0));
        let piece = |&id: &i64| ranker.tokenizer.piece(id).unwrap_or_else(|| id.to_string());
        let mut candidate = |position: usize| {
            let attention = attention.as_ref().map(|attention| attention.get(position as i64));
            let id = &prediction.images[position];
            let picture = picture(prediction, position);
            see(ranker, images, attention, id, position, picture)
        };
        mistakes.push(Mistake {
            directory: prediction.directory.clone(),
            number: prediction.number,
            video: prediction.video,
            text: prediction.text.clone(),
            words: example.input_ids.iter().map(piece).collect(),
            shares: prediction.shares(1.0),
            rank: prediction.rank.unwrap_or_default(),
            chosen: candidate(chosen)?,
            described: candidate(prediction.target.unwrap_or(chosen))?,
        });
    }
    Ok(mistakes)
}

fn example(ranker: &Ranker, prediction: &Prediction) -> Example {
    Example {
        directory: prediction.directory.clone(),
        number: prediction.number,
        text: prediction.text.clone(),
        input_ids: ranker.tokenizer.encode(&prediction.text, ranker.max_tokens()).0,
        images: prediction.images.clone(),
        target: prediction.target,
        video: prediction.video,
    }
}

/// Reads an image's boxes and takes their columns out of `attention`, `[words, rows]`.
fn see(
    ranker: &Ranker,
    images: &ImageSource,
    attention: Option<Tensor>,
    id: &str,
    position: usize,
    picture: Option<String>,
) -> Result<Look, ReportError> {
    let regions = match images.store() {
        Some(store) => store.get(id).map_err(DataError::from)?,
        // Of a picture nothing is known but itself.
        None => Regions { width: 1, height: 1, ..Regions::default() },
    };
    let (width, height) = (regions.width.max(1) as f32, regions.height.max(1) as f32);
    let boxes: Vec<[f32; 4]> = regions
        .boxes
        .iter()
        .take(ranker.recipe.data.max_regions)
        .map(|&[x1, y1, x2, y2]| [x1 / width, y1 / height, x2 / width, y2 / height])
        .collect();
    // The mean over all regions has no box.
    let first = i64::from(ranker.batch_spec().global_feature == GlobalFeature::First);
    let attention = attention.map_or_else(Vec::new, |attention| {
        let boxes = attention.narrow(1, first, boxes.len() as i64).to_kind(Kind::Float);
        Vec::<Vec<f32>>::try_from(boxes).unwrap_or_default()
    });
    Ok(Look {
        position,
        id: id.to_owned(),
        size: (!regions.is_relative()).then_some((regions.width, regions.height)),
        picture,
        boxes,
        attention,
    })
}

#[cfg(test)]
mod tests {
    use evaluation::Question;

    use super::*;

    fn prediction(number: usize, target: Option<usize>, scores: &[f32]) -> Prediction {
        let question = Question {
            directory: "set".into(),
            number,
            text: String::new(),
            images: vec![String::new(); scores.len()],
            target,
            video: false,
        };
        Prediction::new(question, scores.to_vec())
    }

    #[test]
    fn the_surest_mistake_comes_first_and_right_answers_never() {
        let predictions = [
            prediction(0, Some(0), &[1.0, 1.5, 0.0]),
            prediction(1, Some(1), &[0.0, 9.0, 0.0]),
            prediction(2, Some(2), &[200.0, 0.0, 0.0]),
            prediction(3, None, &[9.0, 0.0, 0.0]),
        ];
        let order: Vec<usize> = most_confident(&predictions).iter().map(|p| p.number).collect();
        assert_eq!(order, [2, 0]);
        assert_eq!(predictions[2].shares(1.0)[0], 1.0);
    }
}
