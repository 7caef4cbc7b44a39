//! Records of a source, decoded in parallel and in order, so many at a time that what is decoded stays within bounds: a
//! few kilobytes of a compressed dump can become an array of many megabytes.

use rayon::prelude::*;

use crate::formats::{RecordError, Records, SourceRecord};

/// Records decoded at a time, at most.
const RECORDS: usize = 32;
/// Bytes of a chunk, undecoded or decoded, that end it.
pub(crate) const BYTES: usize = 16 << 20;

/// A record as a source hands it out.
pub(crate) type Found = Result<Box<dyn SourceRecord>, RecordError>;

/// The records of a source, a chunk at a time.
pub(crate) struct Chunks {
    records: Records,
    pace: Pace,
}

impl Chunks {
    pub(crate) fn new(records: Records) -> Chunks {
        Chunks { records, pace: Pace::default() }
    }

    /// The next ones, decoded; none at the end. `bytes` says how much memory one takes then.
    pub(crate) fn next<T: Send>(
        &mut self,
        decode: impl Fn(Found) -> T + Sync,
        bytes: impl Fn(&T) -> usize,
    ) -> Vec<T> {
        let (mut chunk, mut held) = (Vec::with_capacity(RECORDS), 0);
        while chunk.len() < RECORDS && held < BYTES {
            let group = self.group(RECORDS - chunk.len());
            if group.is_empty() {
                break;
            }
            let first = chunk.len();
            chunk.par_extend(group.into_par_iter().map(&decode));
            let sizes = chunk[first..].iter().map(&bytes);
            held += sizes.clone().sum::<usize>();
            self.pace.learn(sizes.max().unwrap_or(0));
        }
        chunk
    }

    /// The next ones, undecoded.
    fn group(&mut self, limit: usize) -> Vec<Found> {
        let (limit, mut bytes) = (limit.min(self.pace.records()), 0);
        let mut group = Vec::with_capacity(limit);
        while group.len() < limit
            && bytes < BYTES
            && let Some(record) = self.records.next()
        {
            bytes = record.as_ref().map_or(0, |record| record.size()).saturating_add(bytes);
            group.push(record);
        }
        group
    }
}

/// How many records are decoded at once: learnt from the last ones, of which the largest counts.
pub(crate) struct Pace(usize);

impl Default for Pace {
    /// As long as nothing is known of them, one for each core.
    fn default() -> Pace {
        Pace(rayon::current_num_threads().clamp(1, RECORDS))
    }
}

impl Pace {
    pub(crate) fn records(&self) -> usize {
        self.0
    }

    /// The largest of the last records takes so many bytes when it is decoded.
    pub(crate) fn learn(&mut self, largest: usize) {
        self.0 = (BYTES / largest.max(1)).clamp(1, RECORDS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Regions;

    struct Claimed(usize);

    impl SourceRecord for Claimed {
        fn id(&self) -> &str {
            "a"
        }

        fn size(&self) -> usize {
            0
        }

        fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError> {
            Ok((String::new(), Regions { width: self.0 as u32, ..Regions::default() }))
        }
    }

    fn lengths(sizes: &'static [usize]) -> Vec<usize> {
        let records =
            sizes.iter().map(|&size| Ok(Box::new(Claimed(size)) as Box<dyn SourceRecord>));
        let mut chunks = Chunks::new(Box::new(records));
        let decode = |record: Found| record.and_then(|record| record.decode());
        let mut next = || {
            let bytes = |decoded: &Result<(String, Regions), RecordError>| {
                decoded.as_ref().map_or(0, |(_, regions)| regions.width as usize)
            };
            chunks.next(decode, bytes).len()
        };
        std::iter::from_fn(|| Some(next()).filter(|&length| length > 0)).collect()
    }

    #[test]
    fn large_records_come_alone_whatever_they_are_before_they_are_decoded() {
        assert_eq!(lengths(&[1000; 70]), [32, 32, 6]);
        assert!(lengths(&[]).is_empty());
        const LARGE: [usize; 40] = [64 << 20; 40];
        let chunks = lengths(&LARGE);
        // The first ones come as a surprise.
        assert!(chunks[0] <= rayon::current_num_threads());
        assert!(chunks[1..].iter().all(|&length| length == 1), "{chunks:?}");
        assert_eq!(chunks.iter().sum::<usize>(), 40);
    }
}
