//! Writes the TSV as Python's `csv` does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::lines::BYTE_ORDER_MARK;
use crate::formats::base64::encode;
use crate::formats::{FeatureSink, FormatError, LeftOut};
use crate::{Labels, Regions};

/// Which columns a [`TsvSink`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TsvOrder {
    /// LXMERT's ten: height before width, with labels.
    #[default]
    Lxmert,
    /// bottom-up-attention's six: width before height.
    BottomUp,
}

/// How a [`TsvSink`] compresses its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TsvCompression {
    /// Not at all.
    #[default]
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Writes a TSV as Python's `csv` does: lines end in CR LF.
pub struct TsvSink {
    path: PathBuf,
    out: Out,
    order: TsvOrder,
    left_out: LeftOut,
}

enum Out {
    Plain(BufWriter<File>),
    Gzip(flate2::write::GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

impl TsvSink {
    /// Begins a file, which must not exist yet.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(
        path: &Path,
        order: TsvOrder,
        compression: TsvCompression,
    ) -> Result<TsvSink, FormatError> {
        let io = || FormatError::io(path);
        let file = BufWriter::with_capacity(1 << 20, File::create_new(path).map_err(io())?);
        let out = match compression {
            TsvCompression::Plain => Out::Plain(file),
            TsvCompression::Gzip => {
                Out::Gzip(flate2::write::GzEncoder::new(file, flate2::Compression::fast()))
            }
            TsvCompression::Zstd => Out::Zstd(zstd::Encoder::new(file, 1).map_err(io())?),
        };
        Ok(TsvSink { path: path.to_owned(), out, order, left_out: LeftOut::new() })
    }

    fn line(&self, id: &str, regions: &Regions) -> Result<String, &'static str> {
        if id.contains(['\t', '\n', '\r', '"']) {
            return Err("its id would need quotes; rename it with --rename");
        }
        // Text begins with neither: readers would take the file for something else, or leave the mark out.
        if id.contains(|c| c < ' ') || id.starts_with(BYTE_ORDER_MARK) {
            return Err(
                "its id has control characters or begins with a byte order mark, and the file could not be read \
                        back; rename it with --rename",
            );
        }
        let (w, h, n) = (regions.width, regions.height, regions.len());
        let boxes = encode(regions.boxes.as_flattened());
        let features = encode(&regions.features);
        if self.order == TsvOrder::BottomUp {
            return Ok(format!("{id}\t{w}\t{h}\t{n}\t{boxes}\t{features}\r\n"));
        }
        let labels = |labels: &Option<Labels>| {
            let Labels { ids, confidences } =
                labels.as_ref().filter(|labels| labels.are_whole(n)).ok_or(NO_LABELS)?;
            Ok::<_, &'static str>(format!("{}\t{}", encode(ids), encode(confidences)))
        };
        let (objects, attributes) = (labels(&regions.objects)?, labels(&regions.attributes)?);
        Ok(format!("{id}\t{h}\t{w}\t{objects}\t{attributes}\t{n}\t{boxes}\t{features}\r\n"))
    }
}

/// Why an order of columns has no place for an image, if that is so.
pub(crate) fn refusal(order: TsvOrder, regions: &Regions) -> Option<&'static str> {
    let has_labels = [&regions.objects, &regions.attributes]
        .into_iter()
        .all(|labels| labels.as_ref().is_some_and(|labels| labels.are_whole(regions.len())));
    (order == TsvOrder::Lxmert && !has_labels).then_some(NO_LABELS)
}

const NO_LABELS: &str = "it lacks ids or confidences of objects or attributes; `tsv-bottomup` has six columns without them";

impl FeatureSink for TsvSink {
    fn append(&mut self, id: &str, regions: &Regions) -> Result<(), FormatError> {
        let line = self.line(id, regions).map_err(|what| FormatError::Unwritable {
            path: self.path.clone(),
            id: id.to_owned(),
            what: what.to_owned(),
        })?;
        let without_labels = self.order == TsvOrder::BottomUp;
        self.left_out.note("objects", without_labels && regions.objects.is_some());
        self.left_out.note("attributes", without_labels && regions.attributes.is_some());
        self.left_out.note("extents", regions.extents.is_some());
        self.left_out.note("class probabilities", regions.class_probabilities.is_some());
        let written = match &mut self.out {
            Out::Plain(out) => out.write_all(line.as_bytes()),
            Out::Gzip(out) => out.write_all(line.as_bytes()),
            Out::Zstd(out) => out.write_all(line.as_bytes()),
        };
        written.map_err(FormatError::io(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<(), FormatError> {
        let io = || FormatError::io(&self.path);
        let mut out = match self.out {
            Out::Plain(out) => out,
            Out::Gzip(out) => out.finish().map_err(io())?,
            Out::Zstd(out) => out.finish().map_err(io())?,
        };
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(io())
    }

    fn left_out(&self) -> BTreeMap<&'static str, u64> {
        self.left_out.0.clone()
    }
}
