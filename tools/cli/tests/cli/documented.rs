//! Every command of the documentation, run as it stands there: in a folder that holds all that the documents name, only
//! smaller.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::world::{World, stderr};
use crate::{fixtures, text};

/// A command, and where it stands.
struct Documented {
    place: String,
    arguments: Vec<String>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The commands in a document's code blocks. What starts other programs first (`mpirun`, `srun`) is left to them.
fn commands(document: &Path) -> Vec<Documented> {
    let name = document.strip_prefix(repository()).unwrap().display().to_string();
    let content = fs::read_to_string(document).unwrap();
    let (mut found, mut in_block, mut unfinished) = (Vec::new(), false, String::new());
    for (number, line) in content.lines().enumerate() {
        if line.starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let begins = line.starts_with("xenc ") || !unfinished.is_empty();
        if !in_block || !begins {
            continue;
        }
        let line = line.split(" #").next().unwrap_or_default().trim();
        unfinished += line.trim_end_matches('\\');
        if !line.ends_with('\\') {
            let arguments = unfinished.split_whitespace().skip(1).map(str::to_owned).collect();
            found.push(Documented { place: format!("{name}:{}", number + 1), arguments });
            unfinished.clear();
        }
    }
    found
}

fn documents() -> Vec<PathBuf> {
    let in_folder = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(repository().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let folders = ["", "docs", "docs/guides", "data"];
    let mut documents = folders.map(in_folder).concat();
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.sort();
    documents
}

/// ViLBERT, with the objectives that a store without class probabilities permits.
const VILBERT: &str = r#"{
  "vocab_size": 64, "hidden_size": 16, "v_hidden_size": 16, "num_attention_heads": 2, "v_num_attention_heads": 2,
  "intermediate_size": 16, "v_intermediate_size": 16, "pooler_size": 16, "v_feature_size": 24,
  "max_position_embeddings": 128, "add_global_imgfeat": "first", "image_embeddings": "vilbert",
  "tt_attn_sublayers": [0], "tv_attn_sublayers": [2], "vt_attn_sublayers": [2], "t_ff_sublayers": [1, 3],
  "v_ff_sublayers": [3], "visual_target_weights": {"1": 1.0}
}"#;

/// UNITER: every sublayer is shared, and looks at both.
const UNITER: &str = r#"{
  "vocab_size": 64, "hidden_size": 16, "v_hidden_size": 16, "num_attention_heads": 2, "v_num_attention_heads": 2,
  "intermediate_size": 16, "v_intermediate_size": 16, "pooler_size": 16, "v_feature_size": 24,
  "max_position_embeddings": 128, "add_global_imgfeat": "first", "image_embeddings": "uniter",
  "tt_attn_sublayers": [0], "tv_attn_sublayers": [0], "vt_attn_sublayers": [0], "vv_attn_sublayers": [0],
  "t_ff_sublayers": [1], "v_ff_sublayers": [1], "shared_sublayers": [0, 1], "single_ln_sublayers": [0, 1],
  "visual_target_weights": {"1": 1.0}
}"#;

const CLIP: &str = r#"{"embed_dim": 32, "quick_gelu": true,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}}"#;

/// A CLIP to begin with: a step away from what was drawn.
const TOWERS: &str = r#"
variant = "contrastive"
model = "configs/models/clip_vit_b_16.json"
[data]
features = "imagecode/image-sets"
train = "data/imagecode/train_data.json"
valid = "data/imagecode/valid_data.json"
tokenizer = "data/clip/bpe_simple_vocab_16e6.txt.gz"
max_tokens = 77
[train]
epochs = 1
batch_size = 24
"#;

/// Settings that make the published recipes as small as the data is.
const SMALLER: [(&str, &str); 3] = [
    ("epochs = ", "epochs = 2 # "),
    ("batch_size = 256", "batch_size = 8"),
    ("accumulate = 9", "accumulate = 2"),
];

struct Folder(World);

impl Folder {
    fn run(&self, line: &str) {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let output = self.0.run(&arguments);
        assert!(output.status.success(), "{line}: {}", stderr(&output));
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.0.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Runs what goes on until it is interrupted, once it has said where it serves.
    fn interrupted(&self, words: &[&str]) -> Output {
        let mut command = self.0.command(words);
        let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = process.unwrap();
        let mut said = [0; 4];
        // At the end of a process that has failed there is nothing to read.
        let _ = process.stdout.as_mut().unwrap().read_exact(&mut said);
        // SAFETY: the process is our child and has not been waited for, so the id is still its own.
        unsafe { libc::kill(process.id() as libc::pid_t, libc::SIGINT) };
        process.wait_with_output().unwrap()
    }

    /// The same under other names.
    fn copy(&self, from: &str, names: &[&str]) {
        for name in names {
            copy(&self.0.path(from), &self.0.path(name));
        }
    }

    /// Everything that the documents name.
    fn new() -> Folder {
        let folder = Folder(World::new());
        folder.data();
        folder.recipes();
        folder.dumps();
        folder.models();
        folder
    }

    fn data(&self) {
        let splits = ["train_data.json", "valid_data.json", "test_data_unlabeled.json"];
        for split in splits {
            let from = format!("data/{split}");
            let names = ["imagecode", "data/imagecode"].map(|into| format!("{into}/{split}"));
            self.copy(&from, &names.each_ref().map(|name| name.as_str()));
        }
        self.copy("data/valid_data.json", &["valid_data.json", "test.json"]);
        self.copy("data/test_data_unlabeled.json", &["test_data_unlabeled.json"]);
        self.copy(
            "data/images",
            &["imagecode/image-sets", "data/imagecode/image-sets", "image-sets"],
        );
        self.copy("data/vocab.txt", &["data/bert/vocab.txt"]);
        let vocabulary =
            vision::clip::Tokenizer::find_vocabulary().expect("`make setup` fetches it");
        copy(&vocabulary, &self.0.path("data/clip/bpe_simple_vocab_16e6.txt.gz"));
        self.annotations();
        for split in ["train", "valid"] {
            let images = "--images imagecode/image-sets";
            let own = format!("own_{split}.jsonl");
            self.run(&format!(
                "data convert imagecode/{split}_data.json {own} --to jsonl {images}"
            ));
        }
        self.copy("own_valid.jsonl", &["own.jsonl"]);
        let listed = text(&self.0.run(&["store", "ls", "features.xenc"]).stdout);
        let captions: Vec<String> = listed
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(|image| json!({"image": image, "caption": "a red ball"}).to_string() + "\n")
            .collect();
        self.write("data/captions/train.jsonl", &captions[..12].concat());
        self.write("data/captions/valid.jsonl", &captions[12..18].concat());
    }

    /// What is known of the descriptions.
    fn annotations(&self) {
        let split = fs::read(self.0.path("data/valid_data.json")).unwrap();
        let split: BTreeMap<String, BTreeMap<String, String>> =
            serde_json::from_slice(&split).unwrap();
        let (mut phenomena, mut annotators) = (String::new(), BTreeMap::new());
        for (set, descriptions) in &split {
            phenomena += &format!("\"{set}\":\n");
            for (number, description) in descriptions {
                let description = Value::String(description.clone());
                phenomena += &format!("  \"{number}\":\n    \"description\": {description}\n");
                phenomena += "    \"annotation\": \"con, q\"\n";
                let of_set: &mut BTreeMap<_, _> = annotators.entry(set).or_default();
                of_set.insert(number, "unseen_worker");
            }
        }
        self.write("manual_annotation_valid.yaml", &phenomena);
        self.write("imagecode/manual_annotation_valid.yaml", &phenomena);
        self.write("annotator_split_valid.json", &json!(annotators).to_string());
    }

    /// The repository's own, with small models under the names of the published ones.
    fn recipes(&self) {
        for kind in ["recipes", "pretraining"] {
            for entry in fs::read_dir(repository().join("configs").join(kind)).unwrap() {
                let path = entry.unwrap().path();
                let mut recipe = fs::read_to_string(&path).unwrap();
                for (published, smaller) in SMALLER {
                    recipe = recipe.replace(published, smaller);
                }
                let name = path.file_name().unwrap().to_str().unwrap();
                self.write(&format!("configs/{kind}/{name}"), &recipe);
            }
        }
        self.write("configs/models/vilbert_base.json", VILBERT);
        self.write("configs/models/ctrl_uniter_base.json", UNITER);
        self.write("configs/models/clip_vit_b_16.json", CLIP);
    }

    fn dumps(&self) {
        self.copy("data/features.lmdb", &["features_lmdb", "rcnn-features36-36.lmdb"]);
        self.run("store convert features.xenc obj36.tsv --to tsv-bottomup");
        let tsv = self.0.path("obj36.tsv");
        let zipped = std::process::Command::new("gzip").arg("--keep").arg(tsv).status().unwrap();
        assert!(zipped.success());
        self.copy(
            "features.xenc",
            &["data/imagecode/features.xenc", "data/captions/features.xenc"],
        );
    }

    fn models(&self) {
        let recipe = fs::read_to_string(self.0.path("configs/pretraining/vilbert.toml")).unwrap();
        let recipe: Vec<&str> = recipe.lines().filter(|line| !line.starts_with("init")).collect();
        self.write("configs/pretraining/first.toml", &recipe.join("\n"));
        self.run("pretrain configs/pretraining/first.toml --out runs/first_pretrained");
        let weights = "checkpoints/best/model.safetensors";
        let pretrained = format!("runs/first_pretrained/{weights}");
        self.copy(&pretrained, &["data/volta/vilbert-pretrained.bin"]);
        let uniter = recipe.join("\n").replace("vilbert_base", "ctrl_uniter_base");
        self.write("configs/pretraining/second.toml", &uniter);
        self.run("pretrain configs/pretraining/second.toml --out runs/second_pretrained");
        self.copy(
            &format!("runs/second_pretrained/{weights}"),
            &["data/volta/uniter-pretrained.bin"],
        );
        self.run("train recipe.toml --out runs/vilbert");
        self.copy("runs/vilbert", &["runs/vilbert_contextual", "runs/first", "RUN"]);
        self.run(&format!("weights convert {pretrained} pytorch_model.bin"));
        self.run("eval runs/vilbert --predictions vilbert.jsonl");
        self.copy("vilbert.jsonl", &["uniter.jsonl", "predictions.jsonl"]);
        self.run("export crossencoder runs/vilbert vilbert.onnx");
        self.write("towers.toml", TOWERS);
        self.run("train towers.toml --out runs/clip_contrastive");
        let towers = format!("runs/clip_contrastive/{weights}");
        self.copy(&towers, &["ViT-B-32.pt", "data/clip/ViT-B-16.pt"]);
        self.run("clip embed image-sets embeddings.xenc --model ViT-B-32.pt");
        let clip = "runs/clip_contrastive";
        self.run(&format!(
            "clip embed image-sets data/imagecode/clip_contrastive.xenc --model {clip}"
        ));
        let detector = fixtures().join("detector/tiny_weights_d2.pkl");
        copy(&detector, &self.0.path("faster_rcnn_from_caffe_attr.pkl"));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if from.is_file() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// What a command makes, which must not be there before.
fn outputs(arguments: &[String]) -> Vec<String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut outputs: Vec<String> = match words[..] {
        ["train", recipe, ..] => {
            vec![format!("runs/{}", Path::new(recipe).file_stem().unwrap().to_str().unwrap())]
        }
        ["reproduce", ..] => {
            vec!["runs".into(), "data/imagecode/clip_contrastive.xenc".into()]
        }
        ["store", "convert", _, target, ..]
        | ["extract", _, target, ..]
        | ["clip", "embed", _, target, ..]
        | ["data", "convert", _, target, ..] => vec![target.to_owned()],
        ["export", _, _, target, ..] => vec![target.to_owned(), format!("{target}.md")],
        _ => Vec::new(),
    };
    let named = words.windows(2).filter(|pair| {
        ["--out", "--predictions", "--csv", "--leaderboard"].contains(&pair[0])
            && words[0] != "report"
    });
    outputs.extend(named.map(|pair| pair[1].to_owned()));
    outputs
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}

#[test]
fn every_documented_command_runs() {
    let folder = Folder::new();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for Documented { place, arguments } in documents().iter().flat_map(|path| commands(path)) {
        // What another command needs is put back afterwards.
        let outputs: Vec<PathBuf> =
            outputs(&arguments).into_iter().map(|output| folder.0.path(&output)).collect();
        let kept = |path: &Path| PathBuf::from(format!("{}.kept", path.display()));
        outputs.iter().for_each(|path| drop(fs::rename(path, kept(path))));
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = match words[0] {
            "explore" => folder.interrupted(&words),
            _ => folder.0.run(&words),
        };
        // The small data set's splits share sets, which is a finding.
        let is_found = words.starts_with(&["data", "check"]) && ran.status.code() == Some(1);
        if !ran.status.success() && !is_found {
            let said = text(&ran.stdout) + &stderr(&ran);
            wrong.push(format!("{place}: xenc {}\n{said}", words.join(" ")));
        }
        for path in outputs.iter().filter(|path| kept(path).exists()) {
            remove(path);
            fs::rename(kept(path), path).unwrap();
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count} commands:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 30, "{count} commands were found");
}
