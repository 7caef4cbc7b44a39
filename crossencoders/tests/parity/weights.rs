//! PyTorch files of every kind, sound, broken and malicious.

use std::path::Path;

use crossencoders::weights;

use crate::{fixtures, tensors};

/// What a sound file must hold, by the beginning of its name.
const SOUND: [(&str, &str); 4] = [
    ("state_dict_fp16", "expected_fp16.safetensors"),
    ("state_dict", "expected.safetensors"),
    ("training_ckpt", "expected.safetensors"),
    ("small_", "expected_small.safetensors"),
];

/// Weights only: the optimiser's moments in training checkpoints (`expected_moments`, `expected_training`) are not read
/// yet. NumPy pickles (`detectron2_*.pkl`, `malicious_*.pkl`) are compared by the `unpickle` crate.
#[test]
fn parity_checkpoints_are_read_exactly_or_refused() {
    let (mut sound, mut refused) = (0, 0);
    for entry in std::fs::read_dir(fixtures().join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !(name.ends_with(".bin") || name.ends_with(".tar")) {
            continue;
        }
        if name.starts_with("malicious_") || name.starts_with("broken_") {
            let read = weights::read(&path);
            assert!(
                read.is_err(),
                "{name} is read as {:?}",
                read.map(|tensors| tensors.into_keys().collect::<Vec<_>>())
            );
            refused += 1;
            continue;
        }
        let expected = SOUND.iter().find(|(start, _)| name.starts_with(start));
        let (_, expected) = expected.unwrap_or_else(|| panic!("{name} is compared with nothing"));
        let expected = tensors(&path.with_file_name(expected));
        let found = weights::read(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (tensor, expected) in &expected {
            let found = &found[tensor];
            assert_eq!(
                (found.kind(), found.size()),
                (expected.kind(), expected.size()),
                "{name}: {tensor}"
            );
            assert!(found.equal(expected), "{name}: {tensor}");
        }
        sound += 1;
    }
    assert!(sound >= 7 && refused >= 12, "{sound} sound, {refused} refused");
    assert!(!Path::new("PWNED").exists());
}
