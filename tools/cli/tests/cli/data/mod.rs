//! `xenc data`: a small data set, to be checked, counted and converted.

mod check;
mod convert;
mod stats;

use std::fs;
use std::path::Path;

use dataset::image_id;
use feature_store::{Regions, StoreWriter, WriterOptions};
use serde_json::{Value, json};

use crate::{Place, run};

const STATIC: &str = "open-images-1_a";
const VIDEO: &str = "MSR-VTT_video7-shot1_0";
const OTHER: &str = "MSR-VTT_video8-shot1_0";

/// The frame at a position: static sets are numbered 0 to 9, videos are not.
fn frame(set: &str, position: u64) -> u64 {
    if set == STATIC { position } else { 5 + 3 * position }
}

/// A sound data set: three splits of one set each, phenomena and annotators, pictures and features.
struct Data(Place);

impl Data {
    fn new() -> Data {
        let data = Data(Place::new());
        data.write(
            "set/train_data.json",
            &json!({ VIDEO: {"2": "the door is open", "7": "the door is shut"} }).to_string(),
        );
        data.write(
            "set/valid_data.json",
            &json!({ STATIC: {"0": "a red bird", "9": "one bird on a branch"} }).to_string(),
        );
        data.write(
            "set/test_data_unlabeled.json",
            &json!({ OTHER: ["he looks up", "he looks down"] }).to_string(),
        );
        data.write(
            "set/manual_annotation_valid.yaml",
            &format!("\"{STATIC}\":\n  \"9\":\n    \"description\": \"one bird  on a branch\"\n    \"annotation\": \"q,s\"\n"),
        );
        let annotators = json!({ STATIC: {"0": "train_worker", "9": "unseen_worker"} });
        data.write("set/annotator_split_valid.json", &annotators.to_string());
        data.write("set/counter2key_val.json", "{}");
        for set in [STATIC, VIDEO, OTHER] {
            for position in 0..10 {
                let number = frame(set, position);
                data.write(&format!("images/{set}/img{number}.jpg"), &format!("{set} {number}"));
            }
        }
        data.store("features", |_| true);
        data
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    /// A store of those images, each of a direction of its own near that of its set.
    fn store(&self, name: &str, has: impl Fn(&str) -> bool) {
        let mut writer =
            StoreWriter::create(self.path(name).as_ref(), WriterOptions::default()).unwrap();
        for (axis, set) in [STATIC, VIDEO, OTHER].into_iter().enumerate() {
            for position in 0..10 {
                let id = image_id(set, frame(set, position));
                let mut features = vec![0.1 * position as f32; 3];
                features[axis] = 9.0;
                let regions = Regions {
                    width: 9,
                    height: 9,
                    boxes: vec![[0.0, 0.0, 5.0, 5.0]],
                    features,
                    dim: 3,
                    ..Regions::default()
                };
                if has(&id) {
                    writer.append(&id, &regions).unwrap();
                }
            }
        }
        writer.finish().unwrap();
    }

    fn check(&self, more: &[&str]) -> (i32, String, String) {
        run(&[&["data", "check", &self.path("set")], more].concat())
    }

    /// Converts `set/SOURCE`; exit code and what was said.
    fn convert(&self, source: &str, target: &str, to: &str, more: &[&str]) -> (i32, String) {
        let (source, target) = (self.path(source), self.path(target));
        let (code, _, said) =
            run(&[&["data", "convert", &source, &target, "--to", to], more].concat());
        (code, said)
    }
}
