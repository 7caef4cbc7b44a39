//! Pictures per second on one core: `cargo bench -p vision --bench preprocess -- PICTURE...`, or `benches/preprocess.sh`,
//! which has Pillow's numbers in the same run. Prints milliseconds: the median of 15 rounds.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use vision::clip;
use vision::detector;
use vision::image::resize::{Filter, Window, resize};
use vision::image::{self, Limits, colour};

fn median(mut work: impl FnMut()) -> f64 {
    work();
    let mut times: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[7]
}

fn main() {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/fixtures/detector/photos");
    let mut files: Vec<PathBuf> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .map(PathBuf::from)
        .collect();
    if files.is_empty() {
        files.push(PathBuf::from(photos).join("landscape.jpg"));
        files.push(PathBuf::from(photos).join("portrait.png"));
    }
    let limits = Limits::default();
    for file in files {
        let bytes = std::fs::read(&file).expect("picture");
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let decode = || image::decode(&bytes, &name, &limits).expect("picture");
        let rgb = colour::upright_rgb(decode());
        let preprocess = detector::Preprocess::default();
        let (height, width) = preprocess.sizing.target(rgb.height, rgb.width);
        let clip = clip::Preprocess::new(224);
        let ((clip_width, clip_height), crop) = clip.geometry(rgb.width, rgb.height);
        let report = |what: &str, time: f64| println!("{name} {what} {time:.3}");
        report("decode", median(|| drop(black_box(decode()))));
        report(
            "resize_detector",
            median(|| {
                let size = (width, height);
                drop(black_box(resize(&rgb, size, Filter::Bilinear, Window::all(width, height))));
            }),
        );
        report(
            "resize_clip",
            median(|| {
                let size = (clip_width, clip_height);
                drop(black_box(resize(&rgb, size, Filter::Bicubic, crop)));
            }),
        );
        report(
            "detector",
            median(|| drop(black_box(preprocess.apply(decode()).expect("picture")))),
        );
        report("clip", median(|| drop(black_box(clip.apply(decode()).expect("picture")))));
    }
}
