//! Bounds-checked reading of the stream.

use crate::Fault;

pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pub(crate) position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, position: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The next `count` bytes; `count` may be anything the stream claims.
    pub(crate) fn take(&mut self, count: u64) -> Result<&'a [u8], Fault> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let count = usize::try_from(count).map_err(|_| Fault::Truncated)?;
        let taken = rest.get(..count).ok_or(Fault::Truncated)?;
        self.position += count;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The bytes up to the next line feed, which is consumed.
    pub(crate) fn line(&mut self) -> Result<&'a [u8], Fault> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let end = rest.iter().position(|&b| b == b'\n').ok_or(Fault::Truncated)?;
        self.position += end + 1;
        Ok(&rest[..end])
    }

    pub(crate) fn line_str(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.line()?).map_err(|_| Fault::Malformed("a line that is not UTF-8"))
    }
}
