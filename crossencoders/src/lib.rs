//! Vision-and-language cross-encoders in libtorch.
//!
//! One encoder of gated sublayers, configured by VOLTA's JSON files, scores the candidate images of a description:
//! descriptions are `[sets, tokens]`, candidates `[sets, C, regions, dim]`, scores `[sets, C]`.
//!
//! ```no_run
//! use crossencoders::config::ModelConfig;
//! use crossencoders::model::{RankingHead, RankingModel};
//! use crossencoders::weights;
//! use tch::{Device, nn};
//!
//! let config = ModelConfig::load("configs/models/vilbert_base.json".as_ref())?;
//! let variables = nn::VarStore::new(Device::Cpu);
//! let model = RankingModel::new(&variables.root(), &config, &RankingHead::Alignment)?;
//! let report = weights::load(&variables, "pretrained.safetensors".as_ref(), &[])?;
//! println!("{} tensors loaded", report.loaded);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]

pub mod clip;
pub mod config;
pub mod data;
pub mod device;
mod digests;
pub mod eval;
pub mod explore;
pub mod export;
pub mod failure;
pub mod model;
pub mod ranker;
pub mod report;
pub mod run;
pub mod train;
pub mod weights;

pub use digests::DigestError;

/// The libtorch bindings that tensors and devices in this crate's interface come from.
pub use tch;
