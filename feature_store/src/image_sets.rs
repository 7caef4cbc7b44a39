//! ImageCoDe's rule for image ids: which ids of a store are the ten images of a set.

use crate::{FeatureStore, StoreError};

/// Images in a set.
pub const SET_SIZE: usize = 10;

/// What the ids of a set's images begin with: the directory's letters and digits, then `img`.
pub fn id_prefix(directory: &str) -> String {
    directory.chars().filter(char::is_ascii_alphanumeric).chain("img".chars()).collect()
}

/// The id of an image from its directory and the number in its file name: `open-images-1815_f91d` image 5 is
/// `openimages1815f91dimg5`.
pub fn image_id(directory: &str, number: u64) -> String {
    format!("{}{number}", id_prefix(directory))
}

/// The ids of a set's images that a store holds, sorted by number: position is what target indices count.
///
/// # Errors
/// If the store cannot be read.
pub fn set_images(store: &FeatureStore, directory: &str) -> Result<Vec<String>, StoreError> {
    // Ids of one set are neighbours; a few more than ten are read so that superfluous ones are seen.
    let ids = store.ids_from(&id_prefix(directory), 4 * SET_SIZE)?;
    Ok(first_images(directory, ids))
}

/// The images of a set among ids in alphabetical order that begin with its first: sorted by number, as
/// [`set_images`] gives them.
pub fn first_images(directory: &str, ids: impl IntoIterator<Item = String>) -> Vec<String> {
    let prefix = id_prefix(directory);
    let number = |id: &str| id.strip_prefix(&prefix)?.parse().ok();
    let mut images: Vec<(u64, String)> =
        ids.into_iter().map_while(|id| Some((number(&id)?, id))).collect();
    images.sort_unstable();
    images.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_id_keeps_letters_and_digits_only() {
        assert_eq!(
            image_id("open-images-1815_f91d6f546e63f20d", 5),
            "openimages1815f91d6f546e63f20dimg5"
        );
    }
}
