//! Writes a state dictionary as PyTorch's zip format: `data.pkl`, and one stored, aligned entry per storage.

use std::collections::HashMap;
use std::io::{self, Seek, SeekFrom, Write};

use tch::{Kind, Tensor};
use unpickle::Value;
use zip::result::{ZipError, ZipResult};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::weights::file::{bytes, on_cpu};

/// The folder in the archive; any name will do.
const ROOT: &str = "archive";
/// As PyTorch aligns storages, so that files can be mapped into memory.
const ALIGNMENT: u16 = 64;

/// Writes named tensors, in order. Tensors that share their memory share a storage in the file, too.
pub(in crate::weights) fn write(
    tensors: &[(String, Tensor)],
    file: impl Write + Seek,
) -> io::Result<()> {
    let mut storages = Storages::default();
    let mut pairs = Vec::new();
    for (name, tensor) in tensors {
        let value = storages.refer(tensor);
        let value = value.map_err(|reason| io::Error::other(format!("`{name}`: {reason}")))?;
        pairs.push((Value::Str(name.as_str().into()), value));
    }
    let pickle = unpickle::write(&Value::Dict(pairs)).map_err(io::Error::other)?;
    write_archive(FailsOnce::new(file), &pickle, &storages).map_err(|error| match error {
        ZipError::Io(error) => error,
        other => io::Error::other(other),
    })
}

/// A file to which everything after a failure is written in vain: an archive that is given up tries to end itself, and
/// would tell stderr that it cannot.
struct FailsOnce<W> {
    file: W,
    position: u64,
    failed: bool,
}

impl<W> FailsOnce<W> {
    fn new(file: W) -> FailsOnce<W> {
        FailsOnce { file, position: 0, failed: false }
    }

    fn attempt<T>(
        &mut self,
        in_vain: T,
        attempt: impl FnOnce(&mut W) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.failed {
            return Ok(in_vain);
        }
        attempt(&mut self.file).inspect_err(|_| self.failed = true)
    }
}

impl<W: Write> Write for FailsOnce<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.attempt(bytes.len(), |file| file.write(bytes))?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt((), W::flush)
    }
}

impl<W: Seek> Seek for FailsOnce<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let in_vain = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(by) => self.position.saturating_add_signed(by),
            SeekFrom::End(_) => self.position,
        };
        self.position = self.attempt(in_vain, |file| file.seek(to))?;
        Ok(self.position)
    }
}

fn write_archive(file: impl Write + Seek, pickle: &[u8], storages: &Storages) -> ZipResult<()> {
    let mut archive = ZipWriter::new(file);
    let mut entry = |name: &str, bytes: &[u8]| -> ZipResult<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX))
            .with_alignment(ALIGNMENT);
        archive.start_file(format!("{ROOT}/{name}"), options)?;
        Ok(archive.write_all(bytes)?)
    };
    entry("data.pkl", pickle)?;
    entry(".format_version", b"1")?;
    entry(".storage_alignment", ALIGNMENT.to_string().as_bytes())?;
    entry("byteorder", b"little")?;
    for (key, tensor) in storages.tensors.iter().enumerate() {
        entry(&format!("data/{key}"), &bytes(tensor))?;
    }
    entry("version", b"3\n")?;
    archive.finish()?.flush()?;
    Ok(())
}

#[derive(Default)]
struct Storages {
    /// On the CPU and contiguous; the index is the storage's key.
    tensors: Vec<Tensor>,
    keys: HashMap<(usize, usize, &'static str), usize>,
}

impl Storages {
    /// `torch._utils._rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())`.
    fn refer(&mut self, tensor: &Tensor) -> Result<Value, String> {
        let class = storage_class(tensor.kind())
            .ok_or_else(|| format!("{:?} has no place in a PyTorch file", tensor.kind()))?;
        let tensor = on_cpu(tensor);
        let identity = (tensor.data_ptr() as usize, tensor.numel(), class);
        let key = *self.keys.entry(identity).or_insert_with(|| {
            // Kept here, so that its memory cannot be given to another tensor.
            self.tensors.push(tensor.shallow_clone());
            self.tensors.len() - 1
        });
        let sizes = |sizes: &[i64]| Value::Tuple(sizes.iter().map(|&n| Value::Int(n)).collect());
        let storage = Value::Tuple(vec![
            text("storage"),
            global("torch", class),
            text(&key.to_string()),
            text("cpu"),
            Value::Int(tensor.numel() as i64),
        ]);
        Ok(call(
            global("torch._utils", "_rebuild_tensor_v2"),
            vec![
                Value::Persistent(Box::new(storage)),
                Value::Int(0),
                sizes(&tensor.size()),
                sizes(&tensor.stride()),
                Value::Bool(false),
                call(global("collections", "OrderedDict"), Vec::new()),
            ],
        ))
    }
}

fn text(text: &str) -> Value {
    Value::Str(text.into())
}

fn global(module: &str, name: &str) -> Value {
    Value::Global { module: module.into(), name: name.into() }
}

fn call(callable: Value, arguments: Vec<Value>) -> Value {
    Value::Call { callable: Box::new(callable), arguments }
}

fn storage_class(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Double => "DoubleStorage",
        Kind::Float => "FloatStorage",
        Kind::Half => "HalfStorage",
        Kind::BFloat16 => "BFloat16Storage",
        Kind::Int64 => "LongStorage",
        Kind::Int => "IntStorage",
        Kind::Int16 => "ShortStorage",
        Kind::Int8 => "CharStorage",
        Kind::Uint8 => "ByteStorage",
        Kind::Bool => "BoolStorage",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of one number, as a tensor of that shape and stride.
    fn view(size: i64, stride: i64) -> Result<usize, String> {
        let mut storages = Storages::default();
        let mut value = storages.refer(&Tensor::from_slice(&[1.0f32])).unwrap();
        let Value::Call { arguments, .. } = &mut value else { panic!("{value:?}") };
        arguments[2] = Value::Tuple(vec![Value::Int(size)]);
        arguments[3] = Value::Tuple(vec![Value::Int(stride)]);
        let pickle = unpickle::write(&Value::Dict(vec![(text("weight"), value)])).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("view.bin");
        let file = std::fs::File::create(&path).unwrap();
        write_archive(file, &pickle, &storages).unwrap();
        super::super::read(&path).map(|(_, _, tensors)| tensors[0].1.numel())
    }

    /// Takes so many bytes, and no more.
    struct Small(io::Cursor<Vec<u8>>, usize);

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.position() as usize + bytes.len() > self.1 {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => self.0.write(bytes),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Small {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn wherever_the_room_ends_that_is_the_error() {
        let tensors = [("weight".to_owned(), Tensor::from_slice(&[1.0f32; 100]))];
        let small = |bytes| Small(io::Cursor::default(), bytes);
        let mut whole = small(usize::MAX);
        write(&tensors, FailsOnce::new(&mut whole)).unwrap();
        let size = whole.0.into_inner().len();
        for bytes in 0..size {
            let error = write(&tensors, small(bytes)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{bytes} of {size}");
        }
        write(&tensors, small(size)).unwrap();
    }

    #[test]
    fn a_view_that_repeats_one_number_a_billion_times_is_refused() {
        assert_eq!(view(1, 1), Ok(1));
        assert_eq!(view(9, 0), Ok(9));
        let error = view(1 << 30, 0).unwrap_err();
        assert!(error.contains("4294967296 bytes"), "{error}");
        assert!(view(2, 1).is_err());
    }
}
