//! An LMDB-backed store of region features: convert foreign dumps, validate, read in batches.
//!
//! A store is a directory that holds one LMDB environment: image ids to records of boxes, labels and features, checked
//! by a checksum each and described by a [`Schema`]. It is written once, by a [`StoreWriter`], and then read by any
//! number of threads and processes.
//!
//! ```
//! use feature_store::{BatchSpec, FeatureStore, GlobalFeature, RegionBatch, Regions, StoreWriter, WriterOptions};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("features.xenc");
//! let mut writer = StoreWriter::create(&path, WriterOptions::default())?;
//! writer.append("img0", &Regions {
//!     width: 640,
//!     height: 480,
//!     boxes: vec![[0.0, 0.0, 320.0, 240.0], [10.0, 20.0, 30.0, 40.0]],
//!     features: vec![1.0, 2.0, 3.0, 4.0],
//!     dim: 2,
//!     ..Regions::default()
//! })?;
//! writer.finish()?;
//!
//! let store = FeatureStore::open(&path)?;
//! let spec = BatchSpec { max_regions: 2, num_locs: 5, global_feature: GlobalFeature::First };
//! let mut batch = RegionBatch::default();
//! store.read_batch(&["img0"], &spec, &mut batch)?;
//! assert_eq!(batch.features[..2], [2.0, 3.0]); // the mean of the regions comes first
//! assert_eq!(batch.locations[5..10], [0.0, 0.0, 0.5, 0.5, 0.25]); // x1 y1 x2 y2 area, relative to the image
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]

pub mod append;
mod batch;
mod chunks;
mod codec;
mod compression;
mod conflict;
pub mod convert;
pub mod cookbook;
pub mod diff;
mod error;
pub mod export;
pub mod formats;
pub mod image_sets;
pub mod lmdb;
pub mod merge;
pub mod pages;
mod precision;
mod quarantine;
mod record;
mod regions;
pub mod repair;
mod schema;
pub mod shard;
mod store;
pub mod target;
pub mod text;
pub mod validate;
mod writer;

pub use batch::{BatchSpec, GlobalFeature, RegionBatch, location};
pub use compression::Compression;
pub use conflict::Conflict;
pub use error::StoreError;
pub use precision::{Precision, RoundingError};
pub use regions::{Labels, Regions};
pub use schema::{Provenance, Schema};
pub use store::FeatureStore;
pub use writer::{StoreWriter, WriterOptions};

/// Longest image id in bytes: LMDB's limit for keys.
pub const MAX_ID_BYTES: usize = 511;
