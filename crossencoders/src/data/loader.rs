//! Batches of tensors, prepared in the background while the model works on the one before.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use feature_store::{BatchSpec, RegionBatch};
use tch::{Device, Tensor};

use super::{DataError, Example, ImageSets, ImageSource};
use crate::failure::catching;
use crate::model::{Candidates, Text};

/// Batches that wait for the model.
const PREFETCHED: usize = 2;

/// What one row of a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A description with all its candidates.
    Set(usize),
    /// A description with one candidate.
    Pair(usize, usize),
}

impl Item {
    /// The example's number in its split.
    pub fn example(self) -> usize {
        match self {
            Item::Set(example) | Item::Pair(example, _) => example,
        }
    }
}

/// What is to be learnt.
#[derive(Debug)]
pub enum Labels {
    /// Positions of the described images, i64 `[sets]`.
    Targets(Tensor),
    /// 1 where the candidate is the described image, else 0, f32 `[pairs, 1]`.
    Matches(Tensor),
    /// The split is not labelled.
    Unknown,
}

/// Candidates as tensors.
#[derive(Debug)]
pub enum BatchImages {
    /// Regions; of stored embeddings of whole pictures one a candidate.
    Regions(Candidates),
    /// Pictures, each once.
    Pictures {
        /// Cropped, red, green, blue: u8 `[pictures, 3, n, n]`.
        pixels: Tensor,
        /// Which of them each candidate is, i64 `[sets, candidates]`.
        rows: Tensor,
    },
}

impl BatchImages {
    fn shapes(&self) -> String {
        match self {
            BatchImages::Regions(candidates) => {
                let size = candidates.features.size();
                let [_, candidates, regions, dim] = size[..] else { return format!("{size:?}") };
                format!("{candidates} images each of {regions} regions of {dim} values")
            }
            BatchImages::Pictures { pixels, rows } => {
                let (pictures, side) = (pixels.size()[0], pixels.size()[3]);
                let candidates = rows.size()[1];
                format!("{candidates} of {pictures} pictures of {side} x {side} pixels each")
            }
        }
    }

    fn to_device(&self, device: Device) -> BatchImages {
        match self {
            BatchImages::Regions(Candidates { features, locations, mask }) => {
                BatchImages::Regions(Candidates {
                    features: features.to_device(device),
                    locations: locations.to_device(device),
                    mask: mask.to_device(device),
                })
            }
            BatchImages::Pictures { pixels, rows } => BatchImages::Pictures {
                pixels: pixels.to_device(device),
                rows: rows.to_device(device),
            },
        }
    }
}

/// Descriptions with candidates, as tensors.
#[derive(Debug)]
pub struct Batch {
    /// What the rows are.
    pub items: Vec<Item>,
    /// Descriptions, padded to the longest.
    pub text: Text,
    /// Candidates: all of a set, or one.
    pub images: BatchImages,
    /// Which sets are of videos, bool `[sets]`.
    pub video: Tensor,
    /// What is to be learnt.
    pub labels: Labels,
}

impl Batch {
    /// Its size, for people.
    pub fn shapes(&self) -> String {
        let (sets, tokens) = self.text.input_ids.size2().unwrap_or_default();
        format!("{sets} descriptions of {tokens} word pieces with {}", self.images.shapes())
    }

    /// The same on a device.
    pub fn to_device(self, device: Device) -> Batch {
        if device == Device::Cpu {
            return self;
        }
        let to = |tensor: Tensor| tensor.to_device(device);
        Batch {
            items: self.items,
            text: Text {
                input_ids: to(self.text.input_ids),
                token_type_ids: to(self.text.token_type_ids),
                mask: to(self.text.mask),
            },
            images: self.images.to_device(device),
            video: to(self.video),
            labels: match self.labels {
                Labels::Targets(targets) => Labels::Targets(to(targets)),
                Labels::Matches(matches) => Labels::Matches(to(matches)),
                Labels::Unknown => Labels::Unknown,
            },
        }
    }
}

/// An iterator over batches that are read in a thread of its own; dropping it ends the thread.
#[derive(Debug)]
pub struct Loader<B = Batch> {
    batches: Receiver<Result<B, DataError>>,
}

impl Loader {
    /// Starts reading. All items of a batch are sets with the same number of candidates, or all are pairs.
    pub fn start(
        source: ImageSource,
        sets: Arc<ImageSets>,
        spec: BatchSpec,
        batches: Vec<Vec<Item>>,
    ) -> Loader {
        let mut regions = RegionBatch::default();
        let mut batches = batches.into_iter().peekable();
        Loader::of(move || {
            let items = batches.next()?;
            if let Some(next) = batches.peek() {
                // Its pages come from the disk while this batch is assembled.
                source.prefetch(&images(&sets.examples, next));
            }
            Some(assemble(&source, &sets.examples, &spec, items, &mut regions))
        })
    }
}

impl<B: Send + 'static> Loader<B> {
    /// Batches as `next` makes them, in a thread of its own, up to the first failure or `None`.
    pub(crate) fn of(
        mut next: impl FnMut() -> Option<Result<B, DataError>> + Send + 'static,
    ) -> Loader<B> {
        let (sender, receiver) = sync_channel(PREFETCHED);
        thread::spawn(move || {
            loop {
                let batch = catching(&mut next)
                    .unwrap_or_else(|error| Some(Err(DataError::Reader(error.to_string()))));
                let Some(batch) = batch else { return };
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        Loader { batches: receiver }
    }
}

impl<B> Iterator for Loader<B> {
    type Item = Result<B, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.recv().ok()
    }
}

/// Ids of a batch's images, candidate by candidate.
fn images<'a>(examples: &'a [Example], items: &[Item]) -> Vec<&'a String> {
    items
        .iter()
        .flat_map(|item| match *item {
            Item::Set(example) => examples[example].images.as_slice(),
            Item::Pair(example, candidate) => &examples[example].images[candidate..=candidate],
        })
        .collect()
}

fn assemble(
    source: &ImageSource,
    examples: &[Example],
    spec: &BatchSpec,
    items: Vec<Item>,
    regions: &mut RegionBatch,
) -> Result<Batch, DataError> {
    let of = |item: &Item| &examples[item.example()];
    let images = source.read(&images(examples, &items), items.len(), spec, regions)?;
    let video: Vec<bool> = items.iter().map(|item| of(item).video).collect();
    Ok(Batch {
        text: text(items.iter().map(|item| of(item).input_ids.as_slice())),
        images,
        video: Tensor::from_slice(&video),
        labels: labels(examples, &items),
        items,
    })
}

/// Pads with 0 at the end.
pub(super) fn text<'a>(descriptions: impl Iterator<Item = &'a [i64]> + Clone) -> Text {
    let tokens = descriptions.clone().map(<[i64]>::len).max().unwrap_or(0);
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for description in descriptions {
        let padding = tokens - description.len();
        ids.extend(description.iter().copied().chain(std::iter::repeat_n(0, padding)));
        mask.extend(description.iter().map(|_| 1).chain(std::iter::repeat_n(0, padding)));
    }
    let shaped = |values: &[i64]| Tensor::from_slice(values).view([-1, tokens as i64]);
    let input_ids = shaped(&ids);
    Text { token_type_ids: input_ids.zeros_like(), mask: shaped(&mask), input_ids }
}

/// Shapes `[sets, candidates, rows, …]`.
pub(super) fn candidates(regions: &RegionBatch, sets: usize) -> Candidates {
    let (sets, rows) = (sets as i64, regions.rows as i64);
    Candidates {
        features: Tensor::from_slice(&regions.features).view([sets, -1, rows, regions.dim as i64]),
        locations: Tensor::from_slice(&regions.locations).view([
            sets,
            -1,
            rows,
            regions.num_locs as i64,
        ]),
        mask: Tensor::from_slice(&regions.mask).view([sets, -1, rows]),
    }
}

fn labels(examples: &[Example], items: &[Item]) -> Labels {
    let Some(targets) =
        items.iter().map(|item| examples[item.example()].target).collect::<Option<Vec<usize>>>()
    else {
        return Labels::Unknown;
    };
    let is_match = |(item, target): (&Item, &usize)| match item {
        Item::Pair(_, candidate) => Some(f32::from(u8::from(candidate == target))),
        Item::Set(_) => None,
    };
    match items.iter().zip(&targets).map(is_match).collect::<Option<Vec<f32>>>() {
        Some(matches) => Labels::Matches(Tensor::from_slice(&matches).view([-1, 1])),
        None => {
            let targets: Vec<i64> = targets.into_iter().map(|target| target as i64).collect();
            Labels::Targets(Tensor::from_slice(&targets))
        }
    }
}
