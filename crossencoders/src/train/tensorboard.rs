//! TensorBoard event files: every number of `metrics.jsonl`, in the form that TensorBoard draws.
//!
//! An event file is a sequence of TFRecords with protobuf messages `Event` of TensorFlow's `event.proto`, of which only what
//! scalars need is written here.
//!
//! Every line of `metrics.jsonl` has one event with a summary. A run that is gone on with keeps as many events as it keeps
//! lines, writes those that are missing, and adds to a new file, as TensorFlow does: a TensorBoard that is running reads on.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::tfrecord::{read_record, record};
use crate::run::RunError;

/// What the names of event files begin with; seconds since 1970 follow, so that their order is the order of writing.
const PREFIX: &str = "events.out.tfevents.";
/// What ours end with: files of others are left alone.
const SUFFIX: &str = ".xenc";
/// The version that tells TensorBoard to heed the session's start.
const VERSION: &str = "brain.Event:2";
/// Keys of a line that are no curves.
const NO_CURVES: [&str; 4] = ["step", "epoch", "split", "descriptions"];

/// The event files of a run that this process adds to.
#[derive(Debug)]
pub(crate) struct EventLog {
    folder: PathBuf,
    /// The step before the next sitting.
    last_step: i64,
    /// The file of this sitting, once there is something to write.
    file: Option<(PathBuf, File)>,
}

impl EventLog {
    /// Makes the event files of a run agree with its `metrics.jsonl`: what was written after its last line is forgotten,
    /// what is missing is written.
    ///
    /// # Errors
    /// [`RunError::Io`].
    pub fn open(folder: &Path, metrics: &str) -> Result<EventLog, RunError> {
        let lines: Vec<Value> = metrics
            .lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .filter(Value::is_object)
            .collect();
        let kept = keep(folder, lines.len())?;
        let last_step = kept.checked_sub(1).map_or(-1, |last| step(&lines[last]));
        let mut log = EventLog { folder: folder.to_owned(), last_step, file: None };
        lines[kept..].iter().try_for_each(|line| log.append(line))?;
        Ok(log)
    }

    /// Adds the numbers of a line; numbers in tables get the names of both.
    ///
    /// # Errors
    /// [`RunError::Io`].
    pub fn append(&mut self, line: &Value) -> Result<(), RunError> {
        let mut summary = Vec::new();
        let split = line["split"].as_str().unwrap_or("train");
        for (tag, value) in line.as_object().map(|line| scalars(split, line)).unwrap_or_default() {
            let mut scalar = Vec::new();
            put_bytes(&mut scalar, 1, tag.as_bytes());
            put_key(&mut scalar, 2, FIXED_32);
            scalar.extend(value.to_le_bytes());
            put_bytes(&mut summary, 1, &scalar);
        }
        let mut event = event(step(line));
        put_bytes(&mut event, SUMMARY, &summary);
        self.write(&event)
    }

    fn write(&mut self, event: &[u8]) -> Result<(), RunError> {
        let (path, file) = match self.file.take() {
            Some(open) => self.file.insert(open),
            None => self.file.insert(create(&self.folder, self.last_step)?),
        };
        file.write_all(&record(event)).map_err(|source| io_error(path, source))
    }
}

/// Removes the event files of a run.
///
/// # Errors
/// [`RunError::Io`].
pub(crate) fn remove(folder: &Path) -> Result<(), RunError> {
    for path in files(folder)? {
        fs::remove_file(&path).map_err(|source| io_error(&path, source))?;
    }
    Ok(())
}

/// A new file that begins with the version and, if there are files before it, with the session's start, at which
/// TensorBoard forgets what it may have read of later steps.
fn create(folder: &Path, last_step: i64) -> Result<(PathBuf, File), RunError> {
    let now = now() as u64;
    let earlier = files(folder)?.iter().filter_map(|path| seconds(path)).max();
    // Later than all files before it, even if the clock was set back or the second is the same.
    let seconds = earlier.map_or(now, |earlier| now.max(earlier + 1));
    let path = folder.join(format!("{PREFIX}{seconds:010}{SUFFIX}"));
    let error = |source| io_error(&path, source);
    let mut file = File::options().create_new(true).append(true).open(&path).map_err(error)?;
    let mut version = event(0);
    put_bytes(&mut version, 3, VERSION.as_bytes());
    let mut head = record(&version);
    if last_step >= 0 {
        let mut start = event(last_step + 1);
        // SessionLog { status: START }
        put_bytes(&mut start, 7, &[0x08, 1]);
        head.extend(record(&start));
    }
    file.write_all(&head).map_err(error)?;
    Ok((path, file))
}

/// Cuts the files of a run after so many events with a summary; how many there are now. Whatever follows a damaged record
/// is cut off, too.
fn keep(folder: &Path, events: usize) -> Result<usize, RunError> {
    let mut kept = 0;
    let mut full = events == 0;
    for path in files(folder)? {
        let error = |source| io_error(&path, source);
        let bytes = fs::read(&path).map_err(error)?;
        let (mut end, mut here) = (0, 0);
        while !full && let Some((event, next)) = read_record(&bytes, end) {
            here += usize::from(is_summary(event));
            end = next;
            full = kept + here == events;
        }
        if here == 0 {
            fs::remove_file(&path).map_err(error)?;
        } else if end < bytes.len() {
            full = true;
            let file = File::options().write(true).open(&path).map_err(error)?;
            file.set_len(end as u64).map_err(error)?;
        }
        kept += here;
    }
    Ok(kept)
}

/// The event files that xenc has written, oldest first.
fn files(folder: &Path) -> Result<Vec<PathBuf>, RunError> {
    let error = |source| io_error(folder, source);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        files.extend(seconds(&path).map(|seconds| (seconds, path)));
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn seconds(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

fn io_error(path: &Path, source: io::Error) -> RunError {
    RunError::Io { path: path.to_owned(), source }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

fn step(line: &Value) -> i64 {
    line["step"].as_i64().unwrap_or(0)
}

/// Tags and values: `train/loss`, `valid/accuracy`, `valid/video/accuracy`. What is about all of a split has no name of its
/// own.
fn scalars(prefix: &str, line: &Map<String, Value>) -> Vec<(String, f32)> {
    let mut found = Vec::new();
    for (key, value) in line.iter().filter(|(key, _)| !NO_CURVES.contains(&key.as_str())) {
        match value {
            Value::Number(number) => {
                let value = number.as_f64().unwrap_or(f64::NAN);
                found.push((format!("{prefix}/{key}"), value as f32));
            }
            Value::Object(inner) if key == "metrics" || key == "all" => {
                found.extend(scalars(prefix, inner));
            }
            Value::Object(inner) => found.extend(scalars(&format!("{prefix}/{key}"), inner)),
            _ => {}
        }
    }
    found
}

// Protobuf's wire types.
const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const BYTES: u8 = 2;
const FIXED_32: u8 = 5;

/// The field of an event that holds scalars.
const SUMMARY: u8 = 5;

/// An event with its time and step.
fn event(step: i64) -> Vec<u8> {
    let mut event = Vec::new();
    put_key(&mut event, 1, FIXED_64);
    event.extend(now().to_le_bytes());
    put_key(&mut event, 2, VARINT);
    put_varint(&mut event, step as u64);
    event
}

fn put_key(out: &mut Vec<u8>, field: u8, wire_type: u8) {
    out.push(field << 3 | wire_type);
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    put_key(out, field, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Whether a field of an event of ours is a summary.
fn is_summary(event: &[u8]) -> bool {
    // Time (1 + 8 bytes), step (1 byte and a varint), then what the event is about.
    let after_step = event.get(10..).and_then(|rest| {
        let end = rest.iter().position(|byte| byte & 0x80 == 0)?;
        rest.get(end + 1)
    });
    after_step == Some(&(SUMMARY << 3 | BYTES))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const LINES: &str = r#"{"step":10,"epoch":1,"loss":2.5,"accuracy":0.25}
{"step":20,"epoch":1,"loss":1.5,"accuracy":0.5}
{"step":20,"epoch":1,"split":"valid","metrics":{"all":{"descriptions":6,"accuracy":0.75,"mrr":0.8},"video":{"accuracy":1.0},"ties":0}}
{"step":30,"epoch":2,"loss":null,"accuracy":1.0}
"#;

    fn first(lines: usize) -> String {
        LINES.split_inclusive('\n').take(lines).collect()
    }

    /// Reads a protobuf message by the wire format alone: field numbers with their bytes.
    fn fields(mut message: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let varint = |message: &mut &[u8]| {
            let mut value = 0u64;
            for shift in (0..64).step_by(7) {
                let (byte, rest) = message.split_first().unwrap();
                *message = rest;
                value |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            value
        };
        let mut found = Vec::new();
        while !message.is_empty() {
            let key = varint(&mut message) as u8;
            let length = match key & 7 {
                0 => {
                    let value = varint(&mut message);
                    found.push((key >> 3, value.to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => varint(&mut message) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            let (value, rest) = message.split_at(length);
            found.push((key >> 3, value.to_vec()));
            message = rest;
        }
        found
    }

    fn events(folder: &Path) -> Vec<Vec<(u8, Vec<u8>)>> {
        let mut found = Vec::new();
        for path in files(folder).unwrap() {
            let bytes = fs::read(path).unwrap();
            let mut at = 0;
            while let Some((event, next)) = read_record(&bytes, at) {
                found.push(fields(event));
                at = next;
            }
            assert_eq!(at, bytes.len(), "bytes that are no record");
        }
        found
    }

    fn field(event: &[(u8, Vec<u8>)], number: u8) -> Option<&[u8]> {
        event.iter().find(|(field, _)| *field == number).map(|(_, bytes)| bytes.as_slice())
    }

    /// Step, tag and value of every scalar.
    pub(crate) fn read_scalars(folder: &Path) -> Vec<(i64, String, f32)> {
        let mut found = Vec::new();
        for event in events(folder) {
            let step = i64::from_le_bytes(field(&event, 2).unwrap().try_into().unwrap());
            for (number, value) in fields(field(&event, SUMMARY).unwrap_or_default()) {
                assert_eq!(number, 1);
                let value = fields(&value);
                let tag = String::from_utf8(field(&value, 1).unwrap().to_vec()).unwrap();
                let number = f32::from_le_bytes(field(&value, 2).unwrap().try_into().unwrap());
                found.push((step, tag, number));
            }
        }
        found
    }

    #[test]
    fn every_number_of_the_log_is_a_scalar() {
        let folder = tempfile::tempdir().unwrap();
        EventLog::open(folder.path(), LINES).unwrap();
        let expected = [
            (10, "train/loss", 2.5),
            (10, "train/accuracy", 0.25),
            (20, "train/loss", 1.5),
            (20, "train/accuracy", 0.5),
            (20, "valid/accuracy", 0.75),
            (20, "valid/mrr", 0.8),
            (20, "valid/video/accuracy", 1.0),
            (20, "valid/ties", 0.0),
            (30, "train/accuracy", 1.0),
        ];
        let expected = expected.map(|(step, tag, value)| (step, tag.to_owned(), value));
        assert_eq!(read_scalars(folder.path()), expected);
    }

    #[test]
    fn a_run_that_goes_on_keeps_its_events_once_and_in_order() {
        let (whole, pieces) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        EventLog::open(whole.path(), LINES).unwrap();
        let mut log = EventLog::open(pieces.path(), "").unwrap();
        LINES.lines().take(3).for_each(|line| {
            log.append(&serde_json::from_str(line).unwrap()).unwrap();
        });
        // Killed; the checkpoint that is gone on from knows two lines, and then only one.
        for lines in [2, 1, 4] {
            EventLog::open(pieces.path(), &first(lines)).unwrap();
            let steps: Vec<i64> = read_scalars(pieces.path()).iter().map(|s| s.0).collect();
            assert!(
                steps.is_sorted() && steps.last() == Some(&(10 * lines as i64).min(30)),
                "{steps:?}"
            );
        }
        assert_eq!(read_scalars(pieces.path()), read_scalars(whole.path()));
        assert_eq!(files(pieces.path()).unwrap().len(), 2, "every sitting that writes has a file");
    }

    #[test]
    fn a_new_sitting_says_where_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        EventLog::open(folder.path(), &first(2)).unwrap();
        EventLog::open(folder.path(), LINES).unwrap();
        let events = events(folder.path());
        let versions: Vec<usize> = (0..events.len())
            .filter(|&at| field(&events[at], 3) == Some(VERSION.as_bytes()))
            .collect();
        assert_eq!(versions, [0, 3]);
        assert_eq!(field(&events[4], 7), Some([0x08, 1].as_slice()));
        assert_eq!(field(&events[4], 2), Some(21i64.to_le_bytes().as_slice()));
    }

    #[test]
    fn what_a_crash_or_a_user_has_lost_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        EventLog::open(folder.path(), LINES).unwrap();
        let expected = read_scalars(folder.path());
        let path = files(folder.path()).unwrap().remove(0);
        let bytes = fs::read(&path).unwrap();
        for end in [0, 5, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..end]).unwrap();
            EventLog::open(folder.path(), LINES).unwrap();
            assert_eq!(read_scalars(folder.path()), expected, "cut at {end}");
            remove(folder.path()).unwrap();
        }
        fs::write(folder.path().join("events.out.tfevents.1.other"), "of another program").unwrap();
        EventLog::open(folder.path(), LINES).unwrap();
        remove(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "files of others stay");
    }
}
