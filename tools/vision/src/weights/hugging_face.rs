//! CLIP's tensors under Hugging Face's names, as OpenAI's.

use std::collections::BTreeMap;

use super::Entry;

/// OpenAI's names for Hugging Face's; `None` if these are not Hugging Face's. What has no counterpart keeps its name.
pub(super) fn entries(shapes: &BTreeMap<String, Vec<usize>>) -> Option<BTreeMap<String, Entry>> {
    if !shapes.contains_key("vision_model.embeddings.class_embedding") {
        return None;
    }
    let mut entries = BTreeMap::new();
    for (name, shape) in shapes {
        if let Some(to) = projection(name)
            && let &[embed, width] = &shape[..]
        {
            entries.insert(to.to_owned(), Entry::Transposed([width, embed], name.clone()));
        } else if let Some((to, part)) = attention_input(name) {
            // Rows of query, key and value one after the other; entered once, for the query.
            if part == "q_proj" {
                let parts =
                    ["q_proj", "k_proj", "v_proj"].map(|other| name.replace("q_proj", other));
                let mut stacked = shape.clone();
                let rows = parts.iter().map(|part| shapes.get(part)?.first().copied());
                match (stacked.first_mut(), rows.sum::<Option<usize>>()) {
                    (Some(first), Some(rows)) => *first = rows,
                    _ => continue,
                }
                entries.insert(to, Entry::Stacked(stacked, parts.to_vec()));
            }
        } else {
            let to = plain(name).unwrap_or_else(|| name.clone());
            entries.insert(to, Entry::Renamed(shape.clone(), name.clone()));
        }
    }
    Some(entries)
}

/// The projections are matrices that features are multiplied with from the left there, from the right here.
fn projection(name: &str) -> Option<&'static str> {
    match name {
        "text_projection.weight" => Some("text_projection"),
        "visual_projection.weight" => Some("visual.proj"),
        _ => None,
    }
}

/// `…layers.N.self_attn.q_proj.weight` is a part of `…resblocks.N.attn.in_proj_weight`.
fn attention_input(name: &str) -> Option<(String, &str)> {
    let (tower, layer, rest) = layer(name)?;
    let (part, kind) = rest.strip_prefix("self_attn.")?.split_once('.')?;
    ["q_proj", "k_proj", "v_proj"]
        .contains(&part)
        .then(|| (format!("{tower}.resblocks.{layer}.attn.in_proj_{kind}"), part))
}

/// The tower's prefix here, the layer's number, and the rest of the name.
fn layer(name: &str) -> Option<(&'static str, &str, &str)> {
    let (tower, rest) = match name.strip_prefix("text_model.encoder.layers.") {
        Some(rest) => ("transformer", rest),
        None => ("visual.transformer", name.strip_prefix("vision_model.encoder.layers.")?),
    };
    let (number, rest) = rest.split_once('.')?;
    Some((tower, number, rest))
}

fn plain(name: &str) -> Option<String> {
    if let Some((tower, number, rest)) = layer(name) {
        let (module, kind) = rest.rsplit_once('.')?;
        let module = match module {
            "self_attn.out_proj" => "attn.out_proj",
            "layer_norm1" => "ln_1",
            "layer_norm2" => "ln_2",
            "mlp.fc1" => "mlp.c_fc",
            "mlp.fc2" => "mlp.c_proj",
            _ => return None,
        };
        return Some(format!("{tower}.resblocks.{number}.{module}.{kind}"));
    }
    let to = match name {
        "text_model.embeddings.token_embedding.weight" => "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight" => "positional_embedding",
        "text_model.final_layer_norm.weight" => "ln_final.weight",
        "text_model.final_layer_norm.bias" => "ln_final.bias",
        "vision_model.embeddings.class_embedding" => "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight" => "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight" => "visual.positional_embedding",
        // The missing letters are theirs.
        "vision_model.pre_layrnorm.weight" => "visual.ln_pre.weight",
        "vision_model.pre_layrnorm.bias" => "visual.ln_pre.bias",
        "vision_model.post_layernorm.weight" => "visual.ln_post.weight",
        "vision_model.post_layernorm.bias" => "visual.ln_post.bias",
        _ => return None,
    };
    Some(to.to_owned())
}
