//! Which descriptions are listed, and in what order; as it stands in a query.

use super::{Entry, Explorer};

/// Descriptions on a page.
pub(super) const PAGE: usize = 50;

/// Which image sets.
const KINDS: [&str; 2] = ["video", "static"];
/// What the runs make of a description; those about a second run come last.
const OUTCOMES: [&str; 6] = ["right", "wrong", "both", "neither", "first", "second"];
/// Orders beside that of the split.
const ORDERS: [&str; 1] = ["mistakes"];

/// Which descriptions are listed. Unknown words are as none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub kind: Option<&'static str>,
    pub outcome: Option<&'static str>,
    pub order: Option<&'static str>,
    pub phenomenon: Option<String>,
    /// Part of the text, in any case.
    pub words: String,
    /// From 0.
    pub page: usize,
    /// The candidate that is looked at.
    pub candidate: Option<usize>,
}

impl Filter {
    pub fn parse(query: &str, explorer: &Explorer) -> Filter {
        let mut filter = Filter::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let known = |words: &[&'static str]| words.iter().copied().find(|word| *word == value);
            match &*key {
                "kind" => filter.kind = known(&KINDS),
                "outcome" => filter.outcome = known(filter_outcomes(explorer)),
                "order" => filter.order = known(&ORDERS),
                "phenomenon" => {
                    let is_known = explorer.phenomena.contains_key(&*value);
                    filter.phenomenon = is_known.then(|| value.into_owned());
                }
                "words" => filter.words = value.into_owned(),
                "page" => filter.page = value.parse().unwrap_or(0),
                "candidate" => filter.candidate = value.parse().ok(),
                _ => {}
            }
        }
        filter
    }

    /// As a query, empty for everything.
    pub fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let words = Some(self.words.as_str()).filter(|words| !words.is_empty());
        let page = (self.page > 0).then(|| self.page.to_string());
        let candidate = self.candidate.map(|candidate| candidate.to_string());
        for (key, value) in [
            ("kind", self.kind),
            ("outcome", self.outcome),
            ("order", self.order),
            ("phenomenon", self.phenomenon.as_deref()),
            ("words", words),
            ("page", page.as_deref()),
            ("candidate", candidate.as_deref()),
        ] {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        let query = query.finish();
        if query.is_empty() { query } else { format!("?{query}") }
    }

    /// Numbers of the descriptions that are asked for, in order.
    pub fn choose(&self, explorer: &Explorer) -> Vec<usize> {
        let words = self.words.to_lowercase();
        let entries = explorer.entries.iter().enumerate();
        let chosen = entries.filter(|(_, entry)| self.takes(entry, &words));
        let mut chosen: Vec<usize> = chosen.map(|(number, _)| number).collect();
        if self.order == Some("mistakes") {
            // The surest mistakes first.
            let key = |&number: &usize| -mistaken(&explorer.entries[number]);
            chosen.sort_by(|a, b| key(a).total_cmp(&key(b)));
        }
        chosen
    }

    fn takes(&self, entry: &Entry, words: &str) -> bool {
        let prediction = entry.first();
        let right = |run: usize| entry.is_right(run);
        let outcome = match self.outcome {
            Some("right") => right(0) == Some(true),
            Some("wrong") => right(0) == Some(false),
            Some("both") => right(0) == Some(true) && right(1) == Some(true),
            Some("neither") => right(0) == Some(false) && right(1) == Some(false),
            Some("first") => right(0) == Some(true) && right(1) == Some(false),
            Some("second") => right(0) == Some(false) && right(1) == Some(true),
            _ => true,
        };
        outcome
            && self.kind.is_none_or(|kind| prediction.video == (kind == "video"))
            && self.phenomenon.as_ref().is_none_or(|code| entry.phenomena.contains(code))
            && (words.is_empty() || prediction.text.to_lowercase().contains(words))
    }
}

/// How much larger the share of the chosen image is than that of the described one: 0 where it is right.
fn mistaken(entry: &Entry) -> f64 {
    let prediction = entry.first();
    let shares = prediction.shares(1.0);
    prediction.target.map_or(0.0, |target| shares[prediction.best()] - shares[target])
}

/// Those that can be asked for.
pub(super) fn filter_outcomes(explorer: &Explorer) -> &'static [&'static str] {
    if explorer.names.len() > 1 { &OUTCOMES } else { &OUTCOMES[..2] }
}

/// Words for an outcome.
pub(super) fn outcome_name(outcome: &str, names: &[String]) -> String {
    let [first, second] = [0, 1].map(|run| names.get(run).map_or("", String::as_str));
    match outcome {
        "right" => format!("{first} is right"),
        "wrong" => format!("{first} is wrong"),
        "both" => "both are right".into(),
        "neither" => "neither is right".into(),
        "first" => format!("only {first} is right"),
        _ => format!("only {second} is right"),
    }
}
