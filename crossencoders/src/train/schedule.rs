//! Learning rates over the steps.

/// The factor on the learning rate at a step counted from 0: linear from 0 over the warm-up, then linear to 0 at the
/// end. The first step's factor is 0: it changes no weight but fills the optimiser's moments.
pub fn warmup_linear(step: u64, warmup_steps: f64, total_steps: f64) -> f64 {
    let step = step as f64;
    if step < warmup_steps {
        return step / warmup_steps.max(1.0);
    }
    ((total_steps - step) / (total_steps - warmup_steps).max(1.0)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_from_zero_and_falls_to_zero() {
        let factors: Vec<f64> = (0..7).map(|step| warmup_linear(step, 2.0, 6.0)).collect();
        assert_eq!(factors, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(warmup_linear(100, 2.0, 6.0), 0.0);
    }
}
