//! CLIP's sizes: they follow from the tensors, so that no configuration file is needed.

use crate::weights::{Expected, Fill, Weights, WeightsError, random};

/// Width of one attention head, in both towers.
pub const HEAD_WIDTH: usize = 64;

/// The sizes of a CLIP model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Values of an embedding.
    pub embed: usize,
    /// The image tower.
    pub vision: Vision,
    /// Ids of a text: 77.
    pub context: usize,
    /// Ids there are: 49408.
    pub vocabulary: usize,
    /// Width of the text tower; its heads are 64 wide.
    pub text_width: usize,
    /// Layers of the text tower.
    pub text_layers: usize,
}

/// The sizes of an image tower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vision {
    /// A transformer over patches.
    Vit {
        /// Pixels of a side of the image.
        image: usize,
        /// Pixels of a side of a patch.
        patch: usize,
        /// Width; heads are 64 wide.
        width: usize,
        /// Layers.
        layers: usize,
    },
    /// The modified ResNet with attention pooling.
    ResNet {
        /// Pixels of a side of the image.
        image: usize,
        /// Channels behind the stem.
        width: usize,
        /// Blocks of each stage.
        blocks: [usize; 4],
    },
}

/// The published models that this program makes with random weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Architecture {
    VitB32,
    VitB16,
    VitL14,
    Rn50,
}

impl Architecture {
    /// Its sizes.
    pub fn config(self) -> Config {
        let vit = |patch, width, layers| Vision::Vit { image: 224, patch, width, layers };
        let (embed, vision, text_width) = match self {
            Architecture::VitB32 => (512, vit(32, 768, 12), 512),
            Architecture::VitB16 => (512, vit(16, 768, 12), 512),
            Architecture::VitL14 => (768, vit(14, 1024, 24), 768),
            Architecture::Rn50 => {
                (1024, Vision::ResNet { image: 224, width: 64, blocks: [3, 4, 6, 3] }, 512)
            }
        };
        Config { embed, vision, context: 77, vocabulary: 49408, text_width, text_layers: 12 }
    }
}

impl Config {
    /// Pixels of a side of the image.
    pub fn image(&self) -> usize {
        match self.vision {
            Vision::Vit { image, .. } | Vision::ResNet { image, .. } => image,
        }
    }

    /// The sizes that a file's tensors have; all tensors are compared with them.
    ///
    /// # Errors
    /// [`WeightsError::Misfit`] if tensors are missing or contradict each other.
    pub fn of(weights: &Weights) -> Result<Config, WeightsError> {
        let misfit = |problem: String| WeightsError::Misfit {
            path: weights.path().to_owned(),
            model: "CLIP".to_owned(),
            problems: vec![problem],
        };
        let shape = |name: &str, rank: usize| {
            let shape =
                weights.shape(name).ok_or_else(|| misfit(format!("`{name}` is missing")))?;
            if shape.len() != rank || shape.contains(&0) {
                return Err(misfit(format!("`{name}` is {shape:?}, not of {rank} sides")));
            }
            Ok(shape)
        };
        let grid = |name: &str| {
            let positions = shape(name, 2)?[0];
            let grid = (positions - 1).isqrt();
            if grid == 0 || grid * grid + 1 != positions {
                return Err(misfit(format!(
                    "`{name}` has {positions} rows, not one more than a square"
                )));
            }
            Ok(grid)
        };
        let count = |start: &str, end: &str| {
            weights.names().filter(|name| name.starts_with(start) && name.ends_with(end)).count()
        };
        let vision = if weights.shape("visual.proj").is_some() {
            let conv = shape("visual.conv1.weight", 4)?;
            let (width, patch) = (conv[0], conv[3]);
            let image = patch * grid("visual.positional_embedding")?;
            let layers = count("visual.transformer.resblocks.", ".attn.in_proj_weight");
            Vision::Vit { image, patch, width, layers }
        } else {
            let image = 32 * grid("visual.attnpool.positional_embedding")?;
            let width = shape("visual.layer1.0.conv1.weight", 4)?[0];
            let blocks = [1, 2, 3, 4].map(|n| count(&format!("visual.layer{n}."), ".conv1.weight"));
            Vision::ResNet { image, width, blocks }
        };
        let config = Config {
            embed: shape("text_projection", 2)?[1],
            vision,
            context: shape("positional_embedding", 2)?[0],
            vocabulary: shape("token_embedding.weight", 2)?[0],
            text_width: shape("ln_final.weight", 1)?[0],
            text_layers: count("transformer.resblocks.", ".attn.in_proj_weight"),
        };
        weights.require(&config.expected(), "CLIP")?;
        if !config.text_width.is_multiple_of(HEAD_WIDTH)
            || !config.vision_width().is_multiple_of(HEAD_WIDTH)
        {
            return Err(misfit(format!("widths that are no multiples of {HEAD_WIDTH}")));
        }
        Ok(config)
    }

    /// What the image tower's attention is as wide as.
    fn vision_width(&self) -> usize {
        match self.vision {
            Vision::Vit { width, .. } => width,
            Vision::ResNet { width, .. } => 32 * width,
        }
    }

    /// Every tensor of the model, by OpenAI's names.
    pub fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        expected.add("positional_embedding", &[self.context, self.text_width]);
        expected.add("text_projection", &[self.text_width, self.embed]);
        expected.add("logit_scale", &[]);
        match self.vision {
            Vision::Vit { image, patch, width, layers } => {
                let grid = image / patch;
                expected.add("visual.class_embedding", &[width]);
                expected.add("visual.positional_embedding", &[grid * grid + 1, width]);
                expected.add("visual.proj", &[width, self.embed]);
                expected.add("visual.conv1.weight", &[width, 3, patch, patch]);
                expected.add_linear("visual.ln_pre", &[width]);
                add_transformer(&mut expected, "visual.transformer", width, layers);
                expected.add_linear("visual.ln_post", &[width]);
            }
            Vision::ResNet { image, width, blocks } => {
                add_resnet(&mut expected, image, width, blocks, self.embed);
            }
        }
        add_transformer(&mut expected, "transformer", self.text_width, self.text_layers);
        expected.add("token_embedding.weight", &[self.vocabulary, self.text_width]);
        expected.add_linear("ln_final", &[self.text_width]);
        expected
    }
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

fn add_resnet(
    expected: &mut Expected,
    image: usize,
    width: usize,
    blocks: [usize; 4],
    embed: usize,
) {
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
    let (deep, grid) = (32 * width, image / 32);
    expected.add("visual.attnpool.positional_embedding", &[grid * grid + 1, deep]);
    for name in ["k_proj", "q_proj", "v_proj"] {
        expected.add_linear(&format!("visual.attnpool.{name}"), &[deep, deep]);
    }
    expected.add_linear("visual.attnpool.c_proj", &[embed, deep]);
}

/// A model with drawn weights, of about the scale that training starts from; the same seed gives the same weights.
pub fn random_weights(architecture: Architecture, seed: u64) -> Weights {
    random_weights_of(&architecture.config(), seed)
}

/// As [`random_weights`], for other sizes.
pub fn random_weights_of(config: &Config, seed: u64) -> Weights {
    let layers = config.text_layers as f32;
    random("random CLIP", config.expected(), seed, move |name, shape| {
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
