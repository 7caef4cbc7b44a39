//! What `xenc train` and `xenc pretrain` are told alike.

use std::path::{Path, PathBuf};

use crate::console::shown;

/// A run: its recipe, its folder, its device.
#[derive(clap::Args)]
pub struct RunArgs {
    /// The recipe: configs/recipes/*.toml to train with, configs/pretraining/*.toml to pre-train with
    pub recipe: PathBuf,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Folder of the run; by default one in runs that is named after the recipe
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Begin anew if the folder holds a run
    #[arg(long)]
    pub force: bool,
    /// cpu, cuda or cuda:N; each of several processes on a machine takes a GPU of its own for cuda
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// Values that a recipe has otherwise.
#[derive(clap::Args)]
pub struct Overrides {
    /// Change a value of the recipe, such as train.epochs=3; may be given several times. Paths are relative to the working
    /// directory
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub values: Vec<String>,
}

impl RunArgs {
    /// The run's folder; by default `runs/PREFIXrecipe`.
    pub fn out(&self, prefix: &str) -> PathBuf {
        let name = self.recipe.file_stem().unwrap_or_default().to_string_lossy();
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{prefix}{name}")))
    }
}

/// Says where a run goes on, or that nothing is left of it.
pub fn announce_position((step, steps): (u64, u64), out: &Path) {
    let out = shown(out);
    match step < steps {
        true => errln!("{out}: goes on after step {step} of {steps}"),
        false => errln!(
            "{out}: finished after {steps} steps; to train on, begin another run with what was learnt here: --set init={out}"
        ),
    }
}
