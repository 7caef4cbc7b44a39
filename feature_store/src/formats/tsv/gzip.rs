//! A gzip file of any number of members, and the zeros that a tape or a block device fills it up with.

use std::io::{self, BufRead, ErrorKind, Read};

use flate2::bufread::GzDecoder;

use super::lines::GZIP;

/// Unpacks one member after the other. Zeros after a member are passed over, as gzip and Python's gzip do; anything else that
/// is no member is an error.
pub(super) struct Gzip<R> {
    /// `None` at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    /// Of bytes that begin with a member.
    pub(super) fn new(packed: R) -> Gzip<R> {
        Gzip { member: Some(GzDecoder::new(packed)) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while let Some(mut member) = self.member.take() {
            let read = member.read(out);
            if !matches!(read, Ok(0)) {
                self.member = Some(member);
                return read;
            }
            let mut packed = member.into_inner();
            if !skip_zeros(&mut packed)? {
                begins_a_member(&mut packed)?;
                self.member = Some(GzDecoder::new(packed));
            }
        }
        Ok(0)
    }
}

/// Passes over zeros; whether that was the end.
fn skip_zeros(packed: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = match packed.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            return Ok(true);
        }
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        let is_other = zeros < bytes.len();
        packed.consume(zeros);
        if is_other {
            return Ok(false);
        }
    }
}

/// Refuses what follows the last member and is no other: it would be told as one that is cut off.
fn begins_a_member(packed: &mut impl BufRead) -> io::Result<()> {
    let bytes = packed.fill_buf()?;
    let known = bytes.len().min(GZIP.len());
    if bytes[..known] == GZIP[..known] {
        return Ok(());
    }
    let what = "what follows the end of its gzip data is no gzip data: something was appended, or it is damaged there";
    Err(io::Error::new(ErrorKind::InvalidData, what))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(text: &str) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Result<String, String> {
        let mut text = String::new();
        // A small buffer, so that zeros and members cross its ends.
        let mut unpacker = Gzip::new(BufReader::with_capacity(7, bytes));
        let read = unpacker.read_to_string(&mut text);
        read.map(|_| text).map_err(|error| error.to_string())
    }

    #[test]
    fn members_are_read_whatever_zeros_follow_them() {
        let (one, two, zeros) = (packed("one"), packed("two"), vec![0; 1000]);
        assert_eq!(unpacked(&[&one[..], &two].concat()).unwrap(), "onetwo");
        assert_eq!(unpacked(&[&one[..], &zeros].concat()).unwrap(), "one");
        assert_eq!(unpacked(&[&one[..], &zeros, &two, &[0]].concat()).unwrap(), "onetwo");
        assert_eq!(unpacked(&packed("")).unwrap(), "");
    }

    #[test]
    fn what_is_no_member_and_a_member_that_is_cut_off_are_errors() {
        let one = packed("one");
        for junk in [&b"rubbish"[..], b"x", b"\x1fx", &[&[0; 9][..], b"rubbish and more"].concat()]
        {
            let said = unpacked(&[&one[..], junk].concat()).unwrap_err();
            assert!(said.contains("no gzip data") || junk[0] == 0x1f, "{junk:?}: {said}");
        }
        for end in [one.len() - 1, one.len() - 8, 12] {
            assert!(unpacked(&one[..end]).is_err(), "{end}");
        }
        assert!(unpacked(&[&one[..], &one[..5]].concat()).is_err());
    }
}
