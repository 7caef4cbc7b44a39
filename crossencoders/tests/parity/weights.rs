//! Every file of `checkpoints`: PyTorch files of every kind, sound, broken and malicious, and what they must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crossencoders::config::ModelConfig;
use crossencoders::weights::{self, SaveAs, WeightsFile};
use tch::Tensor;
use unpickle::Value;

use crate::{fixtures, tensors};

/// What a sound file must hold, by the beginning of its name.
const SOUND: [(&str, &str); 4] = [
    ("state_dict_fp16", "expected_fp16.safetensors"),
    ("state_dict", "expected.safetensors"),
    ("training_ckpt", "expected.safetensors"),
    ("small_", "expected_small.safetensors"),
];

fn folder() -> PathBuf {
    fixtures().join("checkpoints")
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn assert_equal(found: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>, what: &str) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
    for (name, expected) in expected {
        let found = &found[name];
        let shape = |tensor: &Tensor| (tensor.kind(), tensor.size());
        assert_eq!(shape(found), shape(expected), "{what}: {name}");
        assert!(found.equal(expected), "{what}: {name}");
    }
}

#[test]
fn parity_every_file_of_checkpoints_is_compared_exactly_or_refused() {
    let mut used = BTreeSet::from(["README.md".to_owned()]);
    let (mut sound, mut refused, mut training) = (0, 0, 0);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        names.push(entry.unwrap().file_name().to_string_lossy().into_owned());
    }
    for name in &names {
        let path = folder().join(name);
        if name.starts_with("malicious_") || name.starts_with("broken_") {
            assert_refused(&path);
            refused += 1;
        } else if name.starts_with("detectron2_") {
            compare_arrays(&path);
            used.insert("expected_detectron2.safetensors".into());
        } else if name.ends_with(".bin") || name.ends_with(".tar") {
            let expected = SOUND.iter().find(|(start, _)| name.starts_with(start));
            let (_, expected) =
                expected.unwrap_or_else(|| panic!("{name} is compared with nothing"));
            let found = weights::read(&path).unwrap_or_else(|error| panic!("{error}"));
            assert_equal(&found, &tensors(&folder().join(expected)), name);
            used.insert((*expected).to_owned());
            sound += 1;
            if name.starts_with("training_") {
                compare_training(&path);
                used.extend(
                    ["expected_training.json", "expected_moments.safetensors"].map(str::to_owned),
                );
                training += 1;
            }
        } else {
            continue;
        }
        used.insert(name.clone());
    }
    compare_written(&folder().join("state_dict_zip.bin"));
    used.extend(["config.json", "tied.json"].map(str::to_owned));
    let uncompared: Vec<&String> = names.iter().filter(|name| !used.contains(*name)).collect();
    assert!(uncompared.is_empty(), "{uncompared:?} are compared with nothing");
    assert!(sound >= 7 && refused >= 16 && training >= 2, "{sound}, {refused}, {training}");
    assert!(!Path::new("PWNED").exists());
}

fn assert_refused(path: &Path) {
    let read = weights::read(path).map(|tensors| tensors.into_keys().collect::<Vec<_>>());
    let Err(error) = read else { panic!("{path:?} is read as {read:?}") };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("malicious_") {
        assert!(error.to_string().contains("it would call `"), "{error}");
    }
    assert!(weights::training_state(path).is_err(), "{path:?} has a training state");
    if path.extension().is_some_and(|extension| extension == "pkl") {
        assert!(unpickle::read(&std::fs::read(path).unwrap()).is_err(), "{path:?}");
    }
}

/// NumPy pickles, which the detector's weights are in.
fn compare_arrays(path: &Path) {
    let expected = tensors(&folder().join("expected_detectron2.safetensors"));
    let value = unpickle::read(&std::fs::read(path).unwrap()).unwrap();
    let Some(Value::Dict(model)) = value.get("model") else { panic!("{path:?} holds no model") };
    assert_eq!(model.len(), expected.len(), "{path:?}");
    for (name, array) in model {
        let (name, Value::Array(array)) = (name.as_str().unwrap(), array) else {
            panic!("{name:?}")
        };
        let expected = &expected[name];
        let shape: Vec<i64> = array.shape().iter().map(|&size| size as i64).collect();
        let found = Tensor::from_data_size(array.bytes(), &shape, expected.kind());
        assert!(found.equal(expected), "{path:?}: {name}");
    }
}

fn compare_training(path: &Path) {
    let state = weights::training_state(path).unwrap_or_else(|error| panic!("{error}"));
    let json = json(&folder().join("expected_training.json"));
    let serde_json::Value::Object(expected) = json else { panic!("{json}") };
    for (key, expected) in expected {
        let steps: BTreeSet<i64> = state.moments.values().map(|moments| moments.steps).collect();
        let rates: BTreeSet<String> = state.learning_rates.values().map(f64::to_string).collect();
        let found = match key.as_str() {
            "global_step" => serde_json::json!(state.global_step),
            "epoch_id" => serde_json::json!(state.epoch),
            "score" => serde_json::json!(state.score),
            "adam_step" if steps.len() == 1 => serde_json::json!(steps.first()),
            "parameter_order" => serde_json::json!(state.parameters),
            "lr_now" if rates.len() == 1 => {
                serde_json::json!(rates.first().unwrap().parse::<f64>().unwrap())
            }
            "scheduler_last_epoch" => serde_json::json!(state.scheduler_step),
            _ => panic!("{path:?}: `{key}` is compared with nothing"),
        };
        assert_eq!(found, expected, "{path:?}: {key}");
    }
    assert_eq!(state.learning_rates.len(), state.parameters.len());
    let mut moments = BTreeMap::new();
    for (name, parameter) in state.moments {
        moments.insert(format!("exp_avg.{name}"), parameter.first);
        moments.insert(format!("exp_avg_sq.{name}"), parameter.second);
    }
    assert_equal(&moments, &tensors(&folder().join("expected_moments.safetensors")), "moments");
}

/// What is written as a PyTorch file is what was read, under the same names, tied ones included.
fn compare_written(path: &Path) {
    let config = ModelConfig::load(&folder().join("config.json")).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let target = temporary.path().join("written.bin");
    let conversion =
        weights::Conversion { format: SaveAs::Pytorch, kind: None, names: None, force: false };
    let report = weights::convert(path, &target, Some(&config), &conversion).unwrap();
    assert!(report.left_out.is_empty() && report.tied.is_empty(), "{report:?}");
    let written = WeightsFile::open(&target).unwrap();
    assert_eq!(written.format, weights::Format::PytorchZip);
    assert_equal(&written.tensors, &tensors(&folder().join("expected.safetensors")), "written");
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    // Tied names lie in the file once.
    let tied = json(&folder().join("tied.json"));
    let groups = tied.as_array().unwrap().iter();
    let twins: usize = groups.map(|group| group.as_array().unwrap().len() - 1).sum();
    let archive = zip::ZipArchive::new(std::fs::File::open(&target).unwrap()).unwrap();
    let storages = archive.file_names().filter(|name| name.as_ref().unwrap().contains("/data/"));
    assert_eq!(storages.count() + twins, written.tensors.len());
}
