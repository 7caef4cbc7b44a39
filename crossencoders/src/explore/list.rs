//! The list of descriptions.

use evaluation::phenomenon_name;
use maud::{Markup, html};

use super::filter::{Filter, PAGE, filter_outcomes, outcome_name};
use super::{Entry, Explorer, percent};

pub(super) fn list(explorer: &Explorer, filter: &Filter) -> Markup {
    let chosen = filter.choose(explorer);
    let pages = chosen.len().div_ceil(PAGE).max(1);
    let page = filter.page.min(pages - 1);
    let shown = chosen.iter().skip(page * PAGE).take(PAGE);
    html! {
        header.page { h1 { (explorer.names.join(" and ")) } }
        @if explorer.left_out > 0 {
            p.note { (explorer.left_out) " descriptions of the first are not in the second and left out." }
        }
        (form(explorer, filter))
        (summary(explorer, &chosen))
        table.list {
            thead { tr {
                th { "description" } th { "set" }
                @for name in &explorer.names { th.number { "rank, " (name) } }
                @if !explorer.phenomena.is_empty() { th { "phenomena" } }
            } }
            tbody { @for &number in shown { (line(explorer, number, filter)) } }
        }
        nav {
            @if page > 0 { a href=(at_page(filter, page - 1)) rel="prev" { "← before" } }
            span { "page " (page + 1) " of " (pages) }
            @if page + 1 < pages { a href=(at_page(filter, page + 1)) rel="next" { "next →" } }
        }
    }
}

fn at_page(filter: &Filter, page: usize) -> String {
    format!("/{}", Filter { page, ..filter.clone() }.query())
}

fn line(explorer: &Explorer, number: usize, filter: &Filter) -> Markup {
    let entry = &explorer.entries[number];
    let prediction = entry.first();
    let kind = if prediction.video { "video" } else { "static" };
    html! {
        tr {
            td { a href={ "/description/" (number) (filter.query()) } { (prediction.text) } }
            td { small { (prediction.directory) ", " (prediction.number) ", " (kind) } }
            @for run in 0..explorer.names.len() { (rank(entry, run)) }
            @if !explorer.phenomena.is_empty() { td { small { (entry.phenomena.join(", ")) } } }
        }
    }
}

fn rank(entry: &Entry, run: usize) -> Markup {
    let class = match entry.is_right(run) {
        Some(true) => "number right",
        Some(false) => "number wrong",
        None => "number",
    };
    html! {
        td class=(class) { @if let Some(rank) = entry.by_run[run].rank { (rank) } @else { "?" } }
    }
}

/// How well the runs do on what is listed.
fn summary(explorer: &Explorer, chosen: &[usize]) -> Markup {
    let accuracy = |run: usize| {
        let known = chosen.iter().filter_map(|&number| explorer.entries[number].is_right(run));
        let (right, all) =
            known.fold((0, 0), |(right, all), is_right| (right + usize::from(is_right), all + 1));
        (all > 0).then(|| percent(right as f64 / all as f64))
    };
    html! {
        p.summary {
            b { (chosen.len()) } " of " (explorer.len()) " descriptions"
            @for (run, name) in explorer.names.iter().enumerate() {
                @if let Some(accuracy) = accuracy(run) { " · " (name) " " b { (accuracy) } }
            }
        }
    }
}

fn form(explorer: &Explorer, filter: &Filter) -> Markup {
    let phenomena = explorer
        .phenomena
        .iter()
        .map(|(code, count)| (code.as_str(), format!("{} ({count})", phenomenon_name(code))));
    let outcomes = filter_outcomes(explorer).iter();
    let outcomes = outcomes.map(|outcome| (*outcome, outcome_name(outcome, &explorer.names)));
    let kinds = [("video", "frames of videos".to_owned()), ("static", "photographs".to_owned())];
    let orders = [("mistakes", "surest mistakes first".to_owned())];
    html! {
        form.filter action="/" method="get" {
            (choice("kind", "sets", "all sets", filter.kind, kinds))
            (choice("outcome", "outcome", "any outcome", filter.outcome, outcomes))
            @if !explorer.phenomena.is_empty() {
                (choice("phenomenon", "phenomenon", "any phenomenon", filter.phenomenon.as_deref(), phenomena))
            }
            (choice("order", "order", "in the order of the split", filter.order, orders))
            label { "words " input type="search" name="words" value=(filter.words); }
            button { "Show" }
        }
    }
}

fn choice<'a>(
    name: &str,
    label: &str,
    all: &str,
    chosen: Option<&str>,
    options: impl IntoIterator<Item = (&'a str, String)>,
) -> Markup {
    html! {
        label {
            (label) " "
            select name=(name) {
                option value="" { (all) }
                @for (value, text) in options {
                    option value=(value) selected[chosen == Some(value)] { (text) }
                }
            }
        }
    }
}
