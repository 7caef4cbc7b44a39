//! The data set: drawn, its features converted into a store, the store validated.

use std::path::Path;

use anyhow::bail;
use crossencoders::data::synthetic::{self, SyntheticConfig};
use feature_store::convert::{ConvertError, OnError, convert};
use feature_store::validate::{Coverage, Options, validate_store};
use feature_store::{Precision, WriterOptions, formats};

use crate::interrupt;
use crate::progress::Progress;

/// The data set in a demo's folder and the store of its features; false if interrupted.
pub fn make(out: &Path, seed: u64) -> anyhow::Result<bool> {
    let (data, store) = (out.join("data"), out.join("features.xenc"));
    Ok(draw(&data, seed)? && convert_features(&data, &store)? && validate(&data, &store)?)
}

/// Draws pictures, descriptions and features; false if interrupted.
fn draw(data: &Path, seed: u64) -> anyhow::Result<bool> {
    let config = SyntheticConfig { seed, ..SyntheticConfig::default() };
    let images = (config.train_sets + config.valid_sets) * dataset::SET_SIZE;
    let progress = Progress::start("draw", "images", Some(images as u64));
    let drawn = synthetic::draw(&config, data, interrupt::flag(), &mut |done| {
        progress.set(done as u64, "")
    });
    progress.finish();
    let Some(drawn) = drawn? else { return Ok(false) };
    errln!(
        "drew {} images in sets of {}, {} descriptions to train on, {} held out: {}",
        drawn.images,
        dataset::SET_SIZE,
        drawn.train_descriptions,
        drawn.valid_descriptions,
        data.display()
    );
    Ok(true)
}

/// Converts the features into a store; false if interrupted.
fn convert_features(data: &Path, store: &Path) -> anyhow::Result<bool> {
    let source = formats::open(&data.join("features.lmdb"))?;
    let progress = Progress::start("convert", "images", source.info().count);
    let options = WriterOptions { precision: Precision::F16, ..WriterOptions::default() };
    let converted = convert(source, store, options, &OnError::Fail, interrupt::flag(), &mut |at| {
        progress.set(at.images, "")
    });
    progress.finish();
    let report = match converted {
        Err(ConvertError::Interrupted { .. }) => return Ok(false),
        other => other?,
    };
    errln!("converted {} images to {}", report.schema.count, store.display());
    Ok(true)
}

/// Validates the store, and that it has all images of both splits; false if interrupted.
fn validate(data: &Path, store: &Path) -> anyhow::Result<bool> {
    let mut coverage = Vec::new();
    for split in ["train_data", "valid_data"] {
        let descriptions = dataset::load_split(&data.join(format!("{split}.json")))?;
        let mut sets: Vec<String> = descriptions.into_iter().map(|d| d.directory).collect();
        sets.dedup();
        coverage.push(Coverage { split: split.into(), sets });
    }
    let options = Options { coverage, ..Options::default() };
    let Some(report) = validate_store(store, &options, interrupt::flag(), &mut |_| ())? else {
        return Ok(false);
    };
    if !report.is_good() {
        bail!("the store is not sound: see `xenc store validate {}`", store.display());
    }
    errln!("validated {} images, {} splits complete", report.images, report.coverage.len());
    Ok(true)
}
