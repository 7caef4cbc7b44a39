//! AdamW as in pytorch_transformers 1.2.0, which differs from PyTorch's own: epsilon is added to the square root before
//! bias correction enters the step size, and the weight that has been updated is what decays.

use std::path::Path;

use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::weights::{self, WeightsError};

/// Names that contain one of these are not decayed. `image_layer_norm.weight` contains none, and decays.
const NO_DECAY: [&str; 3] = ["bias", "LayerNorm.bias", "LayerNorm.weight"];

/// Constants of the optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay rates of the two moments.
    pub betas: (f64, f64),
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Decay per step, times the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    /// ImageCoDe's.
    fn default() -> Self {
        AdamWConfig { betas: (0.9, 0.999), eps: 1e-6, weight_decay: 1e-4 }
    }
}

/// The optimiser of all trainable variables of a store.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<Parameter>,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    variable: Tensor,
    weight_decay: f64,
    state: Option<Moments>,
}

#[derive(Debug)]
struct Moments {
    /// Updates so far; a parameter without gradient has fewer than the others.
    steps: i32,
    first: Tensor,
    second: Tensor,
}

impl AdamW {
    /// An optimiser without state.
    pub fn new(variables: &VarStore, config: AdamWConfig) -> AdamW {
        let mut named: Vec<(String, Tensor)> = variables.variables().into_iter().collect();
        named.retain(|(_, variable)| variable.requires_grad());
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        let parameters = named.into_iter().map(|(name, variable)| {
            let decays = !NO_DECAY.iter().any(|part| name.contains(part));
            Parameter {
                name,
                variable,
                weight_decay: if decays { config.weight_decay } else { 0.0 },
                state: None,
            }
        });
        AdamW { config, parameters: parameters.collect() }
    }

    /// Forgets all gradients.
    pub fn zero_grad(&mut self) {
        for parameter in &mut self.parameters {
            parameter.variable.zero_grad();
        }
    }

    /// Scales the gradients so that their common norm is at most `max_norm`; returns the norm they had.
    pub fn clip_grad_norm(&self, max_norm: f64) -> f64 {
        let gradients: Vec<Tensor> =
            self.parameters.iter().filter_map(Parameter::gradient).collect();
        let norms: Vec<Tensor> = gradients.iter().map(Tensor::norm).collect();
        if norms.is_empty() {
            return 0.0;
        }
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        let coefficient = max_norm / (norm + 1e-6);
        if coefficient < 1.0 {
            tch::no_grad(|| {
                gradients
                    .into_iter()
                    .for_each(|mut gradient| drop(gradient.g_mul_scalar_(coefficient)))
            });
        }
        norm
    }

    /// Writes the moments of all parameters that have some.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let mut tensors = Vec::new();
        for parameter in &self.parameters {
            let Some(state) = &parameter.state else { continue };
            let mut add =
                |part, tensor| tensors.push((format!("{}.{part}", parameter.name), tensor));
            add("first", state.first.shallow_clone());
            add("second", state.second.shallow_clone());
            add("steps", Tensor::from(i64::from(state.steps)));
        }
        // A safetensors file without any tensor would be taken for a broken one.
        tensors.push(("parameters".into(), Tensor::from(self.parameters.len() as i64)));
        weights::write(&tensors, path)
    }

    /// Takes over what [`save`](AdamW::save) wrote for the same parameters.
    ///
    /// # Errors
    /// If the file cannot be read or is that of another model.
    pub fn load(&mut self, path: &Path) -> Result<(), WeightsError> {
        let mut tensors = weights::read(path)?;
        let misfit = |problem: String| WeightsError::Misfit {
            path: path.to_owned(),
            problems: vec![problem],
        };
        let count = tensors.remove("parameters").map(|count| count.int64_value(&[]));
        if count != Some(self.parameters.len() as i64) {
            return Err(misfit(format!(
                "it is of {count:?} parameters, not {}",
                self.parameters.len()
            )));
        }
        for parameter in &mut self.parameters {
            let mut take = |part| tensors.remove(&format!("{}.{part}", parameter.name));
            let (Some(first), Some(second), Some(steps)) =
                (take("first"), take("second"), take("steps"))
            else {
                parameter.state = None;
                continue;
            };
            let variable = &parameter.variable;
            if first.size() != variable.size() || second.size() != variable.size() {
                return Err(misfit(format!("`{}` is {:?}", parameter.name, first.size())));
            }
            let like = |moment: Tensor| moment.to_device(variable.device()).to_kind(Kind::Float);
            let steps = steps.int64_value(&[]) as i32;
            parameter.state = Some(Moments { steps, first: like(first), second: like(second) });
        }
        match tensors.into_keys().next() {
            Some(name) => Err(misfit(format!("`{name}` is of no parameter"))),
            None => Ok(()),
        }
    }

    /// One update. A parameter without gradient is left as it is: neither moved nor decayed.
    pub fn step(&mut self, learning_rate: f64) {
        let config = self.config;
        tch::no_grad(|| {
            self.parameters
                .iter_mut()
                .for_each(|parameter| parameter.update(&config, learning_rate));
        });
    }
}

impl Parameter {
    fn gradient(&self) -> Option<Tensor> {
        Some(self.variable.grad()).filter(Tensor::defined)
    }

    fn update(&mut self, config: &AdamWConfig, learning_rate: f64) {
        let Some(gradient) = self.gradient() else { return };
        let (beta1, beta2) = config.betas;
        let state = self.state.get_or_insert_with(|| Moments {
            steps: 0,
            first: self.variable.zeros_like(),
            second: self.variable.zeros_like(),
        });
        state.steps += 1;
        state.first = &state.first * beta1 + &gradient * (1.0 - beta1);
        state.second = &state.second * beta2 + gradient.square() * (1.0 - beta2);
        let correction = (1.0 - beta2.powi(state.steps)).sqrt() / (1.0 - beta1.powi(state.steps));
        let direction = &state.first / (state.second.sqrt() + config.eps);
        self.variable -= direction * (learning_rate * correction);
        if self.weight_decay > 0.0 {
            self.variable *= 1.0 - learning_rate * self.weight_decay;
        }
    }
}
