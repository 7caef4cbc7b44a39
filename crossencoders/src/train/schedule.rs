//! Learning rates over the steps.

use serde::{Deserialize, Serialize};

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It falls to 0 at the end.
    #[default]
    Linear,
    /// It stays.
    Constant,
}

impl Schedule {
    /// The factor on the learning rate at a step counted from 0.
    pub fn factor(self, step: u64, warmup_steps: f64, total_steps: f64) -> f64 {
        match self {
            Schedule::Constant if step as f64 >= warmup_steps => 1.0,
            _ => warmup_linear(step, warmup_steps, total_steps),
        }
    }
}

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

    #[test]
    fn a_constant_rate_rises_and_stays() {
        let factors: Vec<f64> =
            (0..5).map(|step| Schedule::Constant.factor(step, 2.0, 4.0)).collect();
        assert_eq!(factors, [0.0, 0.5, 1.0, 1.0, 1.0]);
        assert_eq!(Schedule::Constant.factor(0, 0.0, 4.0), 1.0);
    }
}
