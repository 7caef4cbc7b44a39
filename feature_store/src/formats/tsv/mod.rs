//! The TSV of bottom-up-attention and its relatives: one image a line, arrays in base64, plain or in gzip or zstd.
//!
//! Ten columns (LXMERT's `obj36.tsv`, VOLTA's extraction) put the height before the width and have labels; six columns
//! (bottom-up-attention's own) put the width first. A first line of column names overrules both.

mod gzip;
mod lines;
mod write;

use std::path::{Path, PathBuf};

use super::base64::{self, decode};
use super::{FeatureSource, FormatError, RecordError, Records, SourceInfo, SourceRecord};
use crate::{Labels, Regions};
use lines::{Line, Lines};

pub(super) use lines::may_be_text;
pub(crate) use write::refusal;
pub use write::{TsvCompression, TsvOrder, TsvSink};

/// Columns of bottom-up-attention's own files.
const BOTTOM_UP: [&str; 6] = ["image_id", "image_w", "image_h", "num_boxes", "boxes", "features"];
/// Columns of LXMERT's files.
const LXMERT: [&str; 10] = [
    "img_id",
    "img_h",
    "img_w",
    "objects_id",
    "objects_conf",
    "attrs_id",
    "attrs_conf",
    "num_boxes",
    "boxes",
    "features",
];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Column {
    Id,
    Width,
    Height,
    ObjectIds,
    ObjectConfidences,
    AttributeIds,
    AttributeConfidences,
    Count,
    Boxes,
    Features,
    Other,
}

impl Column {
    fn from_name(name: &str) -> Column {
        match name {
            "img_id" | "image_id" => Column::Id,
            "img_w" | "image_w" => Column::Width,
            "img_h" | "image_h" => Column::Height,
            "objects_id" => Column::ObjectIds,
            "objects_conf" => Column::ObjectConfidences,
            "attrs_id" => Column::AttributeIds,
            "attrs_conf" => Column::AttributeConfidences,
            "num_boxes" => Column::Count,
            "boxes" => Column::Boxes,
            "features" => Column::Features,
            _ => Column::Other,
        }
    }
}

/// A TSV file of region features.
pub struct TsvSource {
    info: SourceInfo,
    columns: Vec<Column>,
    has_header: bool,
}

impl TsvSource {
    /// Opens a file and looks at its first line.
    ///
    /// # Errors
    /// A file whose first line has neither column names nor six or ten columns.
    pub fn open(path: &Path) -> Result<TsvSource, FormatError> {
        let mut lines = Lines::open(path)?;
        let unknown = |what: String| FormatError::Unknown { path: path.to_owned(), what };
        let line = lines.next_line().map_err(|error| FormatError::Malformed {
            path: path.to_owned(),
            what: format!("its first line: {}", error.reason),
        })?;
        let line = line.ok_or_else(|| unknown("a file without lines".into()))?.bytes;
        let fields = fields(&line);
        let names: Vec<Column> = fields
            .iter()
            .map(|field| Column::from_name(str::from_utf8(field).unwrap_or("")))
            .collect();
        let has_header =
            [Column::Id, Column::Boxes, Column::Features].iter().all(|c| names.contains(c));
        let known = |names: &[&str]| -> Vec<Column> {
            names.iter().map(|name| Column::from_name(name)).collect()
        };
        let columns = match fields.len() {
            _ if has_header => names,
            6 => known(&BOTTOM_UP),
            // VOLTA's scripts name up to three more, which nothing reads.
            n @ 10..=13 => [known(&LXMERT), vec![Column::Other; n - 10]].concat(),
            _ => {
                let n = count_fields(&line);
                return Err(unknown(format!(
                    "its first line has {n} tab-separated columns, not 6 or 10"
                )));
            }
        };
        let fingerprint = super::fingerprint(path)?;
        let info = SourceInfo { format: "tsv", path: path.to_owned(), count: None, fingerprint };
        Ok(TsvSource { info, columns, has_header })
    }
}

impl FeatureSource for TsvSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn records(self: Box<Self>) -> Result<Records, FormatError> {
        let mut lines = Lines::open(&self.info.path)?;
        let path = self.info.path;
        let columns: std::sync::Arc<[Column]> = self.columns.into();
        let id_column = columns.iter().position(|&column| column == Column::Id).unwrap_or(0);
        if self.has_header {
            let _ = lines.next_line();
        }
        let mut ended = false;
        Ok(Box::new(std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let line = match lines.next_line() {
                Ok(line) => line?,
                Err(error) => {
                    // What comes after bytes that cannot be read cannot be found.
                    ended = true;
                    return Some(Err(error));
                }
            };
            let id = line.bytes.split(|&byte| byte == b'\t').nth(id_column).unwrap_or(&[]);
            let id = match str::from_utf8(id) {
                Ok("") => Err("its id is empty"),
                Ok(id) => Ok(id.to_owned()),
                Err(_) => Err("its id is not UTF-8"),
            };
            let id = match id {
                Ok(id) => id,
                Err(what) => {
                    let error = lines.error(&line, what);
                    return Some(Err(RecordError { raw: line.bytes, ..error }));
                }
            };
            let path = path.clone();
            let columns = columns.clone();
            Some(Ok(Box::new(TsvRecord { path, id, line, columns }) as Box<dyn SourceRecord>))
        })))
    }
}

struct TsvRecord {
    path: PathBuf,
    id: String,
    line: Line,
    columns: std::sync::Arc<[Column]>,
}

impl SourceRecord for TsvRecord {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        self.line.bytes.len()
    }

    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError> {
        match parse(&self.line.bytes, &self.columns) {
            Ok(regions) => Ok((self.id, regions)),
            Err(reason) => {
                let Line { number, offset, bytes } = self.line;
                let reason = format!("line {number}, byte {offset}: {reason}");
                Err(RecordError { path: self.path, key: self.id, reason, raw: bytes })
            }
        }
    }

    fn raw(&self) -> &[u8] {
        &self.line.bytes
    }
}

/// Columns of a line that are told apart: more than any file of features has.
const MOST_COLUMNS: usize = 64;

/// The columns of a line, which may be long; what is beyond the last one that is told apart is left out.
fn fields(line: &[u8]) -> Vec<&[u8]> {
    let tabs = memchr::memchr_iter(b'\t', line).chain([line.len()]);
    let fields = tabs.scan(0, |start, end| Some(&line[std::mem::replace(start, end + 1)..end]));
    fields.take(MOST_COLUMNS + 1).collect()
}

fn count_fields(line: &[u8]) -> usize {
    memchr::memchr_iter(b'\t', line).count() + 1
}

/// The regions in a line.
fn parse(line: &[u8], columns: &[Column]) -> Result<Regions, String> {
    let fields = fields(line);
    if fields.len() != columns.len() {
        let there = count_fields(line);
        return Err(format!("it has {there} columns, the first line {}", columns.len()));
    }
    let field =
        |wanted: Column| columns.iter().position(|&column| column == wanted).map(|at| fields[at]);
    let number = |wanted: Column, name: &str| -> Result<u32, String> {
        let text = str::from_utf8(field(wanted).ok_or_else(|| format!("it has no {name}"))?);
        let text = text.unwrap_or("").trim();
        // As pandas writes whole numbers of a column with gaps.
        let digits = text.strip_suffix(".0").unwrap_or(text);
        digits.parse().map_err(|_| format!("its {name} `{text}` is no whole number"))
    };
    let count = field(Column::Count).map(|text| String::from_utf8_lossy(text));
    let counted = count.as_ref().and_then(|count| count.trim().parse().ok());
    let boxes = base64::boxes(field(Column::Boxes).unwrap_or(&[]), counted)?;
    let features = decode::<f32>(field(Column::Features).unwrap_or(&[]), "features")?;
    let (boxes, rest) = boxes.as_chunks::<4>();
    let n = boxes.len();
    if n == 0 || !rest.is_empty() {
        return Err(format!("its boxes hold {} numbers", 4 * n + rest.len()));
    }
    if let Some(count) = count
        && counted != Some(n)
    {
        return Err(format!("it counts {} boxes and holds {n}", count.trim()));
    }
    if features.len() % n != 0 {
        return Err(format!("its features hold {} numbers for {n} boxes", features.len()));
    }
    let labels = |ids: Column, confidences: Column, name: &str| -> Result<Option<Labels>, String> {
        let bytes = |column| field(column).filter(|text| !text.is_empty());
        let ids = bytes(ids).map_or(Ok(Vec::new()), |text| decode(text, name))?;
        let confidences = bytes(confidences).map_or(Ok(Vec::new()), |text| decode(text, name))?;
        Ok((!ids.is_empty() || !confidences.is_empty()).then_some(Labels { ids, confidences }))
    };
    let regions = Regions {
        width: number(Column::Width, "width")?,
        height: number(Column::Height, "height")?,
        boxes: boxes.to_vec(),
        dim: features.len() / n,
        features,
        objects: labels(Column::ObjectIds, Column::ObjectConfidences, "objects")?,
        attributes: labels(Column::AttributeIds, Column::AttributeConfidences, "attributes")?,
        ..Regions::default()
    };
    regions.check()?;
    Ok(regions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{self, FeatureSink as _};

    fn image() -> Regions {
        Regions {
            width: 9,
            height: 9,
            boxes: vec![[0.0, 0.0, 5.0, 5.0]],
            features: vec![1.0],
            dim: 1,
            ..Regions::default()
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv");
        let mut sink = TsvSink::create(&path, TsvOrder::BottomUp, TsvCompression::Plain).unwrap();
        sink.append("a", &image()).unwrap();
        sink.append("b", &image()).unwrap();
        Box::new(sink).finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let header = BOTTOM_UP.join("\t");
        for begun in [format!("\u{feff}{text}"), format!("\u{feff}{header}\n{text}")] {
            std::fs::write(&path, begun).unwrap();
            let records = formats::open(&path).unwrap().records().unwrap();
            let ids: Vec<String> =
                records.map(|record| record.unwrap().decode().unwrap().0).collect();
            assert_eq!(ids, ["a", "b"]);
        }
    }

    #[test]
    fn a_line_without_an_id_is_told_by_its_number_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv");
        let mut sink = TsvSink::create(&path, TsvOrder::BottomUp, TsvCompression::Plain).unwrap();
        sink.append("a", &image()).unwrap();
        Box::new(sink).finish().unwrap();
        let good = std::fs::read(&path).unwrap();
        for (id, what) in [(&b""[..], "its id is empty"), (b"\xff", "its id is not UTF-8")] {
            let bad = [id, &good[1..good.len() - 2]].concat();
            std::fs::write(&path, [&good[..], &bad, b"\r\n"].concat()).unwrap();
            let mut records = formats::open(&path).unwrap().records().unwrap();
            assert!(records.next().unwrap().is_ok());
            let error = records.next().unwrap().err().unwrap();
            assert!(error.to_string().contains("line 2, byte ") && error.reason == what, "{error}");
            assert_eq!(error.raw, bad);
        }
    }

    #[test]
    fn columns_are_told_apart_only_as_far_as_there_can_be_some() {
        let line = vec![b'\t'; 1 << 20];
        assert_eq!(fields(&line).len(), MOST_COLUMNS + 1);
        let said = parse(&line, &BOTTOM_UP.map(Column::from_name)).unwrap_err();
        assert_eq!(said, "it has 1048577 columns, the first line 6");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv");
        std::fs::write(&path, &line).unwrap();
        let said = TsvSource::open(&path).err().unwrap().to_string();
        assert!(said.contains("1048577 tab-separated columns"), "{said}");
    }

    #[test]
    fn empty_lines_are_counted_and_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv");
        let mut sink = TsvSink::create(&path, TsvOrder::BottomUp, TsvCompression::Plain).unwrap();
        sink.append("a", &image()).unwrap();
        Box::new(sink).finish().unwrap();
        let good = std::fs::read(&path).unwrap();
        let many = vec![b'\n'; 3 << 20];
        let bad = [&b"\n\r\n"[..], &good, &many, b"b\tc\n", &many].concat();
        std::fs::write(&path, bad).unwrap();
        let mut records = formats::open(&path).unwrap().records().unwrap();
        assert_eq!(records.next().unwrap().unwrap().decode().unwrap().0, "a");
        let error = records.next().unwrap().unwrap().decode().unwrap_err().to_string();
        let (line, byte) = (3 + many.len() + 1, 3 + good.len() + many.len());
        assert!(error.contains(&format!("line {line}, byte {byte}: it has 2 columns")), "{error}");
        assert!(records.next().is_none());
    }

    #[test]
    fn zeros_at_the_end_are_told_in_few_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv");
        let mut sink = TsvSink::create(&path, TsvOrder::BottomUp, TsvCompression::Plain).unwrap();
        // What a file begins with must be text.
        ["a", "b", "c"].iter().for_each(|id| sink.append(id, &image()).unwrap());
        Box::new(sink).finish().unwrap();
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&good[..], &[0; 4096]].concat()).unwrap();
        let last = formats::open(&path).unwrap().records().unwrap().last().unwrap().unwrap();
        let said = last.decode().unwrap_err().to_string();
        assert!(said.contains("line 4, byte ") && said.len() < 500, "{said}");
    }

    #[test]
    fn ids_that_could_not_be_read_back_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv");
        let mut sink = TsvSink::create(&path, TsvOrder::BottomUp, TsvCompression::Plain).unwrap();
        for id in ["PK\u{3}\u{4}", "\u{1}", "a\u{1b}[31m", "\u{feff}a", "a\tb"] {
            let error = sink.append(id, &image()).unwrap_err().to_string();
            assert!(error.contains("--rename"), "{error}");
        }
        sink.append("PK \u{e9}", &image()).unwrap();
        Box::new(sink).finish().unwrap();
        let mut records = formats::open(&path).unwrap().records().unwrap();
        assert_eq!(records.next().unwrap().unwrap().id(), "PK \u{e9}");
    }
}
