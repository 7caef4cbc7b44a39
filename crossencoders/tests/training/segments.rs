//! A backward pass in segments, with or without gradient checkpointing, changes memory and time only.

use std::collections::BTreeMap;
use std::path::Path;

use crossencoders::config::ModelConfig;
use crossencoders::model::{
    Activations, Candidates, ContextConfig, Positions, RankingHead, RankingModel, Text,
};
use crossencoders::tch::nn::VarStore;
use crossencoders::tch::{Device, Kind, Tensor, manual_seed};
use crossencoders::train::contrastive;

use crate::common::alone;
use crate::{MODEL, World};

/// Two descriptions of five word pieces, three candidates each of four regions.
fn batch(config: &ModelConfig) -> (Text, Candidates, Tensor) {
    let ids = Tensor::randint(config.vocab_size, [2, 5], (Kind::Int64, Device::Cpu));
    let mask = Tensor::from_slice(&[1_i64, 1, 1, 1, 1, 1, 1, 1, 0, 0]).view([2, 5]);
    let random = |size: &[i64]| Tensor::rand(size, (Kind::Float, Device::Cpu));
    let candidates = Candidates {
        features: random(&[2, 3, 4, config.v_feature_size]),
        locations: random(&[2, 3, 4, config.num_locs]),
        mask: Tensor::ones([2, 3, 4], (Kind::Int64, Device::Cpu)),
    };
    (
        Text { token_type_ids: ids.zeros_like(), input_ids: ids, mask },
        candidates,
        Tensor::from_slice(&[true, false]),
    )
}

/// The gradients by name, which are then forgotten.
fn take_gradients(variables: &VarStore) -> BTreeMap<String, Option<Tensor>> {
    let named = variables.variables().into_iter();
    named
        .map(|(name, mut variable)| {
            let gradient = variable.grad();
            let copied = gradient.defined().then(|| gradient.copy());
            if gradient.defined() {
                variable.zero_grad();
            }
            (name, copied)
        })
        .collect()
}

/// Scores, loss and gradients by name, of the plain pass and of the others.
fn compare(config: &ModelConfig, head: &RankingHead, seed: Option<u64>, frozen: &str) {
    manual_seed(7);
    let variables = VarStore::new(Device::Cpu);
    let model = RankingModel::new(&variables.root(), config, head).unwrap();
    for (name, variable) in variables.variables() {
        let _ = variable.set_requires_grad(frozen.is_empty() || !name.starts_with(frozen));
    }
    let (text, candidates, video) = batch(config);
    let targets = Tensor::from_slice(&[2_i64, 0]);
    let loss = |scores: &Tensor| contrastive(scores, &targets);
    let plain_scores = model.forward_seeded(&text, &candidates, &video, seed);
    let plain_loss = loss(&plain_scores);
    plain_loss.backward();
    let plain = take_gradients(&variables);
    let moved = plain.values().flatten();
    let moved = moved.filter(|gradient| gradient.abs().max().double_value(&[]) > 0.0).count();
    assert!(moved > 0, "all gradients are zero: nothing is compared");
    for activations in [Activations::Kept, Activations::Recomputed] {
        // What is complete when a segment is said to be.
        let mut complete = BTreeMap::new();
        let mut finished = |segment| {
            for (name, variable) in variables.variables() {
                if model.segment_of(&name) == segment {
                    let gradient = variable.grad();
                    complete.insert(name, gradient.defined().then(|| gradient.copy()));
                }
            }
        };
        let inputs = (&text, &candidates, &video);
        let (scores, segments_loss) =
            model.backward_in_segments(inputs, seed, activations, &loss, &mut finished);
        take_gradients(&variables);
        assert_eq!(scores, plain_scores.detach());
        assert_eq!(segments_loss.double_value(&[]), plain_loss.double_value(&[]));
        assert!(plain.keys().eq(complete.keys()));
        for (name, plain) in &plain {
            let is_frozen = !frozen.is_empty() && name.starts_with(frozen);
            let (Some(plain), Some(found)) = (plain, &complete[name]) else {
                assert!(is_frozen && plain.is_none() && complete[name].is_none(), "{name}");
                continue;
            };
            let difference = (plain - found).abs().max().double_value(&[]);
            assert!(difference <= 1e-6, "{name} differs by {difference:e}, {activations:?}");
        }
    }
}

#[test]
fn gradients_of_segments_are_those_of_the_plain_pass_with_and_without_dropout() {
    let _alone = alone();
    let own: ModelConfig = serde_json::from_str(MODEL).unwrap();
    let context = ContextConfig { layers: 1, add_inputs: true, positions: Positions::Video };
    for seed in [None, Some(1), Some(2)] {
        compare(&own, &RankingHead::Linear, seed, "");
        compare(&own, &RankingHead::Contextual(context), seed, "");
    }
    compare(&own, &RankingHead::Linear, Some(3), "bert.");
    compare(&own, &RankingHead::Linear, Some(3), "bert.embeddings");
}

#[test]
fn gradients_of_segments_are_those_of_the_plain_pass_for_both_published_architectures() {
    let _alone = alone();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/fixtures/training");
    let mut compared = 0;
    for entry in std::fs::read_dir(configs).unwrap() {
        let file = entry.unwrap().path().join("config.json");
        if file.is_file() {
            let config = ModelConfig::load(&file).unwrap();
            compare(&config, &RankingHead::Linear, Some(5), "");
            compared += 1;
        }
    }
    assert!(compared >= 2);
}

#[test]
fn a_run_with_gradient_checkpointing_ends_with_the_same_weights() {
    let world = World::new();
    world.train("plain", &["train.accumulate=2"]).unwrap();
    world.train("less", &["train.accumulate=2", "train.gradient_checkpointing=true"]).unwrap();
    assert_eq!(world.logged("plain", "loss").len(), world.logged("less", "loss").len());
    let (difference, name) =
        crate::difference(&world.weights("plain", "last"), &world.weights("less", "last"));
    assert!(difference < 1e-6, "{name} differs by {difference:e}");
}
