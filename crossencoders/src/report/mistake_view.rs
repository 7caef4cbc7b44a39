//! A mistake on the page: the description, the chosen and the described image, boxes, attention.

use maud::{Markup, html};

use super::chart::number;
use super::mistakes::{Look, Mistake};

/// Width of an image on the page, in the units of its view box.
const WIDTH: f32 = 420.0;
/// Boxes that are drawn for one word.
const BOXES_PER_WORD: usize = 3;

pub(super) fn mistake(number: usize, mistake: &Mistake) -> Markup {
    let kind = if mistake.video { "video" } else { "static" };
    html! {
        article.mistake {
            header {
                span.rank { (number) }
                h3 { (mistake.directory) " " small { "description " (mistake.number) ", " (kind) } }
                p.verdict {
                    "chose " b.chosen { "image " (mistake.chosen.position) }
                    " with " (percent(mistake.shares[mistake.chosen.position]))
                    "; meant was " b.described { "image " (mistake.described.position) }
                    ", rank " (mistake.rank) " with "
                    (percent(mistake.shares[mistake.described.position]))
                }
            }
            p.text { (mistake.text) }
            (attention(mistake, "chosen"))
            (shares(mistake))
            (table(mistake))
        }
    }
}

/// The words, and what they attend to in one candidate, whatever that is called, and in the described one.
pub(crate) fn attention(mistake: &Mistake, name: &str) -> Markup {
    html! {
        (words(mistake))
        div.looks {
            @if mistake.rank == 0 || mistake.chosen.position != mistake.described.position {
                (look("chosen", name, &mistake.chosen, mistake))
            }
            @if mistake.rank > 0 {
                (look("described", "described", &mistake.described, mistake))
            }
        }
    }
}

/// Word pieces that show, on hover or focus, where they look.
fn words(mistake: &Mistake) -> Markup {
    if mistake.chosen.attention.is_empty() {
        return html! { p.note { "The text of this model attends to no regions." } };
    }
    html! {
        p.words {
            @for (index, word) in mistake.words.iter().enumerate() {
                @let inner = word.strip_prefix("##");
                span tabindex="0" class={ "w w" (index) @if inner.is_some() { " inner" } } {
                    (inner.unwrap_or(word))
                }
            }
        }
    }
}

fn look(class: &str, name: &str, look: &Look, mistake: &Mistake) -> Markup {
    let (width, height) = look.size.unwrap_or((1, 1));
    let height = (WIDTH * height as f32 / width as f32).clamp(WIDTH / 8.0, WIDTH * 4.0);
    let mean = mean(mistake, look);
    html! {
        figure class={ "look " (class) } {
            svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img"
                aria-label={ (name) ": image " (look.position) } {
                @match &look.picture {
                    Some(picture) => {
                        image href=(picture) width=(WIDTH) height=(height) preserveAspectRatio="none" {}
                    }
                    None => rect.canvas width=(WIDTH) height=(height) {},
                }
                g.outlines {
                    @for area in &look.boxes { (outline(area, height)) }
                }
                g.mean { (highlights(look, &mean, height, look.boxes.len())) }
                @for (index, weights) in look.attention.iter().enumerate() {
                    g class={ "a a" (index) } { (highlights(look, weights, height, BOXES_PER_WORD)) }
                }
            }
            figcaption {
                b class=(class) { (name) } " image " (look.position) ", "
                (percent(mistake.shares[look.position])) br;
                small {
                    (look.id)
                    @match look.size {
                        Some((width, height)) => { ", " (width) "×" (height) },
                        None => { ", size unknown" },
                    }
                    ", " (look.boxes.len()) " regions"
                }
            }
        }
    }
}

/// Mean over the words between `[CLS]` and `[SEP]`.
fn mean(mistake: &Mistake, look: &Look) -> Vec<f32> {
    let last = mistake.words.len().saturating_sub(1);
    let words = look.attention.get(1..last).filter(|words| !words.is_empty());
    let Some(words) = words.or(Some(&look.attention)).filter(|words| !words.is_empty()) else {
        return vec![0.0; look.boxes.len()];
    };
    let sum = |region: usize| words.iter().filter_map(|word| word.get(region)).sum::<f32>();
    (0..look.boxes.len()).map(|region| sum(region) / words.len() as f32).collect()
}

/// The boxes with the largest weights, the more opaque the larger.
fn highlights(look: &Look, weights: &[f32], height: f32, count: usize) -> Markup {
    let strongest = strongest(weights, count);
    let highest = strongest.first().map_or(0.0, |&region| weights[region]).max(f32::MIN_POSITIVE);
    html! {
        // The strongest is drawn last: on top.
        @for &region in strongest.iter().rev() {
            @let opacity = weights[region] / highest;
            @if let (true, Some(area)) = (opacity > 0.05, look.boxes.get(region)) {
                @let [x, y, w, h] = place(area, height);
                g opacity=(format!("{opacity:.2}")) {
                    rect.box x=(px(x)) y=(px(y)) width=(px(w)) height=(px(h)) {
                        title { "region " (region) ": " (percent(f64::from(weights[region]))) }
                    }
                    @if opacity > 0.6 {
                        text.label x=(px(x + 4.0)) y=(px(y + 13.0)) { (region) }
                    }
                }
            }
        }
    }
}

fn outline(area: &[f32; 4], height: f32) -> Markup {
    let [x, y, w, h] = place(area, height);
    html! { rect.outline x=(px(x)) y=(px(y)) width=(px(w)) height=(px(h)) {} }
}

/// x, y, width, height in the view box.
fn place(&[x1, y1, x2, y2]: &[f32; 4], height: f32) -> [f32; 4] {
    [x1 * WIDTH, y1 * height, (x2 - x1).max(0.0) * WIDTH, (y2 - y1).max(0.0) * height]
}

fn strongest(weights: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    order.truncate(count);
    order
}

/// How the softmax is shared among the candidates.
fn shares(mistake: &Mistake) -> Markup {
    let class = |position: usize| match position {
        p if p == mistake.chosen.position => "chosen",
        p if p == mistake.described.position => "described",
        _ => "other",
    };
    html! {
        ol.shares start="0" aria-label="share of every candidate" {
            @for (position, &share) in mistake.shares.iter().enumerate() {
                li class=(class(position)) title={ "image " (position) ": " (percent(share)) } {
                    span.bar { i style={ "height:" (px(100.0 * share as f32)) "%" } {} }
                    (position)
                }
            }
        }
    }
}

/// The same in numbers: where each word looks most.
pub(crate) fn table(mistake: &Mistake) -> Markup {
    let most = |look: &Look, word: usize| -> String {
        let weights = look.attention.get(word).map_or(&[][..], Vec::as_slice);
        let parts: Vec<String> = strongest(weights, BOXES_PER_WORD)
            .into_iter()
            .map(|region| format!("{region}: {}", percent(f64::from(weights[region]))))
            .collect();
        parts.join(", ")
    };
    html! {
        @if !mistake.chosen.attention.is_empty() {
            details {
                summary { "attention in numbers" }
                table.attention {
                    thead { tr {
                        th { "word piece" }
                        th { "regions of the chosen image" }
                        th { "regions of the described image" }
                    } }
                    tbody {
                        @for (index, word) in mistake.words.iter().enumerate() {
                            tr {
                                td { (word) }
                                td { (most(&mistake.chosen, index)) }
                                td { (most(&mistake.described, index)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Rules that show a word's boxes in place of the mean while the word is pointed at or has the focus.
pub(crate) fn rules(words: usize) -> String {
    let mut rules = String::new();
    for word in 0..words {
        for state in ["hover", "focus"] {
            rules.push_str(&format!(
                ".mistake:has(.w{word}:{state}) .mean{{display:none}}.mistake:has(.w{word}:{state}) .a{word}{{display:inline}}\n"
            ));
        }
    }
    rules
}

fn percent(part: f64) -> String {
    format!("{} %", number((1000.0 * part).round() / 10.0))
}

fn px(value: f32) -> String {
    format!("{value:.1}")
}
