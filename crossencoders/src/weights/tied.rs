//! Parameters that VOLTA gives several names. In this crate each exists once, under the text stream's name.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::config::{ImageEmbeddings, ModelConfig};

const WORDS: &str = "bert.embeddings.word_embeddings.weight";
const DECODER: &str = "cls.predictions.decoder.weight";
const DECODER_BIAS: &str = "cls.predictions.bias";
const TYPES: &str = "bert.embeddings.token_type_embeddings.weight";
const IMAGE_TYPES: &str = "bert.embeddings.image_token_type_embeddings.weight";
const LAYERS: &str = "bert.encoder.layer.";

/// The name under which a tied parameter exists here, if a name can be that of a twin.
pub(super) fn twin_of(name: &str) -> Option<String> {
    match name {
        DECODER => Some(WORDS.to_owned()),
        // Newer versions of transformers.
        "cls.predictions.decoder.bias" => Some(DECODER_BIAS.to_owned()),
        IMAGE_TYPES => Some(TYPES.to_owned()),
        _ if name.starts_with(LAYERS) && name.contains(".v_") => Some(name.replacen(".v_", ".", 1)),
        _ => None,
    }
}

/// Adds every twin that VOLTA's own model has and the tensors lack.
pub(super) fn add_twins(config: &ModelConfig, tensors: &mut BTreeMap<String, Tensor>) {
    for (twin, of) in twins(config) {
        let head_is_there = twin != DECODER || tensors.contains_key(DECODER_BIAS);
        if let Some(tensor) = tensors.get(&of).map(Tensor::shallow_clone).filter(|_| head_is_there)
        {
            tensors.entry(twin).or_insert(tensor);
        }
    }
}

/// Takes out the twins of tensors that are there, if they are equal.
pub(super) fn drop_twins(tensors: &mut BTreeMap<String, Tensor>) -> Vec<String> {
    let equal = |name: &String| {
        let of = tensors.get(&twin_of(name)?)?;
        tensors.get(name).filter(|twin| same(twin, of)).map(|_| name.clone())
    };
    let twins: Vec<String> = tensors.keys().filter_map(equal).collect();
    tensors.retain(|name, _| !twins.contains(name));
    twins
}

pub(super) fn same(a: &Tensor, b: &Tensor) -> bool {
    a.kind() == b.kind() && a.size() == b.size() && a.equal(b)
}

/// Twins of a model, each with the name it is a twin of.
pub(super) fn twins(config: &ModelConfig) -> Vec<(String, String)> {
    let mut twins = vec![(DECODER.to_owned(), WORDS.to_owned())];
    if config.image_embeddings == ImageEmbeddings::Uniter {
        twins.push((IMAGE_TYPES.to_owned(), TYPES.to_owned()));
    }
    for sublayer in 0..config.num_sublayers() {
        for (part, layer) in shared_layers(config, sublayer) {
            for leaf in ["weight", "bias"] {
                let name = |v: &str| format!("{LAYERS}{sublayer}.{part}.{v}{layer}.{leaf}");
                twins.push((name("v_"), name("")));
            }
        }
    }
    twins
}

/// Layers of a sublayer that the streams share: the part they are in, and their names.
fn shared_layers(config: &ModelConfig, sublayer: i64) -> Vec<(&'static str, &'static str)> {
    let has = |groups: [&std::collections::BTreeSet<i64>; 2]| {
        groups.iter().any(|group| group.contains(&sublayer))
    };
    let (text, vision, inner, output) = if config.is_attention(sublayer) {
        let text = has([&config.tt_attn_sublayers, &config.tv_attn_sublayers]);
        let vision = has([&config.vv_attn_sublayers, &config.vt_attn_sublayers]);
        let inner: &[&str] = &["query", "key", "value"];
        (text, vision, ("attention_self", inner), "attention_output")
    } else {
        let (text, vision) = (&config.t_ff_sublayers, &config.v_ff_sublayers);
        let inner: &[&str] = &["dense"];
        (text.contains(&sublayer), vision.contains(&sublayer), ("intermediate", inner), "output")
    };
    let shared = config.shared_sublayers.contains(&sublayer);
    let single_norm = config.single_ln_sublayers.contains(&sublayer);
    let mut layers = Vec::new();
    if text && vision && shared {
        layers.extend(inner.1.iter().map(|layer| (inner.0, *layer)));
        layers.push((output, "dense"));
    }
    if text && vision && (shared || single_norm) {
        layers.push((output, "LayerNorm"));
    }
    layers
}
