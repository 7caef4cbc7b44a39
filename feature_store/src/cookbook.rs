//! Whole programs, each of which runs as a test of the documentation.
//!
//! # Convert a dump and look at an image
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use feature_store::convert::{OnError, convert};
//! use feature_store::{FeatureStore, Precision, WriterOptions, formats};
//!
//! # let folder = tempfile::tempdir()?;
//! # let target = folder.path().join("features.xenc");
//! // LMDB, TSV, HDF5, npy, npz: which it is, is told from the content.
//! let source = formats::open("../data/fixtures/features/lxmert_order.tsv".as_ref())?;
//! let options = WriterOptions { precision: Precision::F16, ..WriterOptions::default() };
//! let cancelled = AtomicBool::new(false);
//! let report = convert(source, &target, options, &OnError::Fail, &cancelled, &mut |progress| {
//!     eprintln!("{} images", progress.images);
//! })?;
//! println!("largest rounding error {}", report.schema.rounding.largest);
//!
//! let store = FeatureStore::open(&target)?;
//! for id in store.ids() {
//!     let regions = store.get(&id?)?;
//!     println!("{} regions in {}x{} pixels", regions.len(), regions.width, regions.height);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Feed a model, with the next batch read ahead
//!
//! ```
//! use feature_store::{BatchSpec, FeatureStore, GlobalFeature, RegionBatch};
//! # use feature_store::{Regions, StoreWriter, WriterOptions};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("features.xenc");
//! # let mut writer = StoreWriter::create(&path, WriterOptions::default())?;
//! # for id in ["a", "b", "c", "d"] {
//! #     let boxes = vec![[0.0, 0.0, 5.0, 5.0]];
//! #     let image = Regions { width: 10, height: 10, boxes, features: vec![1.0; 8], dim: 8, ..Regions::default() };
//! #     writer.append(id, &image)?;
//! # }
//! # writer.finish()?;
//!
//! let store = FeatureStore::open(&path)?;
//! let ids = ["d", "a", "c", "b"];
//! // ViLBERT's rows: the mean of all regions, then 36 of them, each with five location numbers.
//! let spec = BatchSpec { max_regions: 36, num_locs: 5, global_feature: GlobalFeature::First };
//! let mut batch = RegionBatch::default(); // its memory is used again for every batch
//! let batches: Vec<&[&str]> = ids.chunks(2).collect();
//! for (index, ids) in batches.iter().enumerate() {
//!     if let Some(next) = batches.get(index + 1) {
//!         store.prefetch(next)?;
//!     }
//!     store.read_batch(ids, &spec, &mut batch)?;
//!     assert_eq!(batch.features.len(), 2 * 37 * 8); // [images, rows, dim]
//!     assert_eq!(batch.mask.len(), 2 * 37);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Write features of your own detector
//!
//! ```
//! use feature_store::{FeatureStore, Labels, Provenance, Regions, StoreWriter, WriterOptions};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("mine.xenc");
//! let provenance = Provenance {
//!     source_format: "my detector".into(),
//!     fingerprint: "weights 3f2a".into(), // an interrupted run is resumed only by one with the same
//!     ..Provenance::default()
//! };
//! let mut writer = StoreWriter::create(&path, WriterOptions { provenance, ..WriterOptions::default() })?;
//! for number in 0..100 {
//!     let id = format!("img{number}");
//!     if writer.contains(&id)? {
//!         continue; // a run before this one got so far
//!     }
//!     writer.append(&id, &Regions {
//!         width: 640,
//!         height: 480,
//!         boxes: vec![[10.0, 20.0, 300.0, 400.0]],
//!         features: vec![0.5; 2048],
//!         dim: 2048,
//!         objects: Some(Labels { ids: vec![177], confidences: vec![0.9] }),
//!         ..Regions::default()
//!     })?;
//! }
//! let schema = writer.finish()?; // only now is there a store under this name
//! assert_eq!((schema.count, FeatureStore::open(&path)?.len()), (100, 100));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Extract on many machines, then put the parts together
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use feature_store::Conflict;
//! use feature_store::merge::merge;
//! # use feature_store::{Regions, StoreWriter, WriterOptions};
//! # let folder = tempfile::tempdir()?;
//! # let parts: Vec<_> = (0..3).map(|part| folder.path().join(format!("part{part}"))).collect();
//! # for (number, part) in parts.iter().enumerate() {
//! #     let boxes = vec![[0.0, 0.0, 5.0, 5.0]];
//! #     let image = Regions { width: 10, height: 10, boxes, features: vec![1.0; 8], dim: 8, ..Regions::default() };
//! #     let mut writer = StoreWriter::create(part, WriterOptions::default())?;
//! #     writer.append(&format!("img{number}"), &image)?;
//! #     writer.finish()?;
//! # }
//! let target = folder.path().join("all.xenc");
//! let cancelled = AtomicBool::new(false);
//! let report = merge(&parts, &target, Conflict::Fail, false, &cancelled, &mut |_| {})?;
//! assert_eq!((report.schema.count, report.conflicts), (3, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Give features back to a Python code base
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use feature_store::convert::OnError;
//! use feature_store::export::{ForeignFormat, export};
//! use feature_store::formats::{self, volta::VoltaEncoding};
//!
//! # let folder = tempfile::tempdir()?;
//! # let target = folder.path().join("volta.lmdb");
//! let source = formats::open("../data/fixtures/features/volta.h5".as_ref())?;
//! let format = ForeignFormat::Volta(VoltaEncoding::Base64);
//! let cancelled = AtomicBool::new(false);
//! let report = export(source, &target, format, false, &OnError::Fail, &cancelled, &mut |_| {})?;
//! assert!(report.images > 0 && report.left_out.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Check a download before anything else touches it
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use feature_store::formats;
//! use feature_store::validate::{Options, validate_source};
//!
//! let source = formats::open("../attacks/features/pickle_runs_a_command".as_ref())?;
//! let options = Options { deep: true, ..Options::default() };
//! let cancelled = AtomicBool::new(false);
//! let report = validate_source(source, &options, &cancelled, &mut |_| {})?.expect("nobody cancels");
//! assert!(!report.is_good());
//! assert!(report.findings[0].what.contains("refused to construct `posix.system`"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
