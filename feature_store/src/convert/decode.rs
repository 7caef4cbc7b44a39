//! Reading and decoding ahead of the writer, in parallel and in order.

use std::sync::mpsc::SyncSender;

use rayon::prelude::*;

use super::ConvertError;
use crate::formats::{RecordError, Records, SourceRecord};
use crate::record::Encoded;
use crate::validate::check_regions;
use crate::writer::{self, CommittedIds};
use crate::{Compression, Precision};

/// Records decoded at a time, at most.
const CHUNK: usize = 32;
/// Undecoded bytes of a chunk, at most: records of many megabytes come in smaller chunks.
const CHUNK_BYTES: usize = 16 << 20;

/// A decoded and encoded record with what is wrong with its regions, or why there is none.
pub(super) type Outcome = Result<(String, Encoded, Option<String>), ConvertError>;

/// Reads and decodes until the end, or until nobody takes the results any more.
pub(super) fn decode_all(
    mut records: Records,
    committed: Option<CommittedIds>,
    precision: Precision,
    compression: Compression,
    send: &SyncSender<Vec<Outcome>>,
) {
    let is_new = |id: &str| match &committed {
        // An id that cannot be looked up is the writer's to refuse.
        Some(committed) => !committed.contains(id).unwrap_or(false),
        None => true,
    };
    loop {
        let chunk = next_chunk(&mut records, &is_new);
        if chunk.is_empty() {
            return;
        }
        let decode = |record: Result<Box<dyn SourceRecord>, RecordError>| {
            let (id, regions) = record?.decode()?;
            let record = writer::encode(&id, &regions, precision, compression)?;
            Ok((id, record, check_regions(&regions).err()))
        };
        if send.send(chunk.into_par_iter().map(decode).collect()).is_err() {
            return;
        }
    }
}

/// The next records, bounded in number and bytes; none at the end.
pub(crate) fn next_chunk(
    records: &mut Records,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Vec<Result<Box<dyn SourceRecord>, RecordError>> {
    let (mut chunk, mut bytes) = (Vec::with_capacity(CHUNK), 0);
    while chunk.len() < CHUNK
        && bytes < CHUNK_BYTES
        && let Some(record) = records.next()
    {
        if let Ok(record) = &record {
            if !is_wanted(record.id()) {
                continue;
            }
            bytes += record.size();
        }
        chunk.push(record);
    }
    chunk
}
