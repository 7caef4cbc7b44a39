//! From words to regions: weights that, taken step by step, give the reference's next states.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crossencoders::config::ModelConfig;
use crossencoders::model::{CrossEncoder, Text, Vision};
use crossencoders::weights;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::{assert_near, fixtures, tensors};

const TOLERANCE: f64 = 5e-5;

/// Models whose configuration can be read, without those with a contextual module.
fn models() -> Vec<(PathBuf, ModelConfig)> {
    let entries = std::fs::read_dir(fixtures().join("crossencoders")).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path());
    let models: Vec<(PathBuf, ModelConfig)> = folders
        .filter(|folder| folder.is_dir() && !folder.join("meta.json").exists())
        .filter_map(|folder| {
            Some((folder.clone(), ModelConfig::load(&folder.join("config.json")).ok()?))
        })
        .collect();
    for name in ["vilbert", "uniter"] {
        assert!(models.iter().any(|(folder, _)| folder.ends_with(name)), "{name} is not checked");
    }
    models
}

/// The last sublayer in which the text attends to regions, by the reference's states and weights.
struct Sublayer {
    prefix: String,
    weights: BTreeMap<String, Tensor>,
    heads: i64,
}

impl Sublayer {
    fn weight(&self, name: &str) -> &Tensor {
        let untied = name.replace("v_", "");
        let get = |name: &str| self.weights.get(&format!("{}.{name}", self.prefix));
        get(name).or_else(|| get(&untied)).unwrap_or_else(|| panic!("no {name}"))
    }

    fn linear(&self, x: &Tensor, name: &str) -> Tensor {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        x.matmul(&self.weight(&weight).tr()) + self.weight(&bias)
    }

    /// `[batch, heads, length, size]`.
    fn heads(&self, x: &Tensor, name: &str) -> Tensor {
        let x = self.linear(x, &format!("attention_self.{name}"));
        let (batch, length, width) = x.size3().unwrap();
        x.view([batch, length, self.heads, width / self.heads]).transpose(1, 2)
    }

    /// Weights of all keys `[batch, heads, tokens, keys]`, and what the text becomes.
    fn attend(
        &self,
        t: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: &Tensor,
    ) -> (Tensor, Tensor) {
        let query = self.heads(t, "query");
        let scale = (query.size()[3] as f64).sqrt();
        let padding = mask.to_kind(Kind::Float) * 10000.0 - 10000.0;
        let scores =
            query.matmul(&keys.transpose(2, 3)) / scale + padding.unsqueeze(1).unsqueeze(1);
        let weights = scores.softmax(-1, Kind::Float);
        let context = weights.matmul(values).transpose(1, 2).flatten(2, 3);
        let sum = self.linear(&context, "attention_output.dense") + t;
        let norm = |part: &str| self.weight(&format!("attention_output.LayerNorm.{part}"));
        let width = [sum.size()[2]];
        let next = sum.layer_norm(width, Some(norm("weight")), Some(norm("bias")), 1e-12, false);
        (weights, next)
    }
}

#[test]
fn weights_from_words_to_regions_are_those_that_the_reference_attends_with() {
    for (folder, config) in models() {
        let variables = VarStore::new(Device::Cpu);
        let encoder = CrossEncoder::new(&variables.root(), &config).unwrap();
        weights::load(&variables, &folder.join("weights.safetensors"), &[]).unwrap();
        let mut inputs = tensors(&folder.join("inputs.safetensors"));
        let mut take = |name: &str| inputs.remove(name).unwrap();
        let text = Text {
            input_ids: take("input_ids"),
            token_type_ids: take("token_type_ids"),
            mask: take("attention_mask"),
        };
        let vision = Vision {
            features: take("image_feat"),
            locations: take("image_loc"),
            mask: take("image_attention_mask"),
        };
        let found = encoder.words_to_regions(&text, &vision).unwrap();

        let states = tensors(&folder.join("outputs.safetensors"));
        let last = *config.tv_attn_sublayers.iter().max().unwrap();
        let (t, v) = match last {
            0 => (&states["emb_t"], &states["emb_v"]),
            _ => (
                &states[&format!("sublayer.{}.t", last - 1)],
                &states[&format!("sublayer.{}.v", last - 1)],
            ),
        };
        let sublayer = Sublayer {
            prefix: format!("bert.encoder.layer.{last}"),
            weights: tensors(&folder.join("weights.safetensors")),
            heads: config.text_attention(last).heads,
        };
        let single_stream = config.tt_attn_sublayers.contains(&last);
        let join = |of_text: &str, of_vision: &str| {
            let vision = sublayer.heads(v, of_vision);
            match single_stream {
                true => Tensor::cat(&[sublayer.heads(t, of_text), vision], 2),
                false => vision,
            }
        };
        let mask = match single_stream {
            true => Tensor::cat(&[&text.mask, &vision.mask], 1),
            false => vision.mask.shallow_clone(),
        };
        let (all, next) =
            sublayer.attend(t, &join("key", "v_key"), &join("value", "v_value"), &mask);
        assert_near(&next, &states[&format!("sublayer.{last}.t")], TOLERANCE, "the next state");
        let regions = vision.mask.size()[1];
        let expected =
            all.narrow(3, all.size()[3] - regions, regions).mean_dim(1, false, Kind::Float);
        assert_near(&found, &expected, TOLERANCE, &format!("{folder:?}"));
        let sums = found.sum_dim_intlist(2, false, Kind::Float);
        let highest = sums.max().double_value(&[]);
        assert!(
            highest < 1.0 + 1e-5 && (single_stream || sums.min().double_value(&[]) > 1.0 - 1e-5)
        );
    }
}

#[test]
fn every_candidate_of_a_set_is_looked_at_with_the_sets_words() {
    let (folder, config) = models().into_iter().find(|(f, _)| f.ends_with("vilbert")).unwrap();
    let variables = VarStore::new(Device::Cpu);
    let encoder = CrossEncoder::new(&variables.root(), &config).unwrap();
    weights::load(&variables, &folder.join("weights.safetensors"), &[]).unwrap();
    let inputs = tensors(&folder.join("inputs.safetensors"));
    let text = |rows: [i64; 4], count: usize| {
        let rows = Tensor::from_slice(&rows[..count]);
        let of = |name: &str| inputs[name].index_select(0, &rows);
        Text {
            input_ids: of("input_ids"),
            token_type_ids: of("token_type_ids"),
            mask: of("attention_mask"),
        }
    };
    let vision = Vision {
        features: inputs["image_feat"].copy(),
        locations: inputs["image_loc"].copy(),
        mask: inputs["image_attention_mask"].copy(),
    };
    let sets = encoder.words_to_regions(&text([1, 3, 0, 0], 2), &vision).unwrap();
    let pairs = encoder.words_to_regions(&text([1, 1, 3, 3], 4), &vision).unwrap();
    assert_near(&sets, &pairs, 1e-6, "two candidates a set");
}
