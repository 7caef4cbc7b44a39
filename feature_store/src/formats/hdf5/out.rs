//! The pieces of an HDF5 file, written in a single pass.
//!
//! The subset of the HDF5 File Format Specification, version 3.0, that feature files need: superblock version 0, groups
//! as symbol tables (version 1 B-trees, local heaps), object headers version 1, contiguous datasets of f32, i64 and
//! fixed-length text. Every HDF5 library since 1.0 reads it. `hdf5-pure`, which reads for us, assembles a whole file in
//! memory before it writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::formats::FormatError;

/// An address that is none.
const UNDEFINED: u64 = u64::MAX;
/// A symbol table node holds at most twice this many entries, a B-tree node twice that many children.
const LEAF_K: usize = 4;
const INTERNAL_K: usize = 16;
const SUPERBLOCK: usize = 96;
/// Where the first bytes after the superblock are.
pub(super) const FIRST: u64 = SUPERBLOCK as u64;

/// What a B-tree and a heap are about: a group's members, and where they are kept.
pub(super) struct Table {
    tree: u64,
    heap: u64,
}

pub(super) struct Out {
    pub(super) path: PathBuf,
    file: BufWriter<File>,
    position: u64,
}

/// The datatype message of little-endian IEEE f32: class 1, version 1; sign at bit 31; 4 bytes; offset 0, precision 32,
/// exponent of 8 bits at 23 with bias 127, mantissa of 23 bits at 0.
pub(super) const FLOAT: [u8; 24] =
    [0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0, 0, 0, 0, 0];
/// The datatype message of little-endian i64: class 0, version 1; signed; 8 bytes; offset 0, precision 64.
pub(super) const INTEGER: [u8; 16] = [0x10, 0x08, 0, 0, 8, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0];

/// The datatype message of text of a fixed length, filled up with zeros: class 3, version 1, ASCII.
pub(super) fn text(length: usize) -> [u8; 8] {
    let [a, b, c, d] = (length as u32).to_le_bytes();
    [0x13, 0x01, 0, 0, a, b, c, d]
}

impl Out {
    /// Begins a file, which must not exist yet, with room for the superblock.
    pub(super) fn create(path: &Path) -> Result<Out, FormatError> {
        let file = File::create_new(path).map_err(FormatError::io(path))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        let mut out = Out { path: path.to_owned(), file, position: 0 };
        // The real one is known at the end.
        out.put(&[0; SUPERBLOCK])?;
        Ok(out)
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<u64, FormatError> {
        let address = self.position;
        self.file.write_all(bytes).map_err(FormatError::io(&self.path))?;
        self.position += bytes.len() as u64;
        Ok(address)
    }

    /// As [`put`](Out::put), at an address that is a multiple of 8.
    pub(super) fn put_aligned(&mut self, bytes: &[u8]) -> Result<u64, FormatError> {
        self.align()?;
        self.put(bytes)
    }

    /// Fills up to a multiple of 8, which is returned.
    pub(super) fn align(&mut self) -> Result<u64, FormatError> {
        let padding = self.position.next_multiple_of(8) - self.position;
        self.put(&[0; 8][..padding as usize])?;
        Ok(self.position)
    }

    /// A contiguous dataset; returns the address of its object header.
    pub(super) fn dataset(
        &mut self,
        bytes: &[u8],
        shape: &[u64],
        datatype: &[u8],
    ) -> Result<u64, FormatError> {
        let address = if bytes.is_empty() { UNDEFINED } else { self.put_aligned(bytes)? };
        self.dataset_at(address, bytes.len() as u64, shape, datatype)
    }

    /// The object header of a contiguous dataset whose bytes are in the file already.
    pub(super) fn dataset_at(
        &mut self,
        address: u64,
        length: u64,
        shape: &[u64],
        datatype: &[u8],
    ) -> Result<u64, FormatError> {
        let mut dataspace = vec![1, shape.len() as u8, 0, 0, 0, 0, 0, 0];
        shape.iter().for_each(|size| dataspace.extend(size.to_le_bytes()));
        // Space allocated late, the fill value written if set, and none defined.
        let fill = [2, 2, 2, 0, 0, 0, 0, 0];
        let mut layout = vec![3, 1];
        layout.extend(address.to_le_bytes());
        layout.extend(length.to_le_bytes());
        self.header(&[(0x01, &dataspace), (0x03, datatype), (0x05, &fill), (0x08, &layout)])
    }

    /// An object header of messages (type and body).
    fn header(&mut self, messages: &[(u16, &[u8])]) -> Result<u64, FormatError> {
        let mut body = Vec::new();
        for (kind, message) in messages {
            let size = message.len().next_multiple_of(8);
            body.extend(kind.to_le_bytes());
            body.extend((size as u16).to_le_bytes());
            body.extend([0; 4]);
            body.extend_from_slice(message);
            body.resize(body.len() + size - message.len(), 0);
        }
        let mut header = vec![1, 0];
        header.extend((messages.len() as u16).to_le_bytes());
        header.extend(1u32.to_le_bytes());
        header.extend((body.len() as u32).to_le_bytes());
        header.extend([0; 4]);
        header.extend(body);
        self.put_aligned(&header)
    }

    /// A group's object header.
    pub(super) fn group(&mut self, table: &Table) -> Result<u64, FormatError> {
        let message = [table.tree.to_le_bytes(), table.heap.to_le_bytes()].concat();
        self.header(&[(0x11, &message)])
    }

    /// The names and addresses of a group's members: a heap of names, nodes of entries, a tree over the nodes.
    pub(super) fn table(&mut self, members: &BTreeMap<String, u64>) -> Result<Table, FormatError> {
        // Offset 0 is the empty name, which is less than all others: the first key of every tree.
        let mut names = vec![0; 8];
        let mut entries = Vec::with_capacity(members.len());
        for (name, &address) in members {
            entries.push((names.len() as u64, address));
            names.extend_from_slice(name.as_bytes());
            names.resize((names.len() + 1).next_multiple_of(8), 0);
        }
        let mut heap = b"HEAP\0\0\0\0".to_vec();
        let data = self.put_aligned(&names)?;
        // A free list that begins at 1 is empty.
        [names.len() as u64, 1, data].iter().for_each(|number| heap.extend(number.to_le_bytes()));
        let heap = self.put_aligned(&heap)?;

        // Each node with the largest name below it.
        let mut nodes = Vec::new();
        for chunk in entries.chunks(2 * LEAF_K) {
            let mut node = b"SNOD\x01\0".to_vec();
            node.extend((chunk.len() as u16).to_le_bytes());
            for (name, address) in chunk {
                node.extend(name.to_le_bytes());
                node.extend(address.to_le_bytes());
                node.extend([0; 24]);
            }
            node.resize(8 + 2 * LEAF_K * 40, 0);
            let last = chunk.last().map_or(0, |(name, _)| *name);
            nodes.push((self.put_aligned(&node)?, last));
        }
        let mut level = 0;
        loop {
            nodes = self.tree_level(&nodes, level)?;
            if let [(tree, _)] = nodes[..] {
                return Ok(Table { tree, heap });
            }
            level += 1;
        }
    }

    /// The nodes of one level of a B-tree over `children`: siblings are chained, so addresses are computed beforehand.
    fn tree_level(
        &mut self,
        children: &[(u64, u64)],
        level: u8,
    ) -> Result<Vec<(u64, u64)>, FormatError> {
        const SIZE: usize = 24 + (2 * INTERNAL_K + 1) * 8 + 2 * INTERNAL_K * 8;
        let chunks: Vec<&[(u64, u64)]> =
            if children.is_empty() { vec![&[]] } else { children.chunks(2 * INTERNAL_K).collect() };
        let first = self.position.next_multiple_of(8);
        let address = |index: usize| first + (index * SIZE) as u64;
        let (mut nodes, mut key) = (Vec::new(), 0u64);
        for (index, chunk) in chunks.iter().enumerate() {
            let mut node = b"TREE\0".to_vec();
            node.push(level);
            node.extend((chunk.len() as u16).to_le_bytes());
            let left = if index == 0 { UNDEFINED } else { address(index - 1) };
            let right = if index + 1 == chunks.len() { UNDEFINED } else { address(index + 1) };
            node.extend(left.to_le_bytes());
            node.extend(right.to_le_bytes());
            node.extend(key.to_le_bytes());
            for (child, last) in *chunk {
                node.extend(child.to_le_bytes());
                node.extend(last.to_le_bytes());
                key = *last;
            }
            node.resize(SIZE, 0);
            nodes.push((self.put_aligned(&node)?, key));
        }
        Ok(nodes)
    }

    /// Writes the superblock over its place and makes all durable.
    pub(super) fn finish(mut self, root: u64, table: &Table) -> Result<(), FormatError> {
        let mut superblock = b"\x89HDF\r\n\x1a\n".to_vec();
        // Versions of superblock, free space, root entry; then of shared headers; sizes of offsets and lengths.
        superblock.extend([0, 0, 0, 0, 0, 8, 8, 0]);
        superblock.extend((LEAF_K as u16).to_le_bytes());
        superblock.extend((INTERNAL_K as u16).to_le_bytes());
        superblock.extend([0; 4]);
        for address in [0, UNDEFINED, self.position, UNDEFINED] {
            superblock.extend(address.to_le_bytes());
        }
        // The root's entry: no name, its header, and (cache type 1) its tree and heap.
        for number in [0, root, 1, table.tree, table.heap] {
            superblock.extend(number.to_le_bytes());
        }
        let io = |error| FormatError::Io { path: self.path.clone(), source: error };
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        self.file.write_all(&superblock).map_err(io)?;
        self.file.flush().map_err(io)?;
        self.file.get_ref().sync_all().map_err(io)
    }
}
