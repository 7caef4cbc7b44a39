//! All fifteen rows of ImageCoDe's table, by models as small as the data set. Pre-training, which the published rows begin
//! with, is one epoch on the descriptions: enough to go the whole road, not to rank without training.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use dataset::{load_split, set_images};
use feature_store::FeatureStore;
use serde_json::json;
use toml::{Table, Value};

use crate::child::Child;
use crate::reproduce::row::Row;
use crate::reproduce::table::{self, Format, Line};
use crate::reproduce::work::{MODELS_AT_ONCE, Work};

/// Configurations of the models.
const CONFIGURATIONS: [(&str, &str); 3] = [
    ("vilbert", include_str!("../../../../configs/demo/vilbert.json")),
    ("uniter", include_str!("../../../../configs/demo/uniter.json")),
    ("clip", include_str!("../../../../configs/demo/clip.json")),
];
/// What recipes are made of.
const ROWS: &str = include_str!("../../../../configs/demo/rows.toml");

/// Trains and ranks all rows and prints the table, which is also written to `table.md`; `None` if interrupted.
pub fn make(out: &Path, device: &str) -> anyhow::Result<Option<()>> {
    let stage = Stage { out, device, parts: toml::from_str(ROWS)? };
    let (recipes, runs) = (out.join("recipes"), out.join("rows"));
    stage.write_captions()?;
    stage.write_recipes(&recipes)?;
    for (model, _) in CONFIGURATIONS {
        if stage.pretrain(model)?.is_none() {
            return Ok(None);
        }
    }
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(MODELS_AT_ONCE);
    let work = Work { recipes: &recipes, runs: &runs, overrides: &[], device, jobs };
    let rows: Vec<Row> = Row::all().collect();
    if work.make_all(&rows)?.is_none() {
        return Ok(None);
    }
    let line = |row: Row| Line::read(row, &work.predictions(row));
    let lines: Vec<Line> = rows.into_iter().map(line).collect::<anyhow::Result<_>>()?;
    // What is published is about another data set.
    let text = table::write(&lines, &BTreeMap::new(), Format::Markdown);
    write(&out.join("table.md"), &text)?;
    out!("{text}");
    Ok(Some(()))
}

/// The folder of a demo, and what rows are made of.
struct Stage<'a> {
    out: &'a Path,
    device: &'a str,
    parts: Table,
}

impl Stage<'_> {
    /// Descriptions as captions of the images that they are about.
    fn write_captions(&self) -> anyhow::Result<()> {
        let store = FeatureStore::open(&self.out.join("features.xenc"))?;
        for split in ["train", "valid"] {
            let mut lines = String::new();
            for description in load_split(&self.out.join(format!("data/{split}_data.json")))? {
                let images = set_images(&store, &description.directory)?;
                let target = description.target.and_then(|target| images.get(target));
                let line = json!({ "image": target, "caption": description.text });
                lines += &format!("{line}\n");
            }
            write(&self.out.join(format!("captions/{split}.jsonl")), &lines)?;
        }
        Ok(())
    }

    fn write_recipes(&self, recipes: &Path) -> anyhow::Result<()> {
        for (model, configuration) in CONFIGURATIONS {
            write(&self.out.join(format!("{model}.json")), configuration)?;
            write(&recipes.join(format!("pretraining_{model}.toml")), &self.pretraining(model)?)?;
        }
        for row in Row::all() {
            let name = row.to_string();
            let (model, variant) = name.split_once('/').unwrap_or_default();
            let parts = [
                self.part(&["common"]),
                self.part(&["model", model]),
                self.part(&["variant", variant]),
                self.part(&["row", &name]),
            ];
            write(&row.recipe(recipes), &self.recipe(model, parts)?)?;
        }
        Ok(())
    }

    /// Pre-training of a cross-encoder on captions; of CLIP it is the training without the other images of a set.
    fn pretraining(&self, model: &str) -> anyhow::Result<String> {
        let of_model = self.part(&["model", model]);
        let own = self.part(&["pretraining", model]);
        let parts = match model {
            "clip" => {
                [self.part(&["common"]), of_model, self.part(&["variant", "non_contrastive"]), own]
            }
            _ => [Table::new(), of_model, self.part(&["pretraining", "captions"]), own],
        };
        self.recipe(model, parts)
    }

    fn recipe(&self, model: &str, parts: [Table; 4]) -> anyhow::Result<String> {
        let mut recipe = parts.into_iter().fold(Table::new(), merged);
        if model == "clip"
            && let Some(Value::Table(data)) = recipe.get_mut("data")
        {
            let vocabulary = vision::clip::Tokenizer::find_vocabulary()
                .context("CLIP's vocabulary is not there; `make setup` fetches it")?;
            let vocabulary = vocabulary.canonicalize().context("CLIP's vocabulary")?;
            data.insert("tokenizer".into(), vocabulary.display().to_string().into());
        }
        // What begins with nothing says so with an empty text.
        recipe.retain(|_, value| value.as_str() != Some(""));
        Ok(toml::to_string(&recipe)?)
    }

    /// A table of the file, empty if it is not there.
    fn part(&self, keys: &[&str]) -> Table {
        let found = keys.iter().try_fold(&self.parts, |table, key| table.get(*key)?.as_table());
        found.cloned().unwrap_or_default()
    }

    fn pretrain(&self, model: &str) -> anyhow::Result<Option<String>> {
        let command = if model == "clip" { "train" } else { "pretrain" };
        let mut pretrain = Command::new(std::env::current_exe()?);
        pretrain
            .arg(command)
            .arg(self.out.join(format!("recipes/pretraining_{model}.toml")))
            .arg("--out")
            .arg(self.out.join("pretrained").join(model))
            .args(["--device", self.device]);
        Child::start(&format!("{model}, pre-training"), pretrain)?.finish_with_text()
    }
}

/// Two tables in one; of what both have, the second counts.
fn merged(mut first: Table, second: Table) -> Table {
    for (key, value) in second {
        match (first.remove(&key), value) {
            (Some(Value::Table(before)), Value::Table(after)) => {
                first.insert(key, merged(before, after).into());
            }
            (_, value) => drop(first.insert(key, value)),
        }
    }
    first
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    folder
        .and_then(|()| std::fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}
