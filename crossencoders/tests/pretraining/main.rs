//! From a file of captions and a feature store to losses, through the public door.

#[path = "../common/mod.rs"]
mod common;
mod run;

use crossencoders::config::ModelConfig;
use crossencoders::data::masking::{RegionMasking, WordMasking};
use crossencoders::data::{
    Captions, DataError, Drawing, Limits, Objective, PretrainingBatch, Tokenizer, pretraining_batch,
};
use crossencoders::model::pretraining::{PretrainingModel, VisualTarget};
use feature_store::{FeatureStore, Labels, Regions, StoreWriter, WriterOptions};
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};

use common::alone;

const DIM: usize = 8;
const REGIONS: usize = 4;
const IMAGES: [&str; 4] = ["dog", "cat", "cow", "owl"];
const WORDS: [&str; 11] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "cat", "cow", "owl", "sits"];

/// Images whose features, classes and probabilities say which animal it is.
fn regions(image: usize) -> Regions {
    let hot = |width: usize, rows: usize| -> Vec<f32> {
        (0..rows * width).map(|at| f32::from(u8::from(at % width == image))).collect()
    };
    let labels =
        |id: usize| Labels { ids: vec![id as i64; REGIONS], confidences: vec![0.9; REGIONS] };
    Regions {
        width: 100,
        height: 100,
        boxes: (0..REGIONS)
            .map(|at| [10.0 * at as f32, 0.0, 10.0 * at as f32 + 8.0, 50.0])
            .collect(),
        features: hot(DIM, REGIONS),
        dim: DIM,
        objects: Some(labels(image)),
        attributes: Some(labels(image + 100)),
        class_probabilities: Some(hot(1601, REGIONS)),
        ..Regions::default()
    }
}

struct Data {
    folder: tempfile::TempDir,
    store: FeatureStore,
    tokenizer: Tokenizer,
}

impl Data {
    fn new(change: impl Fn(&mut Regions)) -> Data {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.xenc");
        let mut writer = StoreWriter::create(&path, WriterOptions::default()).unwrap();
        for (number, image) in IMAGES.iter().enumerate() {
            let mut regions = regions(number);
            change(&mut regions);
            writer.append(image, &regions).unwrap();
        }
        writer.finish().unwrap();
        let store = FeatureStore::open(&path).unwrap();
        let vocabulary = folder.path().join("vocab.txt");
        std::fs::write(&vocabulary, WORDS.join("\n")).unwrap();
        let tokenizer = Tokenizer::load(&vocabulary).unwrap();
        Data { folder, store, tokenizer }
    }

    fn captions(&self, lines: &str) -> Result<Captions, DataError> {
        let path = self.folder.path().join("captions.jsonl");
        std::fs::write(&path, lines).unwrap();
        Captions::load(&path, &self.store, &self.tokenizer, Limits::new(20, REGIONS))
    }

    /// One caption an image.
    fn all(&self) -> Captions {
        let line =
            |image: &&str| format!("{{\"image\": \"{image}\", \"caption\": \"a {image} sits\"}}\n");
        self.captions(&IMAGES.iter().map(line).collect::<String>()).unwrap()
    }

    fn batch(
        &self,
        captions: &Captions,
        config: &ModelConfig,
        wanted: &[VisualTarget],
        drawing: &Drawing,
        epoch: u64,
    ) -> Result<PretrainingBatch, DataError> {
        let rows: Vec<usize> = (0..captions.examples.len()).collect();
        let spec = config.batch_spec(REGIONS + 1);
        pretraining_batch(&self.store, captions, &spec, wanted, drawing, epoch, &rows)
    }
}

fn config(targets: &serde_json::Value) -> ModelConfig {
    serde_json::from_value(serde_json::json!({
        "vocab_size": WORDS.len(), "hidden_size": 16, "v_hidden_size": 16,
        "num_attention_heads": 2, "v_num_attention_heads": 2, "intermediate_size": 32,
        "v_intermediate_size": 32, "v_feature_size": DIM, "max_position_embeddings": 20,
        "pooler_size": 16, "image_embeddings": "uniter", "add_global_imgfeat": "first",
        "visual_target_weights": targets, "shared_sublayers": [0, 1, 2, 3],
        "tt_attn_sublayers": [0, 2], "tv_attn_sublayers": [0, 2], "vt_attn_sublayers": [0, 2],
        "vv_attn_sublayers": [0, 2], "t_ff_sublayers": [1, 3], "v_ff_sublayers": [1, 3]
    }))
    .unwrap()
}

fn drawing(data: &Data, objective: Objective) -> Drawing {
    let mask = data.tokenizer.id("[MASK]").unwrap();
    let words = WordMasking { chosen: 0.4, ..WordMasking::new(mask, WORDS.len() as i64) };
    let regions = RegionMasking { chosen: 0.4, ..RegionMasking::default() };
    Drawing { words, regions, objective, seed: 11 }
}

fn ints(tensor: &Tensor) -> Vec<i64> {
    Vec::try_from(tensor.flatten(0, -1)).unwrap()
}

#[test]
fn every_visual_target_is_learnt_from_a_store_with_all_labels() {
    let _alone = alone();
    // A model as small as this only waits for its other threads.
    tch::set_num_threads(1);
    let data = Data::new(|_| ());
    let captions = data.all();
    let weights = serde_json::json!(
        {"0": 1.0, "1": 1.0, "2": 1.0, "3": 1.0, "4": 1.0, "5": 1.0, "6": 1.0}
    );
    let config = config(&weights);
    let variables = nn::VarStore::new(Device::Cpu);
    tch::manual_seed(0);
    let model = PretrainingModel::new(&variables.root(), &config).unwrap();
    let drawing = drawing(&data, Objective::All);
    let wanted = model.visual_targets();
    let mut optimizer = nn::Adam::default().build(&variables, 1e-2).unwrap();
    let mut totals = Vec::new();
    for epoch in 0..60 {
        let batch = data.batch(&captions, &config, &wanted, &drawing, epoch).unwrap();
        let losses = model.losses(&batch.text, &batch.vision, &batch.targets, true).unwrap();
        assert_eq!(losses.regions.len(), 7);
        totals.push(losses.total.double_value(&[]));
        optimizer.backward_step(&losses.total);
    }
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (before, after) = (mean(&totals[..10]), mean(&totals[50..]));
    assert!(after < 0.5 * before, "{before} to {after}");
}

#[test]
fn a_batch_is_a_function_of_seed_and_epoch() {
    let data = Data::new(|_| ());
    let (captions, config) = (data.all(), config(&serde_json::json!({"2": 1.0})));
    let drawing = drawing(&data, Objective::All);
    let batch = |epoch| {
        let batch = data.batch(&captions, &config, &[VisualTarget::FeatureNce], &drawing, epoch);
        let batch = batch.unwrap();
        let features = batch.vision.features.double_value(&[0, 0, 0]);
        (
            ints(&batch.text.input_ids),
            ints(&batch.targets.words),
            ints(&batch.targets.regions.labels),
            ints(&batch.targets.regions.negatives.unwrap()),
            ints(&batch.targets.alignment.unwrap()),
            features,
        )
    };
    assert_eq!(batch(3), batch(3));
    assert_ne!(batch(3), batch(4));
}

#[test]
fn targets_are_of_what_was_there_before_it_was_hidden() {
    let data = Data::new(|_| ());
    let (captions, config) = (data.all(), config(&serde_json::json!({"1": 1.0})));
    let drawing = drawing(&data, Objective::NoAlignment);
    let batch = data.batch(&captions, &config, &[VisualTarget::FeatureMse], &drawing, 0).unwrap();
    assert!(batch.targets.alignment.is_none());
    let known = batch.targets.regions.features.unwrap();
    let labels = batch.targets.regions.labels;
    // Row 0 is the global feature, the last row padding: nothing is to be predicted of them.
    assert!(ints(&labels.select(1, 0)).iter().all(|&label| label == -1));
    assert!(ints(&labels.select(1, REGIONS as i64 + 1)).iter().all(|&label| label == -1));
    let real =
        known.narrow(1, 1, REGIONS as i64).sum_dim_intlist([-1].as_slice(), false, Kind::Float);
    assert_eq!(real.min().double_value(&[]), 1.0, "features are not hidden in the targets");
    let seen = batch.vision.features.sum_dim_intlist([-1].as_slice(), false, Kind::Float);
    let hidden = seen.narrow(1, 1, REGIONS as i64).eq(0.0);
    assert!(hidden.any().int64_value(&[]) == 1);
    let not_chosen = hidden.logical_and(&labels.narrow(1, 1, REGIONS as i64).ne(1));
    assert_eq!(not_chosen.any().int64_value(&[]), 0, "only what is chosen is hidden");
    // A label is the caption's own word piece wherever there is one.
    let words: Vec<i64> = captions.examples.iter().flat_map(|c| c.input_ids.clone()).collect();
    let chosen: Vec<(i64, i64)> = ints(&batch.targets.words)
        .into_iter()
        .zip(words)
        .filter(|(label, _)| *label >= 0)
        .collect();
    assert!(!chosen.is_empty() && chosen.iter().all(|(label, word)| label == word));
}

#[test]
fn mismatched_pairs_teach_only_that_they_are() {
    let data = Data::new(|_| ());
    let (captions, config) = (data.all(), config(&serde_json::json!({"4": 1.0})));
    let drawing = drawing(&data, Objective::AlignedOnly);
    let (mut mismatched, mut pairs) = (0, 0);
    for epoch in 0..50 {
        let batch = data.batch(&captions, &config, &[VisualTarget::Attribute], &drawing, epoch);
        let batch = batch.unwrap();
        let labels = ints(&batch.targets.alignment.unwrap());
        for (row, &label) in labels.iter().enumerate() {
            pairs += 1;
            if label == 0 {
                continue;
            }
            mismatched += 1;
            let ignored = |x: &Tensor| ints(&x.get(row as i64)).iter().all(|&label| label == -1);
            assert!(ignored(&batch.targets.words) && ignored(&batch.targets.regions.labels));
        }
    }
    // Half of 200 are exchanged, a quarter of those for their own: 75, with a standard deviation of 7.
    assert!((50..100).contains(&mismatched), "{mismatched} of {pairs}");
}

#[test]
fn labels_that_the_store_lacks_or_that_are_others_are_errors() {
    let _alone = alone();
    let weights = serde_json::json!({"4": 1.0});
    let config = config(&weights);
    let data = Data::new(|regions| regions.attributes = None);
    let variables = nn::VarStore::new(Device::Cpu);
    let model = PretrainingModel::new(&variables.root(), &config).unwrap();
    let drawing_all = drawing(&data, Objective::All);
    let batch = data.batch(&data.all(), &config, &model.visual_targets(), &drawing_all, 0).unwrap();
    let error = model.losses(&batch.text, &batch.vision, &batch.targets, false).unwrap_err();
    assert!(error.to_string().contains("attribute classes"), "{error}");

    let data = Data::new(|regions| {
        regions.attributes.as_mut().unwrap().ids[2] = 400;
    });
    let error = data
        .batch(&data.all(), &config, &[VisualTarget::Attribute], &drawing(&data, Objective::All), 0)
        .unwrap_err();
    assert!(error.to_string().contains("image dog has a region of class 400"), "{error}");
}

#[test]
fn captions_say_what_is_wrong_with_them() {
    let data = Data::new(|_| ());
    let captions = data
        .captions("{\"image\": \"dog\", \"caption\": \"a dog\", \"x\": 1}\n\n{\"image\": \"elk\", \"caption\": \"a\"}\n")
        .unwrap();
    assert_eq!((captions.examples.len(), captions.skipped), (1, 1));
    assert_eq!(captions.lengths(), [4]);
    let error = data.captions("{\"image\": \"dog\", \"caption\": \"a\"}\n{\"image\": 3}\n");
    assert!(error.unwrap_err().to_string().contains("captions.jsonl, line 2: no caption"));
    let none = data.captions("{\"image\": \"elk\", \"caption\": \"a\"}\n").unwrap_err().to_string();
    assert!(
        none.contains("no caption of an image in") && none.contains("1 of other images"),
        "{none}"
    );
    let missing = data.folder.path().join("none.jsonl");
    let missing = Captions::load(&missing, &data.store, &data.tokenizer, Limits::new(20, REGIONS));
    assert!(matches!(missing, Err(DataError::Captions { line: 0, .. })));
}
