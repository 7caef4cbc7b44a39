//! TensorFlow's framing of records: length (u64), checksum of the length, data, checksum of the data; all numbers are
//! little-endian, checksums are CRC-32C, masked.

/// Frames some bytes.
pub(super) fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_checksum(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_checksum(data).to_le_bytes());
    record
}

/// The bytes of the record at an offset and the offset after it; `None` at the end and if a checksum does not fit.
pub(super) fn read_record(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let head = bytes.get(at..)?;
    let (length, rest) = head.split_first_chunk::<8>()?;
    let (length_sum, rest) = rest.split_first_chunk::<4>()?;
    if masked_checksum(length) != u32::from_le_bytes(*length_sum) {
        return None;
    }
    let (data, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    (masked_checksum(data) == u32::from_le_bytes(*sum)).then(|| (data, bytes.len() - rest.len()))
}

/// TFRecord's checksum: a checksum of bytes that hold checksums would be weak, so it is masked.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_bytes_that_tensorflow_writes() {
        // The first record of every file that TensorFlow's own writer makes, but for its time.
        let mut version = vec![0x09, 0, 0, 0, 0, 0, 0, 0, 0];
        version.extend([0x1a, 13]);
        version.extend(b"brain.Event:2");
        let record = record(&version);
        assert_eq!(record[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
        assert_eq!(
            masked_checksum(b"123456789"),
            0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
        assert_eq!(read_record(&record, 0), Some((version.as_slice(), record.len())));
        for at in 0..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 1;
            assert_eq!(read_record(&damaged, 0), None, "byte {at}");
            assert_eq!(read_record(&record[..at], 0), None, "cut at {at}");
        }
    }
}
