//! Descriptions and their candidate images: ImageCoDe's annotation files and its rule for image ids, data sets of one's
//! own, VOLTA's questions; checked, counted, converted.
//!
//! Three layouts: labelled `{set directory: {target index: description}}`, unlabelled `{set directory: [description]}`,
//! and ImageCoDe-simple's `[{directory, pos_idx, neg_idx, caption}]`. A target index is a position among the set's
//! images sorted by the number in their file names (`img63.jpg`), not that number.
#![warn(missing_docs)]

mod check;
mod conversion;
mod error;
mod example;
mod files;
mod finding;
mod json;
mod jsonl;
mod known_sets;
mod phenomena;
mod pictures;
mod publish;
mod similarity;
mod split;
mod statistics;
mod volta;
mod yaml;

pub use check::{CheckOptions, CheckReport, FileReport, ImagesReport, check};
pub use conversion::{ConversionError, Converted, Format, Key, Request, convert};
pub use error::DatasetError;
pub use example::Example;
pub use feature_store::image_sets::{SET_SIZE, first_images, id_prefix, image_id, set_images};
pub use files::DatasetFiles;
pub use finding::{Finding, Findings, Group, Kind};
pub use jsonl::{MAX_CANDIDATES, is_jsonl, load_examples, load_for_ranking};
pub use known_sets::KnownSets;
pub use phenomena::{Phenomena, phenomenon_name};
pub use pictures::PictureTree;
pub use similarity::{Similarities, Similarity};
pub use split::{Description, Fault, Split, load_split, read_split};
pub use statistics::{Lengths, PhenomenaCounts, SplitStatistics, StatisticsOptions, statistics};

/// Whether a set's images are unrelated photographs rather than frames of a video.
pub fn is_static(directory: &str) -> bool {
    directory.starts_with("open-images")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photographs_are_told_from_frames_of_videos() {
        assert!(is_static("open-images-1815_f91d6f546e63f20d"));
        assert!(!is_static("MSR-VTT-videoTestVideo_video7047-shot1_0"));
    }
}
