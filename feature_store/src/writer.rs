//! Writing a store: beside its target, in bounded transactions, resumable, renamed into place when complete.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use heed::types::{Bytes, Str};
use heed::{Database, EnvOpenOptions, MdbError, PutFlags};

use crate::lmdb::{self, Env, LmdbError};
use crate::record::{self, RecordView};
use crate::store::{META, REGIONS, SCHEMA, decode_schema};
use crate::{MAX_ID_BYTES, Precision, Provenance, Regions, Schema, StoreError, codec};

/// Bytes that are collected before a transaction is made of them.
const TRANSACTION_BYTES: usize = 32 << 20;
/// The map's first size; it doubles whenever it is full.
const FIRST_MAP: usize = 256 << 20;

/// How a store is written.
#[derive(Debug, Clone, Default)]
pub struct WriterOptions {
    /// How features are stored.
    pub precision: Precision,
    /// Recorded in the schema; an interrupted run is resumed only with the same fingerprint and precision.
    pub provenance: Provenance,
    /// Replace a finished store, at the moment the new one is complete.
    pub overwrite: bool,
}

/// Writes one store. Dropped before [`finish`](StoreWriter::finish), it leaves a partial that the next run takes up.
pub struct StoreWriter {
    target: PathBuf,
    partial: PathBuf,
    overwrite: bool,
    env: Env,
    meta: Database<Str, Bytes>,
    regions: Database<Str, Bytes>,
    /// What is committed.
    schema: Schema,
    pending: Vec<(String, Vec<u8>)>,
    pending_bytes: usize,
    /// Held for as long as the writer lives.
    _lock: File,
}

impl StoreWriter {
    /// Begins a store, or takes up what an interrupted run left in `.NAME.partial` beside the target.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Locked`] if another process writes the same store,
    /// [`StoreError::OtherPartial`], [`StoreError::Io`].
    pub fn create(target: &Path, options: WriterOptions) -> Result<StoreWriter, StoreError> {
        if target.exists() && !options.overwrite {
            return Err(StoreError::Exists(target.to_owned()));
        }
        let partial = sibling(target, "partial")?;
        fs::create_dir_all(&partial).map_err(StoreError::io(&partial))?;
        let lock = lock(&partial)?;
        let map_size = fs::metadata(partial.join("data.mdb")).map_or(0, |m| m.len() as usize);
        let map_size = (2 * map_size).max(FIRST_MAP).next_multiple_of(1 << 16);
        let mut env_options = EnvOpenOptions::new().read_txn_without_tls();
        env_options.map_size(map_size).max_dbs(4);
        // SAFETY: the directory is this writer's own: `lock` keeps other writers out, and nobody reads a partial.
        let env = unsafe { env_options.open(&partial) }.map_err(|e| failed(&partial, e))?;
        let mut transaction = env.write_txn().map_err(|e| failed(&partial, e))?;
        let meta =
            env.create_database(&mut transaction, Some(META)).map_err(|e| failed(&partial, e))?;
        let regions = env
            .create_database(&mut transaction, Some(REGIONS))
            .map_err(|e| failed(&partial, e))?;
        let found: Option<&[u8]> =
            meta.get(&transaction, SCHEMA).map_err(|e| failed(&partial, e))?;
        let mut schema = match found {
            Some(bytes) => decode_schema(&partial, bytes)?,
            None => Schema::empty(options.precision, options.provenance.clone()),
        };
        transaction.commit().map_err(|e| failed(&partial, e))?;
        if schema.precision != options.precision
            || schema.provenance.fingerprint != options.provenance.fingerprint
        {
            return Err(StoreError::OtherPartial(partial));
        }
        schema.provenance = options.provenance;
        Ok(StoreWriter {
            target: target.to_owned(),
            partial,
            overwrite: options.overwrite,
            env,
            meta,
            regions,
            schema,
            pending: Vec::new(),
            pending_bytes: 0,
            _lock: lock,
        })
    }

    /// Images committed so far, those of an interrupted run included.
    pub fn committed(&self) -> u64 {
        self.schema.count
    }

    /// Whether an image is already committed: a resumed conversion need not decode it again.
    ///
    /// # Errors
    /// If LMDB cannot read the page.
    pub fn contains(&self, id: &str) -> Result<bool, StoreError> {
        check_id(id)?;
        let transaction = self.env.read_txn().map_err(|e| failed(&self.partial, e))?;
        Ok(self.regions.get(&transaction, id).map_err(|e| failed(&self.partial, e))?.is_some())
    }

    /// Adds an image. The same image with the same contents may come again.
    ///
    /// # Errors
    /// [`StoreError::IdLength`], [`StoreError::Regions`], [`StoreError::Duplicate`], [`StoreError::Io`] (a full disk:
    /// what is committed stays, and the run can be resumed).
    pub fn append(&mut self, id: &str, regions: &Regions) -> Result<(), StoreError> {
        check_id(id)?;
        let wrong = |what| StoreError::Regions { id: id.to_owned(), what };
        let known_dim = (self.schema.count > 0).then_some(self.schema.dim as usize);
        let first_pending =
            self.pending.first().and_then(|(_, bytes)| RecordView::parse(bytes).ok());
        if let Some(dim) =
            known_dim.or(first_pending.map(|record| record.dim)).filter(|&dim| dim != regions.dim)
        {
            return Err(wrong(format!(
                "{} values per region, the images before it have {dim}",
                regions.dim
            )));
        }
        let bytes = record::encode(regions, self.schema.precision).map_err(wrong)?;
        self.pending_bytes += bytes.len();
        self.pending.push((id.to_owned(), bytes));
        if self.pending_bytes >= TRANSACTION_BYTES { self.commit() } else { Ok(()) }
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// As [`append`](StoreWriter::append).
    pub fn commit(&mut self) -> Result<(), StoreError> {
        loop {
            match self.try_commit() {
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.grow()?,
                Err(error) => return Err(failed(&self.partial, error)),
                Ok(Err(refused)) => return Err(refused),
                Ok(Ok(schema)) => {
                    self.schema = schema;
                    self.pending.clear();
                    self.pending_bytes = 0;
                    return Ok(());
                }
            }
        }
    }

    /// One transaction: all pending records and the schema that counts them, or nothing.
    fn try_commit(&self) -> Result<Result<Schema, StoreError>, heed::Error> {
        let mut schema = self.schema.clone();
        let mut transaction = self.env.write_txn()?;
        for (id, bytes) in &self.pending {
            let put =
                self.regions.put_with_flags(&mut transaction, PutFlags::NO_OVERWRITE, id, bytes);
            match put {
                Ok(()) => {}
                Err(heed::Error::Mdb(MdbError::KeyExist)) => {
                    if self.regions.get(&transaction, id)? != Some(bytes) {
                        return Ok(Err(StoreError::Duplicate(id.clone())));
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            if let Ok(record) = RecordView::parse(bytes) {
                schema.add(id, record.checksum(), record.regions as u32, record.dim as u32);
            }
        }
        self.meta.put(&mut transaction, SCHEMA, &codec::encode(&schema))?;
        transaction.commit()?;
        Ok(Ok(schema))
    }

    fn grow(&mut self) -> Result<(), StoreError> {
        let size = self.env.info().map_size.saturating_mul(2);
        // SAFETY: this thread holds no transaction: the one that found the map full has been dropped.
        unsafe { self.env.resize(size) }.map_err(|e| failed(&self.partial, e))
    }

    /// Completes the store: commits, marks it complete and renames it into place. Returns its schema.
    ///
    /// # Errors
    /// As [`append`](StoreWriter::append), and [`StoreError::Exists`] if the target has appeared meanwhile.
    pub fn finish(mut self) -> Result<Schema, StoreError> {
        self.commit()?;
        self.schema.complete = true;
        self.commit()?;
        let StoreWriter { target, partial, overwrite, env, schema, _lock: lock, .. } = self;
        env.prepare_for_closing().wait();
        for leftover in ["lock.mdb", "writer.lock"] {
            let _ = fs::remove_file(partial.join(leftover));
        }
        let moved_aside = sibling(&target, "replaced")?;
        if target.exists() {
            if !overwrite {
                return Err(StoreError::Exists(target));
            }
            let _ = fs::remove_dir_all(&moved_aside);
            fs::rename(&target, &moved_aside).map_err(StoreError::io(&target))?;
        }
        fs::rename(&partial, &target).map_err(StoreError::io(&target))?;
        // The rename is durable only once its directory is.
        if let Some(parent) =
            target.canonicalize().ok().and_then(|real| real.parent().map(Path::to_owned))
        {
            File::open(&parent).and_then(|dir| dir.sync_all()).map_err(StoreError::io(&parent))?;
        }
        let _ = fs::remove_dir_all(&moved_aside);
        drop(lock);
        Ok(schema)
    }
}

/// `.NAME.SUFFIX` beside a target.
fn sibling(target: &Path, suffix: &str) -> Result<PathBuf, StoreError> {
    let Some(name) = target.file_name() else {
        let source =
            std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a name for a store");
        return Err(StoreError::Io { path: target.to_owned(), source });
    };
    Ok(target.with_file_name(format!(".{}.{suffix}", name.to_string_lossy())))
}

fn lock(partial: &Path) -> Result<File, StoreError> {
    let path = partial.join("writer.lock");
    let file = File::create(&path).map_err(StoreError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(partial.to_owned())),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { path, source }),
    }
}

fn check_id(id: &str) -> Result<(), StoreError> {
    if (1..=MAX_ID_BYTES).contains(&id.len()) {
        return Ok(());
    }
    Err(StoreError::IdLength { id: id.chars().take(40).collect(), bytes: id.len() })
}

/// An I/O error (a full disk) is told as one, the rest as LMDB's.
fn failed(partial: &Path, error: heed::Error) -> StoreError {
    match error {
        heed::Error::Io(source) => {
            StoreError::Io { path: partial.to_owned(), source: lmdb::write_error(source) }
        }
        source => StoreError::Lmdb(LmdbError::Heed { path: partial.to_owned(), source }),
    }
}
