//! Which parameters learn, and how fast.

use tch::nn::VarStore;

use super::{AdamW, AdamWConfig, TrainError, Training};

/// Freezes parameters and gives the others their learning rates; `layers_above` counts the layers between a parameter and
/// the top, itself included.
pub(super) fn optimizer(
    variables: &VarStore,
    layers_above: &dyn Fn(&str) -> i32,
    settings: &Training,
) -> Result<AdamW, TrainError> {
    let mut names: Vec<String> = variables.variables().into_keys().collect();
    names.sort();
    let prefixes = settings.groups.iter().map(|group| ("train.groups", &group.prefix));
    for (key, prefix) in settings.freeze.iter().map(|name| ("train.freeze", name)).chain(prefixes) {
        if !names.iter().any(|name| begins_with(name, prefix)) {
            return Err(TrainError::UnknownParameter {
                key,
                name: prefix.clone(),
                near: near(&names, prefix),
            });
        }
    }
    for (name, variable) in variables.variables() {
        if settings.freeze.iter().any(|frozen| begins_with(&name, frozen)) {
            let _ = variable.set_requires_grad(false);
        }
    }
    if !variables.variables().values().any(tch::Tensor::requires_grad) {
        return Err(TrainError::AllFrozen);
    }
    let Training { betas, eps, weight_decay, optimizer: rule, .. } = *settings;
    let mut optimizer = AdamW::new(variables, AdamWConfig { betas, eps, weight_decay, rule });
    optimizer.scale_learning_rates(|name| part(name, layers_above, settings));
    Ok(optimizer)
}

/// A parameter's part of the learning rate.
fn part(name: &str, layers_above: &dyn Fn(&str) -> i32, settings: &Training) -> f64 {
    match settings.groups.iter().find(|group| begins_with(name, &group.prefix)) {
        Some(group) => group.learning_rate / settings.learning_rate,
        None => settings.layer_decay.powi(layers_above(name)),
    }
}

/// Whether a name is `beginning` or goes on after it with a dot: `layer.1` is no beginning of `layer.10`.
fn begins_with(name: &str, beginning: &str) -> bool {
    name.strip_prefix(beginning)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || beginning.ends_with('.'))
}

/// A few names to choose from: those that share the most with the unknown one.
fn near(names: &[String], unknown: &str) -> Vec<String> {
    let shared = |name: &str| name.bytes().zip(unknown.bytes()).take_while(|(a, b)| a == b).count();
    let most = names.iter().map(|name| shared(name)).max().unwrap_or(0);
    names.iter().filter(|name| shared(name) == most).take(3).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    /// Two layers: sublayers 0, 1 of the text, 2, 3 of both streams.
    fn config() -> ModelConfig {
        serde_json::from_str(
            r#"{"vocab_size": 8, "image_embeddings": "vilbert", "tt_attn_sublayers": [0], "tv_attn_sublayers": [2], "vt_attn_sublayers": [2],
                "t_ff_sublayers": [1, 3], "v_ff_sublayers": [3]}"#,
        )
        .unwrap()
    }

    #[test]
    fn lower_layers_learn_more_slowly() {
        let settings = Training { layer_decay: 0.5, ..Training::default() };
        let config = config();
        let part = |name: &str| part(name, &|name| config.layers_above(name), &settings);
        assert_eq!(part("clfs_dict.TASK3.weight"), 1.0);
        assert_eq!(part("bert.t_pooler.dense.weight"), 1.0);
        assert_eq!(part("bert.encoder.layer.3.output.dense.weight"), 0.5);
        assert_eq!(part("bert.encoder.layer.2.attention_self.query.weight"), 0.5);
        assert_eq!(part("bert.encoder.layer.1.output.dense.weight"), 0.25);
        assert_eq!(part("bert.encoder.layer.0.attention_self.query.weight"), 0.25);
        assert_eq!(part("bert.embeddings.word_embeddings.weight"), 0.125);
        assert_eq!(part("bert.v_embeddings.LayerNorm.bias"), 0.125);
    }

    #[test]
    fn the_first_group_that_matches_counts() {
        let group = |prefix: &str, learning_rate| crate::train::Group {
            prefix: prefix.into(),
            learning_rate,
        };
        let settings = Training {
            learning_rate: 1e-3,
            layer_decay: 0.5,
            groups: vec![group("bert.embeddings.LayerNorm", 0.0), group("bert.embeddings", 1e-4)],
            ..Training::default()
        };
        let config = config();
        let part = |name: &str| part(name, &|name| config.layers_above(name), &settings);
        assert_eq!(part("bert.embeddings.LayerNorm.bias"), 0.0);
        assert!((part("bert.embeddings.word_embeddings.weight") - 0.1).abs() < 1e-12);
        assert_eq!(part("bert.v_embeddings.LayerNorm.bias"), 0.125);
    }

    #[test]
    fn a_beginning_ends_at_a_dot() {
        assert!(begins_with("bert.encoder.layer.1.x", "bert.encoder.layer.1"));
        assert!(begins_with("bert.encoder.layer.1.x", "bert.encoder.layer.1."));
        assert!(begins_with("a", "a"));
        assert!(!begins_with("bert.encoder.layer.10.x", "bert.encoder.layer.1"));
    }
}
