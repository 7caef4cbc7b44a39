//! Regions of many pictures into a store.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use feature_store::target::outside_of;
use feature_store::{Regions, StoreError, StoreWriter, WriterOptions, validate};

use super::ahead::ahead;
use super::draw::is_drawing;
use super::{Boxes, Broken, ExtractError, Names, Pictures, Progress, Report, Timing, draw};
use crate::detector::{DetectError, Detector, NetworkImage, Preprocess};
use crate::image::{ImageError, Limits};

/// What is done with each picture.
pub struct RegionOptions {
    /// How pictures become the network's input.
    pub preprocess: Preprocess,
    /// Boxes to describe, instead of those that the detector finds.
    pub boxes: Option<Boxes>,
    /// What a picture may claim.
    pub limits: Limits,
    /// Threads that decode and preprocess.
    pub workers: usize,
    /// How many pictures are drawn with their boxes and labels, and where to.
    pub show: Option<(usize, PathBuf)>,
    /// Names of objects and attributes, for those drawings.
    pub names: Names,
    /// How the store is written. The fingerprint must tell all that the numbers depend on beside the list of pictures.
    pub writer: WriterOptions,
}

/// Detects regions in all pictures and writes them into a store at `target`; takes up an interrupted run.
///
/// `None` if `stop` was set: what is done is kept for the next run.
///
/// # Errors
/// [`ExtractError`]: what concerns one picture is in the report instead, unless it concerns all of them.
pub fn extract(
    pictures: &Pictures,
    target: &Path,
    detector: &mut Detector,
    options: RegionOptions,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Report>, ExtractError> {
    match (detector.takes_boxes(), &options.boxes) {
        (true, None) => {
            return Err(ExtractError::Boxes("this detector describes given boxes: --boxes"));
        }
        (false, Some(_)) => {
            return Err(ExtractError::Boxes(
                "this detector finds its own boxes; for --boxes export one with `xenc export detector --given-boxes`",
            ));
        }
        _ => {}
    }
    if let Some((_, folder)) = &options.show {
        check_shown_in(folder, target, pictures)?;
    }
    let mut run = Run::begin(pictures, target, options.writer.clone(), progress)?;
    let mut shown = shown_before(pictures, &run.todo, options.show.as_ref());
    let prepare = |n: usize| prepare(pictures, n, &options);
    let todo = std::mem::take(&mut run.todo);
    let waited = ahead(&todo, options.workers, stop, prepare, |n, prepared| {
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                run.leave_out(n, error.to_string());
                return Ok(());
            }
        };
        let start = Instant::now();
        let regions = detect(detector, &options, pictures.id(n), &prepared);
        Timing::add(&mut run.timing.inference, start.elapsed());
        match regions {
            Ok(regions) => {
                run.keep(n, &regions)?;
                show(pictures, n, &regions, &options, &mut shown)
            }
            Err(Opinion::OfPicture(reason)) => {
                run.leave_out(n, format!("{}: {reason}", pictures.name(n)));
                Ok(())
            }
            Err(Opinion::OfDetector(source)) => {
                Err(ExtractError::On { picture: pictures.name(n).to_owned(), source })
            }
        }
    })?;
    Timing::add(&mut run.timing.waiting, waited);
    run.finish(stop)
}

fn prepare(
    pictures: &Pictures,
    n: usize,
    options: &RegionOptions,
) -> Result<NetworkImage, ImageError> {
    let image = pictures.read(n, &options.limits)?;
    options.preprocess.apply(image).map_err(|fault| fault.of(pictures.name(n)))
}

/// What an error is about.
enum Opinion {
    OfPicture(String),
    OfDetector(DetectError),
}

fn detect(
    detector: &mut Detector,
    options: &RegionOptions,
    id: &str,
    image: &NetworkImage,
) -> Result<Regions, Opinion> {
    let found = match &options.boxes {
        None => detector.detect(image),
        Some(boxes) => detector.describe(image, &boxes.of(id).map_err(Opinion::OfPicture)?),
    };
    found.map_err(|error| match error {
        DetectError::Nothing
        | DetectError::TooFew { .. }
        | DetectError::EmptyBox(_)
        | DetectError::OuterBox(_)
        | DetectError::NotFinite => Opinion::OfPicture(error.to_string()),
        error => Opinion::OfDetector(error),
    })
}

/// How many of the pictures that an interrupted run has done it has drawn, too.
fn shown_before(pictures: &Pictures, todo: &[usize], show: Option<&(usize, PathBuf)>) -> usize {
    let Some((_, folder)) = show else { return 0 };
    let todo: HashSet<usize> = todo.iter().copied().collect();
    let done = (0..pictures.len()).filter(|n| !todo.contains(n));
    done.filter(|&n| drawing(folder, pictures.id(n)).is_file()).count()
}

/// Refuses, before any work, a folder for drawings that is the store or holds it, and one in which a drawing would take the
/// place of something else, such as the picture itself.
fn check_shown_in(folder: &Path, target: &Path, pictures: &Pictures) -> Result<(), ExtractError> {
    let refused = |path: &Path, what| Err(ExtractError::ShownIn { path: path.to_owned(), what });
    // Neither need be there: whatever would lie in one must not lie in the other.
    let apart = |inner: &Path, outer: &Path| outside_of(&inner.join("file"), outer).is_ok();
    if !apart(folder, target) || !apart(target, folder) {
        return refused(folder, "is the store that is written, lies in it or holds it");
    }
    if !folder.exists() {
        return Ok(());
    }
    if !folder.is_dir() {
        return refused(folder, "is no folder");
    }
    let drawings = (0..pictures.len()).map(|n| drawing(folder, pictures.id(n)));
    match drawings.into_iter().find(|path| path.exists() && !is_drawing(path)) {
        Some(path) => refused(&path, "is there and was not drawn by xenc"),
        None => Ok(()),
    }
}

/// The file of a picture's drawing.
fn drawing(folder: &Path, id: &str) -> PathBuf {
    let name: String = id.chars().map(|c| if c == '/' { '_' } else { c }).collect();
    folder.join(format!("{name}.jpg"))
}

fn show(
    pictures: &Pictures,
    n: usize,
    regions: &Regions,
    options: &RegionOptions,
    shown: &mut usize,
) -> Result<(), ExtractError> {
    let Some((count, folder)) = &options.show else { return Ok(()) };
    if *shown >= *count {
        return Ok(());
    }
    *shown += 1;
    let path = drawing(folder, pictures.id(n));
    let failed = |reason: String| ExtractError::Show { path: path.clone(), reason };
    let image = pictures.read(n, &options.limits).map_err(|error| failed(error.to_string()))?;
    std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
    draw(image, regions, &options.names, &path).map_err(failed)
}

/// Fails if pictures that are done have changed since.
fn check_unchanged(
    pictures: &Pictures,
    todo: &[usize],
    done_at: Option<SystemTime>,
    target: &Path,
) -> Result<(), ExtractError> {
    let Some(done_at) = done_at else { return Ok(()) };
    let todo: HashSet<usize> = todo.iter().copied().collect();
    let done = (0..pictures.len()).filter(|n| !todo.contains(n));
    let mut changed =
        done.filter(|&n| pictures.changed_at(n).is_some_and(|changed| changed > done_at));
    match changed.next() {
        None => Ok(()),
        Some(first) => Err(ExtractError::ChangedPictures {
            target: target.to_owned(),
            first: pictures.name(first).to_owned(),
            count: 1 + changed.count(),
        }),
    }
}

/// What differs where an interrupted run was one of the same command: it is told in words of pictures.
fn as_of_pictures(error: StoreError) -> ExtractError {
    match error {
        StoreError::OtherPartial { target, partial, differs } if differs.starts_with("choice") => {
            let differs = "model (its file has changed since) or folder of pictures".to_owned();
            StoreError::OtherPartial { target, partial, differs }.into()
        }
        error => error.into(),
    }
}

/// A store in the making: what extracting regions and embedding have in common.
pub(super) struct Run<'a> {
    pub(super) pictures: &'a Pictures,
    target: PathBuf,
    writer: StoreWriter,
    /// Pictures that an interrupted run has not done.
    pub(super) todo: Vec<usize>,
    resumed: usize,
    done: usize,
    broken: Vec<Broken>,
    pub(super) timing: Timing,
    started: Instant,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Run<'a> {
    pub(super) fn begin(
        pictures: &'a Pictures,
        target: &Path,
        mut options: WriterOptions,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Result<Run<'a>, ExtractError> {
        let provenance = &mut options.provenance;
        provenance.fingerprint =
            format!("{}-{:016x}", provenance.fingerprint, pictures.fingerprint());
        let writer = StoreWriter::create(target, options).map_err(as_of_pictures)?;
        let mut todo = Vec::new();
        for n in 0..pictures.len() {
            if writer.committed() == 0 || !writer.contains(pictures.id(n))? {
                todo.push(n);
            }
        }
        let resumed = pictures.len() - todo.len();
        // Pictures that have come since, or that were taken away before they were done, make no difference.
        let others = writer.committed() - resumed as u64;
        if others > 0 {
            let target = target.to_owned();
            return Err(ExtractError::OtherPictures { target, count: others });
        }
        check_unchanged(pictures, &todo, writer.left_at(), target)?;
        let (broken, timing) = (Vec::new(), Timing::default());
        let target = target.to_owned();
        let started = Instant::now();
        Ok(Run {
            pictures,
            target,
            writer,
            todo,
            resumed,
            done: resumed,
            broken,
            timing,
            started,
            progress,
        })
    }

    pub(super) fn keep(&mut self, n: usize, regions: &Regions) -> Result<(), ExtractError> {
        if regions.is_relative() {
            let name = self.pictures.name(n);
            let reason =
                "a picture of one pixel: in a store that stands for an image of unknown size";
            self.leave_out(n, format!("{name}: {reason}"));
            return Ok(());
        }
        let start = Instant::now();
        self.writer.append(self.pictures.id(n), regions)?;
        Timing::add(&mut self.timing.writing, start.elapsed());
        self.done += 1;
        self.tell();
        Ok(())
    }

    pub(super) fn leave_out(&mut self, n: usize, reason: String) {
        self.broken.push(Broken { id: self.pictures.id(n).to_owned(), reason });
        self.tell();
    }

    fn tell(&mut self) {
        let (done, broken, total) = (self.done, self.broken.len(), self.pictures.len());
        (self.progress)(Progress { done, broken, total });
    }

    /// Completes the store and validates it; `None` if the run was interrupted.
    pub(super) fn finish(mut self, stop: &AtomicBool) -> Result<Option<Report>, ExtractError> {
        if stop.load(Ordering::Relaxed) {
            self.writer.commit()?;
            return Ok(None);
        }
        if self.done == 0 {
            let first = self.broken.first().map(|broken| broken.reason.clone()).unwrap_or_default();
            // There is nothing to go on from.
            self.writer.abandon()?;
            return Err(ExtractError::Nothing { count: self.pictures.len(), first });
        }
        let start = Instant::now();
        let schema = self.writer.finish()?;
        Timing::add(&mut self.timing.writing, start.elapsed());
        self.timing.total = self.started.elapsed().as_secs_f64();
        self.broken.sort_by(|a, b| a.id.cmp(&b.id));
        let options = validate::Options::default();
        let checked = validate::validate_store(&self.target, &options, stop, &mut |_| ())?;
        let Some(validation) = checked else { return Ok(None) };
        let (resumed, broken, timing) = (self.resumed, self.broken, self.timing);
        Ok(Some(Report { schema, resumed, broken, timing, validation }))
    }
}
