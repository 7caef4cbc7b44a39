//! Batches for pre-training: captions with their own or another image's caption, hidden words and regions.

use std::ops::Range;

use feature_store::{BatchSpec, FeatureStore, GlobalFeature, Labels, RegionBatch, Regions};
use rand::Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::captions::{Caption, Captions};
use super::loader::text;
use super::masking::{
    IGNORED, MaskedRegions, MaskedWords, PREDICTED, RegionMasking, WordMasking, hide, mask_regions,
    mask_words, random,
};
use super::{DataError, negatives};
use crate::model::pretraining::{Classes, RegionTargets, Targets, VisualTarget};
use crate::model::{Text, Vision};

/// What is learnt of pairs; VOLTA's `--objective`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// 0: half of the captions are another image's; words, regions and the alignment are learnt of all pairs.
    All,
    /// 1: the same, but words and regions only of pairs that belong together. VOLTA's released models but VL-BERT.
    #[default]
    AlignedOnly,
    /// 2: every image has its own caption, and no alignment is learnt (VL-BERT).
    NoAlignment,
}

/// Everything that is drawn for a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawing {
    /// Words.
    pub words: WordMasking,
    /// Regions.
    pub regions: RegionMasking,
    /// Pairs.
    pub objective: Objective,
    /// With the epoch and the caption's number it decides what is drawn.
    pub seed: u64,
}

/// Pairs of a text and an image, as tensors.
#[derive(Debug)]
pub struct PretrainingBatch {
    /// Numbers of the captions whose images these are.
    pub rows: Vec<usize>,
    /// Texts with hidden words.
    pub text: Text,
    /// Images with hidden regions.
    pub vision: Vision,
    /// What is to be predicted.
    pub targets: Targets,
}

impl PretrainingBatch {
    /// Its size, for people.
    pub fn shapes(&self) -> String {
        let (captions, tokens) = self.text.input_ids.size2().unwrap_or_default();
        let (_, rows, dim) = self.vision.features.size3().unwrap_or_default();
        format!(
            "{captions} captions of {tokens} word pieces with an image each of {rows} regions of {dim} values"
        )
    }

    /// The same on a device.
    pub fn to_device(self, device: Device) -> PretrainingBatch {
        if device == Device::Cpu {
            return self;
        }
        let to = |tensor: Tensor| tensor.to_device(device);
        let PretrainingBatch { rows, text, vision, targets } = self;
        PretrainingBatch {
            rows,
            text: Text {
                input_ids: to(text.input_ids),
                token_type_ids: to(text.token_type_ids),
                mask: to(text.mask),
            },
            vision: Vision {
                features: to(vision.features),
                locations: to(vision.locations),
                mask: to(vision.mask),
            },
            targets: targets.to_device(device),
        }
    }
}

/// One pair before it becomes a row.
struct Pair {
    words: MaskedWords,
    mismatched: bool,
    regions: Regions,
    masked: MaskedRegions,
}

/// Reads and hides a batch; a pure function of the store and the arguments. `wanted` are the model's visual targets:
/// nothing else is looked up.
///
/// # Errors
/// [`DataError::Store`]; [`DataError::Classes`] for class ids that the targets do not know.
pub fn pretraining_batch(
    store: &FeatureStore,
    captions: &Captions,
    spec: &BatchSpec,
    wanted: &[VisualTarget],
    drawing: &Drawing,
    epoch: u64,
    rows: &[usize],
) -> Result<PretrainingBatch, DataError> {
    let captions = &captions.examples;
    let pairs = rows
        .iter()
        .map(|&row| pair(store, captions, spec, drawing, epoch, row))
        .collect::<Result<Vec<Pair>, DataError>>()?;
    let images: Vec<&String> = rows.iter().map(|&row| &captions[row].image).collect();
    let mut batch = RegionBatch::default();
    store.read_batch(&images, spec, &mut batch)?;

    let layout = Layout { images: &images, pairs: &pairs, rows: batch.rows, spec };
    let regions = layout.targets(&batch, wanted, drawing, epoch, rows)?;
    for (image, pair) in pairs.iter().enumerate() {
        hide(&mut batch, spec, image, &pair.masked);
    }
    let (count, tall) = (rows.len() as i64, batch.rows as i64);
    let text = text(pairs.iter().map(|pair| pair.words.input_ids.as_slice()));
    let mismatched: Vec<i64> = pairs.iter().map(|pair| i64::from(pair.mismatched)).collect();
    let vision = Vision {
        features: Tensor::from_slice(&batch.features).view([count, tall, batch.dim as i64]),
        locations: Tensor::from_slice(&batch.locations).view([count, tall, batch.num_locs as i64]),
        mask: Tensor::from_slice(&batch.mask).view([count, tall]),
    };
    let targets = Targets {
        words: word_labels(&pairs, text.input_ids.size()[1] as usize, drawing.objective),
        regions,
        alignment: (drawing.objective != Objective::NoAlignment)
            .then(|| Tensor::from_slice(&mismatched)),
    };
    Ok(PretrainingBatch { rows: rows.to_vec(), text, vision, targets })
}

fn pair(
    store: &FeatureStore,
    captions: &[Caption],
    spec: &BatchSpec,
    drawing: &Drawing,
    epoch: u64,
    row: usize,
) -> Result<Pair, DataError> {
    let mut random = random(drawing.seed, epoch, row as u64);
    let exchanged = drawing.objective != Objective::NoAlignment && random.random_bool(0.5);
    let other = if exchanged { random.random_range(0..captions.len()) } else { row };
    // Another caption of the same image belongs to it as well.
    let mismatched = captions[other].image != captions[row].image;
    let words = mask_words(&captions[other].input_ids, &drawing.words, &mut random);
    let regions = store.get(&captions[row].image)?;
    // Overlap is counted in pixels; where the size of the image is unknown, in thousandths.
    let scale = if regions.is_relative() { 1000.0 } else { 1.0 };
    let boxes: Vec<[f32; 4]> = regions
        .boxes
        .iter()
        .take(spec.max_regions)
        .map(|corners| corners.map(|corner| corner * scale))
        .collect();
    let masked = mask_regions(&boxes, &drawing.regions, &mut random);
    Ok(Pair { words, mismatched, regions, masked })
}

/// i64 `[pairs, tokens]`.
fn word_labels(pairs: &[Pair], tokens: usize, objective: Objective) -> Tensor {
    let mut labels = vec![IGNORED; pairs.len() * tokens];
    for (pair, row) in pairs.iter().zip(labels.chunks_mut(tokens.max(1))) {
        if pair.is_learnt(objective) {
            row[..pair.words.labels.len()].copy_from_slice(&pair.words.labels);
        }
    }
    Tensor::from_slice(&labels).view([pairs.len() as i64, tokens as i64])
}

impl Pair {
    /// Whether its words and regions are to be predicted.
    fn is_learnt(&self, objective: Objective) -> bool {
        objective != Objective::AlignedOnly || !self.mismatched
    }
}

/// Where regions lie in a batch.
struct Layout<'a> {
    images: &'a [&'a String],
    pairs: &'a [Pair],
    /// Rows per image.
    rows: usize,
    spec: &'a BatchSpec,
}

impl Layout<'_> {
    /// Rows of an image's regions, counted through the batch.
    fn regions(&self, image: usize) -> Range<usize> {
        let first = usize::from(self.spec.global_feature == GlobalFeature::First);
        let start = image * self.rows + first;
        start..start + self.pairs[image].masked.labels.len()
    }

    /// What is to be predicted of the regions of a batch in which nothing is hidden yet.
    fn targets(
        &self,
        batch: &RegionBatch,
        wanted: &[VisualTarget],
        drawing: &Drawing,
        epoch: u64,
        rows: &[usize],
    ) -> Result<RegionTargets, DataError> {
        use VisualTarget::*;
        let any = |targets: &[VisualTarget]| targets.iter().any(|t| wanted.contains(t));
        let (images, tall) = (self.images.len() as i64, self.rows as i64);
        let mut labels = vec![IGNORED; self.images.len() * self.rows];
        for (image, pair) in self.pairs.iter().enumerate() {
            if pair.is_learnt(drawing.objective) {
                labels[self.regions(image)].copy_from_slice(&pair.masked.labels);
            }
        }
        let negatives = any(&[FeatureNce]).then(|| {
            let chosen: Vec<usize> =
                (0..labels.len()).filter(|&at| labels[at] == PREDICTED).collect();
            let regions: Vec<_> = (0..self.images.len()).map(|image| self.regions(image)).collect();
            let seed = rows.first().map_or(0, |&row| row as u64);
            // Apart from what is drawn for single pairs.
            let mut random = random(!drawing.seed, epoch, seed);
            let rows = negatives(&chosen, &regions, &mut random);
            let each = if chosen.is_empty() { 0 } else { rows.len() / chosen.len() };
            Tensor::from_slice(&rows).view([chosen.len() as i64, each as i64])
        });
        Ok(RegionTargets {
            labels: Tensor::from_slice(&labels).view([images, tall]),
            features: any(&[FeatureMse, FeatureNce, FeatureHuber]).then(|| {
                Tensor::from_slice(&batch.features).view([images, tall, batch.dim as i64])
            }),
            class_probabilities: if any(&[ClassProbabilities]) {
                self.probabilities()
            } else {
                None
            },
            objects: match wanted.iter().find(|t| matches!(t, Object | ObjectOrBackground)) {
                Some(target) => self.classes(*target, |regions| regions.objects.as_ref())?,
                None => None,
            },
            attributes: match any(&[Attribute]) {
                true => self.classes(Attribute, |regions| regions.attributes.as_ref())?,
                false => None,
            },
            negatives,
        })
    }

    /// f32 `[images, rows, classes]`, if all images have as many.
    fn probabilities(&self) -> Option<Tensor> {
        let of = |pair: &Pair| {
            let values = pair.regions.class_probabilities.as_ref()?;
            (!pair.regions.is_empty()).then(|| values.len() / pair.regions.len())
        };
        let classes = of(self.pairs.first()?)?;
        let mut all = vec![0.0f32; self.images.len() * self.rows * classes];
        for (image, pair) in self.pairs.iter().enumerate() {
            let values = pair.regions.class_probabilities.as_ref()?;
            let range = self.regions(image);
            if of(pair) != Some(classes) {
                return None;
            }
            all[range.start * classes..range.end * classes]
                .copy_from_slice(&values[..range.len() * classes]);
        }
        Some(Tensor::from_slice(&all).view([
            self.images.len() as i64,
            self.rows as i64,
            classes as i64,
        ]))
    }

    /// Classes with confidences, if all images have both.
    fn classes(
        &self,
        target: VisualTarget,
        part: impl Fn(&Regions) -> Option<&Labels>,
    ) -> Result<Option<Classes>, DataError> {
        let size = self.images.len() * self.rows;
        let (mut ids, mut confidences) = (vec![0i64; size], vec![0.0f32; size]);
        let limit = target.classes().unwrap_or(i64::MAX);
        for (image, pair) in self.pairs.iter().enumerate() {
            let range = self.regions(image);
            let count = range.len();
            let complete =
                |labels: &&Labels| labels.ids.len() >= count && labels.confidences.len() >= count;
            let Some(labels) = part(&pair.regions).filter(complete) else { return Ok(None) };
            if let Some(&id) = labels.ids[..count].iter().find(|id| !(0..limit).contains(*id)) {
                let (image, target) = (self.images[image].clone(), target.key());
                return Err(DataError::Classes { image, id, limit, target });
            }
            ids[range.clone()].copy_from_slice(&labels.ids[..count]);
            confidences[range].copy_from_slice(&labels.confidences[..count]);
        }
        let shape = [self.images.len() as i64, self.rows as i64];
        Ok(Some(Classes {
            ids: Tensor::from_slice(&ids).view(shape),
            confidences: Tensor::from_slice(&confidences).view(shape),
        }))
    }
}
