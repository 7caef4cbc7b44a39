//! Reading and decoding ahead of the writer, in parallel and in order.

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::{CHUNKS_AHEAD, ConvertError, of_a_record};
use crate::chunks::{self, Chunks, Found};
use crate::formats::{RecordError, Records, SourceRecord};
use crate::record::Encoded;
use crate::validate::check_regions;
use crate::writer::{self, Committed};
use crate::{Compression, Precision, Regions};

/// A record of the source that could be read.
pub(super) struct Decoded {
    pub(super) id: String,
    /// The record to write; `None` if an interrupted run has committed it.
    pub(super) record: Option<Encoded>,
    /// What is wrong with its regions, if anything.
    pub(super) finding: Option<String>,
    /// The record's bytes, if they are to be kept should the store refuse it and the source has them.
    pub(super) raw: Vec<u8>,
}

/// A decoded record, or why there is none.
pub(super) type Outcome = Result<Decoded, ConvertError>;

/// Ids that a source has had more than once, as hashes: two ids of one hash are only decoded for nothing.
#[derive(Clone, Default)]
struct Repeats(Arc<Mutex<HashSet<u64>>>);

impl Repeats {
    /// The same records, watched as they are read.
    fn watch(&self, records: Records) -> Records {
        let (repeats, mut seen) = (self.0.clone(), HashSet::new());
        Box::new(records.inspect(move |record| {
            let Ok(record) = record else { return };
            let hash = xxh3_64(record.id().as_bytes());
            if !seen.insert(hash) {
                repeats.lock().unwrap_or_else(PoisonError::into_inner).insert(hash);
            }
        }))
    }

    fn contains(&self, id: &str) -> bool {
        let repeats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        repeats.contains(&xxh3_64(id.as_bytes()))
    }
}

/// The bytes of a record that is refused go with what is wrong with it.
pub(super) fn with_raw(error: ConvertError, raw: Vec<u8>) -> ConvertError {
    match error {
        ConvertError::Record(error) if error.raw.is_empty() => RecordError { raw, ..error }.into(),
        other => other,
    }
}

/// Reads and decodes until the end, or until nobody takes the results any more. Images that are committed are not
/// decoded again, only checked as they are; but one that comes again may come with other contents. With `keep` the bytes
/// of records stay with them.
pub(super) fn decode_all(
    records: Records,
    path: &Path,
    committed: Option<Committed>,
    (precision, compression): (Precision, Compression),
    keep: bool,
    send: &SyncSender<Vec<Outcome>>,
) {
    let repeats = Repeats::default();
    let records = if committed.is_some() { repeats.watch(records) } else { records };
    let decode = |record: Found| {
        let record = record?;
        if let Some(committed) = &committed
            && !repeats.contains(record.id())
            && let Some(regions) = committed.get(record.id())?
        {
            let (id, finding) = (record.id().to_owned(), check_regions(&regions).err());
            return Ok(Decoded { id, record: None, finding, raw: Vec::new() });
        }
        let raw = if keep { record.raw().to_vec() } else { Vec::new() };
        match encode(record, precision, compression) {
            Ok((id, regions, record)) => {
                let finding = check_regions(&regions).err();
                Ok(Decoded { id, record: Some(record), finding, raw })
            }
            Err(error) => Err(with_raw(of_a_record(error, path), raw)),
        }
    };
    let bytes = |outcome: &Outcome| match outcome {
        Ok(Decoded { record: Some(record), raw, .. }) => record.bytes.len() + raw.len(),
        Err(ConvertError::Record(error)) => error.raw.len(),
        _ => 0,
    };
    let mut chunks = Chunks::new(records);
    loop {
        let chunk = chunks.next(decode, bytes);
        let held = chunk.iter().map(bytes).sum();
        if chunk.is_empty() || !take_places(chunk, held, send) {
            return;
        }
    }
}

/// Sends a chunk and, for what it holds beyond a usual one, empty ones after it: they take places of the queue, so that what
/// waits there is bounded in bytes. Whether anyone takes it.
fn take_places(chunk: Vec<Outcome>, held: usize, send: &SyncSender<Vec<Outcome>>) -> bool {
    let fillers = (held / chunks::BYTES).min(CHUNKS_AHEAD);
    send.send(chunk).is_ok() && (0..fillers).all(|_| send.send(Vec::new()).is_ok())
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn what_waits_to_be_written_is_bounded_in_bytes() {
        let places = |held: usize| {
            let (send, receive) = sync_channel(CHUNKS_AHEAD + 1);
            assert!(take_places(Vec::new(), held, &send));
            drop(send);
            receive.iter().count()
        };
        assert_eq!(places(1), 1);
        assert_eq!(places(2 * chunks::BYTES), 3);
        // Behind the largest nothing more waits.
        assert_eq!(places(100 * chunks::BYTES), CHUNKS_AHEAD + 1);
        let (send, receive) = sync_channel(0);
        drop(receive);
        assert!(!take_places(Vec::new(), 1, &send));
    }
}
