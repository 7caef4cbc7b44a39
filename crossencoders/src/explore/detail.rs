//! One description: its candidates, their scores, and what the words attend to.

use evaluation::{Prediction, phenomenon_name};
use maud::{Markup, html};

use super::filter::Filter;
use super::{Explorer, Reply, page, percent};
use crate::report::mistake_view::{attention, table};
use crate::report::mistakes::{Mistake, look};

pub(super) fn detail(explorer: &Explorer, number: usize, filter: &Filter) -> Reply {
    let prediction = explorer.entries[number].first();
    let candidates = prediction.images.len();
    let asked = filter.candidate.filter(|&candidate| candidate < candidates);
    let candidate = asked.unwrap_or_else(|| prediction.best());
    let looked = explorer.lens.as_ref().map(|lens| {
        let mut picture =
            |prediction: &Prediction, position: usize| explorer.picture(prediction, position);
        look(&lens.ranker, &lens.images, &[(prediction, candidate)], &mut picture)
            .map(|mut looks| looks.pop())
            .map_err(|error| error.to_string())
    });
    let words = match &looked {
        Some(Ok(Some(mistake))) => mistake.words.len(),
        _ => 0,
    };
    let title = format!("{}, {}", prediction.directory, prediction.number);
    let body = html! {
        (neighbours(explorer, number, filter))
        article.mistake {
            (header(explorer, number))
            p.text { (prediction.text) }
            (candidates_of(explorer, number, candidate, filter))
            @match &looked {
                None => {}
                Some(Err(error)) => p.note.warning { "What the model attends to cannot be shown: " (error) },
                Some(Ok(mistake)) => { (attention_of(mistake.as_ref(), candidate)) },
            }
        }
    };
    page(200, &title, words, body)
}

/// Links to the list and to what stands before and after in it.
fn neighbours(explorer: &Explorer, number: usize, filter: &Filter) -> Markup {
    let filter = Filter { candidate: None, ..filter.clone() };
    let chosen = filter.choose(explorer);
    let place = chosen.iter().position(|&other| other == number);
    let at = |place: Option<usize>| place.and_then(|place| chosen.get(place)).copied();
    let before = at(place.and_then(|place| place.checked_sub(1)));
    let link = |other: usize| format!("/description/{other}{}", filter.query());
    html! {
        nav {
            @if let Some(before) = before { a href=(link(before)) rel="prev" { "← before" } }
            a href={ "/" (filter.query()) } { "list" }
            @if let Some(next) = at(place.map(|place| place + 1)) { a href=(link(next)) rel="next" { "next →" } }
        }
    }
}

fn header(explorer: &Explorer, number: usize) -> Markup {
    let entry = &explorer.entries[number];
    let prediction = entry.first();
    let kind = if prediction.video { "video" } else { "static" };
    let phenomena: Vec<&str> = entry.phenomena.iter().map(|code| phenomenon_name(code)).collect();
    html! {
        div {
            h3 { (prediction.directory) " " small { "description " (prediction.number) ", " (kind) } }
            @if !phenomena.is_empty() { p.verdict { (phenomena.join(", ")) } }
            @for (name, prediction) in explorer.names.iter().zip(&entry.by_run) {
                p.verdict {
                    b { (name) } " chose image " (prediction.best())
                    @if let (Some(target), Some(rank)) = (prediction.target, prediction.rank) {
                        "; meant was " b.described { "image " (target) } ", rank " (rank)
                    }
                }
            }
        }
    }
}

/// All candidates with the share that each run gives them.
fn candidates_of(explorer: &Explorer, number: usize, candidate: usize, filter: &Filter) -> Markup {
    let entry = &explorer.entries[number];
    let by_run: Vec<Vec<f64>> = entry.by_run.iter().map(|p| p.shares(1.0)).collect();
    let class = |position: usize| {
        let described = entry.first().target == Some(position);
        let chosen = entry.by_run.iter().any(|prediction| prediction.best() == position);
        match (described, chosen) {
            (true, _) => "described",
            (_, true) => "chosen",
            _ => "other",
        }
    };
    let link = |position: usize| {
        let filter = Filter { candidate: Some(position), ..filter.clone() };
        format!("/description/{number}{}", filter.query())
    };
    html! {
        p.note {
            "Each candidate's share of the softmax"
            @if explorer.names.len() > 1 { ", above of " (explorer.names[0]) ", below of " (explorer.names[1]) }
            ". Click an image to see what the words attend to in it."
        }
        ol.candidates start="0" {
            @for (position, id) in entry.first().images.iter().enumerate() {
                li class=(class(position)) {
                    a href=(link(position)) aria-current=[(position == candidate).then_some("true")] {
                        @if let Some(picture) = explorer.picture(entry.first(), position) {
                            img src=(picture) alt=(id);
                        }
                        b { (position) } " " small { (id) }
                    }
                    @for (name, shares) in explorer.names.iter().zip(&by_run) {
                        span.share title={ (name) ": " (percent(shares[position])) } {
                            i style={ "width:" (format!("{:.1}", 100.0 * shares[position])) "%" } {}
                            small { (percent(shares[position])) }
                        }
                    }
                }
            }
        }
    }
}

fn attention_of(mistake: Option<&Mistake>, candidate: usize) -> Markup {
    let Some(mistake) = mistake else { return html! {} };
    html! {
        p.note {
            "Image " (candidate)
            @if mistake.described.position != candidate { " beside the one that is described" }
            ". Boxes are the more opaque the more the words attend to them: the mean over words and heads of the last \
            sublayer in which the text attends to regions. Point at a word to see where it looks."
        }
        (attention(mistake, "looked at"))
        (table(mistake))
    }
}
