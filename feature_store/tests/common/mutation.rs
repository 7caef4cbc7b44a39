//! Sound bytes made unsound.

/// Numbers without a pattern, the same every time.
pub struct Random(pub u64);

impl Random {
    /// One of 0, 1, … below the limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Sound bytes with some of them changed, cut, repeated or replaced by extreme numbers.
pub fn mutate(sound: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    // The first kilobytes are where headers are.
    let near = if random.below(2) == 0 { bytes.len().min(2048) } else { bytes.len() };
    for _ in 0..=random.below(4) {
        let at = random.below(near.min(bytes.len()));
        match random.below(6) {
            0 | 1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            2 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            3 => bytes.truncate(at),
            4 => {
                let extreme =
                    [u64::MAX, 1 << 63, 1 << 40, 1 << 31, 0][random.below(5)].to_le_bytes();
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&extreme[..end - at]);
            }
            _ => {
                let part = bytes[at..bytes.len().min(at + 64)].to_vec();
                bytes.splice(at..at, part);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}
