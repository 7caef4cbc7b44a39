//! Plots as SVG files that need nothing but themselves, for light and dark pages.

use std::fmt::Write as _;

use super::{Analysis, Calibration, LengthGroup, Positions, Scaled};
use crate::Row;

/// Size of a plot and of the area in it.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 464.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 270.0;

const STYLE: &str = "svg{background:#fff;color:#1c2330;font:12px system-ui,sans-serif}\
text{fill:currentColor}.title{font-size:15px;font-weight:600}.soft{fill:#667085}.grid{stroke:#e3e7ee}.axis{stroke:#667085}\
.bar{fill:#2f6fde}.pale{fill:#2f6fde;fill-opacity:.25}.mark{stroke:#d9730d;stroke-width:2;fill:none}\
@media(prefers-color-scheme:dark){svg{background:#1d2128;color:#e7eaf0}.soft{fill:#98a2b3}.grid{stroke:#313743}\
.bar{fill:#6ea3ff}.pale{fill:#6ea3ff}.mark{stroke:#f2a154}}";

/// A plot: the name of its file and the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plot {
    /// `reliability.svg`.
    pub name: &'static str,
    /// The file's text.
    pub svg: String,
}

/// The names of all plots.
pub const NAMES: [&str; 5] =
    ["reliability.svg", "positions.svg", "recall.svg", "lengths.svg", "groups.svg"];

/// All plots of an analysis of a model that is called so.
pub fn plots(model: &str, analysis: &Analysis) -> Vec<Plot> {
    let rows = analysis.evaluation.rows();
    let drawn = [
        reliability(model, &analysis.calibration),
        positions(model, &analysis.positions),
        recall(model, &analysis.recall),
        lengths(model, &analysis.lengths, analysis.evaluation.chance),
        groups(model, &rows, analysis.evaluation.chance),
    ];
    NAMES.into_iter().zip(drawn).map(|(name, svg)| Plot { name, svg }).collect()
}

/// A drawing that is being made.
struct Drawing(String);

impl Drawing {
    fn new(title: &str, model: &str, height: f64) -> Drawing {
        let mut text = String::new();
        let _ = write!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>{title}, {model}</title>\
             <style>{STYLE}</style><rect width=\"100%\" height=\"100%\" fill=\"none\"/>\
             <text class=\"title\" x=\"16\" y=\"24\">{title} <tspan class=\"soft\" font-weight=\"400\" font-size=\"12\">{model}</tspan></text>",
            title = escaped(title),
            model = escaped(model),
        );
        Drawing(text)
    }

    fn text(&mut self, [x, y]: [f64; 2], anchor: &str, class: &str, text: &str) {
        let text = escaped(text);
        let _ = write!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
        );
    }

    fn bar(&mut self, [x, y, width, height]: [f64; 4], class: &str, says: &str) {
        let says = escaped(says);
        let (width, height) = (width.max(0.0), height.max(0.0));
        let _ = write!(
            self.0,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{says}</title></rect>"
        );
    }

    fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], class: &str) {
        let _ = write!(
            self.0,
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }

    /// An axis of per cent on the left, and what stands below.
    fn frame(&mut self, below: &str) {
        for tick in 0..=5u8 {
            let y = up(f64::from(tick) / 5.0);
            self.line([LEFT, y, RIGHT, y], if tick == 0 { "axis" } else { "grid" });
            self.text([LEFT - 6.0, y + 4.0], "end", "soft", &format!("{} %", 20 * tick));
        }
        self.text([(LEFT + RIGHT) / 2.0, HEIGHT - 12.0], "middle", "soft", below);
    }

    fn end(mut self) -> String {
        self.0 += "</svg>\n";
        self.0
    }
}

/// Where a part between 0 and 1 lies.
fn up(part: f64) -> f64 {
    BOTTOM - part * (BOTTOM - TOP)
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            // XML has no place for them.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn reliability(model: &str, calibration: &Calibration) -> String {
    let mut plot = Drawing::new("Accuracy by confidence", model, HEIGHT);
    let most = calibration.bins.iter().map(|bin| bin.descriptions).max().unwrap_or(0).max(1);
    plot.frame("share of the chosen candidate; pale: how many descriptions");
    let width = (RIGHT - LEFT) / calibration.bins.len() as f64;
    for (number, bin) in calibration.bins.iter().enumerate() {
        let x = LEFT + number as f64 * width;
        let says = format!(
            "{} descriptions, confidence {}, accuracy {}",
            bin.descriptions,
            percent(bin.confidence),
            percent(bin.accuracy)
        );
        let share = up(bin.descriptions as f64 / most as f64);
        plot.bar([x + 1.0, share, width - 2.0, BOTTOM - share], "pale", &says);
        let top = up(bin.accuracy);
        plot.bar([x + width / 4.0, top, width / 2.0, BOTTOM - top], "bar", &says);
        plot.text([x, BOTTOM + 16.0], "middle", "soft", &format!("{}", 10 * number));
    }
    plot.text([RIGHT, BOTTOM + 16.0], "end", "soft", "100 %");
    plot.line([LEFT, BOTTOM, RIGHT, TOP], "mark");
    let mut says = format!("expected error {}", percent(calibration.expected_error));
    if let Some(Scaled { temperature, expected_error, .. }) = calibration.scaled {
        says += &format!(", {} at temperature {temperature:.2}", percent(expected_error));
    }
    plot.text([RIGHT, TOP - 8.0], "end", "soft", &says);
    plot.end()
}

fn positions(model: &str, positions: &Positions) -> String {
    let n = positions.confusion.len().max(1);
    let side = (WIDTH - LEFT - 16.0) / n as f64;
    let height = TOP + 24.0 + side * n as f64 + 32.0;
    let mut plot = Drawing::new("Chosen position by described position", model, height);
    for (described, row) in positions.confusion.iter().enumerate() {
        let y = TOP + 24.0 + described as f64 * side;
        let all: u64 = row.iter().sum();
        plot.text([LEFT - 8.0, y + side / 2.0 + 4.0], "end", "soft", &described.to_string());
        plot.text(
            [LEFT + (described as f64 + 0.5) * side, TOP + 16.0],
            "middle",
            "soft",
            &described.to_string(),
        );
        for (chosen, &count) in row.iter().enumerate() {
            let x = LEFT + chosen as f64 * side;
            let part = count as f64 / all.max(1) as f64;
            let says = format!("described {described}, chosen {chosen}: {count} of {all}");
            plot.bar([x, y, side - 1.0, side - 1.0], "pale", &says);
            // The area says how many.
            let inner = (side - 1.0) * part.sqrt();
            let middle = |start: f64| start + (side - 1.0 - inner) / 2.0;
            plot.bar([middle(x), middle(y), inner, inner], "bar", &says);
        }
    }
    plot.text(
        [WIDTH / 2.0, height - 10.0],
        "middle",
        "soft",
        "columns: chosen; rows: described; areas: share of the row",
    );
    plot.end()
}

fn recall(model: &str, recall: &[f64]) -> String {
    let mut plot = Drawing::new("Described image among the first k", model, HEIGHT);
    plot.frame("k");
    let n = recall.len().max(1) as f64;
    let width = (RIGHT - LEFT) / n;
    for (number, &part) in recall.iter().enumerate() {
        let (x, top) = (LEFT + number as f64 * width, up(part));
        let says = format!("first {}: {}", number + 1, percent(part));
        plot.bar([x + 3.0, top, width - 6.0, BOTTOM - top], "bar", &says);
        // Guessing rises evenly.
        let chance = up((number + 1) as f64 / n);
        plot.line([x + 3.0, chance, x + width - 3.0, chance], "mark");
        plot.text([x + width / 2.0, BOTTOM + 16.0], "middle", "soft", &(number + 1).to_string());
    }
    plot.text([RIGHT, TOP - 8.0], "end", "soft", "marks: guessing");
    plot.end()
}

fn lengths(model: &str, lengths: &[LengthGroup], chance: f64) -> String {
    let mut plot = Drawing::new("Accuracy by length", model, HEIGHT);
    plot.frame("words of the description; mark: guessing");
    let width = (RIGHT - LEFT) / lengths.len().max(1) as f64;
    for (number, group) in lengths.iter().enumerate() {
        let (x, top) = (LEFT + number as f64 * width, up(group.accuracy));
        let says = format!("{} descriptions, {}", group.descriptions, percent(group.accuracy));
        plot.bar([x + 12.0, top, width - 24.0, BOTTOM - top], "bar", &says);
        let name = match group.fewest == group.most {
            true => group.most.to_string(),
            false => format!("{} to {}", group.fewest, group.most),
        };
        plot.text([x + width / 2.0, BOTTOM + 16.0], "middle", "soft", &name);
        plot.text([x + width / 2.0, top - 5.0], "middle", "soft", &percent(group.accuracy));
    }
    plot.line([LEFT, up(chance), RIGHT, up(chance)], "mark");
    plot.end()
}

/// Accuracy of every group with its interval, one below the other.
fn groups(model: &str, rows: &[Row], chance: f64) -> String {
    const STEP: f64 = 24.0;
    const NAMES: f64 = 170.0;
    let height = TOP + STEP * rows.len() as f64 + 44.0;
    let bottom = height - 36.0;
    let mut plot = Drawing::new("Accuracy by group", model, height);
    let along = |part: f64| NAMES + part * (RIGHT - 56.0 - NAMES);
    for tick in 0..=5u8 {
        let x = along(f64::from(tick) / 5.0);
        plot.line([x, TOP, x, bottom], if tick == 0 { "axis" } else { "grid" });
        plot.text([x, bottom + 16.0], "middle", "soft", &format!("{} %", 20 * tick));
    }
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + STEP * number as f64 + 4.0;
        let group = &row.estimate.group;
        let says = format!("{} descriptions, {}", group.descriptions, percent(group.accuracy));
        plot.text([NAMES - 8.0, y + 12.0], "end", "", row.name);
        plot.bar([NAMES, y, along(group.accuracy) - NAMES, STEP - 8.0], "bar", &says);
        if let Some(interval) = row.estimate.accuracy_interval {
            let middle = y + (STEP - 8.0) / 2.0;
            plot.line([along(interval.low), middle, along(interval.high), middle], "mark");
        }
        plot.text([RIGHT, y + 12.0], "end", "soft", &percent(group.accuracy));
    }
    plot.line([along(chance), TOP, along(chance), bottom], "mark");
    plot.text(
        [16.0, height - 6.0],
        "start",
        "soft",
        "horizontal marks: intervals; vertical: guessing",
    );
    plot.end()
}

#[cfg(test)]
mod tests {
    use super::super::tests::predictions;
    use super::*;
    use crate::{Bootstrap, Evaluation};

    #[test]
    fn every_plot_is_whole_and_escapes_names() {
        let list = predictions(&[(0, &[2.0, 1.0]), (1, &[2.0, 1.0])]);
        let evaluation = Evaluation::new(&list, None, None, &Bootstrap::default()).unwrap();
        let analysis = Analysis::new(&list, evaluation).unwrap();
        let plots = plots("a<b>&\"\u{1}", &analysis);
        assert_eq!(plots.len(), 5);
        for Plot { name, svg } in plots {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{name}");
            assert!(svg.contains("a&lt;b&gt;&amp;&quot; ") && !svg.contains("NaN"), "{name}");
            let opened = svg.matches("<rect").count() + svg.matches("<text").count();
            assert!(opened > 4, "{name}");
        }
    }
}
