//! The parameters that a file's model should have.

use std::collections::{BTreeMap, BTreeSet};

use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::file::WeightsFile;
use super::load::{LoadReport, Plan};
use super::names::{Convention, Table};
use crate::config::{ConfigError, ModelConfig};
use crate::model::{
    AlignmentHead, ContextConfig, ContextModule, CrossEncoder, Positions, PretrainingHeads,
};

/// Compares a file with the model of a configuration, with the heads that the file has tensors of: the alignment head,
/// those of pre-training, the ranking head, the contextual module. Nothing is loaded.
///
/// # Errors
/// A configuration that makes no model.
pub fn compare(file: WeightsFile, config: &ModelConfig) -> Result<LoadReport, ConfigError> {
    let variables = VarStore::new(Device::Cpu);
    let root = variables.root();
    CrossEncoder::new(&root, config)?;
    let shapes = shapes(&file, config);
    let has = |start: &str| shapes.keys().any(|name| name.starts_with(start));
    if has("cls.bi_seq_relationship.") {
        AlignmentHead::new(&root, config);
    }
    if has("cls.predictions.bias") && has("cls.imagePredictions.") {
        PretrainingHeads::new(&root, config, &visual_targets(&shapes));
    }
    if has("clfs_dict.TASK3.weight") {
        let task = &root / "clfs_dict" / "TASK3";
        tch::nn::linear(task, config.pooler_size, 1, Default::default());
    }
    if has("context_transformer.") && ContextConfig::fits(config.pooler_size) {
        let positions = match has("positional_emb.") {
            true => Positions::Video,
            false => Positions::None,
        };
        let context = ContextConfig { layers: layers(&shapes), add_inputs: false, positions };
        ContextModule::new(&root, config, context);
    }
    Ok(Plan::new(&variables, file, Some(config)).report)
}

/// The shapes of a file's tensors by our names.
fn shapes(file: &WeightsFile, config: &ModelConfig) -> BTreeMap<String, Vec<i64>> {
    let tensors = || file.tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone()));
    let tensors: BTreeMap<String, Tensor> = match Table::new(file.convention, config) {
        Some(table) if file.convention != Convention::Bert => {
            table.to_volta(tensors().collect()).tensors
        }
        // What BERT's heads are is of no interest: it initialises the encoder.
        Some(_) => BTreeMap::new(),
        None => tensors().collect(),
    };
    tensors.into_iter().map(|(name, tensor)| (name, tensor.size())).collect()
}

fn visual_targets(shapes: &BTreeMap<String, Vec<i64>>) -> BTreeMap<String, i64> {
    let outputs = shapes.iter().filter_map(|(name, shape)| {
        let target =
            name.strip_prefix("cls.imagePredictions.decoder_dict.")?.strip_suffix(".bias")?;
        Some((target.to_owned(), shape.first().copied()?))
    });
    outputs.collect()
}

fn layers(shapes: &BTreeMap<String, Vec<i64>>) -> i64 {
    let indices = shapes.keys().filter_map(|name| {
        name.strip_prefix("context_transformer.")?.split('.').next()?.parse::<i64>().ok()
    });
    indices.collect::<BTreeSet<i64>>().len() as i64
}
