//! What one or two models make of a split, description by description: a page for a browser.
//!
//! An [`Explorer`] answers paths with pages; who asks, and how, is not its affair. Pages have no script, fetch nothing from
//! elsewhere, and all text in them passes through `maud`, which escapes it. Pictures are in the pages: no path of the file
//! system comes from outside.

mod detail;
mod filter;
mod list;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use evaluation::{AnnotationsError, Phenomena, Prediction};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::data::ImageSource;
use crate::ranker::Ranker;
use crate::report::{STYLE, pictures};
use filter::Filter;

/// Pages may fetch nothing.
pub const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'self'; \
                          base-uri 'none'; frame-ancestors 'none'";

/// What a model makes of a split.
#[derive(Debug)]
pub struct Run {
    /// What it is called on the pages.
    pub name: String,
    /// Its predictions.
    pub predictions: Vec<Prediction>,
}

/// A model that can be asked again, for its attention.
#[derive(Debug)]
pub struct Lens {
    /// The model of the first run.
    pub ranker: Ranker,
    /// Its features.
    pub images: ImageSource,
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP's: 200, 404, 500.
    pub status: u16,
    /// Media type of the body.
    pub kind: &'static str,
    /// A page or a picture.
    pub body: Vec<u8>,
}

/// Why there is nothing to explore.
#[derive(Debug, thiserror::Error)]
pub enum ExploreError {
    /// Two runs without a description in common.
    #[error("{0} and {1} have no description in common; rank the same split with both")]
    NothingInCommon(String, String),
    /// No description at all.
    #[error("{0} has no descriptions")]
    Empty(String),
    /// The file of phenomena.
    #[error(transparent)]
    Phenomena(#[from] AnnotationsError),
}

/// A description and what each run makes of it.
#[derive(Debug)]
struct Entry {
    /// One for each run, of the same candidates.
    by_run: Vec<Prediction>,
    /// Codes of its phenomena.
    phenomena: Vec<String>,
}

impl Entry {
    fn first(&self) -> &Prediction {
        &self.by_run[0]
    }

    /// Whether a run ranks the described image first; `None` if nobody knows which that is.
    fn is_right(&self, run: usize) -> Option<bool> {
        self.by_run.get(run)?.rank.map(|rank| rank == 1)
    }
}

/// One or two runs on a split.
#[derive(Debug)]
pub struct Explorer {
    names: Vec<String>,
    entries: Vec<Entry>,
    /// Codes of phenomena, and how many descriptions have each.
    phenomena: BTreeMap<String, usize>,
    lens: Option<Lens>,
    /// The folder of pictures, `SET/imgN.jpg`.
    pictures: Option<PathBuf>,
    /// Descriptions that only one of the runs has.
    left_out: usize,
}

impl Explorer {
    /// Puts runs side by side.
    ///
    /// # Errors
    /// [`ExploreError`].
    pub fn new(
        first: Run,
        second: Option<Run>,
        lens: Option<Lens>,
        pictures: Option<PathBuf>,
        phenomena: Option<&Phenomena>,
    ) -> Result<Explorer, ExploreError> {
        if first.predictions.is_empty() {
            return Err(ExploreError::Empty(first.name));
        }
        if let Some(phenomena) = phenomena {
            phenomena.check(&first.predictions)?;
        }
        let mut names = vec![first.name];
        let all = first.predictions.len();
        let mut entries: Vec<Entry> = match second {
            None => first.predictions.into_iter().map(|p| entry(vec![p])).collect(),
            Some(second) => {
                names.push(second.name);
                paired(first.predictions, second.predictions)
            }
        };
        if let ([first, second], true) = (&names[..], entries.is_empty()) {
            return Err(ExploreError::NothingInCommon(first.clone(), second.clone()));
        }
        let mut counts = BTreeMap::new();
        for entry in &mut entries {
            let Prediction { directory, number, .. } = entry.first();
            let codes = phenomena.and_then(|phenomena| phenomena.of(directory, *number));
            entry.phenomena = codes.unwrap_or_default().to_vec();
            entry.phenomena.iter().for_each(|code| *counts.entry(code.clone()).or_default() += 1);
        }
        let left_out = all - entries.len();
        Ok(Explorer { names, entries, phenomena: counts, lens, pictures, left_out })
    }

    /// How many descriptions there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none, which [`new`](Explorer::new) does not allow.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Answers a request's path and query.
    pub fn answer(&self, target: &str) -> Reply {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let filter = Filter::parse(query, self);
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let number = |text: &str| text.parse().ok().filter(|&number| number < self.len());
        match parts[..] {
            [""] => page(200, "xenc explore", 0, list::list(self, &filter)),
            ["description", text] => match number(text) {
                Some(number) => detail::detail(self, number, &filter),
                None => absent(),
            },
            _ => absent(),
        }
    }

    /// A candidate's picture as a data URI: a page is one answer, and a browser asks for nothing else.
    fn picture(&self, prediction: &Prediction, position: usize) -> Option<String> {
        let id = prediction.images.get(position)?;
        pictures::find(self.pictures.as_deref()?, &prediction.directory, id)
    }
}

fn entry(by_run: Vec<Prediction>) -> Entry {
    Entry { by_run, phenomena: Vec::new() }
}

/// Descriptions that both have, with the same candidates.
fn paired(first: Vec<Prediction>, second: Vec<Prediction>) -> Vec<Entry> {
    type Key = (String, usize, Vec<String>);
    let key = |p: &Prediction| -> Key { (p.directory.clone(), p.number, p.images.clone()) };
    let mut others: HashMap<Key, Prediction> =
        second.into_iter().map(|prediction| (key(&prediction), prediction)).collect();
    let pair = |prediction: Prediction| {
        let other = others.remove(&key(&prediction))?;
        Some(entry(vec![prediction, other]))
    };
    first.into_iter().filter_map(pair).collect()
}

/// A page with a title; `words` of a description show what they attend to.
fn page(status: u16, title: &str, words: usize, body: Markup) -> Reply {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style {
                    (PreEscaped(STYLE)) (PreEscaped(include_str!("style.css")))
                    (PreEscaped(crate::report::mistake_view::rules(words)))
                }
            }
            body { (body) }
        }
    };
    let kind = "text/html; charset=utf-8";
    Reply { status, kind, body: page.into_string().into_bytes() }
}

fn absent() -> Reply {
    let body = html! {
        h1 { "Nothing is here" }
        p { a href="/" { "All descriptions" } }
    };
    page(404, "Nothing is here", 0, body)
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

#[cfg(test)]
mod tests {
    use evaluation::Question;

    use super::*;

    fn prediction(number: usize, text: &str, scores: &[f32]) -> Prediction {
        let question = Question {
            directory: "set-a".into(),
            number,
            text: text.into(),
            images: (0..scores.len()).map(|image| format!("setaimg{image}")).collect(),
            target: Some(0),
            video: number.is_multiple_of(2),
        };
        Prediction::new(question, scores.to_vec())
    }

    fn run(name: &str, scores: [&[f32]; 3]) -> Run {
        let texts = ["a red ball", "<script>alert(1)</script>", "the left one & all"];
        let predictions = texts.iter().zip(scores).enumerate();
        let predictions = predictions.map(|(n, (text, scores))| prediction(n, text, scores));
        Run { name: name.into(), predictions: predictions.collect() }
    }

    fn explorer() -> Explorer {
        let first = run("first", [&[2.0, 1.0], &[0.0, 1.0], &[0.0, 5.0]]);
        let second = run("second", [&[0.0, 1.0], &[2.0, 1.0], &[0.0, 1.0]]);
        Explorer::new(first, Some(second), None, None, None).unwrap()
    }

    fn text(explorer: &Explorer, target: &str) -> String {
        let reply = explorer.answer(target);
        assert_eq!(reply.status, 200, "{target}");
        String::from_utf8(reply.body).unwrap()
    }

    /// Numbers of the descriptions that a list links to.
    fn listed(explorer: &Explorer, query: &str) -> Vec<usize> {
        let page = text(explorer, &format!("/?{query}"));
        let links = page.split("href=\"/description/").skip(1);
        links.map(|link| link.split(['?', '"']).next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn descriptions_are_listed_by_what_is_asked_for() {
        let explorer = explorer();
        assert_eq!(listed(&explorer, ""), [0, 1, 2]);
        assert_eq!(listed(&explorer, "outcome=first"), [0]);
        assert_eq!(listed(&explorer, "outcome=second"), [1]);
        assert_eq!(listed(&explorer, "outcome=neither"), [2]);
        assert!(listed(&explorer, "outcome=both").is_empty());
        assert_eq!(listed(&explorer, "kind=static"), [1]);
        assert_eq!(listed(&explorer, "words=RED+ball"), [0]);
        assert_eq!(listed(&explorer, "order=mistakes"), [2, 1, 0]);
        assert_eq!(listed(&explorer, "outcome=nonsense&page=999&phenomenon=x"), [0, 1, 2]);
    }

    #[test]
    fn text_is_escaped_and_what_is_not_there_is_said() {
        let explorer = explorer();
        for target in ["/", "/description/1", "/?words=%3Cscript%3E"] {
            let page = text(&explorer, target);
            assert!(!page.contains("<script"), "{target}");
        }
        for target in [
            "/description/3",
            "/description/-1",
            "/description/1/2",
            "/picture/0/0",
            "/picture/0/99",
            "/../../etc/passwd",
            "/picture/..%2f/0",
            "/favicon.ico",
        ] {
            assert_eq!(explorer.answer(target).status, 404, "{target}");
        }
    }

    #[test]
    fn a_description_leads_to_its_neighbours_in_the_list() {
        let explorer = explorer();
        let page = text(&explorer, "/description/0?order=mistakes");
        assert!(page.contains("href=\"/description/1?order=mistakes\""), "{page}");
        assert!(page.contains("first") && page.contains("second"));
        // Only a model knows what words attend to.
        assert!(!page.contains("class=\"words\""));
    }

    #[test]
    fn runs_of_other_descriptions_are_no_pair() {
        let first = run("first", [&[1.0, 2.0]; 3]);
        let second = run("second", [&[1.0, 2.0, 3.0]; 3]);
        let error = Explorer::new(first, Some(second), None, None, None).unwrap_err();
        assert!(matches!(error, ExploreError::NothingInCommon(..)), "{error}");
    }
}
