//! The encoder: embeddings, gated sublayers in order, poolers.

use tch::nn;
use tch::{Kind, Tensor};

use super::attention::{Attention, Queries, Stream};
use super::embeddings::{Embedded, Embeddings};
use super::feed_forward::FeedForward;
use super::layers::{Linear, linear};
use super::{Text, Vision, text_end};
use crate::config::{ConfigError, FusionMethod, ModelConfig};

/// Added to the scores of keys that are padding.
const MASKED: f64 = -10000.0;

/// VOLTA's `BertModel`: two streams of states through a list of gated sublayers.
#[derive(Debug)]
pub struct CrossEncoder {
    embeddings: Embeddings,
    sublayers: Vec<Sublayer>,
    /// Index of the first sublayer in which the text attends to regions or regions to the text.
    first_cross_modal: usize,
    /// Index of the last sublayer that attends: after it, no position depends on another.
    last_attention: usize,
    /// Whether no sublayer tells words from regions (UNITER, VisualBERT, VL-BERT): both go through as one sequence.
    is_single_stream: bool,
    /// What the sublayers compute in.
    kind: Kind,
    /// Missing where the fusion method has no use for it.
    t_pooler: Option<Linear>,
    v_pooler: Option<Linear>,
    fusion: FusionMethod,
}

#[derive(Debug)]
enum Sublayer {
    Attention(Attention),
    FeedForward(FeedForward),
}

impl Sublayer {
    /// Whether words and regions go through the same layers and see each other alike.
    fn is_single_stream(&self) -> bool {
        match self {
            Sublayer::Attention(attention) => attention.is_single_stream(),
            Sublayer::FeedForward(feed_forward) => feed_forward.is_single_stream(),
        }
    }
}

/// What the encoder makes of pairs of a description and an image.
#[derive(Debug)]
pub struct Encoded {
    /// Last text states, `[images, tokens, hidden]`.
    pub text: Tensor,
    /// Last vision states, `[images, regions, v_hidden]`.
    pub vision: Tensor,
    /// Pooled text, `[images, pooler_size]`, if the fusion method pools it.
    pub pooled_text: Option<Tensor>,
    /// Pooled vision, `[images, pooler_size]`, if the fusion method pools it.
    pub pooled_vision: Option<Tensor>,
}

/// The states between sublayers.
#[derive(Debug)]
pub(super) struct States {
    /// Words: a row for each description before the first cross-modal sublayer, then one for each image. In a
    /// single-stream encoder, words and after them regions, a row for each image.
    pub text: Stream,
    /// Regions, unless they follow the words.
    pub vision: Option<Stream>,
    /// Word pieces of a row.
    words: i64,
    /// Images per row of the text.
    candidates: i64,
    /// Position of the text that is pooled, i64 `[images, 1]`, if it is not the first.
    pooled: Option<Tensor>,
}

impl States {
    /// Other states with the same masks.
    pub fn with(&self, text: Tensor, vision: Option<Tensor>) -> States {
        let stream = |states, old: &Stream| Stream { states, mask: old.mask.shallow_clone() };
        States {
            text: stream(text, &self.text),
            vision: vision.zip(self.vision.as_ref()).map(|(states, old)| stream(states, old)),
            words: self.words,
            candidates: self.candidates,
            pooled: self.pooled.as_ref().map(Tensor::shallow_clone),
        }
    }

    pub fn shallow_clone(&self) -> States {
        let vision = self.vision.as_ref().map(|vision| vision.states.shallow_clone());
        self.with(self.text.states.shallow_clone(), vision)
    }

    /// The text repeated for every image.
    fn expanded_text(&self) -> Stream {
        Stream {
            states: expand(&self.text.states, self.candidates),
            mask: expand(&self.text.mask, self.candidates),
        }
    }

    /// Words and regions as one sequence.
    fn joined(self) -> States {
        let text = self.expanded_text();
        let joined = match &self.vision {
            None => text,
            Some(vision) => Stream {
                states: Tensor::cat(&[&text.states, &vision.states], 1),
                mask: Tensor::cat(&[&text.mask, &vision.mask], 3),
            },
        };
        States { text: joined, vision: None, candidates: 1, ..self }
    }

    /// Words and regions apart. Of a sequence cut down to its first position, no region is left.
    fn apart(&self) -> (Stream, Stream) {
        if let Some(vision) = &self.vision {
            return (self.text.shallow_clone(), vision.shallow_clone());
        }
        let part = |start: i64, end: i64| Stream {
            states: self.text.states.slice(1, start, end, 1),
            mask: self.text.mask.slice(3, start, end, 1),
        };
        (part(0, self.words), part(self.words, i64::MAX))
    }
}

impl CrossEncoder {
    /// Creates the parameters below `bert.`.
    ///
    /// # Errors
    /// A configuration that makes no encoder.
    pub fn new(root: &nn::Path, config: &ModelConfig) -> Result<CrossEncoder, ConfigError> {
        config.check()?;
        let bert = root / "bert";
        let layers = &bert / "encoder" / "layer";
        let sublayers = (0..config.num_sublayers()).map(|index| {
            let path = &layers / index;
            if config.is_attention(index) {
                Sublayer::Attention(Attention::new(&path, config, index))
            } else {
                Sublayer::FeedForward(FeedForward::new(&path, config, index))
            }
        });
        let sublayers: Vec<Sublayer> = sublayers.collect();
        let cross_modal = config.tv_attn_sublayers.iter().chain(&config.vt_attn_sublayers).min();
        let pooled = config.pooler_size;
        Ok(CrossEncoder {
            embeddings: Embeddings::new(&bert, config),
            is_single_stream: sublayers.iter().all(Sublayer::is_single_stream),
            sublayers,
            first_cross_modal: cross_modal.map_or(usize::MAX, |&index| index as usize),
            last_attention: (0..config.num_sublayers())
                .rfind(|&index| config.is_attention(index))
                .map_or(usize::MAX, |index| index as usize),
            kind: Kind::Float,
            t_pooler: (config.fusion_method != FusionMethod::None)
                .then(|| linear(&bert / "t_pooler" / "dense", config, config.hidden_size, pooled)),
            v_pooler: matches!(config.fusion_method, FusionMethod::Mul | FusionMethod::Sum).then(
                || linear(&bert / "v_pooler" / "dense", config, config.v_hidden_size, pooled),
            ),
            fusion: config.fusion_method,
        })
    }

    /// Chooses what the sublayers compute in: f32, or bf16, which needs half the memory and, where the processor knows it,
    /// half the time. Parameters, poolers and heads stay f32.
    pub fn set_kind(&mut self, kind: Kind) {
        self.kind = kind;
    }

    /// Encodes every image with its description: image `i` goes with description `i / (images / sets)`.
    ///
    /// What depends on the text alone is computed once per description: its states are expanded only before the first
    /// cross-modal sublayer (with VL-BERT, whose words see the image, by the embeddings). `observe` sees the states after the embeddings (index `None`) and after every sublayer.
    pub fn forward(
        &self,
        text: &Text,
        vision: &Vision,
        train: bool,
        observe: &mut dyn FnMut(Option<usize>, &Tensor, &Tensor),
    ) -> Encoded {
        self.encode(text, vision, Queries::All, train, observe)
    }

    /// The same for those who need the pooled vectors only: after the last attention, nothing is computed for other
    /// positions than the first of each stream. `text` and `vision` of what comes back hold that one position (all, if
    /// another than the first is pooled; of a single stream, no region).
    pub fn forward_pooled(&self, text: &Text, vision: &Vision, train: bool) -> Encoded {
        self.encode(text, vision, Queries::First, train, &mut |_, _, _| {})
    }

    fn encode(
        &self,
        text: &Text,
        vision: &Vision,
        last_queries: Queries,
        train: bool,
        observe: &mut dyn FnMut(Option<usize>, &Tensor, &Tensor),
    ) -> Encoded {
        let mut observe = |index, states: &States| {
            let (text, vision) = states.apart();
            observe(index, &text.states, &vision.states);
        };
        let mut states = self.start(text, vision, train);
        observe(None, &states);
        for index in 0..self.sublayers.len() {
            states = self.advance(index, &states, last_queries, train);
            observe(Some(index), &states);
        }
        self.finish(states)
    }

    /// Number of sublayers.
    pub(super) fn depth(&self) -> usize {
        self.sublayers.len()
    }

    /// The states before the first sublayer.
    pub(super) fn start(&self, text: &Text, vision: &Vision, train: bool) -> States {
        let candidates = vision.features.size()[0] / text.input_ids.size()[0].max(1);
        let Embedded { text: words, vision: regions, per_image } =
            self.embeddings.forward(text, vision, self.kind, train);
        let mask = additive_mask(&text.mask, self.kind);
        let states = States {
            text: Stream {
                states: words.to_kind(self.kind),
                mask: if per_image { expand(&mask, candidates) } else { mask },
            },
            vision: Some(Stream {
                states: regions.to_kind(self.kind),
                mask: additive_mask(&vision.mask, self.kind),
            }),
            words: text.mask.size()[1],
            candidates: if per_image { 1 } else { candidates },
            pooled: (self.fusion == FusionMethod::VlBertVqa)
                .then(|| expand(&(text_end(&text.input_ids) - 2).clamp_min(0), candidates)),
        };
        if self.is_single_stream { states.joined() } else { states }
    }

    /// The states after a sublayer; in the last attention, `last_queries` attend.
    pub(super) fn advance(
        &self,
        index: usize,
        before: &States,
        last_queries: Queries,
        train: bool,
    ) -> States {
        let mut after = before.shallow_clone();
        if index == self.first_cross_modal {
            after.text = before.expanded_text();
        }
        let States { text: t, vision: v, .. } = &after;
        let is_last = index == self.last_attention && before.pooled.is_none();
        // The first region of a sequence is not its first position.
        let is_last = is_last && (v.is_some() || self.v_pooler.is_none());
        let queries = if is_last { last_queries } else { Queries::All };
        let (text, vision) = match &self.sublayers[index] {
            Sublayer::Attention(attention) => attention.forward(t, v.as_ref(), queries, train),
            Sublayer::FeedForward(feed_forward) => {
                feed_forward.forward(&t.states, v.as_ref().map(|v| &v.states), train)
            }
        };
        after.with(text, vision)
    }

    /// What the states after the last sublayer come to.
    pub(super) fn finish(&self, mut states: States) -> Encoded {
        if self.first_cross_modal >= self.sublayers.len() {
            states.text = states.expanded_text();
        }
        let (Stream { states: text, .. }, Stream { states: vision, .. }) = states.apart();
        let pool =
            |pooler: &Linear, state: Tensor| pooler.forward(&state.to_kind(Kind::Float)).relu();
        let pooled_text = self.t_pooler.as_ref().map(|pooler| {
            pool(
                pooler,
                states.pooled.as_ref().map_or_else(|| text.select(1, 0), |at| pick(&text, at)),
            )
        });
        let pooled_vision = self.v_pooler.as_ref().map(|pooler| pool(pooler, vision.select(1, 0)));
        Encoded { text, vision, pooled_text, pooled_vision }
    }

    /// The pooled streams as one vector, `[images, pooler_size]`; `None` if nothing is pooled.
    pub fn fuse(&self, encoded: &Encoded) -> Option<Tensor> {
        let text = encoded.pooled_text.as_ref()?;
        match (self.fusion, &encoded.pooled_vision) {
            (FusionMethod::Mul, Some(vision)) => Some(text * vision),
            (FusionMethod::Sum, Some(vision)) => Some(text + vision),
            _ => Some(text.shallow_clone()),
        }
    }

    /// How much every word attends to every region in the last sublayer in which the text attends to regions, mean over
    /// heads: f32 `[images, tokens, regions]`; `None` if there is no such sublayer. A row's sum is 1, or less where the
    /// text attends to itself in the same softmax. For looking at a model, not for training.
    pub fn words_to_regions(&self, text: &Text, vision: &Vision) -> Option<Tensor> {
        let reads_regions = |sublayer: &Sublayer| match sublayer {
            Sublayer::Attention(attention) => attention.reads_regions(),
            Sublayer::FeedForward(_) => false,
        };
        let last = self.sublayers.iter().rposition(reads_regions)?;
        let mut states = self.start(text, vision, false);
        for index in 0..last {
            states = self.advance(index, &states, Queries::All, false);
        }
        if last == self.first_cross_modal {
            states.text = states.expanded_text();
        }
        match &self.sublayers[last] {
            Sublayer::Attention(attention) => {
                let (text, vision) = states.apart();
                attention.words_to_regions(&text, &vision)
            }
            Sublayer::FeedForward(_) => None,
        }
    }

    /// The word embeddings `[vocab, hidden]`, which the masked-language head is tied to.
    pub fn word_embeddings(&self) -> &Tensor {
        self.embeddings.words()
    }
}

/// `[batch, length]` of 1 and 0 to `[batch, 1, 1, length]` of 0 and a large negative number.
fn additive_mask(mask: &Tensor, kind: Kind) -> Tensor {
    let padding: Tensor = 1.0 - mask.to_kind(kind);
    (padding * MASKED).unsqueeze(1).unsqueeze(1)
}

/// One position of every row, `[images, width]`; positions are i64 `[images, 1]`.
fn pick(states: &Tensor, positions: &Tensor) -> Tensor {
    let index = positions.unsqueeze(-1).expand([-1, 1, states.size()[2]], false);
    states.gather(1, &index, false).squeeze_dim(1)
}

/// Repeats every row for its candidates.
fn expand(x: &Tensor, candidates: i64) -> Tensor {
    if candidates == 1 {
        x.shallow_clone()
    } else {
        // A view that is copied: its gradient is a plain sum, not a scattered one.
        let mut size = x.size();
        size.insert(1, candidates);
        x.unsqueeze(1).expand(size, false).flatten(0, 1)
    }
}
