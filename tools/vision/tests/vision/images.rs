//! Pictures of every kind against Pillow and OpenCV, and pictures that nobody should send.

use std::path::Path;

use vision::clip;
use vision::detector;
use vision::image::{self, Image, ImageError, ImageFault, Limits, Pixels, Raster, colour};

use crate::fixtures::{Tensors, path};

fn decode(file: &[u8]) -> Result<Image, ImageError> {
    image::decode(file, "picture", &Limits::default())
}

/// Small pictures of every kind, and what the originals' libraries make of them (`tests/data/make.py`).
fn pictures() -> Tensors {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures.safetensors");
    Tensors::open(file.to_str().unwrap())
}

#[test]
fn every_kind_of_picture_is_read_as_opencv_and_pillow_read_it() {
    let mut pictures = pictures();
    let names: Vec<String> = pictures
        .names()
        .iter()
        .filter_map(|name| Some(name.strip_suffix(".file")?.to_owned()))
        .collect();
    assert!(names.len() >= 39);
    for name in names {
        let image = decode(&pictures.u8s(&format!("{name}.file"))).unwrap();
        let crop = clip::Preprocess::new(24).crop(image.clone()).unwrap();
        let mut bgr = colour::upright_rgb(image);
        assert_eq!(
            vec![bgr.height, bgr.width, 3],
            pictures.shape(&format!("{name}.bgr")),
            "{name}"
        );
        bgr.data.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        // Lossy WebP is decoded by another implementation than Google's.
        let tolerance = if name == "webp_lossy" { 1 } else { 0 };
        let difference = largest(&bgr.data, &pictures.u8s(&format!("{name}.bgr")));
        assert!(difference <= tolerance, "{name}: {difference}");
        let difference = largest(&crop.data, &pictures.u8s(&format!("{name}.clip")));
        assert!(difference <= tolerance, "{name}, CLIP: {difference}");
    }
    pictures.finish();
}

fn largest(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn a_picture_cut_off_anywhere_is_an_error_and_never_a_panic() {
    let mut pictures = pictures();
    for name in [
        "jpeg420",
        "jpeg_progressive",
        "jpeg_cmyk",
        "png_rgb",
        "png_palette",
        "webp_lossless",
        "webp_lossy",
    ] {
        let file = pictures.u8s(&format!("{name}.file"));
        // The last bytes of a PNG and a JPEG are an end marker, without which all pixels may be there.
        for length in (0..file.len() - 20).step_by(7) {
            assert!(decode(&file[..length]).is_err(), "{name}: {length} of {} bytes", file.len());
        }
    }
    let landscape = std::fs::read(path("detector/photos/landscape.jpg")).unwrap();
    let error = decode(&landscape[..landscape.len() / 2]).unwrap_err();
    assert!(matches!(error.fault, ImageFault::Truncated), "{error}");
    assert!(error.to_string().starts_with("picture: truncated"), "{error}");
}

#[test]
fn a_damaged_picture_is_no_panic() {
    let mut pictures = pictures();
    let mut state = 1u32;
    for name in [
        "jpeg420",
        "jpeg_progressive",
        "jpeg_cmyk",
        "jpeg_exif6",
        "png_palette",
        "png_rgba",
        "webp_lossy",
        "webp_rgba",
    ] {
        let file = pictures.u8s(&format!("{name}.file"));
        for _ in 0..300 {
            let mut damaged = file.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                let at = (state >> 8) as usize % damaged.len();
                damaged[at] = state as u8;
            }
            let limits = Limits { pixels: 1 << 20, ..Limits::default() };
            if let Ok(image) = image::decode(&damaged, name, &limits) {
                let _ = clip::Preprocess::new(24).crop(image.clone());
                assert!(colour::upright_rgb(image).width > 0);
            }
        }
    }
}

#[test]
fn a_decompression_bomb_is_refused_before_it_is_unpacked() {
    // 60,000 by 60,000 pixels of one bit in a file of a few hundred bytes.
    let mut header = b"\0\0\xea\x60\0\0\xea\x60\x01\0\0\0\0".to_vec();
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bomb.append(&mut header);
    bomb.extend(crc32(&bomb[12..29]).to_be_bytes());
    bomb.extend([0; 64]);
    let error = decode(&bomb).unwrap_err();
    assert!(matches!(error.fault, ImageFault::TooManyPixels { .. }), "{error}");
    assert!(error.to_string().contains("60000x60000"), "{error}");

    let mut jpeg = std::fs::read(path("detector/photos/landscape.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    let error = decode(&jpeg).unwrap_err();
    assert!(matches!(error.fault, ImageFault::TooManyPixels { .. }), "{error}");

    let limits = Limits { bytes: 1000, ..Limits::default() };
    let error = image::read(&path("detector/photos/landscape.jpg"), &limits).unwrap_err();
    assert!(matches!(error.fault, ImageFault::TooManyBytes { .. }), "{error}");
    assert!(error.to_string().contains("landscape.jpg"), "{error}");
}

/// PNG's checksum.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn chunks_of_a_png_are_spelt_as_png_spells_them() {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\0IDAT".to_vec();
    png.extend(crc32(b"IDAT").to_be_bytes());
    let error = decode(&png).unwrap_err().to_string();
    assert!(error.contains("IDAT chunk appeared before IHDR"), "{error}");
}

#[test]
fn other_files_are_named_for_what_they_are_not() {
    let text = |fault: &str| decode(fault.as_bytes()).unwrap_err().to_string();
    assert!(text("GIF89a").contains("neither JPEG, PNG nor WebP"));
    assert!(text("").contains("truncated"));
    let error = image::read(Path::new("nowhere/img0.jpg"), &Limits::default()).unwrap_err();
    assert!(error.to_string().starts_with("nowhere/img0.jpg: "), "{error}");
}

#[test]
fn pictures_of_one_pixel_and_of_twenty_thousand_are_taken() {
    let clip = clip::Preprocess::new(224);
    let image = |width: usize, height: usize| Image {
        width,
        height,
        pixels: Pixels::Rgb(vec![9; width * height * 3]),
        orientation: image::Orientation::Upright,
    };
    for (width, height) in [(1, 1), (20_000, 1), (1, 20_000), (20_000, 300)] {
        let crop = clip.crop(image(width, height)).unwrap();
        assert!(crop.data.len() == 224 * 224 * 3 && crop.data.iter().all(|&value| value == 9));
    }
    let strip = Raster::<3> { width: 300, height: 20_000, data: vec![9; 300 * 20_000 * 3] };
    let network = detector::Preprocess::default().of_rgb(&strip).unwrap();
    assert_eq!((network.height, network.width), (1333, 20));
    assert!(matches!(clip.crop(image(1 << 20, 1)), Err(ImageFault::TooNarrow { .. })));
}
