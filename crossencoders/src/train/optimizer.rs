//! AdamW as in pytorch_transformers 1.2.0, which differs from PyTorch's own: epsilon is added to the square root before
//! bias correction enters the step size, and the weight that has been updated is what decays.

use std::path::Path;

use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::update::{self, Constants, Update};
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
    /// What the next step multiplies gradients by.
    gradient_scale: f64,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    variable: Tensor,
    weight_decay: f64,
    /// Its part of the step's learning rate.
    learning_rate: f64,
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
                learning_rate: 1.0,
                state: None,
            }
        });
        AdamW { config, parameters: parameters.collect(), gradient_scale: 1.0 }
    }

    /// Gives every parameter its own part of the learning rate; without, all have the whole.
    pub fn scale_learning_rates(&mut self, part: impl Fn(&str) -> f64) {
        for parameter in &mut self.parameters {
            parameter.learning_rate = part(&parameter.name);
        }
    }

    /// Forgets all gradients.
    pub fn zero_grad(&mut self) {
        for parameter in &mut self.parameters {
            parameter.variable.zero_grad();
        }
    }

    /// Returns the norm of all gradients together, and has the next step scale them so that it is at most `max_norm`: the
    /// gradients themselves stay as they are, which saves a pass over them.
    pub fn clip_grad_norm(&mut self, max_norm: f64) -> f64 {
        let gradients: Vec<Tensor> =
            self.parameters.iter().filter_map(Parameter::gradient).collect();
        let norms: Vec<Tensor> = gradients.iter().map(Tensor::norm).collect();
        if norms.is_empty() {
            return 0.0;
        }
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        self.gradient_scale = (max_norm / (norm + 1e-6)).min(1.0);
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

    /// One update, with gradients scaled as [`clip_grad_norm`](AdamW::clip_grad_norm) has found. A parameter without
    /// gradient is left as it is: neither moved nor decayed.
    pub fn step(&mut self, learning_rate: f64) {
        let scale = std::mem::replace(&mut self.gradient_scale, 1.0);
        let config = self.config;
        tch::no_grad(|| {
            let updates: Vec<_> = self
                .parameters
                .iter_mut()
                .filter_map(|parameter| parameter.prepare(&config, learning_rate, scale))
                .collect();
            update::apply(updates);
        });
    }
}

impl Parameter {
    fn gradient(&self) -> Option<Tensor> {
        Some(self.variable.grad()).filter(Tensor::defined)
    }

    /// Counts the step; what is to be done to the parameter, if it has a gradient.
    fn prepare(
        &mut self,
        config: &AdamWConfig,
        learning_rate: f64,
        scale: f64,
    ) -> Option<Update<'_>> {
        let gradient = self.gradient()?;
        let learning_rate = learning_rate * self.learning_rate;
        let (beta1, beta2) = config.betas;
        let state = self.state.get_or_insert_with(|| Moments {
            steps: 0,
            first: self.variable.zeros_like(),
            second: self.variable.zeros_like(),
        });
        state.steps += 1;
        let correction = (1.0 - beta2.powi(state.steps)).sqrt() / (1.0 - beta1.powi(state.steps));
        Some(Update {
            variable: &mut self.variable,
            gradient,
            first: &mut state.first,
            second: &mut state.second,
            constants: Constants {
                scale,
                betas: config.betas,
                eps: config.eps,
                rate: learning_rate * correction,
                decay: 1.0 - learning_rate * self.weight_decay,
            },
        })
    }
}
