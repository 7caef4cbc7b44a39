//! How the dashboard looks.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Row, Table};

use super::state::State;
use crate::watch::accuracy_name;

/// Lower terminals show no curves.
const LOWEST_WITH_CURVES: u16 = 18;

/// A line of a chart.
struct Curve<'a> {
    name: &'static str,
    color: Color,
    points: &'a [(f64, f64)],
}

/// Draws everything.
pub fn draw(frame: &mut Frame, state: &State, now: Instant) {
    let curves = frame.area().height >= LOWEST_WITH_CURVES;
    let [head, gauge, charts, details, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3),
        if curves { Constraint::Min(8) } else { Constraint::Length(0) },
        if curves { Constraint::Length(8) } else { Constraint::Min(3) },
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(state.title.as_str().bold()), head);
    draw_gauge(frame, gauge, state, now);
    if curves {
        let [loss, accuracy] = Layout::horizontal([Constraint::Ratio(1, 2); 2]).areas(charts);
        let train = |name, points| Curve { name, color: Color::Cyan, points };
        let pairs = accuracy_name(state.rows) != "accuracy";
        let training = if pairs { "training, of pairs" } else { "training" };
        let valid = Curve { name: "validation", color: Color::Yellow, points: &state.valid };
        draw_chart(frame, loss, "loss", &[train("training", state.loss.points())]);
        let curves = [train(training, state.accuracy.points()), valid];
        draw_chart(frame, accuracy, "accuracy, %", &curves);
    }
    let [evaluations, numbers] =
        Layout::horizontal([Constraint::Min(40), Constraint::Length(34)]).areas(details);
    draw_evaluations(frame, evaluations, state);
    draw_numbers(frame, numbers, state);
    let text = match state.stopping {
        true => "stopping after this step, with a checkpoint; once more to stop at once".yellow(),
        false => "q or Ctrl-C: save a checkpoint and stop".dim(),
    };
    frame.render_widget(Line::from(text), foot);
}

fn draw_gauge(frame: &mut Frame, area: Rect, state: &State, now: Instant) {
    let State { step, steps, epoch, epochs, .. } = state;
    let left = state.left(now).map_or("?".into(), clock);
    let label = format!(
        "{:.1} %   elapsed {}   left {left}",
        100.0 * state.done(),
        clock(state.elapsed(now))
    );
    let title = match state.evaluating {
        Some((done, total)) => format!(" evaluating: {done} of {total} descriptions "),
        None => format!(" epoch {epoch} of {epochs}, step {step} of {steps} "),
    };
    let gauge = Gauge::default()
        .block(Block::bordered().title(title))
        .gauge_style(Style::new().fg(Color::Blue))
        .ratio(state.done())
        .label(label);
    frame.render_widget(gauge, area);
}

fn draw_chart(frame: &mut Frame, area: Rect, title: &str, curves: &[Curve]) {
    let mut spans = vec![Span::from(format!(" {title} "))];
    if curves.len() > 1 {
        spans.extend(curves.iter().map(|c| Span::from(format!("{} ", c.name)).fg(c.color)));
    }
    let block = Block::bordered().title(Line::from(spans));
    let all = || curves.iter().flat_map(|curve| curve.points);
    let (Some(x), Some(y)) = (range(all().map(|p| p.0)), range(all().map(|p| p.1))) else {
        frame.render_widget(Paragraph::new("nothing yet").dim().centered().block(block), area);
        return;
    };
    let datasets = curves
        .iter()
        .map(|curve| {
            Dataset::default()
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(Style::new().fg(curve.color))
                .data(curve.points)
        })
        .collect();
    let axis = |bounds| Axis::default().bounds(bounds).labels(labels(bounds)).dim();
    let chart =
        Chart::new(datasets).block(block).x_axis(axis(x)).y_axis(axis(y)).legend_position(None);
    frame.render_widget(chart, area);
}

fn draw_evaluations(frame: &mut Frame, area: Rect, state: &State) {
    let block = Block::bordered().title(" last evaluations ");
    let percent = |part: f64| format!("{:.1} %", 100.0 * part);
    let fitting = usize::from(area.height).saturating_sub(3);
    let rows = state.evaluations.iter().rev().take(fitting).map(|evaluation| {
        let metrics = &evaluation.metrics;
        let row = Row::new([
            evaluation.epoch.to_string(),
            percent(metrics.all.accuracy),
            format!("{:.3}", metrics.all.mrr),
            percent(metrics.video.accuracy),
            percent(metrics.photographs.accuracy),
            if evaluation.improved { "best so far".into() } else { String::new() },
        ]);
        if evaluation.improved { row.green() } else { row }
    });
    let widths = [5, 9, 6, 8, 8, 11].map(Constraint::Length);
    let head = Row::new(["epoch", "accuracy", "MRR", "video", "static", ""]).dim();
    frame.render_widget(Table::new(rows, widths).header(head).block(block), area);
}

fn draw_numbers(frame: &mut Frame, area: Rect, state: &State) {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "–".into());
    let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
    let rows = [
        ("loss", shown(state.loss.last().map(|loss| format!("{loss:.4}")))),
        (
            accuracy_name(state.rows),
            shown(state.accuracy.last().map(|part| format!("{part:.1} %"))),
        ),
        ("rate", format!("{:.1} {}/s", state.rows_per_second, state.rows)),
        ("memory", shown(state.memory.map(|memory| gigabytes(memory.now)))),
        ("at most", shown(state.memory.map(|memory| gigabytes(memory.peak)))),
    ];
    let rows = rows.map(|(name, value)| Row::new([Line::from(name).dim(), Line::from(value)]));
    let widths = [Constraint::Length(13), Constraint::Min(10)];
    frame.render_widget(Table::new(rows, widths).block(Block::bordered().title(" now ")), area);
}

/// The smallest and the largest value, never the same; `None` without values.
fn range(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    let [low, high] = values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| {
        [low.min(value), high.max(value)]
    });
    match high - low {
        difference if difference > 0.0 => Some([low, high]),
        0.0 => Some([low - 0.5, high + 0.5]),
        _ => None,
    }
}

/// The ends and the middle of an axis, with as many decimals as tell them apart.
fn labels([low, high]: [f64; 2]) -> [String; 3] {
    let digits = 1.0 - ((high - low) / 2.0).log10().floor();
    let decimals = digits.clamp(0.0, 9.0) as usize;
    [low, (low + high) / 2.0, high].map(|value| format!("{value:.decimals$}"))
}

/// 1:02:03.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use crossencoders::train::Event;
    use evaluation::Metrics;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn screen(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, Instant::now())).unwrap();
        terminal.backend().to_string()
    }

    fn state(steps: u64) -> State {
        let mut state = State::new("runs/a: contrastive".into(), "sets", 3, (0, 300));
        for step in 1..=steps {
            state.observe(&Event::Step {
                step,
                steps: 300,
                epoch: 1 + step / 100,
                loss: 2.0 / step as f64,
                accuracy: Some(0.25),
                rows_per_second: 12.5,
            });
        }
        state
    }

    #[test]
    fn everything_that_matters_is_on_the_screen() {
        let mut state = state(150);
        let mut metrics = Metrics::default();
        metrics.all.accuracy = 0.625;
        state.observe(&Event::Validated(1, &metrics, true));
        let screen = screen(&state, 100, 30);
        for shown in [
            "runs/a: contrastive",
            "epoch 2 of 3, step 150 of 300",
            "50.0 %",
            "left 0:00:0",
            "62.5 %",
            "best so far",
            "12.5 sets/s",
            "validation",
            "0.0133",
            "q or Ctrl-C",
        ] {
            assert!(screen.contains(shown), "{shown}\n{screen}");
        }
        assert!(screen.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "{screen}");
        state.observe(&Event::Validating(8, 40));
        state.stopping = true;
        let screen = self::screen(&state, 100, 30);
        assert!(screen.contains("8 of 40 descriptions") && screen.contains("stopping"), "{screen}");
    }

    #[test]
    fn accuracy_of_pairs_is_called_so() {
        let mut of_pairs = state(20);
        of_pairs.rows = "pairs";
        assert!(screen(&of_pairs, 100, 30).contains("pair accuracy"));
        assert!(!screen(&state(20), 100, 30).contains("pair"));
    }

    #[test]
    fn it_draws_on_every_size_before_and_after_the_first_step() {
        for (width, height) in [(1, 1), (10, 3), (20, 17), (40, 18), (300, 100)] {
            screen(&state(0), width, height);
            screen(&state(1), width, height);
            screen(&state(20), width, height);
        }
        assert!(screen(&state(0), 100, 30).contains("nothing yet"));
    }

    #[test]
    fn labels_of_an_axis_differ() {
        assert_eq!(labels([0.0, 1000.0]), ["0", "500", "1000"]);
        assert_eq!(labels([2.3021, 2.3029]), ["2.30210", "2.30250", "2.30290"]);
    }

    #[test]
    fn times_are_clocks() {
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
