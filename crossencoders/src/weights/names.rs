//! Naming conventions: VOLTA's, which are ours, and those of BERT, UNITER and LXMERT, with a table between them.
//!
//! Sources of the names: `transformers` (BERT), github.com/ChenRocks/UNITER `model/`, github.com/airsplay/lxmert
//! `src/lxrt/modeling.py`; of what becomes what: VOLTA's `from_pretrained` and `conversions/convert_lxmert.py`.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use tch::Tensor;

use crate::config::ModelConfig;

/// Whose names a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Convention {
    /// VOLTA's, and this crate's: `bert.encoder.layer.N.attention_self.query`.
    Volta,
    /// BERT's in Hugging Face's transformers, with or without `bert.`: `encoder.layer.N.attention.self.query`.
    Bert,
    /// The original UNITER's: `uniter.img_embeddings.img_linear`.
    Uniter,
    /// The original LXMERT's, also as transformers has them: `bert.encoder.x_layers.N`.
    Lxmert,
    /// None of these, such as a head's alone: names are taken as they are.
    #[default]
    Unknown,
}

impl Convention {
    /// Tells by the names.
    pub fn detect<'a>(names: impl Iterator<Item = &'a str>) -> Convention {
        let (mut volta, mut bert, mut uniter) = (false, false, false);
        for name in names {
            if name.contains("encoder.x_layers.") || name.contains("encoder.r_layers.") {
                return Convention::Lxmert;
            }
            uniter |= name.starts_with("uniter.") || name.contains("img_embeddings.img_linear.");
            volta |= name.contains(".attention_self.") || name.contains(".attention_output.");
            bert |= name.contains("encoder.layer.") && name.contains(".attention.self.");
        }
        match (uniter, volta, bert) {
            (true, ..) => Convention::Uniter,
            (_, true, _) => Convention::Volta,
            (.., true) => Convention::Bert,
            _ => Convention::Unknown,
        }
    }

    /// For people and as an argument ("volta").
    pub fn name(self) -> &'static str {
        match self {
            Convention::Volta => "volta",
            Convention::Bert => "bert",
            Convention::Uniter => "uniter",
            Convention::Lxmert => "lxmert",
            Convention::Unknown => "unknown",
        }
    }

    /// Whether names need a [`Table`] to become ours.
    pub(super) fn is_foreign(self) -> bool {
        matches!(self, Convention::Bert | Convention::Uniter | Convention::Lxmert)
    }

    /// What names below the encoder may begin with; the first is how they are written.
    fn roots(self) -> &'static [&'static str] {
        match self {
            Convention::Bert => &["bert."],
            Convention::Uniter => &["uniter."],
            Convention::Lxmert => &["bert.", "lxmert."],
            Convention::Volta | Convention::Unknown => &[],
        }
    }
}

/// Modules directly below a root.
const ROOTED: [&str; 4] = ["embeddings.", "img_embeddings.", "encoder.", "pooler."];
const ALIGNMENT: &str = "cls.bi_seq_relationship";

/// The modules of another convention and what they are called here, for one model.
#[derive(Debug)]
pub(super) struct Table {
    convention: Convention,
    /// Their module, our module.
    pairs: Vec<(String, String)>,
}

/// Tensors under new names, and those that the new convention has no name for.
#[derive(Debug, Default)]
pub(super) struct Renamed {
    pub(super) tensors: BTreeMap<String, Tensor>,
    pub(super) left: Vec<String>,
}

impl Table {
    /// `None` for conventions that need no table.
    pub(super) fn new(convention: Convention, config: &ModelConfig) -> Option<Table> {
        let mut pairs = Pairs::default();
        match convention {
            Convention::Bert => pairs.bert("bert", config),
            Convention::Uniter => pairs.uniter(config),
            Convention::Lxmert => pairs.lxmert(config),
            Convention::Volta | Convention::Unknown => return None,
        }
        Some(Table { convention, pairs: pairs.0 })
    }

    /// Whether the convention has a name for one of our parameters.
    pub(super) fn covers(&self, name: &str) -> bool {
        let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
        self.pairs.iter().any(|(_, ours)| ours == module)
    }

    /// Their names to ours.
    pub(super) fn to_volta(&self, tensors: BTreeMap<String, Tensor>) -> Renamed {
        let table = self.pairs.iter().map(|(theirs, ours)| (theirs.as_str(), ours.as_str()));
        self.rename(tensors, table.collect())
    }

    /// Our names to theirs.
    pub(super) fn to_convention(&self, tensors: BTreeMap<String, Tensor>) -> Renamed {
        let table = self.pairs.iter().map(|(theirs, ours)| (ours.as_str(), theirs.as_str()));
        self.rename(tensors, table.collect())
    }

    fn rename(&self, tensors: BTreeMap<String, Tensor>, table: HashMap<&str, &str>) -> Renamed {
        let mut renamed = Renamed::default();
        for (name, tensor) in tensors {
            let new = name.rsplit_once('.').and_then(|(module, leaf)| {
                let module = table
                    .get(module)
                    .copied()
                    .or_else(|| table.get(self.rooted(module).as_str()).copied())?;
                let leaf = match leaf {
                    "gamma" => "weight",
                    "beta" => "bias",
                    leaf => leaf,
                };
                Some((format!("{module}.{leaf}"), self.swaps(module)))
            });
            match new {
                // The first of two that claim a name has it: "embeddings.…" beside "bert.embeddings.…".
                Some((new, swap)) if !renamed.tensors.contains_key(&new) => {
                    let tensor = if swap { tensor.flip([0]) } else { tensor };
                    renamed.tensors.insert(new, tensor);
                }
                _ => renamed.left.push(name),
            }
        }
        renamed
    }

    /// A module with the root that the table has.
    fn rooted(&self, module: &str) -> String {
        let roots = self.convention.roots();
        let Some(root) = roots.first() else { return module.to_owned() };
        let below = roots.iter().find_map(|root| module.strip_prefix(root)).unwrap_or(module);
        match ROOTED.iter().any(|start| below.starts_with(start)) {
            true => format!("{root}{below}"),
            false => module.to_owned(),
        }
    }

    /// UNITER and LXMERT say "aligned" with their second logit, VOLTA with its first.
    fn swaps(&self, module: &str) -> bool {
        self.convention.is_foreign()
            && [ALIGNMENT, "itm_output", "cls.seq_relationship"].contains(&module)
    }
}

/// BERT layer `layer`'s sublayers: attention, feed-forward. From the configuration's tables; where it has none, the
/// text's own sublayers in order, which is what VOLTA's tables say for all of its models.
fn bert_sublayers(config: &ModelConfig, layer: i64) -> Option<(i64, i64)> {
    let nth = |sublayers: &std::collections::BTreeSet<i64>| {
        sublayers.iter().nth(usize::try_from(layer).ok()?).copied()
    };
    let either = |table: &crate::config::PerSublayer, sublayers| match table.is_empty() {
        true => nth(sublayers),
        false => table.get(&layer).copied(),
    };
    let attention = either(&config.bert_layer2attn_sublayer, &config.tt_attn_sublayers)?;
    Some((attention, either(&config.bert_layer2ff_sublayer, &config.t_ff_sublayers)?))
}

#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn add(&mut self, theirs: impl Into<String>, ours: impl Into<String>) {
        self.0.push((theirs.into(), ours.into()));
    }

    /// What BERT, UNITER and LXMERT have in common: word embeddings and the language head.
    fn text(&mut self, root: &str) {
        for module in
            ["word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm"]
        {
            self.add(format!("{root}.embeddings.{module}"), format!("bert.embeddings.{module}"));
        }
        for module in ["", ".decoder", ".transform.dense", ".transform.LayerNorm"] {
            let module = format!("cls.predictions{module}");
            self.add(module.clone(), module);
        }
    }

    /// A whole BERT layer; `v` is "v_" for the vision stream.
    fn layer(&mut self, theirs: &str, (attention, feed_forward): (i64, i64), v: &str) {
        let (a, f) = (sublayer(attention), sublayer(feed_forward));
        self.attention(
            &format!("{theirs}.attention.self"),
            &format!("{theirs}.attention.output"),
            &a,
            v,
        );
        self.feed_forward(&format!("{theirs}.intermediate"), &format!("{theirs}.output"), &f, v);
    }

    fn attention(&mut self, own: &str, output: &str, ours: &str, v: &str) {
        for module in ["query", "key", "value"] {
            self.add(format!("{own}.{module}"), format!("{ours}.attention_self.{v}{module}"));
        }
        for module in ["dense", "LayerNorm"] {
            self.add(format!("{output}.{module}"), format!("{ours}.attention_output.{v}{module}"));
        }
    }

    fn feed_forward(&mut self, intermediate: &str, output: &str, ours: &str, v: &str) {
        self.add(format!("{intermediate}.dense"), format!("{ours}.intermediate.{v}dense"));
        for module in ["dense", "LayerNorm"] {
            self.add(format!("{output}.{module}"), format!("{ours}.output.{v}{module}"));
        }
    }

    /// The text stream, or both where they share. BERT's pooler and next-sentence head are not taken over, as in VOLTA.
    fn bert(&mut self, root: &str, config: &ModelConfig) {
        self.text(root);
        let layers = (0..).map_while(|layer| bert_sublayers(config, layer));
        for (layer, sublayers) in layers.enumerate() {
            self.layer(&format!("{root}.encoder.layer.{layer}"), sublayers, "");
        }
    }

    fn uniter(&mut self, config: &ModelConfig) {
        self.bert("uniter", config);
        for (theirs, ours) in [
            ("img_linear", "image_embeddings"),
            ("img_layer_norm", "image_layer_norm"),
            ("pos_linear", "image_location_embeddings"),
            ("pos_layer_norm", "image_location_layer_norm"),
            ("LayerNorm", "v_LayerNorm"),
        ] {
            self.add(format!("uniter.img_embeddings.{theirs}"), format!("bert.embeddings.{ours}"));
        }
        self.add("uniter.pooler.dense", "bert.t_pooler.dense");
        self.add("itm_output", ALIGNMENT);
        // Target 0 of VOLTA is the distribution over 1601 classes, which UNITER predicts.
        self.add("region_classifier.net.0", "cls.imagePredictions.transform.dense");
        self.add("region_classifier.net.2", "cls.imagePredictions.transform.LayerNorm");
        self.add("region_classifier.net.3", "cls.imagePredictions.decoder_dict.0");
    }

    fn lxmert(&mut self, config: &ModelConfig) {
        self.text("bert");
        for (theirs, ours) in [
            ("visn_fc", "image_embeddings"),
            ("visn_layer_norm", "ImgLayerNorm"),
            ("box_fc", "image_location_embeddings"),
            ("box_layer_norm", "LocLayerNorm"),
        ] {
            let theirs = format!("bert.encoder.visn_fc.{theirs}");
            self.add(theirs, format!("bert.v_embeddings.{ours}"));
        }
        self.lxmert_layers(config);
        self.add("bert.pooler.dense", "bert.t_pooler.dense");
        self.add("cls.seq_relationship", ALIGNMENT);
        for module in ["dense", "LayerNorm"] {
            let module = format!("transform.{module}");
            self.add(
                format!("obj_predict_head.{module}"),
                format!("cls.imagePredictions.{module}"),
            );
        }
        for (theirs, target) in [("obj", 3), ("attr", 4), ("feat", 5)] {
            let ours = format!("cls.imagePredictions.decoder_dict.{target}");
            self.add(format!("obj_predict_head.decoder_dict.{theirs}"), ours);
        }
        for layer in [0, 2, 3] {
            let module = format!("logit_fc.{layer}");
            self.add(format!("answer_head.{module}"), format!("cls.qaPredictions.{module}"));
        }
    }

    /// `layer` and `r_layers` lie before the first cross-modal sublayer, one stream each; every layer of `x_layers` is
    /// three sublayers: cross-attention (one set of weights for both directions), self-attention, feed-forward.
    fn lxmert_layers(&mut self, config: &ModelConfig) {
        let cross: Vec<i64> = config.tv_attn_sublayers.iter().copied().collect();
        let Some(&first) = cross.first() else { return };
        let split = |sublayers: &std::collections::BTreeSet<i64>| -> (Vec<i64>, Vec<i64>) {
            sublayers.iter().partition(|&&sublayer| sublayer < first)
        };
        let (t_own, t_after) = split(&config.tt_attn_sublayers);
        let (v_own, v_after) = split(&config.vv_attn_sublayers);
        let (t_ff, t_ff_after) = split(&config.t_ff_sublayers);
        let (v_ff, v_ff_after) = split(&config.v_ff_sublayers);
        for (name, attention, feed_forward, v) in
            [("layer", &t_own, &t_ff, ""), ("r_layers", &v_own, &v_ff, "v_")]
        {
            for (layer, sublayers) in attention.iter().zip(feed_forward).enumerate() {
                let theirs = format!("bert.encoder.{name}.{layer}");
                self.layer(&theirs, (*sublayers.0, *sublayers.1), v);
            }
        }
        for (layer, &sublayer_index) in cross.iter().enumerate() {
            let x = format!("bert.encoder.x_layers.{layer}");
            let shared = format!("{x}.visual_attention");
            let ours = sublayer(sublayer_index);
            self.attention(&format!("{shared}.att"), &format!("{shared}.output"), &ours, "");
        }
        for (stream, v, attention, feed_forward) in
            [("lang", "", &t_after, &t_ff_after), ("visn", "v_", &v_after, &v_ff_after)]
        {
            for (layer, (&a, &f)) in attention.iter().zip(feed_forward).enumerate() {
                let x = format!("bert.encoder.x_layers.{layer}.{stream}");
                let own = format!("{x}_self_att");
                self.attention(&format!("{own}.self"), &format!("{own}.output"), &sublayer(a), v);
                self.feed_forward(&format!("{x}_inter"), &format!("{x}_output"), &sublayer(f), v);
            }
        }
    }
}

fn sublayer(index: i64) -> String {
    format!("bert.encoder.layer.{index}")
}
