//! Reading and decoding ahead of the writer, in parallel and in order.

use std::sync::mpsc::SyncSender;

use rayon::prelude::*;

use super::ConvertError;
use crate::formats::{RecordError, Records, SourceRecord};
use crate::record::Encoded;
use crate::validate::check_regions;
use crate::writer::{self, Committed};
use crate::{Compression, Precision, Regions};

/// Records decoded at a time, at most.
const CHUNK: usize = 32;
/// Undecoded bytes of a chunk, at most: records of many megabytes come in smaller chunks.
const CHUNK_BYTES: usize = 16 << 20;

/// A record of the source that could be read.
pub(super) struct Decoded {
    pub(super) id: String,
    /// The record to write; `None` if an interrupted run has committed it.
    pub(super) record: Option<Encoded>,
    /// What is wrong with its regions, if anything.
    pub(super) finding: Option<String>,
}

/// A decoded record, or why there is none.
pub(super) type Outcome = Result<Decoded, ConvertError>;

/// Reads and decodes until the end, or until nobody takes the results any more. Images that are committed are not
/// decoded again, only checked as they are.
pub(super) fn decode_all(
    mut records: Records,
    committed: Option<Committed>,
    precision: Precision,
    compression: Compression,
    send: &SyncSender<Vec<Outcome>>,
) {
    let decode = |record: Result<Box<dyn SourceRecord>, RecordError>| {
        let record = record?;
        if let Some(committed) = &committed
            && let Some(regions) = committed.get(record.id())?
        {
            let (id, finding) = (record.id().to_owned(), check_regions(&regions).err());
            return Ok(Decoded { id, record: None, finding });
        }
        let (id, regions, record) = encode(record, precision, compression)?;
        Ok(Decoded { id, record: Some(record), finding: check_regions(&regions).err() })
    };
    loop {
        let chunk = next_chunk(&mut records);
        if chunk.is_empty() || send.send(chunk.into_par_iter().map(decode).collect()).is_err() {
            return;
        }
    }
}

/// A record as it is to be stored. One of a store of this precision is not rounded again; whatever store it is of, the
/// rounding that is known of it stays known.
fn encode(
    record: Box<dyn SourceRecord>,
    precision: Precision,
    compression: Compression,
) -> Result<(String, Regions, Encoded), ConvertError> {
    let stored = record.stored().map(|(store, id)| (store.clone(), id.to_owned()));
    let Some((store, stored_id)) = stored else {
        let (id, regions) = record.decode()?;
        let encoded = writer::encode(&id, &regions, precision, compression)?;
        return Ok((id, regions, encoded));
    };
    let schema = store.schema();
    if schema.precision != precision {
        let (id, regions) = record.decode()?;
        let encoded = writer::encode(&id, &regions, precision, compression)?;
        let error = encoded.error.after(&schema.rounding);
        return Ok((id, regions, Encoded { error, ..encoded }));
    }
    let id = record.id().to_owned();
    let failed = |what: &dyn ToString| RecordError::new(store.path(), &id, what.to_string());
    let (bytes, regions) =
        store.record_once(&stored_id).map_err(|error| failed(&error.reason()))?;
    let copied = Encoded::copied(bytes, &schema.rounding);
    let packed = match schema.compression == compression {
        true => copied,
        false => copied.and_then(|record| record.repacked(compression)),
    };
    let packed = packed.map_err(|what| failed(&what))?;
    Ok((id, regions, packed))
}

/// The next records, bounded in number and bytes; none at the end.
pub(crate) fn next_chunk(records: &mut Records) -> Vec<Result<Box<dyn SourceRecord>, RecordError>> {
    let (mut chunk, mut bytes) = (Vec::with_capacity(CHUNK), 0);
    while chunk.len() < CHUNK
        && bytes < CHUNK_BYTES
        && let Some(record) = records.next()
    {
        bytes += record.as_ref().map_or(0, |record| record.size());
        chunk.push(record);
    }
    chunk
}
