//! AdamW as in pytorch_transformers 1.2.0, which ImageCoDe's cross-encoders are trained with, and PyTorch's own Adam and
//! AdamW, which its CLIP baselines are trained with.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::update::{self, Constants, Update};
use crate::weights::{self, WeightsError};

/// Names that contain one of these are not decayed. `image_layer_norm.weight` contains none, and decays.
const NO_DECAY: [&str; 3] = ["bias", "LayerNorm.bias", "LayerNorm.weight"];

/// Which of Adam's rules makes a step of gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdamRule {
    /// AdamW of pytorch_transformers 1.2.0: epsilon is added to the square root before bias correction enters the step
    /// size, the weight that has been updated is what decays, biases and normalisations do not.
    #[default]
    PytorchTransformers,
    /// PyTorch's AdamW: epsilon is added after bias correction, all weights decay before they are updated.
    Adamw,
    /// PyTorch's Adam: as its AdamW, but a part of each weight is added to its gradient in place of decay.
    Adam,
}

/// Constants of the optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay rates of the two moments.
    pub betas: (f64, f64),
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Decay per step, times the learning rate; of [`AdamRule::Adam`] what is added to the gradient.
    pub weight_decay: f64,
    /// What makes a step of all this.
    pub rule: AdamRule,
}

impl Default for AdamWConfig {
    /// ImageCoDe's.
    fn default() -> Self {
        AdamWConfig {
            betas: (0.9, 0.999),
            eps: 1e-6,
            weight_decay: 1e-4,
            rule: AdamRule::PytorchTransformers,
        }
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
            let decays = config.rule != AdamRule::PytorchTransformers
                || !NO_DECAY.iter().any(|part| name.contains(part));
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
        let second = (1.0 - beta2.powi(state.steps)).sqrt();
        let weight_decay = self.weight_decay;
        let decay = 1.0 - learning_rate * weight_decay;
        let constants = Constants {
            scale,
            betas: config.betas,
            // Added before bias correction this is what is added after it.
            eps: config.eps * second,
            rate: learning_rate * second / (1.0 - beta1.powi(state.steps)),
            added: 0.0,
            decay_before: 1.0,
            decay_after: 1.0,
        };
        Some(Update {
            variable: &mut self.variable,
            gradient,
            first: &mut state.first,
            second: &mut state.second,
            constants: match config.rule {
                AdamRule::PytorchTransformers => {
                    Constants { eps: config.eps, decay_after: decay, ..constants }
                }
                AdamRule::Adamw => Constants { decay_before: decay, ..constants },
                AdamRule::Adam => Constants { added: weight_decay, ..constants },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// PyTorch's documented algorithms, one number, in f64.
    fn reference(rule: AdamRule, config: AdamWConfig, rate: f64, gradients: &[f64]) -> f64 {
        let AdamWConfig { betas: (beta1, beta2), eps, weight_decay, .. } = config;
        let (mut x, mut m, mut v) = (2.0, 0.0, 0.0);
        for (step, &gradient) in (1..).zip(gradients) {
            let mut g = gradient;
            match rule {
                AdamRule::Adam => g += weight_decay * x,
                _ => x -= rate * weight_decay * x,
            }
            m = beta1 * m + (1.0 - beta1) * g;
            v = beta2 * v + (1.0 - beta2) * g * g;
            let (m, v): (f64, f64) = (m / (1.0 - beta1.powi(step)), v / (1.0 - beta2.powi(step)));
            x -= rate * m / (v.sqrt() + eps);
        }
        x
    }

    #[test]
    fn pytorchs_rules_are_its_documented_ones_and_spare_no_bias() {
        let gradients = [0.5, -0.02, 3.0];
        for rule in [AdamRule::Adam, AdamRule::Adamw] {
            // An epsilon that is seen.
            let config = AdamWConfig { betas: (0.9, 0.98), eps: 0.1, weight_decay: 0.2, rule };
            let variables = VarStore::new(Device::Cpu);
            let x = variables.root().var("bias", &[1], tch::nn::Init::Const(2.0));
            let mut optimizer = AdamW::new(&variables, config);
            for gradient in gradients {
                optimizer.zero_grad();
                (&x * gradient).sum(Kind::Float).backward();
                optimizer.clip_grad_norm(f64::INFINITY);
                optimizer.step(0.05);
            }
            let expected = reference(rule, config, 0.05, &gradients);
            assert!((x.double_value(&[0]) - expected).abs() < 1e-6, "{rule:?}");
        }
    }
}
