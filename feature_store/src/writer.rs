//! Writing a store: beside its target, in bounded transactions, resumable, renamed into place when complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use heed::types::{Bytes, Str};
use heed::{Database, MdbError, PutFlags};

use crate::codec;
use crate::formats::StoreSource;
use crate::lmdb::{self, Env, LmdbError};
use crate::record::{self, Encoded, RecordView};
use crate::store::SCHEMA;
use crate::target::{self, Claim};
use crate::{
    Compression, Conflict, MAX_ID_BYTES, Precision, Provenance, Regions, Schema, StoreError, diff,
};

mod committed;
mod partial;
mod writeback;

pub(crate) use committed::Committed;
pub(crate) use partial::check_progress;
use partial::{Begun, difference};

/// Records that are collected at most, however small.
const MAX_PENDING: usize = 1 << 16;

/// How a store is written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// How features are stored.
    pub precision: Precision,
    /// How records are compressed, where that pays.
    pub compression: Compression,
    /// Recorded in the schema; an interrupted run is resumed only with the same fingerprint, precision and compression.
    pub provenance: Provenance,
    /// Replace a finished store, at the moment the new one is complete.
    pub overwrite: bool,
    /// Drop what an interrupted run with other options or another source has left, instead of refusing to begin.
    pub restart: bool,
    /// What to do with an image that comes twice.
    pub conflict: Conflict,
    /// Bytes that are collected before a transaction is made of them: what a kill can lose, and what is held in memory.
    pub transaction_bytes: usize,
    /// Time after which a transaction is made of what was collected, however little it is.
    pub transaction_time: Duration,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions {
            precision: Precision::default(),
            compression: Compression::default(),
            provenance: Provenance::default(),
            overwrite: false,
            restart: false,
            conflict: Conflict::default(),
            transaction_bytes: 32 << 20,
            transaction_time: Duration::from_secs(2),
        }
    }
}

impl WriterOptions {
    /// Fails where a writer with these options would refuse to begin or to complete: at a target that is there and is not to
    /// be replaced, that is no output of this program, or that is or holds one of the `sources`. For programs that have work
    /// to do before they write.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Irreplaceable`], [`StoreError::HoldsSource`].
    pub fn check(&self, target: &Path, sources: &[&Path]) -> Result<(), StoreError> {
        target::check_among_files(target, StoreSource::FORMAT, self.overwrite, sources)
    }
}

/// Writes one store. Dropped before [`finish`](StoreWriter::finish), it leaves a partial that the next run takes up.
pub struct StoreWriter {
    partial: PathBuf,
    left_at: Option<SystemTime>,
    overwrite: bool,
    conflict: Conflict,
    /// Images so far of which the rule had to choose one, and their ids.
    conflicts: u64,
    settled: BTreeSet<String>,
    transaction_bytes: usize,
    transaction_time: Duration,
    last_commit: Instant,
    /// Whether boxes are relative; `None` before the first image.
    relative: Option<bool>,
    env: Env,
    meta: Database<Str, Bytes>,
    regions: Database<Str, Bytes>,
    /// What is committed.
    schema: Schema,
    pending: Vec<(String, Encoded)>,
    pending_bytes: usize,
    /// Written while the map moves; see [`Committed`].
    mapped: Arc<RwLock<()>>,
    /// Nobody else writes there meanwhile.
    claim: Arc<Claim>,
}

impl StoreWriter {
    /// Begins a store, or takes up what an interrupted run left in `.NAME.partial` beside the target.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Locked`] if another process writes the same store,
    /// [`StoreError::OtherPartial`], [`StoreError::DamagedPartial`], [`StoreError::Io`].
    pub fn create(target: &Path, options: WriterOptions) -> Result<StoreWriter, StoreError> {
        StoreWriter::claimed(&Arc::new(Claim::take(target)?), options)
    }

    /// The same for a target that is claimed already.
    pub(crate) fn claimed(
        claim: &Arc<Claim>,
        options: WriterOptions,
    ) -> Result<StoreWriter, StoreError> {
        match StoreWriter::begin(claim, options.clone()) {
            Err(
                StoreError::OtherPartial { partial, .. }
                | StoreError::DamagedPartial { partial, .. },
            ) if options.restart => {
                target::remove(&partial).map_err(StoreError::io(&partial))?;
                StoreWriter::begin(claim, options)
            }
            begun => begun,
        }
    }

    fn begin(claim: &Arc<Claim>, options: WriterOptions) -> Result<StoreWriter, StoreError> {
        let target = claim.target();
        target::check(target, StoreSource::FORMAT, options.overwrite, &[])?;
        let partial = claim.partial()?;
        let data = std::fs::metadata(partial.join("data.mdb"));
        let left_at = data.and_then(|data| data.modified()).ok();
        let Begun { env, meta, regions, mut schema, relative } =
            partial::open(target, &partial, &options)?;
        if let Some(differs) = difference(&schema, &options) {
            env.prepare_for_closing().wait();
            return Err(StoreError::OtherPartial { target: target.to_owned(), partial, differs });
        }
        schema.provenance = options.provenance;
        Ok(StoreWriter {
            partial,
            left_at,
            overwrite: options.overwrite,
            conflict: options.conflict,
            conflicts: 0,
            settled: BTreeSet::new(),
            mapped: Arc::default(),
            transaction_bytes: options.transaction_bytes,
            transaction_time: options.transaction_time,
            last_commit: Instant::now(),
            relative,
            env,
            meta,
            regions,
            schema,
            pending: Vec::new(),
            pending_bytes: 0,
            claim: Arc::clone(claim),
        })
    }

    /// Images committed so far, those of an interrupted run included.
    pub fn committed(&self) -> u64 {
        self.schema.count
    }

    /// When an interrupted run wrote last, whose images are taken over.
    pub fn left_at(&self) -> Option<SystemTime> {
        self.left_at
    }

    /// Where it lies until it is finished.
    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Images with different contents under one id so far, of which the rule has chosen one.
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// The ids of those images.
    pub fn settled(&self) -> &BTreeSet<String> {
        &self.settled
    }

    /// What the committed images are, whatever their order; see [`Schema::digest`].
    pub(crate) fn digest(&self) -> u64 {
        self.schema.digest
    }

    /// How records are encoded.
    pub(crate) fn encoding(&self) -> (Precision, Compression) {
        (self.schema.precision, self.schema.compression)
    }

    /// A handle to the images that are committed, for another thread.
    pub(crate) fn committed_images(&self) -> Committed {
        Committed {
            env: self.env.clone(),
            regions: self.regions,
            mapped: Arc::clone(&self.mapped),
            target: self.claim.target().to_owned(),
        }
    }

    /// Whether an image is already committed: a resumed conversion need not decode it again.
    ///
    /// # Errors
    /// If LMDB cannot read the page.
    pub fn contains(&self, id: &str) -> Result<bool, StoreError> {
        self.committed_images().contains(id)
    }

    /// Adds an image. The same image with the same contents may come again.
    ///
    /// # Errors
    /// [`StoreError::IdLength`], [`StoreError::Regions`], [`StoreError::Duplicate`], [`StoreError::Io`] (a full disk:
    /// what is committed stays, and the run can be resumed).
    pub fn append(&mut self, id: &str, regions: &Regions) -> Result<(), StoreError> {
        let Schema { precision, compression, .. } = self.schema;
        self.append_encoded(id, encode(id, regions, precision, compression)?)
    }

    /// Adds an image that [`encode`] has made a record of, possibly on another thread.
    pub(crate) fn append_encoded(&mut self, id: &str, record: Encoded) -> Result<(), StoreError> {
        check_id(id)?;
        let known_dim = (self.schema.count > 0).then_some(self.schema.dim as usize);
        let first_pending = self.pending.first().map(|(_, record)| record.dim);
        if let Some(dim) = known_dim.or(first_pending).filter(|&dim| dim != record.dim) {
            let what = format!("{} values per region, the images before it have {dim}", record.dim);
            return Err(StoreError::Regions { id: id.to_owned(), what });
        }
        // Nothing that reads a store asks each image how its boxes are meant.
        let relative = record::is_relative(&record.bytes);
        if *self.relative.get_or_insert(relative) != relative {
            let of = Regions::convention;
            let what = format!("its boxes are {}, those before it {}", of(relative), of(!relative));
            return Err(StoreError::Regions { id: id.to_owned(), what });
        }
        self.append_salvaged(id, record)
    }

    /// As [`append_encoded`](StoreWriter::append_encoded), whether or not the record goes with those before it.
    pub(crate) fn append_salvaged(&mut self, id: &str, record: Encoded) -> Result<(), StoreError> {
        check_id(id)?;
        self.pending_bytes += record.bytes.len();
        self.pending.push((id.to_owned(), record));
        let full = self.pending_bytes >= self.transaction_bytes
            || self.pending.len() >= MAX_PENDING
            || self.last_commit.elapsed() >= self.transaction_time;
        if full { self.commit() } else { Ok(()) }
    }

    /// Takes into account that a salvaged record is compressed, of which the schema may know nothing.
    pub(crate) fn admit(&mut self, compression: Compression) {
        if self.schema.compression == Compression::None {
            self.schema.compression = compression;
        }
    }

    /// Takes over what the schema of a damaged store says of its origin; of the rounding only if that was the last one.
    pub(crate) fn inherit(&mut self, old: &Schema) {
        self.schema.provenance = old.provenance.clone();
        if old.count >= self.schema.count {
            self.schema.rounding = old.rounding;
        }
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// As [`append`](StoreWriter::append).
    pub fn commit(&mut self) -> Result<(), StoreError> {
        loop {
            match writeback::during(&self.env, self.pending_bytes, || self.try_commit()) {
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.grow()?,
                Err(error) => return Err(failed(self.claim.target(), error)),
                Ok(Err(refused)) => return Err(refused),
                Ok(Ok((schema, settled))) => {
                    self.schema = schema;
                    self.conflicts += settled.len() as u64;
                    self.settled.extend(settled);
                    self.pending.clear();
                    self.pending_bytes = 0;
                    self.last_commit = Instant::now();
                    return Ok(());
                }
            }
        }
    }

    /// One transaction: all pending records and the schema that counts them, or nothing. Says for which ids the rule had to
    /// choose.
    fn try_commit(&self) -> Result<Result<(Schema, Vec<String>), StoreError>, heed::Error> {
        let (mut schema, mut settled) = (self.schema.clone(), Vec::new());
        let mut transaction = self.env.write_txn()?;
        for (id, Encoded { bytes, error, .. }) in &self.pending {
            let put =
                self.regions.put_with_flags(&mut transaction, PutFlags::NO_OVERWRITE, id, bytes);
            match put {
                Ok(()) => {
                    if let Ok(record) = RecordView::parse(bytes) {
                        schema.add(id, &record, error);
                    }
                }
                Err(heed::Error::Mdb(MdbError::KeyExist)) => {
                    let there = self.regions.get(&transaction, id)?.unwrap_or_default();
                    if there == bytes.as_slice() {
                        continue;
                    }
                    match self.conflict {
                        Conflict::Fail => {
                            let records = (RecordView::parse(there), RecordView::parse(bytes));
                            let differs = match records {
                                (Ok(one), Ok(other)) => diff::differences(&one, &other),
                                _ => "one of them is damaged".into(),
                            };
                            return Ok(Err(StoreError::Duplicate { id: id.clone(), differs }));
                        }
                        Conflict::First => {}
                        Conflict::Last => {
                            if let Ok(record) = RecordView::parse(bytes) {
                                let old = RecordView::parse(there).ok();
                                schema.replace(id, old.as_ref(), &record, error);
                            }
                            self.regions.put(&mut transaction, id, bytes)?;
                        }
                    }
                    settled.push(id.clone());
                }
                Err(error) => return Err(error),
            }
        }
        self.meta.put(&mut transaction, SCHEMA, &codec::encode(&schema))?;
        transaction.commit()?;
        Ok(Ok((schema, settled)))
    }

    fn grow(&mut self) -> Result<(), StoreError> {
        let size = self.env.info().map_size.saturating_mul(2);
        let _alone = self.mapped.write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: no thread has a transaction: the one that found the map full has been dropped, and `Committed` begins
        // and ends its own with `mapped` held.
        unsafe { self.env.resize(size) }.map_err(|e| failed(self.claim.target(), e))
    }

    /// Gives up: nothing is left of what was written.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn abandon(self) -> Result<(), StoreError> {
        let StoreWriter { partial, env, claim: _claim, .. } = self;
        env.prepare_for_closing().wait();
        target::remove(&partial).map_err(StoreError::io(&partial))
    }

    /// Completes the store: commits, marks it complete and renames it into place. Returns its schema.
    ///
    /// # Errors
    /// As [`append`](StoreWriter::append), and [`StoreError::Exists`] if the target has appeared meanwhile.
    pub fn finish(mut self) -> Result<Schema, StoreError> {
        self.commit()?;
        self.schema.complete = true;
        self.commit()?;
        self.env.force_sync().map_err(|e| failed(self.claim.target(), e))?;
        let StoreWriter { partial, overwrite, env, schema, claim, .. } = self;
        env.prepare_for_closing().wait();
        let _ = fs::remove_file(partial.join("lock.mdb"));
        target::publish(&partial, &claim, StoreSource::FORMAT, overwrite)?;
        Ok(schema)
    }
}

/// The record of an image: the work that several threads can share.
pub(crate) fn encode(
    id: &str,
    regions: &Regions,
    precision: Precision,
    compression: Compression,
) -> Result<Encoded, StoreError> {
    record::encode(regions, precision, compression)
        .map_err(|what| StoreError::Regions { id: id.to_owned(), what })
}

pub(crate) fn check_id(id: &str) -> Result<(), StoreError> {
    if (1..=MAX_ID_BYTES).contains(&id.len()) {
        return Ok(());
    }
    Err(StoreError::IdLength { id: id.chars().take(40).collect(), bytes: id.len() })
}

/// An I/O error (a full disk) is told as one, the rest as LMDB's.
fn failed(target: &Path, error: heed::Error) -> StoreError {
    match error {
        heed::Error::Io(source) => {
            StoreError::Io { path: target.to_owned(), source: lmdb::write_error(source) }
        }
        source => StoreError::Lmdb(LmdbError::Heed { path: target.to_owned(), source }),
    }
}
