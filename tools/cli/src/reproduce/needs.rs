//! What a row needs: data, features, weights; what of it is not there, and where it comes from.

use std::path::{Path, PathBuf};

use anyhow::Context;
use crossencoders::train::Recipe;

use super::row::Row;

/// Something that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The recipe's key.
    pub key: &'static str,
    pub path: PathBuf,
    /// Where it comes from.
    pub from: String,
}

/// What a row is made from.
#[derive(Debug)]
pub struct Needs {
    pub recipe: Recipe,
    /// The row whose run it begins with.
    pub begins_with: Option<Row>,
    /// A store of embeddings that is to be made first: of which pictures, by which row's model.
    pub embeddings: Option<(PathBuf, Row)>,
    /// What nothing here can make.
    pub missing: Vec<Missing>,
}

impl Needs {
    /// Looks at a row's recipe and at what it names.
    pub fn of(row: Row, recipes: &Path, overrides: &[String]) -> anyhow::Result<Needs> {
        let load = |row: Row| {
            let path = row.recipe(recipes);
            Recipe::load(&path, overrides).with_context(|| match path.is_file() {
                true => format!("the recipe of {row}, or what --set changes in it, cannot be used"),
                false => format!("there is no recipe of {row} in {}", recipes.display()),
            })
        };
        let recipe = load(row)?;
        let mut needs = Needs { begins_with: None, embeddings: None, missing: Vec::new(), recipe };
        let init = needs.recipe.init.clone();
        needs.begins_with = init.as_deref().filter(|path| !path.exists()).and_then(Row::of_path);
        let features = needs.recipe.data.features.clone();
        let made_by = features.file_stem().and_then(|stem| stem.to_str()?.parse::<Row>().ok());
        if let Some(other) = made_by.filter(|_| !features.exists()) {
            needs.embeddings = Some((load(other)?.data.features, other));
        }
        needs.look_for(row.is_clip());
        Ok(needs)
    }

    /// Lists what is not there.
    fn look_for(&mut self, is_clip: bool) {
        let Recipe { model, init, data, .. } = &self.recipe;
        let mut named: Vec<(&'static str, &Path)> = vec![
            ("model", model),
            ("data.train", &data.train),
            ("data.valid", &data.valid),
            ("data.tokenizer", &data.tokenizer),
        ];
        match &self.embeddings {
            Some((pictures, _)) => named.push(("data.features", pictures)),
            None => named.push(("data.features", &data.features)),
        }
        named.extend(init.iter().filter(|_| self.begins_with.is_none()).map(|at| ("init", &**at)));
        let is_there = |path: &Path| path.exists() || path.to_string_lossy().starts_with("hf://");
        let missing = named.into_iter().filter(|(_, path)| !is_there(path));
        let missing = missing.map(|(key, path)| {
            let from = source(key, path, is_clip);
            Missing { key, path: path.to_owned(), from }
        });
        self.missing = missing.collect();
    }
}

/// Where what a key of the published recipes names comes from (data/README.md has the same).
fn source(key: &str, path: &Path, is_clip: bool) -> String {
    let path = path.display();
    match (key, is_clip) {
        ("model", _) => "a configuration of configs/models".into(),
        ("data.tokenizer", false) => {
            "vocab.txt of bert-base-uncased (huggingface.co/google-bert/bert-base-uncased)".into()
        }
        ("data.tokenizer", true) => "github.com/openai/CLIP; `make setup` fetches it, too".into(),
        ("data.features", false) => format!(
            "the ImageCoDe authors' region features: `xenc store convert rcnn-features36-36.lmdb {path}`; or from the \
             pictures: `xenc extract IMAGE_SETS {path} --detector WEIGHTS`"
        ),
        ("data.features", true) => {
            "ImageCoDe's pictures, SET/imgN.jpg (github.com/McGill-NLP/imagecode)".into()
        }
        ("init", false) => "VOLTA's model zoo (github.com/e-bug/volta)".into(),
        ("init", true) => "OpenAI's CLIP (github.com/openai/CLIP)".into(),
        _ => "ImageCoDe's annotations (github.com/McGill-NLP/imagecode)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(row: &str) -> Needs {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/recipes");
        // A folder in which nothing is.
        Needs::of(row.parse().unwrap(), &recipes, &[]).unwrap()
    }

    #[test]
    fn what_is_missing_is_named_with_its_source_and_what_can_be_made_is_not() {
        let needs = published("vilbert/temporal");
        let keys: Vec<&str> = needs.missing.iter().map(|missing| missing.key).collect();
        for key in ["data.train", "data.features", "init"] {
            assert!(keys.contains(&key), "{keys:?}");
        }
        assert!(!keys.contains(&"model"), "{keys:?}");
        assert!(needs.missing.iter().any(|missing| missing.from.contains("volta")));

        let needs = published("clip/temporal");
        let first: Row = "clip/contrastive".parse().unwrap();
        assert_eq!(needs.begins_with, Some(first));
        assert_eq!(needs.embeddings.unwrap().1, first);
        assert!(needs.missing.iter().all(|missing| missing.key != "init"));
        assert!(needs.missing.iter().any(|missing| missing.path.ends_with("image-sets")));
    }
}
