//! Weights from any container that CLIP is published in, or drawn ones.

use std::path::Path;

use tch::nn::VarStore;
use tch::{Kind, Tensor};
use vision::clip::random_weights;
use vision::weights::{Weights, WeightsError};

use super::{ClipConfig, ROOT};
use crate::weights::LoadReport;

/// What [`ContextModule`](crate::model::ContextModule) calls its layers, and what ImageCoDe's `ContextualCLIP` calls them.
const LAYERS: [&str; 2] = ["context_transformer.", "transformer."];
/// What cosines are multiplied by when OpenAI's training begins: 1 / 0.07.
const TEMPERATURE: f64 = 0.07;

/// Loads OpenAI's archives, state dictionaries and training checkpoints, safetensors, Hugging Face's names, and the models
/// of ImageCoDe's scripts. The towers must be there; a head is taken over as far as the file has it.
///
/// # Errors
/// [`WeightsError`]; nothing is changed unless everything of the towers is there.
pub fn load(
    variables: &VarStore,
    config: &ClipConfig,
    path: &Path,
) -> Result<LoadReport, WeightsError> {
    let weights = Weights::open(path)?;
    weights.require(&config.architecture().expected(), "the CLIP of the configuration")?;
    fill(variables, &weights)
}

/// Fills the towers with numbers of the scale that OpenAI's training begins with; the same seed gives the same ones.
///
/// # Errors
/// [`WeightsError`]: none that a sound configuration gives.
pub fn initialise(
    variables: &VarStore,
    config: &ClipConfig,
    seed: u64,
) -> Result<(), WeightsError> {
    fill(variables, &random_weights(&config.architecture(), seed))?;
    let scale = variables.variables().remove(&format!("{ROOT}.logit_scale"));
    tch::no_grad(|| scale.map(|mut scale| scale.fill_(-TEMPERATURE.ln())));
    Ok(())
}

/// Fills variables with the weights that are there for them, by either of the names that they may have.
///
/// # Errors
/// [`WeightsError`]: a tensor that cannot be read.
pub fn fill(variables: &VarStore, weights: &Weights) -> Result<LoadReport, WeightsError> {
    let mut report = LoadReport { path: weights.path().to_owned(), ..LoadReport::default() };
    let mut named: Vec<(String, Tensor)> = variables.variables().into_iter().collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut used = Vec::new();
    for (name, mut variable) in named {
        let shape: Vec<usize> = variable.size().iter().map(|&side| side as usize).collect();
        let Some(found) = names_of(&name).into_iter().find(|n| weights.shape(n) == Some(&shape))
        else {
            report.missing.push(name);
            continue;
        };
        let values = Tensor::from_slice(&weights.read(&found)?.values);
        let values = values.view(variable.size().as_slice()).to_kind(Kind::Float);
        tch::no_grad(|| variable.copy_(&values));
        used.push(found);
        report.loaded += 1;
    }
    let unexpected = weights.names().filter(|name| !used.iter().any(|used| used == name));
    report.unexpected = unexpected.map(str::to_owned).collect();
    Ok(report)
}

/// What a parameter may be called in a file: towers without `clip.`, layers of the head by either name.
fn names_of(name: &str) -> Vec<String> {
    if let Some(tower) = name.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('.')) {
        return vec![tower.to_owned()];
    }
    let [ours, theirs] = LAYERS;
    let other = name.strip_prefix(ours).map(|rest| format!("{theirs}{rest}"));
    std::iter::once(name.to_owned()).chain(other).collect()
}
