//! Weights of the networks' real names and shapes, drawn at random: to measure a full-size network, or to try a pipeline
//! out, without a download. What they compute means nothing, but stays in the range of real activations.

use onnx::TensorData;
use rand::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{NetworkError, Weights};
use crate::clip::graph::{Architecture, ImageTower, ResNet, TextTower, Vit};

/// Sizes of a detector.
#[derive(Debug, Clone, Copy)]
pub struct DetectorSizes {
    /// Channels of the stem and of the first stage's middle.
    pub width: usize,
    /// Blocks of the stages 2 to 5.
    pub blocks: [usize; 4],
    /// Channels of the proposal head.
    pub hidden: usize,
    /// Anchors of a cell.
    pub anchors: usize,
    /// Object classes.
    pub classes: usize,
    /// Attributes.
    pub attributes: usize,
    /// Numbers of a class's embedding.
    pub embedding: usize,
    /// Hidden numbers of the attribute head.
    pub attribute_hidden: usize,
}

impl Default for DetectorSizes {
    /// The bottom-up-attention detector: ResNet-101, 1600 classes, 400 attributes.
    fn default() -> DetectorSizes {
        DetectorSizes {
            width: 64,
            blocks: [3, 4, 23, 3],
            hidden: 512,
            anchors: 12,
            classes: 1600,
            attributes: 400,
            embedding: 256,
            attribute_hidden: 512,
        }
    }
}

/// Weights of a detector.
///
/// # Errors
/// Sizes beyond memory.
pub fn detector(sizes: &DetectorSizes, seed: u64) -> Result<Weights, NetworkError> {
    let mut draw = Draw::new(seed);
    let DetectorSizes {
        width,
        blocks,
        hidden,
        anchors,
        classes,
        attributes,
        embedding,
        attribute_hidden,
    } = *sizes;
    draw.normed_conv("backbone.stem.conv1", [width, 3, 7, 7])?;
    let mut channels = width;
    for (stage, blocks) in (0..).zip(blocks) {
        let prefix = if stage < 3 {
            format!("backbone.res{}", stage + 2)
        } else {
            "roi_heads.res5".to_owned()
        };
        let middle = width << stage;
        for block in 0..blocks {
            let prefix = format!("{prefix}.{block}");
            if block == 0 {
                draw.normed_conv(&format!("{prefix}.shortcut"), [4 * middle, channels, 1, 1])?;
            }
            draw.normed_conv(&format!("{prefix}.conv1"), [middle, channels, 1, 1])?;
            draw.normed_conv(&format!("{prefix}.conv2"), [middle, middle, 3, 3])?;
            draw.normed_conv(&format!("{prefix}.conv3"), [4 * middle, middle, 1, 1])?;
            channels = 4 * middle;
        }
    }
    let (map, head, predictor) =
        (channels / 2, "proposal_generator.rpn_head", "roi_heads.box_predictor");
    draw.biased(&format!("{head}.conv"), &[hidden, map, 3, 3])?;
    draw.biased(&format!("{head}.objectness_logits"), &[anchors, hidden, 1, 1])?;
    draw.biased(&format!("{head}.anchor_deltas"), &[4 * anchors, hidden, 1, 1])?;
    draw.biased(&format!("{predictor}.cls_score"), &[classes + 1, channels])?;
    draw.biased(&format!("{predictor}.bbox_pred"), &[4 * classes, channels])?;
    draw.uniform(&format!("{predictor}.cls_embedding.weight"), &[classes + 1, embedding], 1.0)?;
    draw.biased(&format!("{predictor}.fc_attr"), &[attribute_hidden, channels + embedding])?;
    draw.biased(&format!("{predictor}.attr_score"), &[attributes + 1, attribute_hidden])?;
    Ok(draw.weights)
}

/// Weights of a CLIP.
///
/// # Errors
/// Sizes beyond memory.
pub fn clip(architecture: &Architecture, seed: u64) -> Result<Weights, NetworkError> {
    let mut draw = Draw::new(seed);
    match &architecture.image {
        ImageTower::Vit(vit) => draw.vit(*vit, architecture.embed)?,
        ImageTower::ResNet(resnet) => draw.resnet(resnet, architecture.embed)?,
    }
    let TextTower { width, layers, context, vocabulary } = architecture.text;
    draw.uniform("token_embedding.weight", &[vocabulary, width], 0.035)?;
    draw.uniform("positional_embedding", &[context, width], 0.02)?;
    (0..layers)
        .try_for_each(|layer| draw.block(&format!("transformer.resblocks.{layer}"), width))?;
    draw.layer_norm("ln_final", width)?;
    draw.matrix("text_projection", [width, architecture.embed])?;
    draw.put("logit_scale", &[], vec![100.0f32.ln()])?;
    Ok(draw.weights)
}

struct Draw {
    random: Xoshiro256PlusPlus,
    weights: Weights,
}

impl Draw {
    fn new(seed: u64) -> Draw {
        Draw { random: Xoshiro256PlusPlus::seed_from_u64(seed), weights: Weights::new() }
    }

    fn vit(&mut self, vit: Vit, embed: usize) -> Result<(), NetworkError> {
        let Vit { width, patch, layers, grid } = vit;
        self.scaled("visual.conv1.weight", &[width, 3, patch, patch], 1.0)?;
        self.uniform("visual.class_embedding", &[width], 0.06)?;
        self.uniform("visual.positional_embedding", &[grid * grid + 1, width], 0.06)?;
        self.layer_norm("visual.ln_pre", width)?;
        (0..layers).try_for_each(|layer| {
            self.block(&format!("visual.transformer.resblocks.{layer}"), width)
        })?;
        self.layer_norm("visual.ln_post", width)?;
        self.matrix("visual.proj", [width, embed])
    }

    fn resnet(&mut self, resnet: &ResNet, embed: usize) -> Result<(), NetworkError> {
        let width = resnet.width;
        self.separate_norm("visual.conv1", "visual.bn1", [width / 2, 3, 3, 3])?;
        self.separate_norm("visual.conv2", "visual.bn2", [width / 2, width / 2, 3, 3])?;
        self.separate_norm("visual.conv3", "visual.bn3", [width, width / 2, 3, 3])?;
        let mut channels = width;
        for (stage, blocks) in (1..).zip(resnet.blocks) {
            let middle = width << (stage - 1);
            for block in 0..blocks {
                let prefix = format!("visual.layer{stage}.{block}");
                let mut conv = |name: &str, norm: &str, shape| {
                    self.separate_norm(
                        &format!("{prefix}.{name}"),
                        &format!("{prefix}.{norm}"),
                        shape,
                    )
                };
                if block == 0 {
                    conv("downsample.0", "downsample.1", [4 * middle, channels, 1, 1])?;
                }
                conv("conv1", "bn1", [middle, channels, 1, 1])?;
                conv("conv2", "bn2", [middle, middle, 3, 3])?;
                conv("conv3", "bn3", [4 * middle, middle, 1, 1])?;
                channels = 4 * middle;
            }
        }
        self.uniform(
            "visual.attnpool.positional_embedding",
            &[resnet.grid * resnet.grid + 1, channels],
            0.04,
        )?;
        for part in ["q_proj", "k_proj", "v_proj"] {
            self.biased(&format!("visual.attnpool.{part}"), &[channels, channels])?;
        }
        self.biased("visual.attnpool.c_proj", &[embed, channels])
    }

    fn block(&mut self, prefix: &str, width: usize) -> Result<(), NetworkError> {
        self.layer_norm(&format!("{prefix}.ln_1"), width)?;
        self.layer_norm(&format!("{prefix}.ln_2"), width)?;
        self.scaled(&format!("{prefix}.attn.in_proj_weight"), &[3 * width, width], 1.0)?;
        self.uniform(&format!("{prefix}.attn.in_proj_bias"), &[3 * width], 0.02)?;
        self.biased(&format!("{prefix}.attn.out_proj"), &[width, width])?;
        self.biased(&format!("{prefix}.mlp.c_fc"), &[4 * width, width])?;
        self.biased(&format!("{prefix}.mlp.c_proj"), &[width, 4 * width])
    }

    fn layer_norm(&mut self, prefix: &str, width: usize) -> Result<(), NetworkError> {
        self.around_one(&format!("{prefix}.weight"), width)?;
        self.uniform(&format!("{prefix}.bias"), &[width], 0.02)
    }

    /// A convolution with the detector's names for its normalisation.
    fn normed_conv(&mut self, name: &str, shape: [usize; 4]) -> Result<(), NetworkError> {
        self.separate_norm(name, &format!("{name}.norm"), shape)
    }

    fn separate_norm(
        &mut self,
        conv: &str,
        norm: &str,
        shape: [usize; 4],
    ) -> Result<(), NetworkError> {
        // Sums of a residual network grow with each block unless blocks add little.
        self.scaled(&format!("{conv}.weight"), &shape, 1.2)?;
        self.around_one(&format!("{norm}.weight"), shape[0])?;
        self.uniform(&format!("{norm}.bias"), &[shape[0]], 0.1)?;
        self.uniform(&format!("{norm}.running_mean"), &[shape[0]], 0.1)?;
        self.put(&format!("{norm}.running_var"), &[shape[0]], vec![2.0; shape[0]])
    }

    fn biased(&mut self, name: &str, shape: &[usize]) -> Result<(), NetworkError> {
        self.scaled(&format!("{name}.weight"), shape, 1.0)?;
        self.uniform(&format!("{name}.bias"), &shape[..1], 0.02)
    }

    /// x W with as much variance as x.
    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<(), NetworkError> {
        self.uniform(name, &shape, (3.0 / shape[0] as f32).sqrt())
    }

    /// Weights `[out, in, ..]` that give `gain` times the input's deviation.
    fn scaled(&mut self, name: &str, shape: &[usize], gain: f32) -> Result<(), NetworkError> {
        let inputs: usize = shape[1..].iter().product();
        self.uniform(name, shape, gain * (3.0 / inputs as f32).sqrt())
    }

    fn around_one(&mut self, name: &str, count: usize) -> Result<(), NetworkError> {
        let values = (0..count).map(|_| 1.0 + self.number(0.1)).collect();
        self.put(name, &[count], values)
    }

    fn uniform(&mut self, name: &str, shape: &[usize], most: f32) -> Result<(), NetworkError> {
        let values = (0..shape.iter().product()).map(|_| self.number(most)).collect();
        self.put(name, shape, values)
    }

    /// Between -most and most.
    fn number(&mut self, most: f32) -> f32 {
        ((self.random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0) * most
    }

    fn put(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<(), NetworkError> {
        let tensor = TensorData::new(shape, values)
            .map_err(|source| NetworkError::Tensor { name: name.to_owned(), source })?;
        self.weights.insert(name.to_owned(), tensor);
        Ok(())
    }
}
