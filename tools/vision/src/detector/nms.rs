//! Non-maximum suppression.

use super::boxes::Box4;

/// Intersection over union; NaN for two boxes without area.
fn overlap(a: Box4, b: Box4) -> f32 {
    let area = |[x1, y1, x2, y2]: Box4| (x2 - x1) * (y2 - y1);
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let shared = width * height;
    shared / (area(a) + area(b) - shared)
}

/// Indices by descending score; of equal scores the lower index comes first. NaN counts as the lowest.
pub fn by_score(scores: &[f32]) -> Vec<usize> {
    let key = |index: usize| if scores[index].is_nan() { f32::NEG_INFINITY } else { scores[index] };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
    order
}

/// Visits boxes by descending score and keeps each that overlaps no kept one by strictly more than the threshold; stops
/// at `limit`. Returns indices by descending score.
///
/// # Panics
/// If there are fewer boxes than scores.
pub fn nms(boxes: &[Box4], scores: &[f32], threshold: f64, limit: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for index in by_score(scores) {
        if kept.len() == limit {
            break;
        }
        let hides = |&other: &usize| f64::from(overlap(boxes[other], boxes[index])) > threshold;
        if !kept.iter().any(hides) {
            kept.push(index);
        }
    }
    kept
}
