//! Comparing two sources while both are read.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rayon::prelude::*;

use super::compare::compare;
use super::reader::Reader;
use super::report::{DiffReport, Side};
use super::{DiffError, Options};
use crate::chunks::Pace;
use crate::formats::{FeatureSource, RecordError, SourceRecord};

/// Bytes of pairs of images compared in parallel at a time, at most, while they are not decoded.
const CHUNK_BYTES: usize = 32 << 20;

/// The records of one image on both sides.
type Pair = (Box<dyn SourceRecord>, Box<dyn SourceRecord>);

/// What is met next: an image of both sides, of one, or of one that has had it before.
enum Step<T> {
    Both(T),
    /// An image that both have had before.
    Again(T),
    Only(Side, String),
    Twice(Side, String),
}

/// Two sources that are read side by side. Where their ids differ, the lesser one is missing in the other, provided that
/// both are in the order of their ids; as long as they are the same, or where one has ended, any order will do. An id that
/// one of them repeats is its own fault, whatever the other has.
pub(super) struct SideBySide<'a> {
    first: Reader,
    second: Reader,
    options: &'a Options,
    report: &'a mut DiffReport,
    /// Ids so far.
    done: u64,
    /// Whether both have had the same ids in the same order.
    one_order: bool,
    pace: Pace,
}

impl<'a> SideBySide<'a> {
    pub(super) fn new(
        [first, second]: [Box<dyn FeatureSource>; 2],
        options: &'a Options,
        report: &'a mut DiffReport,
    ) -> Result<SideBySide<'a>, DiffError> {
        let (first, second) = (Reader::new(first)?, Reader::new(second)?);
        let (done, one_order, pace) = (0, true, Pace::default());
        Ok(SideBySide { first, second, options, report, done, one_order, pace })
    }

    /// Compares all, unless `cancelled` was set; whether all was compared.
    ///
    /// # Errors
    /// What cannot be read, after all before it was compared; sources in different orders.
    pub(super) fn run(
        mut self,
        cancelled: &AtomicBool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<bool, DiffError> {
        while !self.is_over()? {
            if cancelled.load(Relaxed) {
                return Ok(false);
            }
            let mut steps = Vec::new();
            let gathered = self.gather(&mut steps);
            self.compare(steps)?;
            gathered?;
            progress(self.done);
        }
        Ok(true)
    }

    /// Whether both are at their ends.
    fn is_over(&mut self) -> Result<bool, RecordError> {
        let (first, second) = (self.first.is_over()?, self.second.is_over()?);
        Ok(first && second)
    }

    /// Takes the next records, as many as are compared at a time.
    fn gather(&mut self, steps: &mut Vec<Step<Pair>>) -> Result<(), DiffError> {
        let mut bytes = 0usize;
        for _ in 0..self.pace.records() {
            self.is_over()?;
            if self.first.id() != self.second.id()
                && let Some((side, id)) = self.repeated()
            {
                steps.push(Step::Twice(side, id));
                continue;
            }
            let both = self.first.id().is_some() && self.second.id().is_some();
            let order = match (self.first.id(), self.second.id()) {
                (Some(a), Some(b)) if bytes < CHUNK_BYTES => a.cmp(b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                _ => break,
            };
            let again = self.first.repeats() && self.second.repeats();
            let a = if order.is_le() { self.first.take() } else { None };
            let b = if order.is_ge() { self.second.take() } else { None };
            self.done += 1;
            self.one_order &= order.is_eq() || !both;
            if !self.one_order
                && let Some(error) = self.first.disorder().or(self.second.disorder())
            {
                return Err(error);
            }
            match (a, b) {
                (Some(a), Some(b)) => {
                    bytes = a.size().saturating_add(b.size()).saturating_add(bytes);
                    steps.push(if again { Step::Again((a, b)) } else { Step::Both((a, b)) });
                }
                (Some(a), None) => steps.push(Step::Only(Side::First, a.id().to_owned())),
                (None, Some(b)) => steps.push(Step::Only(Side::Second, b.id().to_owned())),
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Compares what was met, up to the first record that cannot be read.
    fn compare(&mut self, steps: Vec<Step<Pair>>) -> Result<(), RecordError> {
        let tolerance = self.options.tolerance;
        let of_pair = |(a, b): Pair| {
            let ((id, a), (_, b)) = (a.decode()?, b.decode()?);
            Ok::<_, RecordError>((id, compare(&a, &b, tolerance), a.bytes() + b.bytes()))
        };
        let decode = |step: Step<Pair>| match step {
            Step::Both(pair) => Ok(Step::Both(of_pair(pair)?)),
            Step::Again(pair) => Ok(Step::Again(of_pair(pair)?)),
            Step::Only(side, id) => Ok(Step::Only(side, id)),
            Step::Twice(side, id) => Ok(Step::Twice(side, id)),
        };
        let compared: Vec<Result<_, RecordError>> = steps.into_par_iter().map(decode).collect();
        let mut largest = 0;
        for step in compared {
            match step? {
                Step::Both((id, compared, bytes)) => {
                    largest = largest.max(bytes);
                    self.report.both(id, compared, self.options);
                }
                Step::Again((id, compared, bytes)) => {
                    largest = largest.max(bytes);
                    self.report.again(id, compared, self.options);
                }
                Step::Only(side, id) => self.report.only(side, id, self.options),
                Step::Twice(side, id) => self.report.twice(side, id, self.options),
            }
        }
        if largest > 0 {
            self.pace.learn(largest);
        }
        Ok(())
    }

    /// Steps over a record whose id has come before on its side.
    fn repeated(&mut self) -> Option<(Side, String)> {
        let sides = [(Side::First, &mut self.first), (Side::Second, &mut self.second)];
        let (side, reader) = sides.into_iter().find(|(_, reader)| reader.repeats())?;
        Some((side, reader.take()?.id().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Regions;
    use crate::diff::diff;
    use crate::formats::tsv::{TsvCompression, TsvOrder, TsvSink};
    use crate::formats::{self, FeatureSink as _, Input};

    /// A dump with these images, one letter each, in this order.
    fn dump(folder: &Path, ids: &str) -> Input {
        let path = folder.join(format!("{ids}.tsv"));
        let _ = std::fs::remove_file(&path);
        let mut sink = TsvSink::create(&path, TsvOrder::BottomUp, TsvCompression::Plain).unwrap();
        let regions = Regions {
            width: 9,
            height: 9,
            boxes: vec![[0.0, 0.0, 5.0, f32::NAN]],
            features: vec![1.0],
            dim: 1,
            ..Regions::default()
        };
        ids.chars().for_each(|id| sink.append(&id.to_string(), &regions).unwrap());
        Box::new(sink).finish().unwrap();
        Input::Dump(formats::open(&path).unwrap())
    }

    /// The numbers of a report and what is said of each image, or the error.
    fn compared(first: &str, second: &str) -> Result<([u64; 4], String), String> {
        let folder = tempfile::tempdir().unwrap();
        let sides = [dump(folder.path(), first), dump(folder.path(), second)];
        let [first, second] = sides;
        let run = AtomicBool::new(false);
        let report = diff(first, second, &Options::default(), &run, &mut |_| {});
        let report = report.map_err(|error| error.to_string())?.unwrap();
        let said = report.findings.iter().map(|it| format!("{}: {}", it.id, it.what.join(", ")));
        let said = said.collect::<Vec<_>>().join("; ");
        let DiffReport { common, only_first, only_second, different, .. } = report;
        Ok(([common, only_first, only_second, different], said))
    }

    #[test]
    fn what_follows_the_end_of_the_other_is_only_there() {
        let only = |side| format!("b: only in the {side}");
        assert_eq!(compared("za", "zab").unwrap(), ([2, 0, 1, 0], only("second")));
        assert_eq!(compared("zab", "za").unwrap(), ([2, 1, 0, 0], only("first")));
        // Where an image is missing before the end, the others may come later.
        let error = compared("zab", "zb").unwrap_err();
        assert!(error.contains("`a` comes after `z`") && error.contains("zab.tsv"), "{error}");
        assert!(compared("ac", "bda").is_err());
    }

    #[test]
    fn a_repeated_id_is_told_as_such() {
        assert_eq!(compared("zaz", "zaz").unwrap(), ([2, 0, 0, 0], String::new()));
        let twice = |id: char, side| format!("{id}: it comes twice in the {side}");
        assert_eq!(compared("zaz", "za").unwrap(), ([2, 0, 0, 1], twice('z', "first")));
        assert_eq!(compared("zab", "zzab").unwrap(), ([3, 0, 0, 1], twice('z', "second")));
        // It hides no disorder of the others.
        assert!(compared("acab", "bc").unwrap_err().contains("`b` comes after `c`"));
    }
    #[test]
    fn what_was_found_before_an_end_that_cannot_be_read_is_reported_as_incomplete() {
        let folder = tempfile::tempdir().unwrap();
        let cut = |ids: &str, rest: &[u8]| {
            dump(folder.path(), ids);
            let path = folder.path().join(format!("{ids}.tsv"));
            let text = std::fs::read_to_string(&path).unwrap();
            let last = text.trim_end().rfind('\n').unwrap() + 1;
            std::fs::write(&path, [&text.as_bytes()[..last], rest].concat()).unwrap();
            Input::Dump(formats::open(&path).unwrap())
        };
        let run = AtomicBool::new(false);
        // A line that cannot be decoded, and one of which not even the id can be read.
        for rest in [&b"c\t9"[..], b"\xff\t9"] {
            let first = dump(folder.path(), "abcd");
            let second = cut("abx", rest);
            let report = diff(first, second, &Options::default(), &run, &mut |_| {});
            let report = report.unwrap().unwrap();
            assert_eq!((report.common, report.only_first, report.only_second), (2, 0, 0));
            assert!(!report.is_equal());
            let json = serde_json::to_value(&report).unwrap();
            let why = json["incomplete"].as_str().unwrap();
            assert!(why.contains("abx.tsv") && why.contains("line 3"), "{why}");
        }
    }
}
