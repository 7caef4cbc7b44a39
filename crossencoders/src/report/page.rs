//! The page.

use evaluation::{Estimate, Evaluation, FEWEST_SETS, Interval, Row};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::chart::{Series, chart};
use super::log::Log;
use super::mistake_view::{self, mistake};
use super::{RankingReport, Report, STYLE};

/// Nothing is fetched and nothing is executed.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
/// What tells our pages from others.
pub(super) const GENERATOR: &str = "xenc report";
/// Pictures named in a note.
const NAMED: usize = 3;

pub(super) fn page(report: &Report) -> Markup {
    let words = report.ranking.iter().flat_map(|ranking| &ranking.mistakes);
    let words = words.map(|mistake| mistake.words.len()).max().unwrap_or(0);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="generator" content=(GENERATOR);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.name) " – training run" }
                style { (PreEscaped(STYLE)) (PreEscaped(mistake_view::rules(words))) }
            }
            body {
                header.page {
                    h1 { (report.name) }
                    p { (variant(report)) " · " (report.recipe.model.display()) }
                }
                (tiles(report))
                section { h2 { "Curves" } (curves(&report.log)) }
                @if let Some(ranking) = &report.ranking {
                    section { h2 { "Accuracy" } (accuracy(ranking)) }
                    section { h2 { "Most confident mistakes" } (mistakes(ranking)) }
                }
                section { h2 { "Configuration" } (configuration(report)) }
                footer { "xenc " (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
}

fn variant(report: &Report) -> String {
    let name = serde_json::to_value(report.recipe.variant).unwrap_or_default();
    name.as_str().unwrap_or_default().replace('_', "-")
}

fn tiles(report: &Report) -> Markup {
    let tile = |name: &str, value: String, remark: String| {
        html! { div.tile { small { (name) } b { (value) } span { (remark) } } }
    };
    html! {
        div.tiles {
            @if let Some((epoch, best)) = report.log.best() {
                (tile("best validation accuracy", percent(best), format!("epoch {epoch}")))
            }
            @if let Some(ranking) = &report.ranking {
                @let Evaluation { all, chance, .. } = &ranking.evaluation;
                (tile("accuracy of this report", percent(all.group.accuracy),
                    format!("{} descriptions, chance {}", all.group.descriptions, percent(*chance))))
                (tile("parameters", count(ranking.parameters), String::new()))
            }
            @if let Some((step, epoch)) = report.log.end() {
                (tile("trained", format!("{step} steps"),
                    format!("epoch {epoch} of {}", report.recipe.train.epochs)))
            }
            @if let Some((_, rate)) = report.log.train("rows_per_second").last() {
                (tile("rate", format!("{rate:.1}/s"), "sets or pairs".into()))
            }
        }
    }
}

fn curves(log: &Log) -> Markup {
    let train = |key| Series { name: "training", class: "train", points: log.train(key) };
    let valid = |key| Series { name: "validation", class: "valid", points: log.valid(key) };
    html! {
        div.charts {
            (chart("Accuracy", 100.0, " %", &[valid("accuracy"), train("accuracy")]))
            @if !log.train("pair_accuracy").is_empty() {
                (chart("Pair accuracy", 100.0, " %", &[train("pair_accuracy")]))
            }
            (chart("Loss", 1.0, "", &[train("loss")]))
            (chart("Mean reciprocal rank, validation", 1.0, "", &[valid("mrr")]))
            (chart("Learning rate", 1.0, "", &[train("learning_rate")]))
            (chart("Gradient norm before clipping", 1.0, "", &[train("grad_norm")]))
            (chart("Sets or pairs per second", 1.0, "", &[train("rows_per_second")]))
        }
    }
}

fn accuracy(ranking: &RankingReport) -> Markup {
    let Evaluation { chance, ties, bootstrap, .. } = &ranking.evaluation;
    let line = |row: &Row| {
        let Estimate { group, accuracy_interval, mrr_interval, .. } = row.estimate;
        html! {
            tr {
                th scope="row" { (row.name) }
                td.number { (group.descriptions) }
                td.number { (percent(group.accuracy)) }
                td.number { (interval(accuracy_interval, 100.0, 1)) }
                td.wide { (bar(group.accuracy, *chance)) }
                td.number { (format!("{:.3}", group.mrr)) }
                td.number { (interval(mrr_interval, 1.0, 3)) }
            }
        }
    };
    let (by_phenomenon, by_kind): (Vec<Row>, Vec<Row>) =
        ranking.evaluation.rows().into_iter().partition(|row| row.by == "phenomenon");
    html! {
        p.note { "Ranked: " (ranking.split.display()) }
        @for remark in &ranking.remarks { p.note { (remark) } }
        table.accuracy {
            thead { tr {
                th { "" } th.number { "descriptions" } th.number { "accuracy" } th.number { "interval" } th { "" }
                th.number { "MRR" } th.number { "interval" }
            } }
            tbody { @for row in &by_kind { (line(row)) } }
            @if !by_phenomenon.is_empty() {
                tbody {
                    tr.group { th colspan="7" { "by phenomenon" } }
                    @for row in &by_phenomenon { (line(row)) }
                }
            }
        }
        p.note {
            "The mark in a bar is guessing (" (percent(*chance)) "). Intervals of "
            (format!("{:.0} %", 100.0 * bootstrap.confidence)) ": " (bootstrap.resamples)
            " resamples of the image sets; fewer than " (FEWEST_SETS) " sets have none. "
            @if *ties > 0 { (ties) " descriptions have several best candidates; the first one counts." }
        }
    }
}

/// In per cent, or from 0 to 1.
fn interval(interval: &Option<Interval>, unit: f64, decimals: usize) -> String {
    interval.map_or(String::new(), |Interval { low, high }| {
        format!("{:.decimals$} to {:.decimals$}", unit * low, unit * high)
    })
}

fn bar(accuracy: f64, chance: f64) -> Markup {
    html! {
        span.meter {
            i style={ "width:" (format!("{:.1}", 100.0 * accuracy)) "%" } {}
            em style={ "left:" (format!("{:.1}", 100.0 * chance)) "%" } {}
        }
    }
}

fn mistakes(ranking: &RankingReport) -> Markup {
    html! {
        p.note {
            (ranking.mistakes.len()) " of " (ranking.wrong) " mistakes, those first in which the chosen image has the \
            largest share of the softmax. Boxes are the more opaque the more the words attend to them: the mean over words \
            and heads of the last sublayer in which the text attends to regions. Point at a word to see where it looks."
        }
        @if !ranking.missing_pictures.is_empty() {
            p.note.warning {
                (ranking.missing_pictures.len()) " pictures are not in the folder of images: "
                @for (index, path) in ranking.missing_pictures.iter().take(NAMED).enumerate() {
                    @if index > 0 { ", " }
                    (path.display())
                }
                @if ranking.missing_pictures.len() > NAMED { ", …" }
            }
        }
        @for (index, wrong) in ranking.mistakes.iter().enumerate() { (mistake(index + 1, wrong)) }
        @if ranking.wrong == 0 { p { "There are none." } }
    }
}

fn configuration(report: &Report) -> Markup {
    let recipe = serde_json::to_value(&report.recipe).unwrap_or_default();
    let config = serde_json::to_value(&report.config).unwrap_or_default();
    html! {
        (settings("Recipe", &recipe, true))
        @if report.config.is_some() { (settings("Model", &config, false)) }
        @else { p.note { "The model's configuration is no longer where the recipe says." } }
    }
}

fn settings(title: &str, value: &Value, open: bool) -> Markup {
    let mut rows = Vec::new();
    flatten("", value, &mut rows);
    html! {
        details open[open] {
            summary { (title) }
            table.settings {
                @for (key, value) in rows { tr { th scope="row" { (key) } td { (value) } } }
            }
        }
    }
}

/// Tables become dotted keys; what is not set is left out.
fn flatten(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), value, rows);
            }
        }
        Value::Null => {}
        Value::String(text) => rows.push((prefix.to_owned(), text.clone())),
        other => rows.push((prefix.to_owned(), other.to_string())),
    }
}

/// 12345, 1.2 M.
fn count(number: usize) -> String {
    match number {
        0..100_000 => number.to_string(),
        _ => format!("{:.1} M", number as f64 / 1e6),
    }
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}
