//! What changes the weights: the optimiser, and the average that follows them.

use std::path::Path;

use tch::nn::VarStore;

use super::average::Average;
use super::step::learning_rate;
use super::{AdamW, TrainError, Training, groups};

const OPTIMIZER: &str = "optimizer.safetensors";
const AVERAGE: &str = "average.safetensors";

/// The optimiser of a model's parameters and the average of its weights, if the recipe wants one.
#[derive(Debug)]
pub(super) struct Optimisation {
    optimizer: AdamW,
    average: Option<Average>,
}

/// What an update was made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Applied {
    /// Of the gradients before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
}

impl Optimisation {
    /// # Errors
    /// If the recipe names parameters that there are not, or freezes all.
    pub fn new(
        variables: &VarStore,
        layers_above: &dyn Fn(&str) -> i32,
        settings: &Training,
    ) -> Result<Optimisation, TrainError> {
        let optimizer = groups::optimizer(variables, layers_above, settings)?;
        let average = settings.ema.map(|decay| Average::new(variables, decay));
        Ok(Optimisation { optimizer, average })
    }

    /// Forgets the gradients.
    pub fn zero_grad(&mut self) {
        self.optimizer.zero_grad();
    }

    /// The norm of the gradients.
    pub fn grad_norm(&mut self) -> f64 {
        self.optimizer.clip_grad_norm(f64::INFINITY)
    }

    /// The update by the gradients, after `done` of `total` steps.
    ///
    /// # Errors
    /// The norm of gradients that are not finite; the weights are as they were.
    pub fn apply(
        &mut self,
        settings: &Training,
        (done, total): (u64, u64),
    ) -> Result<Applied, f64> {
        let grad_norm = self.optimizer.clip_grad_norm(settings.clip);
        if !grad_norm.is_finite() {
            return Err(grad_norm);
        }
        let learning_rate = learning_rate(settings, (done, total));
        self.optimizer.step(learning_rate);
        if let Some(average) = &mut self.average {
            average.update(done + 1);
        }
        Ok(Applied { grad_norm, learning_rate })
    }

    /// Puts the average in place of the weights, or the weights back; nothing where there is no average.
    pub fn exchange_average(&mut self) {
        if let Some(average) = &mut self.average {
            average.exchange();
        }
    }

    /// Writes moments and average into a folder that exists.
    pub fn save(&self, folder: &Path) -> Result<(), TrainError> {
        self.optimizer.save(&folder.join(OPTIMIZER))?;
        if let Some(average) = &self.average {
            average.save(&folder.join(AVERAGE))?;
        }
        Ok(())
    }

    /// Takes over what [`save`](Optimisation::save) has written for the same parameters.
    pub fn load(&mut self, folder: &Path) -> Result<(), TrainError> {
        self.optimizer.load(&folder.join(OPTIMIZER))?;
        if let Some(average) = &mut self.average {
            average.load(&folder.join(AVERAGE))?;
        }
        Ok(())
    }
}
