//! What kind of file pictures are given as: told by its content, not by its name.

/// How pictures are given.
pub(super) enum Kind {
    Zip,
    Tar,
    Picture,
    /// What it is and what to do.
    Unreadable(&'static str),
    Other,
}

/// Told by the first bytes of a file: 512, or all of a shorter one.
pub(super) fn kind(start: &[u8]) -> Kind {
    match start {
        [b'P', b'K', 3 | 5, ..] => Kind::Zip,
        [0x1f, 0x8b, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', ..]
        | [0xfd, b'7', b'z', b'X', b'Z', 0, ..]
        | [0x28, 0xb5, 0x2f, 0xfd, ..] => Kind::Unreadable(
            "a compressed archive can only be read from its start; unpack it (gunzip, bunzip2, unxz, unzstd) first",
        ),
        [b'R', b'a', b'r', b'!', 0x1a, ..] | [b'7', b'z', 0xbc, 0xaf, ..] => {
            Kind::Unreadable("archives are read as zip or tar; unpack it into a folder first")
        }
        [0xff, 0xd8, ..] | [0x89, b'P', b'N', b'G', ..] => Kind::Picture,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Kind::Picture,
        _ if start.get(257..262) == Some(b"ustar") => Kind::Tar,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_files_are_told_from_lists() {
        let advice = |start: &[u8]| match kind(start) {
            Kind::Unreadable(what) => what.split(' ').next(),
            _ => None,
        };
        for start in [&b"\x1f\x8b\x08"[..], b"BZh91AY&SY", b"\xfd7zXZ\0\0", b"\x28\xb5\x2f\xfd$"] {
            assert_eq!(advice(start), Some("a"), "{start:?}");
        }
        for start in [&b"Rar!\x1a\x07"[..], b"7z\xbc\xaf\x27\x1c"] {
            assert_eq!(advice(start), Some("archives"), "{start:?}");
        }
        for start in ["", "BZh9.jpg", "Rar!.jpg", "7z/a.png", "PK.jpg", "id\ta.jpg"] {
            assert!(matches!(kind(start.as_bytes()), Kind::Other), "{start}");
        }
    }
}
