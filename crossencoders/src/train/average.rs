//! The exponential moving average of the weights.

use std::path::Path;

use tch::Tensor;
use tch::nn::VarStore;

use crate::weights::{self, WeightsError};

/// A second set of the trainable weights, which follows them slowly.
#[derive(Debug)]
pub(super) struct Average {
    decay: f64,
    parameters: Vec<Followed>,
}

#[derive(Debug)]
struct Followed {
    name: String,
    variable: Tensor,
    mean: Tensor,
}

impl Average {
    /// Begins with the weights as they are.
    pub fn new(variables: &VarStore, decay: f64) -> Average {
        let mut named: Vec<(String, Tensor)> = variables.variables().into_iter().collect();
        named.retain(|(_, variable)| variable.requires_grad());
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        let parameters = named.into_iter().map(|(name, variable)| {
            let mean = variable.detach().copy();
            Followed { name, variable, mean }
        });
        Average { decay, parameters: parameters.collect() }
    }

    /// Follows the weights after the step with this number, from 1.
    pub fn update(&mut self, step: u64) {
        let step = step as f64;
        let decay = self.decay.min((1.0 + step) / (10.0 + step));
        tch::no_grad(|| {
            for Followed { variable, mean, .. } in &mut self.parameters {
                let _ = mean.lerp_(variable, 1.0 - decay);
            }
        });
    }

    /// Exchanges the model's weights with their average; a second call puts them back, bit for bit.
    pub fn exchange(&mut self) {
        tch::no_grad(|| {
            for Followed { variable, mean, .. } in &mut self.parameters {
                let weights = variable.copy();
                variable.copy_(mean);
                mean.copy_(&weights);
            }
        });
    }

    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let tensors: Vec<(String, Tensor)> = self
            .parameters
            .iter()
            .map(|followed| (followed.name.clone(), followed.mean.shallow_clone()))
            .collect();
        weights::write(&tensors, path)
    }

    /// Takes over what [`save`](Average::save) wrote for the same parameters.
    ///
    /// # Errors
    /// If the file cannot be read or is that of another model.
    pub fn load(&mut self, path: &Path) -> Result<(), WeightsError> {
        let mut tensors = weights::read(path)?;
        let mut problems = Vec::new();
        for followed in &mut self.parameters {
            match tensors.remove(&followed.name) {
                Some(mean) if mean.size() == followed.mean.size() => followed.mean.copy_(&mean),
                Some(mean) => problems.push(format!("`{}` is {:?}", followed.name, mean.size())),
                None => problems.push(format!("`{}` is missing", followed.name)),
            }
        }
        problems.extend(tensors.into_keys().map(|name| format!("`{name}` is of no parameter")));
        match problems.is_empty() {
            true => Ok(()),
            false => Err(WeightsError::Misfit { path: path.to_owned(), problems }),
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn it_follows_slowly_and_gives_the_weights_back() {
        let variables = VarStore::new(Device::Cpu);
        let mut weight = variables.root().zeros("weight", &[2]);
        let mut average = Average::new(&variables, 0.9);
        let value = || variables.variables()["weight"].double_value(&[0]);
        let _ = tch::no_grad(|| weight.fill_(1.0));
        // The first steps keep (1 + step) / (10 + step): 2/11, then 3/12.
        average.update(1);
        average.update(2);
        average.exchange();
        let expected = 1.0 - 2.0 / 11.0 * 3.0 / 12.0;
        assert!((value() - expected).abs() < 1e-6, "{}", value());
        average.exchange();
        assert_eq!(value(), 1.0);

        // Late steps keep what the recipe says.
        let _ = tch::no_grad(|| weight.fill_(0.0));
        average.update(1_000_000);
        average.exchange();
        assert!((value() - 0.9 * expected).abs() < 1e-6, "{}", value());
        assert_eq!(variables.variables()["weight"].kind(), Kind::Float);
    }
}
