//! Results as tables for people.

use evaluation::{Bootstrap, Comparison, Difference, Evaluation, FEWEST_SETS, Interval, Row};

/// In place of an interval.
const TOO_FEW: &str = "too few sets";

/// One line for each group of descriptions.
pub fn print_evaluation(evaluation: &Evaluation) {
    let confidence = confidence(evaluation.bootstrap.confidence);
    outln!(
        "{:<29} {:>12} {:>6} {:>9} {:>16} {:>7} {:>16}",
        "",
        "descriptions",
        "sets",
        "accuracy",
        confidence,
        "MRR",
        confidence
    );
    for Row { by, value, name, estimate } in evaluation.rows() {
        let label = match by {
            "phenomenon" if value != "any" && value != name => format!("{name} ({value})"),
            _ => name.to_owned(),
        };
        let group = estimate.group;
        let accuracy = estimate.accuracy_interval.map_or(TOO_FEW.into(), percent);
        let mrr =
            estimate.mrr_interval.map(|Interval { low, high }| format!("{low:.3} to {high:.3}"));
        outln!(
            "{label:<29} {:>12} {:>6} {:>7.1} % {:>16} {:>7.3} {:>16}",
            group.descriptions,
            estimate.sets,
            100.0 * group.accuracy,
            accuracy,
            group.mrr,
            mrr.unwrap_or_default(),
        );
    }
    outln!("{:<29} {:>12} {:>6} {:>7.1} %", "chance", "", "", 100.0 * evaluation.chance);
    print_ties(evaluation.ties);
    print_unknown(evaluation);
    print_bootstrap("intervals", &evaluation.bootstrap);
}

/// Says what the annotation files do not have.
fn print_unknown(evaluation: &Evaluation) {
    let annotators = evaluation.annotators.as_ref().map_or(0, |annotators| annotators.unknown);
    let phenomena = evaluation.phenomena.as_ref();
    let (unknown, other) = phenomena.map_or((0, 0), |by| (by.unknown, by.other_text));
    for (count, what) in [
        (annotators, "are not in the file of annotators"),
        (unknown, "are not in the file of phenomena"),
        (other, "have another text in the file of phenomena; they count"),
    ] {
        if count > 0 {
            outln!("{count} descriptions {what}");
        }
    }
}

/// Says how many descriptions have several best candidates, if any have.
pub fn print_ties(ties: usize) {
    if ties > 0 {
        outln!("{ties} descriptions have several best candidates; the first one counts");
    }
}

/// One line for each kind of set.
pub fn print_comparison(comparison: &Comparison) {
    let bootstrap = comparison.bootstrap;
    outln!(
        "{:<8} {:>12} {:>6} {:>8} {:>8} {:>8} {:>18} {:>11} {:>10} {:>11} {:>9}",
        "",
        "descriptions",
        "sets",
        "first",
        "second",
        "change",
        confidence(bootstrap.confidence),
        "bootstrap p",
        "only first",
        "only second",
        "McNemar p"
    );
    let line = |name: &str, difference: &Difference| {
        if difference.descriptions == 0 {
            return;
        }
        outln!(
            "{name:<8} {:>12} {:>6} {:>6.1} % {:>6.1} % {:>+8.1} {:>18} {:>11} {:>10} {:>11} {:>9}",
            difference.descriptions,
            difference.sets,
            100.0 * difference.first,
            100.0 * difference.second,
            100.0 * difference.difference,
            difference.interval.map_or(TOO_FEW.into(), points),
            difference.bootstrap_p.map(p_value).unwrap_or_default(),
            difference.only_first,
            difference.only_second,
            p_value(difference.mcnemar_p),
        );
    };
    line("all", &comparison.all);
    line("video", &comparison.video);
    line("static", &comparison.photographs);
    for (left_out, run) in
        [(comparison.left_out_first, "first"), (comparison.left_out_second, "second")]
    {
        if left_out > 0 {
            outln!("{left_out} descriptions that only the {run} run has ranked are left out");
        }
    }
    print_bootstrap("bootstrap", &bootstrap);
}

fn print_bootstrap(what: &str, bootstrap: &Bootstrap) {
    outln!(
        "{what}: {} resamples of the image sets; fewer than {FEWEST_SETS} sets have no interval",
        bootstrap.resamples
    );
}

fn confidence(part: f64) -> String {
    // Without the rounding 0.57 would be shown as 56.99999999999999.
    format!("{} % interval", (1e6 * part).round() / 1e4)
}

/// In per cent.
fn percent(Interval { low, high }: Interval) -> String {
    format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high)
}

/// In percentage points, with signs.
fn points(Interval { low, high }: Interval) -> String {
    format!("{:+.1} to {:+.1}", 100.0 * low, 100.0 * high)
}

/// Small ones with their order of magnitude.
fn p_value(p: f64) -> String {
    if p < 0.001 { format!("{p:.0e}") } else { format!("{p:.3}") }
}
