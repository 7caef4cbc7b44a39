//! The rows of ImageCoDe's table.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Models of the table, by their names in recipes.
const MODELS: [(&str, &str); 3] = [("clip", "CLIP"), ("uniter", "UNITER"), ("vilbert", "ViLBERT")];
/// Variants of each, and what they are called in the table.
const VARIANTS: [(&str, &str); 5] = [
    ("zero_shot", "zero-shot"),
    ("non_contrastive", "non-contrastive"),
    ("contrastive", "contrastive"),
    ("contextual", "+ContextModule"),
    ("temporal", "+TemporalEmbeddings"),
];

/// A row: a model trained in one of five ways. Spelt `uniter/temporal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    model: usize,
    variant: usize,
}

impl Row {
    /// All fifteen, in the order of the table; what a row begins with comes before it.
    pub fn all() -> impl Iterator<Item = Row> {
        let of_model = |model| (0..VARIANTS.len()).map(move |variant| Row { model, variant });
        (0..MODELS.len()).flat_map(of_model)
    }

    /// What the table calls the model.
    pub fn model(self) -> &'static str {
        MODELS[self.model].1
    }

    /// What the table calls the variant.
    pub fn variant(self) -> &'static str {
        VARIANTS[self.variant].1
    }

    /// Whether it ranks by embeddings of whole pictures, not by regions.
    pub fn is_clip(self) -> bool {
        self.model == 0
    }

    /// Whether something is trained.
    pub fn is_trained(self) -> bool {
        self.variant > 0
    }

    /// What its recipe and the folder of its run are called: `uniter_temporal`.
    pub fn name(self) -> String {
        format!("{}_{}", MODELS[self.model].0, VARIANTS[self.variant].0)
    }

    /// Its recipe in a folder of recipes.
    pub fn recipe(self, recipes: &Path) -> PathBuf {
        recipes.join(format!("{}.toml", self.name()))
    }

    /// The row whose run a path leads into: `runs/clip_contrastive/checkpoints/…`.
    pub fn of_path(path: &Path) -> Option<Row> {
        let names: Vec<&str> = path.iter().filter_map(|name| name.to_str()).collect();
        Row::all().find(|row| names.contains(&row.name().as_str()))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}/{}", MODELS[self.model].0, VARIANTS[self.variant].0)
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Row, String> {
        Row::all().find(|row| row.to_string() == text || row.name() == text).ok_or_else(|| {
            let names = |known: &[(&str, &str)]| {
                known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
            };
            format!(
                "there is no such row: MODEL/VARIANT with a model of {} and a variant of {}",
                names(&MODELS),
                names(&VARIANTS)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_spelt_and_has_a_recipe() {
        assert_eq!(Row::all().count(), 15);
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/recipes");
        for row in Row::all() {
            assert_eq!(row.to_string().parse(), Ok(row));
            assert_eq!(row.name().parse(), Ok(row));
            assert!(row.recipe(&recipes).is_file(), "{row}");
        }
        let said = "uniter".parse::<Row>().unwrap_err();
        assert!(said.contains("vilbert") && said.contains("temporal"), "{said}");
    }

    #[test]
    fn a_path_into_a_run_tells_its_row() {
        let row = Row::of_path(Path::new("/a/runs/clip_contrastive/checkpoints/best/x"));
        assert_eq!(row.unwrap().to_string(), "clip/contrastive");
        assert_eq!(Row::of_path(Path::new("/a/clip_contrastive.xenc")), None);
    }
}
