//! Line charts as inline SVG.

use maud::{Markup, html};

use super::log::Points;

/// Size of a chart and of the plot in it, in the units of its view box.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 448.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 202.0;

/// More points than these are averaged: a screen shows no more.
const MOST_POINTS: usize = 400;

/// A line of a chart.
pub(super) struct Series {
    pub name: &'static str,
    /// Class in the style sheet: its colour.
    pub class: &'static str,
    pub points: Points,
}

/// A chart with its caption; values are multiplied by `scale` and get the unit behind them.
pub(super) fn chart(title: &str, scale: f64, unit: &str, series: &[Series]) -> Markup {
    let series: Vec<Series> = series
        .iter()
        .map(|s| Series { points: thin(finite(&s.points, scale)), ..*s })
        .filter(|s| !s.points.is_empty())
        .collect();
    html! {
        figure.chart {
            figcaption {
                b { (title) }
                @if series.len() > 1 {
                    @for s in &series { span class={ "key " (s.class) } { (s.name) } }
                }
                @if let Some((s, last)) = series.first().and_then(|s| Some((s, s.points.last()?))) {
                    span.last { (s.name) ", last: " (number(last.1)) (unit) }
                }
            }
            @if series.is_empty() {
                p.empty { "nothing logged yet" }
            } @else {
                (plot(title, unit, &series))
            }
        }
    }
}

fn plot(title: &str, unit: &str, series: &[Series]) -> Markup {
    let all = || series.iter().flat_map(|s| s.points.iter());
    let (x_ticks, y_ticks) = (ticks(all().map(|p| p.0), 6), ticks(all().map(|p| p.1), 5));
    let x = |value: f64| position(value, &x_ticks, LEFT, RIGHT);
    let y = |value: f64| position(value, &y_ticks, BOTTOM, TOP);
    let line = |points: &Points| {
        let points: Vec<String> =
            points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        points.join(" ")
    };
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(title) {
            @for &tick in &y_ticks {
                line.grid x1=(LEFT) x2=(RIGHT) y1=(px(y(tick))) y2=(px(y(tick))) {}
                text.tick x=(LEFT - 6.0) y=(px(y(tick) + 4.0)) text-anchor="end" {
                    (label(tick, &y_ticks)) (unit)
                }
            }
            @for &tick in &x_ticks {
                text.tick x=(px(x(tick))) y=(BOTTOM + 18.0) text-anchor="middle" { (label(tick, &x_ticks)) }
            }
            line.axis x1=(LEFT) x2=(RIGHT) y1=(BOTTOM) y2=(BOTTOM) {}
            @for s in series {
                polyline class={ "line " (s.class) } points=(line(&s.points)) {}
                @if s.points.len() <= 30 {
                    @for p in &s.points {
                        circle class={ "dot " (s.class) } cx=(px(x(p.0))) cy=(px(y(p.1))) r="2.5" {
                            title { "step " (number(p.0)) ": " (number(p.1)) (unit) }
                        }
                    }
                }
            }
        }
    }
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

fn finite(points: &Points, scale: f64) -> Points {
    points.iter().map(|p| (p.0, p.1 * scale)).filter(|p| p.1.is_finite()).collect()
}

/// Means of neighbours, so that no more than [`MOST_POINTS`] are left.
fn thin(points: Points) -> Points {
    let together = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let count = points.len() as f64;
        (points.iter().map(|p| p.0 / count).sum(), points.iter().map(|p| p.1 / count).sum())
    };
    points.chunks(together).map(mean).collect()
}

/// Round numbers around all values, about `count` of them, at least two.
fn ticks(values: impl Iterator<Item = f64>, count: usize) -> Vec<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        (low, high) = (low.min(value), high.max(value));
    }
    if high <= low {
        let around = if low == 0.0 { 1.0 } else { low.abs() / 2.0 };
        (low, high) = (low - around, high + around);
    }
    let rough = (high - low) / count as f64;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * magnitude)
        .find(|&step| step >= rough)
        .unwrap_or(rough);
    let (first, last) = ((low / step).floor(), (high / step).ceil());
    (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect()
}

/// A tick with as many decimals as its neighbours need to differ.
fn label(tick: f64, ticks: &[f64]) -> String {
    let step = ticks[1] - ticks[0];
    let largest = ticks[0].abs().max(ticks[ticks.len() - 1].abs());
    let decimals = (-(step * 1.001).log10().floor()).clamp(0.0, 9.0) as usize;
    match tick == 0.0 || (1e-3..1e7).contains(&largest) {
        true if tick == 0.0 => "0".into(),
        true => format!("{tick:.decimals$}"),
        false => format!("{tick:.1e}"),
    }
}

fn position(value: f64, ticks: &[f64], from: f64, to: f64) -> f64 {
    let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
    from + (value - low) / (high - low) * (to - from)
}

/// A number as short as it stays readable.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".into()
    } else if !(1e-3..1e7).contains(&size) {
        format!("{value:.1e}")
    } else {
        let decimals = (3 - size.log10().floor() as i32).clamp(0, 4) as usize;
        let text = format!("{value:.decimals$}");
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: Points) -> Series {
        Series { name: "training", class: "train", points }
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(ticks([0.0, 97.0].into_iter(), 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        for values in [vec![3.0], vec![0.0], vec![-1e-9, 1e9], vec![2.1, 2.2], vec![-7.0, -3.0]] {
            let ticks = ticks(values.iter().copied(), 5);
            assert!((2..=9).contains(&ticks.len()), "{ticks:?}");
            assert!(
                values.iter().all(|v| (ticks[0]..=ticks[ticks.len() - 1]).contains(v)),
                "{ticks:?}"
            );
        }
    }

    #[test]
    fn ticks_are_told_apart() {
        for values in [[2.3024, 2.3029], [0.0, 9e-4], [0.0, 97.0], [-0.02, 0.03], [1e8, 3e8]] {
            let ticks = ticks(values.into_iter(), 5);
            let labels: Vec<String> = ticks.iter().map(|&tick| label(tick, &ticks)).collect();
            assert!(labels.windows(2).all(|pair| pair[0] != pair[1]), "{labels:?}");
        }
    }

    #[test]
    fn long_curves_are_thinned_and_numbers_that_are_none_left_out() {
        let points: Points = (0..100_000).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let thinned = thin(points);
        assert_eq!(thinned.len(), MOST_POINTS);
        assert!(thinned.iter().all(|p| (p.1 - 0.5).abs() < 1e-9));
        let drawn = chart("loss", 1.0, "", &[series(vec![(1.0, f64::NAN), (2.0, 3.0)])]);
        assert!(!drawn.0.contains("NaN") && drawn.0.contains("<circle"), "{}", drawn.0);
        assert!(chart("loss", 1.0, "", &[series(vec![])]).0.contains("nothing logged yet"));
    }

    #[test]
    fn numbers_are_short() {
        let found = [0.0, 1.0, 2.345_678, 97.25, 1234.0, 120_000.0, 0.05, 2e-5, 3e8].map(number);
        assert_eq!(
            found,
            ["0", "1", "2.346", "97.25", "1234", "120000", "0.05", "2.0e-5", "3.0e8"]
        );
    }
}
