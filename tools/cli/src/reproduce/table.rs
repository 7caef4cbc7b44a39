//! The table of rows, beside the published one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use evaluation::{Bootstrap, Estimate, Evaluation, read_predictions};
use serde::Deserialize;

use super::row::Row;

/// The published accuracies.
const PUBLISHED: &str = include_str!("../../../../configs/published.toml");

/// How the table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Markdown,
    Csv,
    Latex,
}

/// A published row: accuracies on the test split, in per cent.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    all: f64,
    video: f64,
    #[serde(rename = "static")]
    photographs: f64,
}

/// The published rows that are known.
pub fn published() -> anyhow::Result<BTreeMap<String, Published>> {
    Ok(toml::from_str(PUBLISHED)?)
}

/// A row, as far as it is made.
pub struct Line {
    pub row: Row,
    /// Of the validation split; `None` if it is not made yet.
    pub evaluation: Option<Evaluation>,
}

impl Line {
    /// Reads the predictions of a row, if they are there.
    pub fn read(row: Row, predictions: &Path) -> anyhow::Result<Line> {
        if !predictions.exists() {
            return Ok(Line { row, evaluation: None });
        }
        let list = read_predictions(predictions)?.list;
        let evaluation = Evaluation::new(&list, None, None, &Bootstrap::default())
            .with_context(|| format!("cannot evaluate {}", predictions.display()))?;
        Ok(Line { row, evaluation: Some(evaluation) })
    }
}

/// Column headings; accuracies are in per cent.
const HEADINGS: [&str; 10] = [
    "model",
    "variant",
    "descriptions",
    "accuracy",
    "interval",
    "video",
    "static",
    "published",
    "published video",
    "published static",
];

/// The table as text.
pub fn write(lines: &[Line], published: &BTreeMap<String, Published>, format: Format) -> String {
    let rows = lines.iter().map(|line| cells(line, published.get(&line.row.to_string())));
    match format {
        Format::Markdown => {
            let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
            let rule = format!("|{}\n", " --- |".repeat(HEADINGS.len()));
            let body: String = rows.map(|cells| row(&cells)).collect();
            row(&HEADINGS.map(str::to_owned)) + &rule + &body
        }
        Format::Csv => {
            let body: String = rows.map(|cells| cells.join(",") + "\n").collect();
            HEADINGS.map(|heading| heading.replace(' ', "_")).join(",") + "\n" + &body
        }
        Format::Latex => {
            let row = |cells: &[String]| format!("{} \\\\\n", cells.join(" & "));
            let columns = "ll".to_owned() + &"r".repeat(HEADINGS.len() - 2);
            let body: String = rows.map(|cells| row(&cells)).collect();
            format!(
                "\\begin{{tabular}}{{{columns}}}\n\\toprule\n{}\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n",
                row(&HEADINGS.map(str::to_owned))
            )
        }
    }
}

/// What is not known is empty.
fn cells(line: &Line, published: Option<&Published>) -> [String; HEADINGS.len()] {
    let per_cent = |value: f64| format!("{:.1}", 100.0 * value);
    let accuracy = |estimate: &Estimate| match estimate.group.descriptions {
        0 => String::new(),
        _ => per_cent(estimate.group.accuracy),
    };
    let of = |read: &dyn Fn(&Evaluation) -> String| line.evaluation.as_ref().map(read);
    let interval = |evaluation: &Evaluation| {
        let interval = evaluation.all.accuracy_interval;
        interval.map_or(String::new(), |interval| {
            format!("{}-{}", per_cent(interval.low), per_cent(interval.high))
        })
    };
    let known = |value: &dyn Fn(&Published) -> f64| {
        published.map_or(String::new(), |row| format!("{:.1}", value(row)))
    };
    [
        line.row.model().to_owned(),
        line.row.variant().to_owned(),
        of(&|evaluation| evaluation.all.group.descriptions.to_string()).unwrap_or_default(),
        of(&|evaluation| accuracy(&evaluation.all)).unwrap_or_default(),
        of(&interval).unwrap_or_default(),
        of(&|evaluation| accuracy(&evaluation.video)).unwrap_or_default(),
        of(&|evaluation| accuracy(&evaluation.photographs)).unwrap_or_default(),
        known(&|row| row.all),
        known(&|row| row.video),
        known(&|row| row.photographs),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of the test split's descriptions whose sets are photographs: 485 of 2306.
    const STATIC: f64 = 485.0 / 2306.0;

    #[test]
    fn published_rows_are_rows_and_agree_with_themselves() {
        let published = published().unwrap();
        assert!(!published.is_empty());
        for (name, row) in published {
            name.parse::<Row>().unwrap();
            let together = row.video * (1.0 - STATIC) + row.photographs * STATIC;
            assert!((together - row.all).abs() < 0.11, "{name}: {together}");
        }
    }

    #[test]
    fn every_format_has_all_rows_and_columns() {
        let lines: Vec<Line> = Row::all().map(|row| Line { row, evaluation: None }).collect();
        let published = published().unwrap();
        let markdown = write(&lines, &published, Format::Markdown);
        assert_eq!(markdown.lines().count(), 17);
        assert!(markdown.lines().all(|line| line.matches('|').count() == HEADINGS.len() + 1));
        let csv = write(&lines, &published, Format::Csv);
        assert!(csv.lines().all(|line| line.matches(',').count() == HEADINGS.len() - 1), "{csv}");
        assert!(csv.contains("CLIP,+TemporalEmbeddings,,,,,,29.9,22.0,59.8"), "{csv}");
        let latex = write(&lines, &published, Format::Latex);
        assert_eq!(latex.matches("\\\\\n").count(), 16);
    }
}
