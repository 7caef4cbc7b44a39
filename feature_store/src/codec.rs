//! The one place where bincode is used: small structs to bytes behind a version byte, and back.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of the store format; the first byte of everything encoded here.
pub(crate) const VERSION: u8 = 2;

/// Fixed-width little-endian integers, and no more than a page for any one value.
fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_fixed_int_encoding().with_little_endian().with_limit::<65536>()
}

pub(crate) enum DecodeError {
    Version(u8),
    Malformed,
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    // Encoding plain structs into memory has no way to fail but the size limit, which `decode` reports as damage.
    if let Ok(body) = bincode::serde::encode_to_vec(value, config()) {
        bytes.extend(body);
    }
    bytes
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => bincode::serde::decode_from_slice(body, config())
            .map(|(value, _)| value)
            .map_err(|_| DecodeError::Malformed),
        Some((&version, _)) => Err(DecodeError::Version(version)),
        None => Err(DecodeError::Malformed),
    }
}
