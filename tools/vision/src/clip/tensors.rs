//! CLIP's tensors: which there are, drawn ones, and which image tower stored embeddings are of.

use std::path::PathBuf;

use feature_store::FeatureStore;

use super::graph::{Architecture, ImageTower, ResNet, Vit};
use crate::network::NetworkError;
use crate::weights::{Expected, Fill, Weights, WeightsError, random};

impl Architecture {
    /// The sizes of the model that a file holds; all tensors are compared with them.
    ///
    /// # Errors
    /// [`WeightsError::Misfit`] if tensors are missing or contradict each other.
    pub fn of_file(weights: &Weights) -> Result<Architecture, WeightsError> {
        let misfit = |error: NetworkError| WeightsError::Misfit {
            path: weights.path().to_owned(),
            model: "CLIP".to_owned(),
            problems: vec![match error {
                NetworkError::Missing(name) => weights.lack(&name),
                error => error.to_string(),
            }],
        };
        let architecture = Architecture::of(weights).map_err(misfit)?;
        weights.require(&architecture.expected(), "CLIP")?;
        Ok(architecture)
    }

    /// Every tensor of the model, by OpenAI's names.
    pub fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        let text = self.text;
        expected.add("positional_embedding", &[text.context, text.width]);
        expected.add("text_projection", &[text.width, self.embed]);
        expected.add("logit_scale", &[]);
        match &self.image {
            ImageTower::Vit(vit) => add_vit(&mut expected, *vit, self.embed),
            ImageTower::ResNet(resnet) => add_resnet(&mut expected, resnet, self.embed),
        }
        add_transformer(&mut expected, "transformer", text.width, text.layers);
        expected.add("token_embedding.weight", &[text.vocabulary, text.width]);
        expected.add_linear("ln_final", &[text.width]);
        expected
    }
}

/// What precedes an image tower's digest in what a store of embeddings says of its origin.
pub const EMBEDDED_BY: &str = "image tower ";

/// Identifies the image tower of weights, whatever file they came in: the hash of its tensors, names sorted, in f32. Stored
/// embeddings say whose they are by it.
///
/// # Errors
/// Tensors that cannot be read.
pub fn image_tower_digest(weights: &Weights) -> Result<String, WeightsError> {
    let architecture = Architecture::of_file(weights)?;
    let mut digest = TowerDigest::default();
    let mut names: Vec<String> =
        architecture.expected().0.into_iter().map(|(name, _)| name).collect();
    names.retain(|name| name.starts_with(IMAGE_TOWER));
    names.sort();
    for name in names {
        digest.add(&name, &weights.read(&name)?.values);
    }
    Ok(digest.finish())
}

/// Refuses embeddings in a store that another image tower has made: they would be read without complaint, and rank like
/// noise. A store of another origin says nothing, and is believed.
///
/// # Errors
/// [`OtherTower`].
pub fn check_embedded_by(store: &FeatureStore, tower: &str) -> Result<(), OtherTower> {
    let Some((_, made_by)) = store.schema().provenance.fingerprint.split_once(EMBEDDED_BY) else {
        return Ok(());
    };
    // What the pictures were follows.
    match made_by.starts_with(tower) {
        true => Ok(()),
        false => Err(OtherTower(store.path().to_owned())),
    }
}

/// Embeddings that another model has made.
#[derive(Debug, thiserror::Error)]
#[error(
    "the embeddings in {0} were made by another image tower; make them with this model (`xenc clip embed --model`), or \
     rank with the model that made them"
)]
pub struct OtherTower(pub PathBuf);

/// What the names of an image tower's tensors begin with.
const IMAGE_TOWER: &str = "visual.";

/// The same of tensors in memory: [`add`](TowerDigest::add) them in the order of their names.
#[derive(Default)]
pub struct TowerDigest(xxhash_rust::xxh3::Xxh3);

impl TowerDigest {
    /// Takes one tensor in, by OpenAI's name.
    pub fn add(&mut self, name: &str, values: &[f32]) {
        self.0.update(name.as_bytes());
        for value in values {
            self.0.update(&value.to_le_bytes());
        }
    }

    /// What identifies the tower.
    pub fn finish(self) -> String {
        format!("{:016x}", self.0.digest())
    }
}

fn add_vit(expected: &mut Expected, vit: Vit, embed: usize) {
    let Vit { width, patch, layers, grid } = vit;
    expected.add("visual.class_embedding", &[width]);
    expected.add("visual.positional_embedding", &[grid * grid + 1, width]);
    expected.add("visual.proj", &[width, embed]);
    expected.add("visual.conv1.weight", &[width, 3, patch, patch]);
    expected.add_linear("visual.ln_pre", &[width]);
    add_transformer(expected, "visual.transformer", width, layers);
    expected.add_linear("visual.ln_post", &[width]);
}

fn add_transformer(expected: &mut Expected, prefix: &str, width: usize, layers: usize) {
    for layer in 0..layers {
        let block = format!("{prefix}.resblocks.{layer}");
        expected.add(format!("{block}.attn.in_proj_weight"), &[3 * width, width]);
        expected.add(format!("{block}.attn.in_proj_bias"), &[3 * width]);
        expected.add_linear(&format!("{block}.attn.out_proj"), &[width, width]);
        expected.add_linear(&format!("{block}.ln_1"), &[width]);
        expected.add_linear(&format!("{block}.mlp.c_fc"), &[4 * width, width]);
        expected.add_linear(&format!("{block}.mlp.c_proj"), &[width, 4 * width]);
        expected.add_linear(&format!("{block}.ln_2"), &[width]);
    }
}

fn add_resnet(expected: &mut Expected, resnet: &ResNet, embed: usize) {
    let ResNet { width, blocks, grid } = *resnet;
    let half = width / 2;
    for (n, from, to) in [(1, 3, half), (2, half, half), (3, half, width)] {
        expected.add(format!("visual.conv{n}.weight"), &[to, from, 3, 3]);
        expected.add_norm(&format!("visual.bn{n}"), to);
    }
    let mut from = width;
    for (stage, count) in blocks.into_iter().enumerate() {
        let planes = width << stage;
        for block in 0..count {
            let prefix = format!("visual.layer{}.{block}", stage + 1);
            for (n, input, output, side) in
                [(1, from, planes, 1), (2, planes, planes, 3), (3, planes, 4 * planes, 1)]
            {
                expected.add(format!("{prefix}.conv{n}.weight"), &[output, input, side, side]);
                expected.add_norm(&format!("{prefix}.bn{n}"), output);
            }
            if block == 0 {
                expected.add(format!("{prefix}.downsample.0.weight"), &[4 * planes, from, 1, 1]);
                expected.add_norm(&format!("{prefix}.downsample.1"), 4 * planes);
            }
            from = 4 * planes;
        }
    }
    let deep = 32 * width;
    expected.add("visual.attnpool.positional_embedding", &[grid * grid + 1, deep]);
    for name in ["k_proj", "q_proj", "v_proj"] {
        expected.add_linear(&format!("visual.attnpool.{name}"), &[deep, deep]);
    }
    expected.add_linear("visual.attnpool.c_proj", &[embed, deep]);
}

/// A model with drawn weights, of about the scale that training starts from; the same seed gives the same weights.
pub fn random_weights(architecture: &Architecture, seed: u64) -> Weights {
    let layers = architecture.text.layers as f32;
    random("random CLIP", architecture.expected(), seed, move |name, shape| {
        let is_norm =
            ["ln_", ".bn", "visual.bn", "downsample.1"].iter().any(|norm| name.contains(norm));
        match name {
            "logit_scale" => Fill::Constant(100f32.ln()),
            _ if name.ends_with("bias") || name.ends_with("running_mean") => Fill::Constant(0.0),
            // The last normalisation of a block is small, so that what blocks add does not pile up.
            _ if name.ends_with("bn3.weight") && name.contains("layer") => Fill::Constant(0.25),
            _ if is_norm => Fill::Constant(1.0),
            "token_embedding.weight" => Fill::Normal(0.02),
            "positional_embedding" => Fill::Normal(0.01),
            "visual.class_embedding" => Fill::Normal((shape[0] as f32).powf(-0.5)),
            "visual.positional_embedding" | "visual.proj" | "text_projection" => {
                Fill::Normal((shape[shape.len() - 1].max(shape[0]) as f32).powf(-0.5))
            }
            _ if name.ends_with("out_proj.weight") || name.ends_with("mlp.c_proj.weight") => {
                Fill::Normal((shape[1] as f32 * 2.0 * layers).powf(-0.5))
            }
            // Rectified inputs lose half of their power; those of attention do not.
            _ if shape.len() == 4 && name.contains("layer") => {
                Fill::Normal((2.0 / inputs(shape)).sqrt())
            }
            _ => Fill::Normal(inputs(shape).powf(-0.5)),
        }
    })
}

/// How many values one output is the sum of.
fn inputs(shape: &[usize]) -> f32 {
    shape[1..].iter().product::<usize>().max(1) as f32
}
