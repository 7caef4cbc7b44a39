//! From word pieces and regions to the encoder's first states: five ways, one a file.

mod text;
mod two_stream;
mod uniter;
mod visualbert;
mod vl_bert;

use tch::nn;
use tch::{Kind, Tensor};

use super::{Text, Vision};
use crate::config::{ImageEmbeddings, ModelConfig};
use text::TextEmbeddings;

/// Words and regions as the first states.
#[derive(Debug)]
pub(crate) struct Embeddings {
    text: TextEmbeddings,
    vision: VisionEmbeddings,
}

#[derive(Debug)]
enum VisionEmbeddings {
    Vilbert(two_stream::Vilbert),
    Lxmert(two_stream::Lxmert),
    Uniter(uniter::Uniter),
    VisualBert(visualbert::VisualBert),
    VlBert(vl_bert::VlBert),
}

/// The encoder's first states.
#[derive(Debug)]
pub(crate) struct Embedded {
    /// `[sets, tokens, hidden]`, or `[images, tokens, hidden]` if `per_image`.
    pub(crate) text: Tensor,
    /// `[images, regions, v_hidden]`.
    pub(crate) vision: Tensor,
    /// Whether the text's states depend on the image, so that there is a row for every image already.
    pub(crate) per_image: bool,
}

impl Embeddings {
    /// Creates the parameters below `bert.embeddings` and, with two streams, `bert.v_embeddings`.
    pub(crate) fn new(bert: &nn::Path, config: &ModelConfig) -> Embeddings {
        let (both, own) = (bert / "embeddings", bert / "v_embeddings");
        let text = TextEmbeddings::new(&both, config);
        let vision = match config.image_embeddings {
            ImageEmbeddings::Vilbert => {
                VisionEmbeddings::Vilbert(two_stream::Vilbert::new(&own, config))
            }
            ImageEmbeddings::Lxmert => {
                VisionEmbeddings::Lxmert(two_stream::Lxmert::new(&own, config))
            }
            ImageEmbeddings::Uniter => VisionEmbeddings::Uniter(uniter::Uniter::new(&both, config)),
            ImageEmbeddings::VisualBert => {
                VisionEmbeddings::VisualBert(visualbert::VisualBert::new(&both, config, &text))
            }
            ImageEmbeddings::VlBert => {
                VisionEmbeddings::VlBert(vl_bert::VlBert::new(&both, config))
            }
        };
        Embeddings { text, vision }
    }

    /// Image `i` goes with description `i / (images / sets)`. Features are projected in the given precision.
    pub(crate) fn forward(
        &self,
        text: &Text,
        vision: &Vision,
        kind: Kind,
        train: bool,
    ) -> Embedded {
        let regions = match &self.vision {
            VisionEmbeddings::Vilbert(vilbert) => vilbert.forward(vision, kind, train),
            VisionEmbeddings::Lxmert(lxmert) => lxmert.forward(vision, kind, train),
            VisionEmbeddings::Uniter(uniter) => uniter.forward(&self.text, vision, kind, train),
            VisionEmbeddings::VisualBert(bert) => bert.forward(&self.text, vision, kind, train),
            VisionEmbeddings::VlBert(vl_bert) => {
                let (text, vision) = vl_bert.forward(&self.text, text, vision, kind, train);
                return Embedded { text, vision, per_image: true };
            }
        };
        Embedded { text: self.text.forward(text, train), vision: regions, per_image: false }
    }

    /// `[vocab, hidden]`.
    pub(crate) fn words(&self) -> &Tensor {
        &self.text.words.ws
    }
}
