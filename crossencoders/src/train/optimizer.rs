//! AdamW as in pytorch_transformers 1.2.0, which differs from PyTorch's own: epsilon is added to the square root before
//! bias correction enters the step size, and the weight that has been updated is what decays.

use tch::Tensor;
use tch::nn::VarStore;

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
