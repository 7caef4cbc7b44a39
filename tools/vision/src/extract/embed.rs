//! CLIP's embeddings of many pictures into a store: one region each, the whole picture.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use feature_store::{Regions, WriterOptions};

use super::ahead::ahead;
use super::regions::Run;
use super::{ExtractError, Pictures, Progress, Report, Timing};
use crate::clip::{ClipEncoder, EncodeError};
use crate::image::Limits;

/// How pictures are embedded.
pub struct EmbedOptions {
    /// Pictures in one run of the network.
    pub batch: usize,
    /// What a picture may claim.
    pub limits: Limits,
    /// Threads that decode and preprocess.
    pub workers: usize,
    /// How the store is written; see [`RegionOptions`](super::RegionOptions).
    pub writer: WriterOptions,
}

/// A picture that is ready: its size and the network's input.
struct Prepared {
    width: usize,
    height: usize,
    input: Vec<f32>,
}

/// Embeds all pictures and writes them into a store at `target`, not normalised; takes up an interrupted run.
///
/// `None` if `stop` was set: what is done is kept for the next run.
///
/// # Errors
/// [`ExtractError`]; what concerns one picture is in the report.
pub fn embed(
    pictures: &Pictures,
    target: &Path,
    encoder: &mut ClipEncoder,
    options: EmbedOptions,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Report>, ExtractError> {
    let preprocess = encoder.preprocess().ok_or_else(|| EncodeError::OtherModel {
        model: "the model".to_owned(),
        what: "an image tower",
    })?;
    let mut run = Run::begin(pictures, target, options.writer, progress)?;
    let prepare = |n: usize| {
        let image = pictures.read(n, &options.limits)?;
        let (width, height) = (image.width, image.height);
        let input = preprocess.apply(image).map_err(|fault| fault.of(pictures.name(n)))?;
        Ok::<_, crate::image::ImageError>(Prepared { width, height, input })
    };
    let todo = std::mem::take(&mut run.todo);
    let mut batch: Vec<(usize, Prepared)> = Vec::new();
    let waited = ahead(&todo, options.workers, stop, prepare, |n, prepared| {
        match prepared {
            Ok(prepared) => batch.push((n, prepared)),
            Err(error) => run.leave_out(n, error.to_string()),
        }
        if batch.len() < options.batch.max(1) {
            return Ok(());
        }
        flush(&mut batch, encoder, &mut run)
    })?;
    flush(&mut batch, encoder, &mut run)?;
    Timing::add(&mut run.timing.waiting, waited);
    run.finish(stop)
}

fn flush(
    batch: &mut Vec<(usize, Prepared)>,
    encoder: &mut ClipEncoder,
    run: &mut Run,
) -> Result<(), ExtractError> {
    let inputs: Vec<Vec<f32>> =
        batch.iter_mut().map(|(_, prepared)| std::mem::take(&mut prepared.input)).collect();
    let start = Instant::now();
    let embeddings = encoder.images(&inputs)?;
    Timing::add(&mut run.timing.inference, start.elapsed());
    for ((n, prepared), features) in batch.drain(..).zip(embeddings) {
        if features.iter().any(|value| !value.is_finite()) {
            let name = run.pictures.name(n);
            run.leave_out(n, format!("{name}: {}", EncodeError::NotFinite));
            continue;
        }
        let (width, height) = (prepared.width as u32, prepared.height as u32);
        let regions = Regions {
            width,
            height,
            boxes: vec![[0.0, 0.0, width as f32, height as f32]],
            dim: features.len(),
            features,
            ..Regions::default()
        };
        run.keep(n, &regions)?;
    }
    Ok(())
}
