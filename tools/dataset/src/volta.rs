//! ImageCoDe as VOLTA's loader of visual questions reads it: `NAME.json` with a question for each candidate,
//! `NAME_target.pkl` with the answer to each, and the two tables of answers that all splits share (docs/datasets.md).
//!
//! A question id is the description's number from 1, the position of the described image and that of the candidate,
//! written one after the other. The loader sorts by it and cuts the list into tens, so a description has ten candidates
//! here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use unpickle::Value;

use super::conversion::ConversionError;
use super::json::Json;
use super::publish::Output;
use super::{DatasetError, Example, SET_SIZE};

/// What an answer is.
const ANSWER: &str = "`question_id`, `labels` of one number 0 or 1, `scores` of one number";
/// Largest question id: no data set has so many descriptions, and the ids after it can still be counted.
const MAX_QUESTION_ID: i64 = 1 << 52;
const ANSWERS: [&str; 2] = ["trainval_ans2label.pkl", "trainval_label2ans.pkl"];

#[derive(Serialize)]
struct Questions<'a> {
    questions: Vec<Question<'a>>,
}

/// A description with one of its candidates.
#[derive(Serialize)]
struct Question<'a> {
    question_id: i64,
    image_id: &'a str,
    question: &'a str,
}

/// The file of answers beside one of questions.
fn answers_path(questions: &Path) -> PathBuf {
    let stem = questions.file_stem().unwrap_or_default().to_string_lossy();
    questions.with_file_name(format!("{stem}_target.pkl"))
}

/// Whether JSON is one of VOLTA's files of questions.
pub(super) fn is_questions(json: &Json) -> bool {
    let Json::Object(entries) = json else { return false };
    entries.iter().any(|(key, value)| key == "questions" && matches!(value, Json::Array(_)))
}

/// Reads questions with the answers beside their file: descriptions in the order of their numbers, each with its first
/// question.
///
/// # Errors
/// [`DatasetError`]; [`DatasetError::Layout`] for questions that are not ten of a description.
pub(super) fn of_json(path: &Path, json: Json) -> Result<Vec<(String, Example)>, DatasetError> {
    let fault =
        |entry: String, what: String| DatasetError::Layout { path: path.to_owned(), entry, what };
    let Json::Object(keys) = json else {
        return Err(fault(String::new(), "an object with `questions` is expected".into()));
    };
    let questions = keys.into_iter().find(|(key, _)| key == "questions").map(|(_, value)| value);
    let Some(Json::Array(items)) = questions else {
        return Err(fault("questions".into(), "a list is expected".into()));
    };
    let mut questions = Vec::with_capacity(items.len());
    for (number, item) in items.into_iter().enumerate() {
        questions.push(question(item).map_err(|what| fault(format!("questions[{number}]"), what))?);
    }
    // As the loader does it.
    questions.sort_by_key(|(id, _, _)| *id);
    let answers = load_answers(&answers_path(path))?;
    let mut examples = Vec::with_capacity(questions.len() / SET_SIZE);
    for ten in questions.chunks(SET_SIZE) {
        let first = ten.first().map(|(id, _, _)| *id).unwrap_or_default();
        let example =
            example(ten, &answers).map_err(|what| fault(format!("question {first}"), what))?;
        examples.push((format!("question {first}"), example));
    }
    match examples.is_empty() {
        true => Err(DatasetError::Empty(path.to_owned())),
        false => Ok(examples),
    }
}

/// Id, image and text of a question.
type Asked = (i64, String, String);

fn question(item: Json) -> Result<Asked, String> {
    let Json::Object(keys) = item else {
        return Err(format!("a question is an object, not {}", item.kind()));
    };
    let mut keys: HashMap<String, Json> = keys.into_iter().collect();
    let mut take = |key: &str| keys.remove(key).ok_or_else(|| format!("missing key `{key}`"));
    let text = |key: &str, value: Json| match value {
        Json::Text(text) => Ok(text),
        other => Err(format!("`{key}` should be text, not {}", other.kind())),
    };
    let id = match take("question_id")? {
        Json::Int(id) if (0..=MAX_QUESTION_ID).contains(&id) => id,
        other => return Err(format!("`question_id` should be a number, not {}", other.kind())),
    };
    Ok((id, text("image_id", take("image_id")?)?, text("question", take("question")?)?))
}

/// Ten questions about one description.
fn example(ten: &[Asked], answers: &HashMap<i64, bool>) -> Result<Example, String> {
    let Some((first, _, description)) = ten.first() else {
        return Err("there are no questions".into());
    };
    if ten.len() != SET_SIZE {
        return Err(format!("{} questions are left, {SET_SIZE} make a description", ten.len()));
    }
    let mut target = None;
    for (position, (id, image, text)) in ten.iter().enumerate() {
        if *id != first / 10 * 10 + position as i64 {
            return Err(format!(
                "{SET_SIZE} ids from {} on are expected, not {id}: an id is number, target and candidate of a \
                 description",
                first / 10 * 10
            ));
        }
        if text != description {
            return Err(format!("question {id} has another text"));
        }
        let is_described = answers.get(id).ok_or_else(|| format!("question {id} has no answer"))?;
        if *is_described && target.replace(position).is_some() {
            return Err(format!("two images are described, the second is `{image}`"));
        }
    }
    let target = target.ok_or("none of the ten images is described")?;
    if first / 10 % 10 != target as i64 {
        return Err(format!("the ids say target {}, the answers {target}", first / 10 % 10));
    }
    let candidates = ten.iter().map(|(_, image, _)| image.clone()).collect();
    let mut example = Example {
        id: None,
        description: description.clone(),
        candidates,
        target: Some(target),
        video: None,
        set: None,
    };
    example.video = example.numbered().map(|(prefix, _)| is_video(prefix));
    Ok(example)
}

/// Whether a set's images are frames of a video, told from the beginning of their ids.
pub(super) fn is_video(prefix: &str) -> bool {
    !prefix.starts_with("openimages")
}

/// For each question id whether its image is the described one.
fn load_answers(path: &Path) -> Result<HashMap<i64, bool>, DatasetError> {
    let fault = |what: String| DatasetError::Pickle { path: path.to_owned(), what };
    let bytes = feature_store::text::read(path).map_err(DatasetError::io(path))?;
    let Value::List(items) = unpickle::read(&bytes).map_err(|error| fault(error.to_string()))?
    else {
        return Err(fault("a list of answers is expected".into()));
    };
    let mut answers = HashMap::with_capacity(items.len());
    for (number, item) in items.iter().enumerate() {
        let no_answer = || fault(format!("entry {number} is no answer; {ANSWER} is expected"));
        let (id, is_described) = answer(item).ok_or_else(no_answer)?;
        if answers.insert(id, is_described).is_some() {
            return Err(fault(format!("question {id} has two answers")));
        }
    }
    Ok(answers)
}

/// A label of 1 with a score says that the image is the described one.
fn answer(item: &Value) -> Option<(i64, bool)> {
    let one = |key: &str| match item.get(key)? {
        Value::List(values) if values.len() == 1 => values.first(),
        _ => None,
    };
    let label = one("labels")?.as_int()?;
    let has_score = match one("scores")? {
        Value::Float(score) => *score > 0.0,
        score => score.as_int()? > 0,
    };
    let id = item.get("question_id")?.as_int()?;
    (0..2).contains(&label).then_some((id, label == 1 && has_score))
}

/// The files of examples that all have ten candidates and a target: questions first.
///
/// # Errors
/// [`ConversionError::Encoding`].
pub(super) fn outputs(path: &Path, examples: &[Example]) -> Result<Vec<Output>, ConversionError> {
    let mut questions = Vec::with_capacity(SET_SIZE * examples.len());
    let mut answers = Vec::with_capacity(SET_SIZE * examples.len());
    for (number, example) in examples.iter().enumerate() {
        let target = example.target.unwrap_or_default();
        for (position, image) in example.candidates.iter().enumerate() {
            let question_id = ((number as i64 + 1) * 10 + target as i64) * 10 + position as i64;
            questions.push(Question {
                question_id,
                image_id: image,
                question: &example.description,
            });
            answers.push(dict(&[
                ("image_id", Value::Str(image.as_str().into())),
                ("labels", Value::List(vec![Value::Int(i64::from(position == target))])),
                ("scores", Value::List(vec![Value::Int(1)])),
                ("question_id", Value::Int(question_id)),
            ]));
        }
    }
    let encoding = |error: String| ConversionError::Encoding { path: path.to_owned(), what: error };
    let json = serde_json::to_vec(&Questions { questions }).map_err(|e| encoding(e.to_string()))?;
    let pickle =
        |value: &Value| unpickle::write(value).map_err(|fault| encoding(fault.to_string()));
    let mut outputs = vec![
        Output { path: path.to_owned(), bytes: json },
        Output { path: answers_path(path), bytes: pickle(&Value::List(answers))? },
    ];
    let (yes, no) = (Value::Str("True".into()), Value::Str("False".into()));
    let (one, zero) = (Value::Int(1), Value::Int(0));
    let label_of = vec![(yes.clone(), one.clone()), (no.clone(), zero.clone())];
    let answer_of = vec![(one, yes), (zero, no)];
    for (name, pairs) in ANSWERS.into_iter().zip([label_of, answer_of]) {
        let bytes = pickle(&Value::Dict(pairs))?;
        let path = path.with_file_name(name);
        // All splits of a folder share the tables: those of an earlier one stay.
        if feature_store::text::read(&path).ok().as_deref() != Some(bytes.as_slice()) {
            outputs.push(Output { path, bytes });
        }
    }
    Ok(outputs)
}

fn dict(pairs: &[(&str, Value)]) -> Value {
    Value::Dict(
        pairs.iter().map(|(key, value)| (Value::Str((*key).into()), value.clone())).collect(),
    )
}
