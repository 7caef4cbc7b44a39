//! Captions of images, for pre-training: JSON Lines, one object a line with the keys `image` (an id of the feature store)
//! and `caption`. Other keys are ignored.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;

use feature_store::FeatureStore;
use serde::Deserialize;

use super::{DataError, Limits, Tokenizer};

/// One caption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// Id of its image.
    pub image: String,
    /// Its word pieces.
    pub input_ids: Vec<i64>,
    /// Its line in the file, from 1.
    pub line: usize,
}

/// The captions of a file whose images are in a store.
#[derive(Debug)]
pub struct Captions {
    /// In the order of the file.
    pub examples: Vec<Caption>,
    /// Captions that are left out, as the store lacks their image.
    pub skipped: usize,
    /// What of captions and images a model is given.
    pub limits: Limits,
}

#[derive(Deserialize)]
struct Line {
    image: String,
    caption: String,
}

impl Captions {
    /// Reads a file; what is beyond the limits is cut and counted.
    ///
    /// # Errors
    /// [`DataError::Captions`] for a file that cannot be read or a line that is no caption, also if the store has none of
    /// the images; [`DataError::Store`].
    pub fn load(
        path: &Path,
        store: &FeatureStore,
        tokenizer: &Tokenizer,
        limits: Limits,
    ) -> Result<Captions, DataError> {
        let fault = |line: usize, reason: String| DataError::Captions {
            path: path.to_owned(),
            line,
            reason,
        };
        let file = feature_store::text::open(path).map_err(|error| fault(0, error.to_string()))?;
        let mut captions = Captions { examples: Vec::new(), skipped: 0, limits };
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|error| fault(number + 1, error.to_string()))?;
            // Editors on Windows begin a file with a mark of its byte order.
            let line = line.trim_start_matches('\u{feff}').trim();
            if line.is_empty() {
                continue;
            }
            let Line { image, caption } = serde_json::from_str(line)
                .map_err(|error| fault(number + 1, format!("no caption: {error}")))?;
            if !store.contains(&image)? {
                captions.skipped += 1;
                continue;
            }
            let input_ids = captions.limits.encode(tokenizer, &caption);
            captions.examples.push(Caption { image, input_ids, line: number + 1 });
        }
        if captions.examples.is_empty() {
            let reason = format!(
                "it has no caption of an image in {} ({} of other images)",
                store.path().display(),
                captions.skipped
            );
            return Err(fault(0, reason));
        }
        let images: BTreeSet<&String> =
            captions.examples.iter().map(|caption| &caption.image).collect();
        captions.limits.count_images(&store.clone().into(), &Vec::from_iter(images))?;
        Ok(captions)
    }

    /// Length of every caption in word pieces.
    pub fn lengths(&self) -> Vec<usize> {
        self.examples.iter().map(|caption| caption.input_ids.len()).collect()
    }
}
