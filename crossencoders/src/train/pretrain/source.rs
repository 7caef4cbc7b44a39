//! Where batches of pre-training come from.

use std::path::Path;
use std::sync::Arc;

use feature_store::{BatchSpec, FeatureStore};
use xxhash_rust::xxh3::Xxh3;

use super::learner::Learner;
use crate::data::{
    Caption, Captions, DataError, Drawing, Loader, PretrainingBatch, by_length, pretraining_batch,
    shuffled,
};
use crate::model::pretraining::VisualTarget;
use crate::ranker::RankerError;
use crate::train::{StepIds, Training};

/// Captions with all that is needed to make batches of them.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub captions: Arc<Captions>,
    store: FeatureStore,
    spec: BatchSpec,
    wanted: Vec<VisualTarget>,
    drawing: Drawing,
}

impl Source {
    /// Reads a file of captions.
    pub fn open(
        path: &Path,
        store: &FeatureStore,
        learner: &Learner,
        drawing: Drawing,
    ) -> Result<Source, RankerError> {
        let data = &learner.recipe.data;
        data.expect_split(path)?;
        let captions = Captions::load(path, store, &learner.tokenizer, data.limits())?;
        Ok(Source {
            captions: Arc::new(captions),
            store: store.clone(),
            spec: learner.config.batch_spec(data.max_regions),
            wanted: learner.model.visual_targets(),
            drawing,
        })
    }

    /// Adds what captions and features are.
    pub fn identify(&self, hash: &mut Xxh3) {
        for Caption { image, input_ids, .. } in &self.captions.examples {
            hash.update(image.as_bytes());
            input_ids.iter().for_each(|id| hash.update(&id.to_le_bytes()));
        }
        hash.update(&self.store.schema().digest.to_le_bytes());
    }

    /// A batch of captions by their numbers.
    pub fn read(&self, epoch: u64, rows: &[usize]) -> Result<PretrainingBatch, DataError> {
        let Source { captions, store, spec, wanted, drawing } = self;
        pretraining_batch(store, captions, spec, wanted, drawing, epoch, rows)
    }

    /// Reads batches in the background.
    pub fn loader(&self, epoch: u64, batches: Vec<Vec<usize>>) -> Loader<PretrainingBatch> {
        let source = self.clone();
        let mut batches = batches.into_iter().peekable();
        Loader::of(move || {
            let rows = batches.next()?;
            if let Some(next) = batches.peek() {
                let examples = &source.captions.examples;
                let images: Vec<&String> = next.iter().map(|&row| &examples[row].image).collect();
                // Its pages come from the disk while this batch is assembled; what cannot be read is told then.
                let _ = source.store.prefetch(&images);
            }
            Some(source.read(epoch, &rows))
        })
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self, settings: &Training) -> u64 {
        self.captions.examples.len().div_ceil(per_step(settings)) as u64
    }

    /// The batches of all steps of an epoch.
    pub fn epoch(&self, settings: &Training, epoch: u64) -> Vec<Vec<Vec<usize>>> {
        let lengths = self.captions.lengths();
        let steps = shuffled(&lengths, per_step(settings), settings.seed, epoch).into_iter();
        steps
            .map(|step| step.chunks(settings.batch_size).map(<[usize]>::to_vec).collect())
            .collect()
    }

    /// All captions, in batches of like length.
    pub fn in_order(&self, batch_size: usize) -> Vec<Vec<usize>> {
        by_length(&self.captions.lengths(), batch_size)
    }

    /// The images of captions.
    pub fn images(&self, captions: &[usize]) -> Vec<String> {
        let image = |&caption: &usize| self.captions.examples[caption].image.clone();
        captions.iter().map(image).collect()
    }

    /// What captions are called in errors: their lines and images.
    pub fn ids<'a>(&self, rows: impl IntoIterator<Item = &'a usize>) -> StepIds {
        let id = |&row: &usize| {
            let caption = &self.captions.examples[row];
            (format!("line {}", caption.line), vec![caption.image.clone()])
        };
        StepIds(rows.into_iter().map(id).collect())
    }
}

fn per_step(settings: &Training) -> usize {
    settings.batch_size.saturating_mul(settings.accumulate)
}
