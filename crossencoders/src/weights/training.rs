//! The state of training in VOLTA's checkpoints: the optimiser's moments, and how far it was.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use tch::Tensor;
use unpickle::Value;

use super::file::without_module;
use super::pytorch::{self, StateDict, WEIGHT_KEYS};
use super::{WeightsError, read};

const OPTIMIZER: &str = "optimizer_state_dict";

/// The optimiser's state of one parameter.
#[derive(Debug)]
pub struct Moments {
    /// Running mean of the gradients, shaped as the parameter.
    pub first: Tensor,
    /// Running mean of their squares, shaped as the parameter.
    pub second: Tensor,
    /// Updates so far.
    pub steps: i64,
}

/// What a VOLTA training checkpoint says beside the weights.
#[derive(Debug)]
pub struct TrainingState {
    /// Moments by parameter; one that never had a gradient has none.
    pub moments: BTreeMap<String, Moments>,
    /// Parameters in the optimiser's order.
    pub parameters: Vec<String>,
    /// Learning rate of every parameter at the time of saving.
    pub learning_rates: BTreeMap<String, f64>,
    /// Updates of the whole run.
    pub global_step: i64,
    /// The epoch that was finished, from 0.
    pub epoch: i64,
    /// The score that the best checkpoint is chosen by, if there is one.
    pub score: Option<f64>,
    /// Steps of the learning-rate schedule, if it was saved.
    pub scheduler_step: Option<i64>,
}

/// Reads the training state of a checkpoint that VOLTA's `save` wrote, in either PyTorch format. Its logger, an instance
/// of a class, is passed over; nothing is executed. The weights themselves are read by [`read`].
///
/// The optimiser numbers its parameters; the names are those of the `model_state_dict` in order, a tied one counted
/// once and buffers not at all.
///
/// # Errors
/// [`WeightsError::Unreadable`] if the file is no such checkpoint, or if numbers and names do not go together.
pub fn training_state(path: &Path) -> Result<TrainingState, WeightsError> {
    let weights = read(path)?;
    let state = pytorch::outline(path).and_then(|root| state(path, &root, &weights));
    state.map_err(|reason| WeightsError::Unreadable { path: path.to_owned(), reason })
}

fn state(
    path: &Path,
    root: &Value,
    weights: &BTreeMap<String, Tensor>,
) -> Result<TrainingState, String> {
    let optimizer = root.get(OPTIMIZER).ok_or_else(|| format!("it has no `{OPTIMIZER}`"))?;
    let model = WEIGHT_KEYS.iter().find_map(|key| StateDict::new(root.get(key)?));
    let model = model.ok_or("it has no `model_state_dict`")?;
    let parameters: Vec<String> =
        model.parameters().into_iter().map(|name| without_module(name.to_owned())).collect();
    let groups = groups(optimizer)?;
    if groups.len() != parameters.len() {
        return Err(format!(
            "the optimiser has {} parameters and the model {}: which is which cannot be told",
            groups.len(),
            parameters.len()
        ));
    }
    let named = |(&index, &rate): (&i64, &f64)| {
        let name = usize::try_from(index).ok().and_then(|index| parameters.get(index));
        Ok((name.ok_or_else(|| format!("there is no parameter {index}"))?.clone(), rate))
    };
    let int = |key: &str| {
        let value = root.get(key).and_then(Value::as_int);
        value.ok_or_else(|| format!("it has no whole number `{key}`"))
    };
    Ok(TrainingState {
        moments: moments(path, optimizer, &parameters, weights)?,
        learning_rates: groups.iter().map(named).collect::<Result<_, String>>()?,
        parameters,
        global_step: int("global_step")?,
        epoch: int("epoch_id")?,
        score: root.get("score").and_then(number),
        scheduler_step: root
            .get("scheduler_state_dict")
            .and_then(|scheduler| scheduler.get("last_epoch"))
            .and_then(Value::as_int),
    })
}

/// The learning rate of every parameter, by its number.
fn groups(optimizer: &Value) -> Result<BTreeMap<i64, f64>, String> {
    let Some(Value::List(groups)) = optimizer.get("param_groups") else {
        return Err("its optimiser has no `param_groups`".into());
    };
    let mut rates = BTreeMap::new();
    for group in groups {
        let rate = group.get("lr").and_then(number).ok_or("a parameter group has no `lr`")?;
        let Some(Value::List(members)) = group.get("params") else {
            return Err("a parameter group has no `params`".into());
        };
        for member in members {
            rates.insert(member.as_int().ok_or("a parameter without a number")?, rate);
        }
    }
    Ok(rates)
}

fn moments(
    path: &Path,
    optimizer: &Value,
    parameters: &[String],
    weights: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Moments>, String> {
    let mut tensors: HashMap<String, Tensor> =
        pytorch::read_key(path, OPTIMIZER)?.into_iter().collect();
    let Some(Value::Dict(states)) = optimizer.get("state") else {
        return Err("its optimiser has no `state`".into());
    };
    let mut moments = BTreeMap::new();
    for (index, state) in states {
        let index = index.as_int().ok_or("a state without a parameter's number")?;
        let name = usize::try_from(index).ok().and_then(|index| parameters.get(index));
        let name = name.ok_or_else(|| format!("there is no parameter {index}"))?;
        let mut take = |part: &str| {
            let tensor = tensors.remove(&format!("state.{index}.{part}"));
            tensor.ok_or_else(|| format!("parameter {index} has no `{part}`"))
        };
        let (first, second) = (take("exp_avg")?, take("exp_avg_sq")?);
        // A plain number, or in newer versions a tensor.
        let steps = match state.get("step").and_then(number) {
            Some(steps) => steps as i64,
            None => take("step")?.double_value(&[]) as i64,
        };
        let shape = weights.get(name).map(Tensor::size).unwrap_or_default();
        if first.size() != shape || second.size() != shape {
            return Err(format!(
                "the moments of parameter {index} are {:?}, but `{name}` is {shape:?}",
                first.size()
            ));
        }
        moments.insert(name.clone(), Moments { first, second, steps });
    }
    Ok(moments)
}

/// A Python or NumPy number.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        Value::Int(number) => Some(*number as f64),
        Value::Array(array) if array.shape().is_empty() => {
            let whole = || array.to_i64s()?.first().map(|&number| number as f64);
            whole().or_else(|| array.to_f64s()?.first().copied())
        }
        _ => None,
    }
}
