//! What interrupted runs leave beside a target.

use std::fs;
use std::path::Path;

use heed::types::{Bytes, Str};
use heed::{Database, EnvFlags};

use super::{WriterOptions, failed};
use crate::lmdb::{self, Env, LmdbError};
use crate::store::{META, REGIONS, SCHEMA, decode_schema};
use crate::target::{self, Claim};
use crate::{Schema, StoreError, record};

/// The map's first size; it doubles whenever it is full, which tests want to see often.
const FIRST_MAP: usize = if cfg!(test) { 1 << 18 } else { 256 << 20 };

/// A store that is being written.
pub(super) struct Begun {
    pub(super) env: Env,
    pub(super) meta: Database<Str, Bytes>,
    pub(super) regions: Database<Str, Bytes>,
    /// What it says of itself.
    pub(super) schema: Schema,
    /// Whether its boxes are relative; `None` before the first image.
    pub(super) relative: Option<bool>,
}

/// Opens what an interrupted run has left, or begins anew where there is nothing.
///
/// # Errors
/// [`StoreError::DamagedPartial`], [`StoreError::Io`].
pub(super) fn open(
    target: &Path,
    partial: &Path,
    options: &WriterOptions,
) -> Result<Begun, StoreError> {
    let damaged = |what: String| {
        let (target, partial) = (target.to_owned(), partial.to_owned());
        StoreError::DamagedPartial { target, partial, what }
    };
    fs::create_dir_all(partial).map_err(StoreError::io(target))?;
    let length = fs::metadata(partial.join("data.mdb")).map_or(0, |data| data.len() as usize);
    // The page that makes a transaction the last one is written with the next one's pages, or at the end: a crash of the
    // machine can lose the last transaction of a partial, and no wait is spent on it.
    let env = lmdb::open_for_writing(partial, (2 * length).max(FIRST_MAP), EnvFlags::NO_META_SYNC);
    let env = env.map_err(|error| match (error.damage(), error) {
        (Some(what), _) => damaged(what),
        (None, LmdbError::Heed { source, .. }) => failed(target, source),
        (None, error) => error.into(),
    })?;
    match take_up(&env, target, options) {
        Ok((meta, regions, schema, relative)) => Ok(Begun { env, meta, regions, schema, relative }),
        Err(error) => {
            env.prepare_for_closing().wait();
            let unusable = matches!(
                error,
                StoreError::Damaged { .. }
                    | StoreError::Version { .. }
                    | StoreError::Count { .. }
                    | StoreError::Lmdb(_)
            );
            Err(if unusable && length > 0 { damaged(error.reason()) } else { error })
        }
    }
}

type TakenUp = (Database<Str, Bytes>, Database<Str, Bytes>, Schema, Option<bool>);

fn take_up(env: &Env, target: &Path, options: &WriterOptions) -> Result<TakenUp, StoreError> {
    let failed = |error| failed(target, error);
    let mut transaction = env.write_txn().map_err(failed)?;
    let meta = env.create_database(&mut transaction, Some(META)).map_err(failed)?;
    let regions: Database<Str, Bytes> =
        env.create_database(&mut transaction, Some(REGIONS)).map_err(failed)?;
    let found: Option<&[u8]> = meta.get(&transaction, SCHEMA).map_err(failed)?;
    let schema = match found {
        Some(bytes) => decode_schema(target, bytes)?,
        None => {
            let WriterOptions { precision, compression, .. } = *options;
            Schema::empty(precision, compression, options.provenance.clone())
        }
    };
    let holds = regions.len(&transaction).map_err(failed)?;
    if holds != schema.count {
        let (path, says) = (target.to_owned(), schema.count);
        return Err(StoreError::Count { path, says, holds });
    }
    let first = regions.first(&transaction).map_err(failed)?;
    let relative = first.map(|(_, record)| record::is_relative(record));
    transaction.commit().map_err(failed)?;
    Ok((meta, regions, schema, relative))
}

/// What keeps a run from going on with what another has left of a store.
pub(super) fn difference(there: &Schema, options: &WriterOptions) -> Option<String> {
    let (old, new) = (&there.provenance, &options.provenance);
    Some(if there.precision != options.precision {
        format!("precision ({})", there.precision.name())
    } else if there.compression != options.compression {
        format!("compression ({})", there.compression.name())
    } else if old.source != new.source {
        format!("source ({})", old.source)
    } else if old.source_format != new.source_format {
        format!("origin ({})", old.source_format)
    } else if old.fingerprint != new.fingerprint {
        "choice, naming or --on-conflict of images, or from a source that has changed since,".into()
    } else {
        return None;
    })
}

/// Makes sure that nothing is left of a store at a claimed target that an interrupted run could go on with; drops it if so
/// asked.
///
/// # Errors
/// [`StoreError::OtherPartial`], [`StoreError::Io`].
pub(crate) fn check_progress(claim: &Claim, drop_it: bool) -> Result<(), StoreError> {
    let partial = claim.partial()?;
    if drop_it {
        return target::remove(&partial).map_err(StoreError::io(&partial));
    }
    if partial.symlink_metadata().is_err() {
        return Ok(());
    }
    let (target, differs) = (claim.target().to_owned(), "format (store)".into());
    Err(StoreError::OtherPartial { target, partial, differs })
}
