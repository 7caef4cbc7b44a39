//! Many pictures into a store: found anywhere, resumed, in parts, with what is broken left out and named.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use dataset::Description;
use feature_store::{FeatureStore, WriterOptions};
use vision::clip::graph::{ImageTower, TextTower, Towers, Vit};
use vision::clip::{self, ClipEncoder};
use vision::detector::{Preprocess, Settings, Sizing};
use vision::extract::{
    Boxes, EmbedOptions, ExtractError, IdRule, Names, Pictures, RegionOptions, Report, embed,
    extract, rank,
};
use vision::image::Limits;

use crate::fixtures::path;
use crate::runners::{tiny_detector, tiny_settings};

const WEIGHTS: &str = "detector/tiny_weights.safetensors";

fn options() -> RegionOptions {
    RegionOptions {
        preprocess: Preprocess {
            sizing: Sizing { short: 97, longest: 160 },
            ..Preprocess::default()
        },
        boxes: None,
        limits: Limits::default(),
        workers: 2,
        show: None,
        names: Names::default(),
        writer: WriterOptions::default(),
    }
}

/// The four photographs, and one that is cut off.
pub fn photographs(folder: &Path) -> PathBuf {
    let photos = folder.join("photos");
    fs::create_dir_all(photos.join("more")).unwrap();
    for name in ["landscape.jpg", "portrait.png", "gray.png"] {
        fs::copy(path("detector/photos").join(name), photos.join(name)).unwrap();
    }
    fs::copy(path("detector/photos/exif.jpg"), photos.join("more/exif.JPG")).unwrap();
    let whole = fs::read(path("detector/photos/landscape.jpg")).unwrap();
    fs::write(photos.join("broken.jpg"), &whole[..whole.len() / 3]).unwrap();
    fs::write(photos.join("readme.txt"), "no picture").unwrap();
    photos
}

fn settings() -> Settings {
    Settings { accept_fewer: true, ..tiny_settings() }
}

fn run(source: &Path, target: &Path, options: RegionOptions) -> Report {
    let pictures = Pictures::open(source, IdRule::Auto).unwrap();
    let mut detector = tiny_detector(WEIGHTS, settings(), options.boxes.is_some());
    let stop = AtomicBool::new(false);
    extract(&pictures, target, &mut detector, options, &stop, &mut |_| ()).unwrap().unwrap()
}

fn digest(store: &Path) -> u64 {
    FeatureStore::open(store).unwrap().schema().digest
}

#[test]
fn pictures_from_a_folder_a_list_a_zip_and_a_tar_give_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let photos = photographs(folder.path());
    let target = folder.path().join("store");
    let report = run(&photos, &target, options());
    assert_eq!(report.schema.count, 4);
    assert!(report.validation.is_good(), "{:?}", report.validation.findings);
    assert_eq!(report.broken.len(), 1);
    assert_eq!(report.broken[0].id, "broken");
    assert!(
        report.broken[0].reason.contains("broken.jpg: truncated"),
        "{}",
        report.broken[0].reason
    );
    let timing = report.timing;
    assert!(timing.inference > 0.0 && timing.inference + timing.waiting <= timing.total);

    let store = FeatureStore::open(&target).unwrap();
    let exif = store.get("exif").unwrap();
    // The detector sees the picture as it should be seen.
    assert_eq!((exif.width, exif.height), (240, 361));
    assert_eq!(exif.dim, 128);

    let list = folder.path().join("list.txt");
    let lines = "photos/landscape.jpg\nportrait\tphotos/portrait.png\ngray\tphotos/gray.png\nphotos/more/exif.JPG\n";
    fs::write(&list, lines).unwrap();
    run(&list, &folder.path().join("from_list"), options());
    assert_eq!(digest(&folder.path().join("from_list")), store.schema().digest);

    let (zip, tar) = (folder.path().join("photos.zip"), folder.path().join("photos.tar"));
    write_archives(&photos, &zip, &tar);
    for archive in [zip, tar] {
        let target =
            archive.with_extension(format!("{}.store", archive.extension().unwrap().display()));
        let report = run(&archive, &target, options());
        assert_eq!(digest(&target), store.schema().digest, "{}", archive.display());
        assert_eq!(report.broken.len(), 1);
    }
}

fn write_archives(photos: &Path, zip: &Path, tar: &Path) {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(fs::File::create(zip).unwrap());
    let mut tar = tar::Builder::new(fs::File::create(tar).unwrap());
    for name in
        ["landscape.jpg", "portrait.png", "gray.png", "more/exif.JPG", "broken.jpg", "readme.txt"]
    {
        zip.start_file(format!("x/{name}"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&fs::read(photos.join(name)).unwrap()).unwrap();
        tar.append_path_with_name(photos.join(name), format!("x/{name}")).unwrap();
    }
    zip.finish().unwrap();
    tar.finish().unwrap();
}

#[test]
fn an_interrupted_run_goes_on_where_it_stopped_and_parts_merge() {
    let folder = tempfile::tempdir().unwrap();
    let photos = photographs(folder.path());
    let whole = folder.path().join("whole");
    run(&photos, &whole, options());

    let target = folder.path().join("store");
    let pictures = Pictures::open(&photos, IdRule::Stem).unwrap();
    let mut detector = tiny_detector(WEIGHTS, settings(), false);
    let stop = AtomicBool::new(false);
    let mut count = 0;
    let outcome = extract(&pictures, &target, &mut detector, options(), &stop, &mut |at| {
        count = at.done;
        stop.store(at.done == 2, Ordering::Relaxed);
    });
    assert!(outcome.unwrap().is_none() && !target.exists());
    assert_eq!(count, 2);
    let stop = AtomicBool::new(false);
    let report = extract(&pictures, &target, &mut detector, options(), &stop, &mut |_| ());
    let report = report.unwrap().unwrap();
    assert_eq!((report.resumed, report.schema.count), (2, 4));
    assert_eq!(digest(&target), digest(&whole));

    let parts: Vec<u64> = (1..=2)
        .map(|part| {
            let pictures = Pictures::open(&photos, IdRule::Stem).unwrap().shard(part, 2);
            let target = folder.path().join(format!("part{part}"));
            extract(&pictures, &target, &mut detector, options(), &stop, &mut |_| ())
                .unwrap()
                .unwrap();
            digest(&target)
        })
        .collect();
    assert_eq!(parts[0].wrapping_add(parts[1]), digest(&whole));
    let again = extract(&pictures, &target, &mut detector, options(), &stop, &mut |_| ());
    assert!(matches!(again, Err(ExtractError::Store(_))));
}

#[test]
fn a_picture_less_does_not_undo_an_interrupted_run_but_other_pictures_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let photos = photographs(folder.path());
    let (target, shown) = (folder.path().join("store"), folder.path().join("shown"));
    let mut detector = tiny_detector(WEIGHTS, settings(), false);
    let stop = AtomicBool::new(false);
    let with_drawings = || RegionOptions { show: Some((4, shown.clone())), ..options() };
    let mut pictures = Pictures::open(&photos, IdRule::Stem).unwrap();
    let outcome = extract(&pictures, &target, &mut detector, with_drawings(), &stop, &mut |at| {
        // Whichever three of the four: neither part has them all.
        stop.store(at.done >= 3, Ordering::Relaxed);
    });
    assert!(outcome.unwrap().is_none());
    stop.store(false, Ordering::Relaxed);
    let part = |part, detector: &mut _| {
        let pictures = Pictures::open(&photos, IdRule::Stem).unwrap().shard(part, 2);
        extract(&pictures, &target, detector, options(), &stop, &mut |_| ())
    };
    for number in 1..=2 {
        let refused = part(number, &mut detector);
        let said = refused.map(|_| ()).unwrap_err().to_string();
        assert!(said.contains("are not among these"), "part {number}: {said}");
    }
    fs::remove_file(photos.join("broken.jpg")).unwrap();
    pictures = Pictures::open(&photos, IdRule::Stem).unwrap();
    let report = extract(&pictures, &target, &mut detector, with_drawings(), &stop, &mut |_| ());
    let report = report.unwrap().unwrap();
    assert_eq!((report.resumed, report.schema.count, report.broken.len()), (3, 4, 0));
    assert_eq!(fs::read_dir(&shown).unwrap().count(), 4, "three before, and one more");
}

#[test]
fn pictures_that_have_changed_since_an_interrupted_run_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let photos = photographs(folder.path());
    let target = folder.path().join("store");
    let mut detector = tiny_detector(WEIGHTS, settings(), false);
    let stop = AtomicBool::new(false);
    let pictures = Pictures::open(&photos, IdRule::Stem).unwrap();
    let mut first_run = |stop_after: usize, stop: &AtomicBool| {
        extract(&pictures, &target, &mut detector, options(), stop, &mut |at| {
            stop.store(at.done >= stop_after, Ordering::Relaxed);
        })
    };
    assert!(first_run(3, &stop).unwrap().is_none());
    // At least one of two was done; what is moved there may be as old as it likes.
    std::thread::sleep(std::time::Duration::from_millis(50));
    for name in ["gray.png", "landscape.jpg"] {
        let other = folder.path().join("other");
        fs::copy(photos.join("portrait.png"), &other).unwrap();
        fs::rename(&other, photos.join(name)).unwrap();
    }
    stop.store(false, Ordering::Relaxed);
    let said = first_run(usize::MAX, &stop).unwrap_err().to_string();
    assert!(said.contains("have changed since the interrupted run"), "{said}");
}

#[test]
fn given_boxes_are_described_and_pictures_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let photos = photographs(folder.path());
    let found = folder.path().join("found");
    let shown = folder.path().join("shown");
    let names = Names { objects: vec!["thing".into(); 20], attributes: vec!["odd".into(); 10] };
    run(&photos, &found, RegionOptions { show: Some((2, shown.clone())), names, ..options() });
    let drawn: Vec<PathBuf> =
        fs::read_dir(&shown).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(drawn.len(), 2);
    for file in drawn {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let regions = FeatureStore::open(&found).unwrap().get(&name).unwrap();
        let picture = vision::image::read(&file, &Limits::default()).unwrap();
        assert_eq!((picture.width as u32, picture.height as u32), (regions.width, regions.height));
    }

    let described = folder.path().join("described");
    let boxes = Boxes::open(&found).unwrap();
    let report = run(&photos, &described, RegionOptions { boxes: Some(boxes), ..options() });
    assert_eq!(report.schema.count, 4);
    let store = FeatureStore::open(&described).unwrap();
    let original = FeatureStore::open(&found).unwrap();
    assert_eq!(store.get("gray").unwrap().boxes, original.get("gray").unwrap().boxes);

    let listed = folder.path().join("boxes.json");
    fs::write(&listed, r#"{"gray": [[1, 2, 30.5, 40]]}"#).unwrap();
    let boxes = Boxes::open(&listed).unwrap();
    let report =
        run(&photos, &folder.path().join("one"), RegionOptions { boxes: Some(boxes), ..options() });
    assert_eq!((report.schema.count, report.broken.len()), (1, 4));
    assert!(report.broken.iter().any(|broken| broken.reason.contains("no boxes are given")));
    fs::write(
        &listed,
        r#"{"gray": [[1, 2, 30.5, 40], [0, 0, 1e9, 40]], "landscape": [[0, 0, 9, 9]]}"#,
    )
    .unwrap();
    let boxes = Boxes::open(&listed).unwrap();
    let options = RegionOptions { boxes: Some(boxes), ..options() };
    let report = run(&photos, &folder.path().join("outer"), options);
    assert!(report.broken.iter().any(|broken| broken.reason.contains("box 1 reaches out")));
    fs::write(&listed, "[]").unwrap();
    assert!(Boxes::open(&listed).err().unwrap().to_string().contains("boxes.json"));
}

#[test]
fn drawings_take_the_place_of_drawings_only() {
    let folder = tempfile::tempdir().unwrap();
    let photos = photographs(folder.path());
    let before = fs::read(photos.join("landscape.jpg")).unwrap();
    let pictures = Pictures::open(&photos, IdRule::Stem).unwrap();
    let mut detector = tiny_detector(WEIGHTS, settings(), false);
    let target = folder.path().join("store");
    let mut refused = |shown: &Path| {
        let options = RegionOptions { show: Some((9, shown.to_owned())), ..options() };
        let stop = AtomicBool::new(false);
        let ended = extract(&pictures, &target, &mut detector, options, &stop, &mut |_| ());
        ended.err().map(|error| error.to_string())
    };
    let said = refused(&photos).unwrap();
    assert!(said.contains("is there and was not drawn by xenc"), "{said}");
    for place in [target.clone(), target.join("below"), folder.path().to_owned()] {
        let said = refused(&place).unwrap();
        assert!(said.contains("is the store that is written"), "{said}");
    }
    assert!(refused(&photos.join("gray.png")).unwrap().contains("is no folder"));
    assert_eq!(fs::read(photos.join("landscape.jpg")).unwrap(), before);
    let shown = folder.path().join("shown");
    assert_eq!(refused(&shown), None);
    fs::remove_dir_all(&target).unwrap();
    assert_eq!(refused(&shown), None, "drawings are drawn again");
}

#[test]
fn clip_ranks_the_images_of_a_set() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("image-sets/open-images-18_f9");
    fs::create_dir_all(&set).unwrap();
    for n in 0..10 {
        let name = ["landscape.jpg", "portrait.png", "gray.png", "exif.jpg"][n % 4];
        fs::copy(path("detector/photos").join(name), set.join(format!("img{}.jpg", 3 * n)))
            .unwrap();
    }
    let architecture = clip::Architecture {
        embed: 32,
        image: ImageTower::Vit(Vit { width: 64, patch: 8, layers: 1, grid: 4 }),
        text: TextTower { width: 64, layers: 1, context: 77, vocabulary: 49408 },
    };
    let weights = clip::random_weights(&architecture, 5);
    let onnx_options = onnx::runtime::Options::default();
    let mut encoder = ClipEncoder::from_weights(&weights, Towers::Both, &onnx_options).unwrap();
    let pictures = Pictures::open(folder.path(), IdRule::Auto).unwrap();
    let target = folder.path().join("embeddings");
    let options = EmbedOptions {
        batch: 4,
        limits: Limits::default(),
        workers: 2,
        writer: WriterOptions::default(),
    };
    let stop = AtomicBool::new(false);
    let report =
        embed(&pictures, &target, &mut encoder, options, &stop, &mut |_| ()).unwrap().unwrap();
    assert_eq!((report.schema.count, report.schema.dim), (10, 32));
    assert!(report.validation.is_good());

    let store = FeatureStore::open(&target).unwrap();
    // CLIP's loader does not turn pictures.
    assert_eq!(store.get("openimages18f9img9").unwrap().width, 361);
    let description = |text: &str, target, distractor| Description {
        directory: "open-images-18_f9".into(),
        text: text.into(),
        target,
        distractor,
    };
    let long = "a very long description of it ".repeat(20);
    let mut descriptions = vec![
        description("a cup of coffee", Some(0), None),
        description(&long, Some(6), None),
        description("a cat", Some(3), Some(1)),
        description("nothing known", None, None),
    ];
    descriptions.push(Description { directory: "elsewhere_1".into(), ..descriptions[0].clone() });
    let vocabulary = std::env::var_os("XENC_CLIP_VOCABULARY").unwrap();
    let tokenizer = clip::Tokenizer::open(Path::new(&vocabulary)).unwrap();
    let mut ranked = |stop: bool| {
        let stop = AtomicBool::new(stop);
        rank(&descriptions, &store, &mut encoder, &tokenizer, &stop, &mut |_| ()).unwrap()
    };
    assert!(ranked(true).is_none());
    let ranking = ranked(false).unwrap();
    let ranked = ranking.predictions;
    assert_eq!((ranked.len(), ranking.truncated, ranking.sets), (4, 1, 2));
    assert_eq!(ranking.skipped.len(), 1);
    assert_eq!((ranked[0].scores.len(), ranked[2].scores.len()), (10, 2));
    // Of a pair the earlier image comes first, whichever is described.
    assert_eq!((ranked[2].target, ranked[2].number), (Some(1), 3));
    assert_eq!(ranked[3].rank, None);
    // Equal pictures have equal scores, and of equals the first is the better one.
    assert_eq!(ranked[1].scores[2], ranked[1].scores[6]);
    let better = ranked[1].scores.iter().filter(|&&score| score > ranked[1].scores[6]).count();
    assert_eq!(ranked[1].rank, Some(better + 2));
}
