//! What a store says about itself.

use serde::{Deserialize, Serialize};

use crate::precision::RoundingError;
use crate::record::RecordView;
use crate::{Compression, Precision};

/// Where the features come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// Format of the source ("volta-lmdb"), or the detector that computed the features.
    pub source_format: String,
    /// Path of the source as it was given.
    pub source: String,
    /// Identifies the source's content as far as that is cheap (its size, date and place); a conversion resumes only
    /// from the same one.
    pub fingerprint: String,
    /// Version of this program.
    pub tool_version: String,
}

/// The schema of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// Values per region; 0 while the store is empty.
    pub dim: u32,
    /// Fewest regions of an image.
    pub min_regions: u32,
    /// Most regions of an image.
    pub max_regions: u32,
    /// How features are stored.
    pub precision: Precision,
    /// How records are compressed, where that pays.
    pub compression: Compression,
    /// How far the stored features are from those that were given.
    pub rounding: RoundingError,
    /// Number of images.
    pub count: u64,
    /// Sum over all images of the xxh3 of id and record checksum: independent of order, equal for equal contents.
    #[serde(serialize_with = "hexadecimal")]
    pub digest: u64,
    /// Where the features come from.
    pub provenance: Provenance,
    /// False while the store is being written.
    pub complete: bool,
}

impl Schema {
    pub(crate) fn empty(
        precision: Precision,
        compression: Compression,
        provenance: Provenance,
    ) -> Schema {
        Schema {
            dim: 0,
            min_regions: 0,
            max_regions: 0,
            precision,
            compression,
            rounding: RoundingError::default(),
            count: 0,
            digest: 0,
            provenance,
            complete: false,
        }
    }

    /// What a record of the store has otherwise than the store says, if anything.
    pub(crate) fn disagreement(&self, record: &RecordView) -> Option<String> {
        let (regions, range) = (record.regions as u32, self.min_regions..=self.max_regions);
        let (precision, compression) = (record.precision, record.compression);
        let differs = |is: &str, said: &str| Some(format!("{is}; the store says {said}"));
        if record.dim != self.dim as usize {
            return differs(&format!("{} values per region", record.dim), &self.dim.to_string());
        }
        if precision != self.precision {
            return differs(
                &format!("its features are {}", precision.name()),
                self.precision.name(),
            );
        }
        // A record that gains nothing is not compressed.
        if compression != Compression::None && compression != self.compression {
            let is = format!("it is compressed by {}", compression.name());
            return differs(&is, self.compression.name());
        }
        if !range.contains(&regions) {
            let said = format!("{} to {}", self.min_regions, self.max_regions);
            return differs(&format!("{regions} regions"), &said);
        }
        None
    }

    /// Takes one more image into account.
    pub(crate) fn add(&mut self, id: &str, record: &RecordView, error: &RoundingError) {
        let (regions, dim) = (record.regions as u32, record.dim as u32);
        if self.count == 0 {
            (self.dim, self.min_regions, self.max_regions) = (dim, regions, regions);
        }
        self.min_regions = self.min_regions.min(regions);
        self.max_regions = self.max_regions.max(regions);
        self.count += 1;
        self.digest = self.digest.wrapping_add(image_digest(id, record.checksum()));
        self.rounding.add(error);
    }

    /// Takes another record of an image into account that was there already.
    pub(crate) fn replace(
        &mut self,
        id: &str,
        old: Option<&RecordView>,
        record: &RecordView,
        error: &RoundingError,
    ) {
        self.digest =
            self.digest.wrapping_sub(image_digest(id, old.map_or(0, RecordView::checksum)));
        self.count -= 1;
        // The bounds of regions and of rounding still hold: what the old record gave to them cannot be taken back, and is
        // spread over the values that are left.
        let values = old.map_or(0, |old| old.regions * old.dim) as u64;
        self.rounding.values = self.rounding.values.saturating_sub(values);
        self.add(id, record, error);
    }
}

/// For people 16 digits, as everywhere else: most readers of JSON keep no 64 bits of a number.
fn hexadecimal<S: serde::Serializer>(digest: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.collect_str(&format_args!("{digest:016x}"))
    } else {
        serializer.serialize_u64(*digest)
    }
}

/// One image's part of the digest.
pub(crate) fn image_digest(id: &str, checksum: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(id.as_bytes(), checksum)
}
