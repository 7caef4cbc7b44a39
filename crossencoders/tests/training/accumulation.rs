//! A step of several batches is the step of the large batch.

use crate::{World, difference};

/// A step has twelve rows; the last one of an epoch has what is left, and its last batch of three is smaller still.
const ROWS: usize = 12;

#[test]
fn accumulation_equals_the_large_batch_also_where_the_last_batch_is_smaller() {
    let world = World::new();
    for (variant, rows_per_description) in [("contrastive", 1), ("non_contrastive", 10)] {
        assert_ne!(world.descriptions() * rows_per_description % ROWS % 3, 0);
        let train = |batch_size: usize| {
            let out = format!("{variant}-{batch_size}");
            let changes = [
                format!("variant={variant}"),
                format!("train.batch_size={batch_size}"),
                format!("train.accumulate={}", ROWS / batch_size),
                "train.dropout=false".to_owned(),
            ];
            world.train(&out, &changes.each_ref().map(String::as_str)).unwrap();
            out
        };
        let whole = train(ROWS);
        for batch_size in [6, 4, 3] {
            let parts = train(batch_size);
            for (key, tolerance) in [("loss", 1e-5), ("grad_norm", 1e-4)] {
                let (whole, parts) = (world.logged(&whole, key), world.logged(&parts, key));
                assert_eq!(whole.len(), parts.len());
                let far = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(far < tolerance, "{variant}, {batch_size}: {key} differs by {far:e}");
            }
            let (whole, parts) = (world.weights(&whole, "last"), world.weights(&parts, "last"));
            let (far, name) = difference(&whole, &parts);
            assert!(far < 1e-5, "{variant}, {batch_size}: {name} differs by {far:e}");
        }
    }
}
