//! Pictures to embeddings, by either kind of network.

use tch::nn;
use tch::{Kind, Tensor};

use super::Observe;
use super::config::{ClipConfig, Layers};
use super::resnet::ResNet;
use super::vit::Vit;

/// A transformer over patches, or a changed ResNet.
#[derive(Debug)]
pub struct ImageTower {
    network: Network,
    /// What it computes in.
    pub(super) kind: Kind,
}

#[derive(Debug)]
enum Network {
    Vit(Vit),
    ResNet(Box<ResNet>),
}

impl ImageTower {
    /// Creates all parameters, which are 0.
    pub(super) fn new(path: &nn::Path, config: &ClipConfig) -> ImageTower {
        let network = match config.vision_cfg.layers {
            Layers::Transformer(layers) => Network::Vit(Vit::new(path, config, layers)),
            Layers::ResNet(blocks) => Network::ResNet(Box::new(ResNet::new(path, config, blocks))),
        };
        ImageTower { network, kind: Kind::Float }
    }

    /// Embeddings `[N, embed]`, f32 and not normalised, of preprocessed pictures, f32 `[N, 3, n, n]`.
    pub fn forward(&self, pictures: &Tensor) -> Tensor {
        self.embed(pictures, None)
    }

    /// The same while `observe` sees values inside.
    pub fn forward_observed(&self, pictures: &Tensor, observe: Observe) -> Tensor {
        self.embed(pictures, Some(observe))
    }

    fn embed(&self, pictures: &Tensor, observe: Option<Observe>) -> Tensor {
        let pictures = pictures.to_kind(self.kind);
        let embeddings = match &self.network {
            Network::Vit(vit) => vit.forward(&pictures, observe),
            Network::ResNet(resnet) => resnet.forward(&pictures, observe),
        };
        embeddings.to_kind(Kind::Float)
    }
}
