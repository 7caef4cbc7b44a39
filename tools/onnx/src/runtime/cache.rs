//! Optimised graphs on disk. Each lies under a name made of all that decides what it is.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::library::Library;
use super::{Device, RuntimeError};

/// Where the optimised form of a model belongs: by the model's bytes, the library, the device and the processor.
pub(super) fn place(
    folder: &Path,
    model: &Path,
    device: Device,
    library: &Library,
) -> Result<PathBuf, RuntimeError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| RuntimeError::Io { path: folder.to_owned(), source })?;
    let mut digest = Xxh3::new();
    // Constants in a second file are named in the first by what they hold.
    hash_file(model, &mut digest)
        .map_err(|source| RuntimeError::Io { path: model.to_owned(), source })?;
    for part in [library.build, &device.to_string(), &processor()] {
        digest.update(part.as_bytes());
        digest.update(&[0]);
    }
    Ok(folder.join(format!("{:016x}.onnx", digest.digest())))
}

fn hash_file(path: &Path, digest: &mut Xxh3) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(());
        }
        digest.update(&block[..read]);
    }
}

/// Graphs are arranged for the vector width of the processor.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = {
        use std::arch::is_x86_feature_detected as has;
        format!("{} {} {}", has!("avx2"), has!("avx512f"), has!("avx512vnni"))
    };
    #[cfg(not(target_arch = "x86_64"))]
    let features = "";
    format!("{} {features}", std::env::consts::ARCH)
}
