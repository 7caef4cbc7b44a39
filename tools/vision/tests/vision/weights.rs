//! Weights from every container, and files that are no weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vision::weights::{Expected, Weights, WeightsError};
use vision::{clip, detector};

use crate::fixtures::path;

fn open(name: &str) -> Weights {
    Weights::open(&path(name)).expect(name)
}

/// All tensors that the model has are equal, to the bit.
fn assert_same(a: &Weights, b: &Weights, expected: &Expected) {
    assert!(expected.0.len() > 50);
    for (name, shape) in &expected.0 {
        let (a, b) = (a.read(name).unwrap(), b.read(name).unwrap());
        assert_eq!(a.shape, *shape, "{name}");
        assert_eq!(a, b, "{name}");
    }
}

#[test]
fn parity_clip_is_read_from_a_torchscript_archive_as_from_safetensors() {
    let (archive, plain) = (open("clip/vit_torchscript.pt"), open("clip/vit_weights.safetensors"));
    let config = clip::Architecture::of_file(&archive).unwrap();
    assert_eq!(config, clip::Architecture::of_file(&plain).unwrap());
    assert_eq!((config.embed, config.image.size()), (48, 32));
    assert_same(&archive, &plain, &config.expected());
    // The three integers beside the parameters are no weights.
    assert_eq!(archive.compare(&config.expected()), Default::default());

    clip::Architecture::of_file(&open("clip/rn_weights.safetensors")).unwrap();
}

#[test]
fn parity_the_detector_is_read_from_both_published_containers() {
    let reference = open("detector/tiny_weights.safetensors");
    let architecture = detector::Architecture::of(&reference).unwrap();
    assert_eq!(architecture.blocks, [1, 1, 2, 3]);
    assert_eq!((architecture.classes, architecture.proposal_hidden), (20, 24));
    let expected = architecture.expected();
    for name in ["detector/tiny_weights_d2.pkl", "detector/tiny_weights_hf.bin"] {
        let weights = open(name);
        assert_eq!(detector::Architecture::of(&weights).unwrap(), architecture);
        assert_same(&weights, &reference, &expected);
        let report = weights.compare(&expected);
        let anchors = "proposal_generator.anchor_generator.cell_anchors.0";
        assert!(
            report.fits() && report.unexpected.iter().all(|name| name == anchors),
            "{report:?}"
        );
    }
}

/// Names and shapes of a full-size model (`name`, `64x3x7x7`, note).
fn listed(file: &str) -> BTreeMap<String, Vec<usize>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/shapes").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split('\t');
        let (name, shape, note) = (fields.next()?, fields.next()?, fields.next().unwrap_or(""));
        let sizes = shape.split('x').filter(|size| *size != "scalar");
        let is_weight = !note.contains("ignore")
            && !name.ends_with("num_batches_tracked")
            && !name.contains("cell_anchors");
        is_weight.then(|| (name.to_owned(), sizes.map(|size| size.parse().unwrap()).collect()))
    });
    rows.collect()
}

#[test]
fn full_size_models_have_the_published_tensors() {
    let clip = |name: &str| clip::Architecture::published(name).unwrap().expected();
    let cases = [
        ("clip_vit_b32_tensors.tsv", clip("ViT-B/32")),
        ("clip_vit_b16_tensors.tsv", clip("ViT-B/16")),
        ("clip_vit_l14_tensors.tsv", clip("ViT-L/14")),
        ("clip_rn50_tensors.tsv", clip("RN50")),
        ("detector_tensors.tsv", detector::Architecture::default().expected()),
    ];
    for (file, expected) in cases {
        let count = expected.0.len();
        let expected: BTreeMap<String, Vec<usize>> = expected.0.into_iter().collect();
        assert_eq!(expected.len(), count, "{file}: names are unique");
        assert_eq!(expected, listed(file), "{file}");
    }
    assert_eq!(detector::Architecture::default().expected().0.len(), 535);
}

#[test]
fn random_weights_are_those_of_the_seed_and_have_the_models_sizes() {
    let resnet = clip::Architecture::published("RN50").unwrap();
    let weights = clip::random_weights(&resnet, 3);
    assert_eq!(clip::Architecture::of_file(&weights).unwrap(), resnet);
    let name = "visual.layer4.2.conv2.weight";
    let again = clip::random_weights(&resnet, 3).read(name).unwrap();
    assert_eq!(weights.read(name).unwrap(), again);
    assert_ne!(clip::random_weights(&resnet, 4).read(name).unwrap(), again);
    let power = again.values.iter().map(|v| v * v).sum::<f32>() / again.values.len() as f32;
    assert!((power * (9.0 * 512.0) / 2.0 - 1.0).abs() < 0.05, "{power}");
    let weights = detector::random_weights(1);
    assert_eq!(detector::Architecture::of(&weights).unwrap(), detector::Architecture::default());
}

/// The tiny CLIP under Hugging Face's names.
fn hugging_face_clip(folder: &Path) -> PathBuf {
    let file = std::fs::read(path("clip/vit_weights.safetensors")).unwrap();
    let plain = safetensors::SafeTensors::deserialize(&file).unwrap();
    let mut renamed: BTreeMap<String, (Vec<usize>, safetensors::Dtype, Vec<u8>)> = BTreeMap::new();
    for (name, view) in plain.iter() {
        let tower = if name.starts_with("visual.") { "vision_model" } else { "text_model" };
        let (shape, dtype, data) = (view.shape().to_vec(), view.dtype(), view.data().to_vec());
        let rename = |from: &str| match from {
            "positional_embedding" | "visual.positional_embedding" => {
                format!("{tower}.embeddings.position_embedding.weight")
            }
            "token_embedding.weight" => format!("{tower}.embeddings.token_embedding.weight"),
            "visual.class_embedding" => format!("{tower}.embeddings.class_embedding"),
            "visual.conv1.weight" => format!("{tower}.embeddings.patch_embedding.weight"),
            "logit_scale" => "logit_scale".to_owned(),
            other => other
                .replace("visual.", "")
                .replace("transformer.resblocks.", &format!("{tower}.encoder.layers."))
                .replace(".attn.", ".self_attn.")
                .replace(".ln_1.", ".layer_norm1.")
                .replace(".ln_2.", ".layer_norm2.")
                .replace("mlp.c_fc", "mlp.fc1")
                .replace("mlp.c_proj", "mlp.fc2")
                .replace("ln_final", "text_model.final_layer_norm")
                .replace("ln_pre", "vision_model.pre_layrnorm")
                .replace("ln_post", "vision_model.post_layernorm"),
        };
        if let Some(rest) = rename(name).split_once(".self_attn.in_proj_") {
            let (layer, kind) = rest;
            for (n, part) in ["q", "k", "v"].into_iter().enumerate() {
                let mut third = shape.clone();
                third[0] /= 3;
                let size = data.len() / 3;
                let bytes = data[n * size..(n + 1) * size].to_vec();
                renamed
                    .insert(format!("{layer}.self_attn.{part}_proj.{kind}"), (third, dtype, bytes));
            }
        } else if name == "visual.proj" || name == "text_projection" {
            let to = if name == "visual.proj" { "visual_projection" } else { name };
            let (rows, columns, size) = (shape[0], shape[1], data.len() / (shape[0] * shape[1]));
            let transposed = (0..columns)
                .flat_map(|c| (0..rows).map(move |r| (r * columns + c) * size))
                .flat_map(|at| data[at..at + size].to_vec())
                .collect();
            renamed.insert(format!("{to}.weight"), (vec![columns, rows], dtype, transposed));
        } else {
            renamed.insert(rename(name), (shape, dtype, data));
        }
    }
    let views = renamed.iter().map(|(name, (shape, dtype, data))| {
        (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    let target = folder.join("model.safetensors");
    safetensors::serialize_to_file(views, None, &target).unwrap();
    target
}

#[test]
fn hugging_faces_names_become_openais() {
    let folder = tempfile::tempdir().unwrap();
    let renamed = Weights::open(&hugging_face_clip(folder.path())).unwrap();
    let plain = open("clip/vit_weights.safetensors");
    let config = clip::Architecture::of_file(&renamed).unwrap();
    assert_same(&renamed, &plain, &config.expected());
}

#[test]
fn a_pickle_that_calls_something_is_refused_by_the_name_of_the_call() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.pkl");
    std::fs::write(&file, b"\x80\x02cposix\nsystem\nq\x00X\x04\0\0\0true\x85R.").unwrap();
    let refused = |result: Result<Weights, WeightsError>| match result {
        Err(WeightsError::Refused { call, .. }) => call,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    };
    assert_eq!(refused(Weights::open(&file)), "posix.system");

    // The same call among the attributes of a TorchScript archive and in a state dictionary.
    let attack = b"c__torch__\nNode\n)\x81}X\x01\0\0\0xcposix\nsystem\nX\x04\0\0\0true\x85Rsb.";
    let script = folder.path().join("script.pt");
    write_zip(&script, &[("a/data.pkl", attack), ("a/constants.pkl", b"\x80\x02).")]);
    assert_eq!(refused(Weights::open(&script)), "posix.system");
    let state = b"\x80\x02}X\x01\0\0\0xcbuiltins\neval\nX\x01\0\0\x001\x85Rs.";
    let zip = folder.path().join("state.pt");
    write_zip(&zip, &[("a/data.pkl", state)]);
    assert_eq!(refused(Weights::open(&zip)), "builtins.eval");
}

fn write_zip(path: &Path, files: &[(&str, &[u8])]) {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn files_that_are_no_weights_of_the_model_are_told_so() {
    let error = |result: Result<Weights, WeightsError>| match result {
        Err(error) => error.to_string(),
        Ok(_) => panic!("accepted"),
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        file
    };
    assert!(error(Weights::open(Path::new("nowhere.pt"))).contains("nowhere.pt"));
    assert!(error(Weights::open(&write("a", b"hello, I am text"))).contains("neither"));
    assert!(error(Weights::open(&write("b.pkl", b"\x80\x02}."))).contains("__author__"));

    let whole = std::fs::read(path("clip/vit_weights.safetensors")).unwrap();
    let cut = write("cut.safetensors", &whole[..whole.len() / 2]);
    assert!(error(Weights::open(&cut)).contains("truncated"));
    let archive = std::fs::read(path("clip/vit_torchscript.pt")).unwrap();
    error(Weights::open(&write("cut.pt", &archive[..archive.len() / 2])));

    let detector = open("detector/tiny_weights.safetensors");
    let misfit = clip::Architecture::of_file(&detector).unwrap_err().to_string();
    assert!(
        misfit.contains("does not fit CLIP") && misfit.contains("`text_projection` is missing"),
        "{misfit}"
    );
    let missing = detector.read("backbone.res9.weight").unwrap_err().to_string();
    assert!(missing.contains("`backbone.res9.weight`"), "{missing}");
    let mut expected = detector::Architecture::of(&detector).unwrap().expected();
    expected.0[0].1[0] += 1;
    let misfit = detector.require(&expected, "a test").unwrap_err().to_string();
    assert!(
        misfit.contains("`backbone.stem.conv1.weight` is [8, 3, 7, 7] where [9, 3, 7, 7]"),
        "{misfit}"
    );
}

#[test]
fn a_damaged_file_of_weights_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("damaged");
    let mut state = 7u32;
    let mut next = |below: usize| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 7) as usize % below
    };
    for name in [
        "clip/vit_torchscript.pt",
        "clip/vit_weights.safetensors",
        "detector/tiny_weights_d2.pkl",
        "detector/tiny_weights_hf.bin",
    ] {
        let whole = std::fs::read(path(name)).unwrap();
        let (mut opened, mut refused) = (0, 0);
        for round in 0..60 {
            let mut damaged = whole.clone();
            // Headers and the directory of a zip, which lies at its end, are where it hurts.
            let (from, to) = match round % 3 {
                0 => (0, 4096),
                1 => (whole.len() - 4096, whole.len()),
                _ => (0, whole.len()),
            };
            for _ in 0..1 + next(8) {
                damaged[from + next(to - from)] = next(256) as u8;
            }
            std::fs::write(&file, &damaged).unwrap();
            match Weights::open(&file) {
                Ok(weights) => {
                    opened += 1;
                    let names: Vec<String> = weights.names().map(str::to_owned).collect();
                    for name in names {
                        let _ = weights.read(&name).map(|tensor| tensor.values.len());
                    }
                }
                Err(_) => refused += 1,
            }
        }
        assert!(opened > 0 && refused > 0, "{name}: {opened} opened, {refused} refused");
    }
}
