//! Hostile and damaged pictures, archives, weights and networks: an error or a result, never a panic, a crash, or memory
//! beyond reason.
//!
//! The same entry points as the fuzz targets in `fuzz/`, with a fixed number of mutations of sound files, and the files in
//! `attacks/`.

#[path = "../../../feature_store/tests/common/allocations.rs"]
mod allocations;
#[path = "../../../feature_store/tests/common/mutation.rs"]
mod mutation;

use std::fs;
use std::path::{Path, PathBuf};

use onnx::file;
use onnx::runtime::Options;
use vision::clip::{self, ClipEncoder};
use vision::detector::{self, Detector, ProposalRule, Settings, Sizing};
use vision::extract::{IdRule, Pictures};
use vision::image::{self, Image, Limits};
use vision::weights::Weights;

use allocations::largest_while;
use mutation::{Random, mutate};

/// Files of some kilobytes, which may unpack to some megabytes.
const REASONABLE: usize = 150 << 20;
/// Damaged pictures may claim to be large; here they are to be small.
const SMALL: Limits = Limits { pixels: 1 << 20, bytes: 1 << 20 };

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn fixture(name: &str) -> PathBuf {
    root().join("data/fixtures").join(name)
}

fn attacks(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("attacks").join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Both networks' inputs.
fn preprocess(image: &Image) {
    let _ = clip::Preprocess::new(24).apply(image.clone());
    let sizing = Sizing { short: 24, longest: 40 };
    let _ = detector::Preprocess { sizing, ..Default::default() }.apply(image.clone());
}

fn look_at(pictures: &Path, limits: &Limits) -> usize {
    let Ok(pictures) = Pictures::open(pictures, IdRule::Auto) else { return 0 };
    let read = (0..pictures.len().min(20)).filter_map(|n| pictures.read(n, limits).ok());
    read.map(|image| preprocess(&image)).count()
}

/// Reads all tensors and builds what networks can be built of them.
fn use_weights(path: &Path) -> Option<usize> {
    let weights = Weights::open(path).ok()?;
    let names: Vec<String> = weights.names().map(str::to_owned).collect();
    let read = names.iter().filter(|name| weights.read(name).is_ok()).count();
    let rule = ProposalRule::default();
    let cpu = onnx::runtime::Device::Cpu;
    let _ = detector::build(&weights, &rule, Sizing::default(), false, cpu);
    if let Ok(architecture) = clip::Architecture::of_file(&weights)
        && let Ok(loaded) = weights.load(&architecture.expected(), "CLIP")
    {
        let _ = clip::graph::build(&loaded, clip::graph::Options::default());
    }
    Some(read)
}

#[test]
fn attacks_take_no_memory_beyond_reason() {
    for (folder, least) in [("pictures", 20), ("archives", 6), ("weights", 14), ("networks", 27)] {
        let files = attacks(folder);
        assert!(files.len() >= least, "{folder}: {}", files.len());
        for path in files {
            let used = || match folder {
                "weights" => use_weights(&path).unwrap_or(0),
                "networks" => usize::from(file::read(&path).is_ok()),
                _ => look_at(&path, &Limits::default()),
            };
            let (_, largest) = largest_while(used);
            assert!(largest < REASONABLE, "{}: {largest} bytes at once", path.display());
        }
    }
    assert!(!Path::new("PWNED").exists());
}

#[test]
fn networks_of_attacks_are_none_of_ours() {
    for path in attacks("networks") {
        let name = path.display().to_string();
        let (options, settings) = (Options::default(), Settings::default());
        if let Ok(mut detector) = Detector::open(&path, settings, &options) {
            let image = detector::NetworkImage {
                tensor: vec![0.0; 3 * 8 * 8],
                height: 8,
                width: 8,
                raw_height: 8,
                raw_width: 8,
            };
            assert!(detector.detect(&image).is_err(), "{name}");
        }
        if let Ok(mut clip) = ClipEncoder::open(&path, &options) {
            let size = clip.preprocess().map_or(0, |preprocess| preprocess.size());
            assert!(clip.images(&[vec![0.0; 3 * size * size]]).is_err(), "{name}");
        }
    }
}

/// A zip and a tar of a sound picture, and a list of it.
fn archives(folder: &Path) -> Vec<PathBuf> {
    use std::io::Write;
    let picture = fs::read(root().join("attacks/pictures/sound_jpeg.png")).unwrap();
    let zip = folder.join("a.zip");
    let mut writer = zip::ZipWriter::new(fs::File::create(&zip).unwrap());
    writer.start_file("a/img0.jpg", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(&picture).unwrap();
    writer.finish().unwrap();
    let tar = folder.join("a.tar");
    let mut builder = tar::Builder::new(fs::File::create(&tar).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_size(picture.len() as u64);
    builder.append_data(&mut header, "a/img0.jpg", &picture[..]).unwrap();
    builder.into_inner().unwrap();
    let list = folder.join("a.txt");
    fs::write(folder.join("img0.jpg"), &picture).unwrap();
    fs::write(&list, "id\timg0.jpg\n").unwrap();
    vec![zip, tar, list]
}

#[test]
fn mutated_pictures_and_archives_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let sound = attacks("pictures")
        .into_iter()
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("sound_"));
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for path in sound.chain(archives(folder.path())) {
        assert_eq!(look_at(&path, &SMALL), 1, "{}", path.display());
        let sound = fs::read(&path).unwrap();
        let mutant = folder.path().join("mutant");
        let mutants = || {
            for _ in 0..200 {
                let bytes = mutate(&sound, &mut random);
                if let Ok(image) = image::decode(&bytes, "mutant", &SMALL) {
                    preprocess(&image);
                }
                fs::write(&mutant, bytes).unwrap();
                look_at(&mutant, &SMALL);
            }
        };
        let ((), largest) = largest_while(mutants);
        assert!(largest < REASONABLE, "{}: {largest} bytes at once", path.display());
    }
}

#[test]
fn mutated_weights_and_networks_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let mutant = folder.path().join("mutant");
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let weights = root().join("attacks/weights/has_fifteen_anchors.safetensors");
    let weights = [weights, fixture("detector/tiny_weights_d2.pkl")];
    for path in weights.into_iter().chain([fixture("clip/vit_torchscript.pt")]) {
        assert!(use_weights(&path).is_some_and(|read| read > 30), "{}", path.display());
        let sound = fs::read(&path).unwrap();
        for _ in 0..40 {
            fs::write(&mutant, mutate(&sound, &mut random)).unwrap();
            use_weights(&mutant);
        }
    }
    let network = root().join("attacks/networks/detector_of_other_rows.onnx");
    let sound = fs::read(network).unwrap();
    let mutants = || {
        for _ in 0..2000 {
            fs::write(&mutant, mutate(&sound, &mut random)).unwrap();
            let _ = file::read(&mutant);
        }
    };
    let ((), largest) = largest_while(mutants);
    assert!(largest < REASONABLE, "{largest} bytes at once");
}
