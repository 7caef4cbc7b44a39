//! From a file into a model's variables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::WeightsError;
use super::file::{Format, WeightsFile};
use super::names::{Convention, Table};
use super::tied::{same, twin_of};
use crate::config::ModelConfig;

/// What loading has done, or would do.
#[derive(Debug, Default, Serialize)]
pub struct LoadReport {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Option<Format>,
    /// Whose names it uses.
    pub convention: Convention,
    /// Parameters that got their values.
    pub loaded: usize,
    /// Parameters that the file lacks and that were allowed to be missing: they stay as they were.
    pub missing: Vec<String>,
    /// Parameters that the file has in another shape and that were allowed to be missing: they stay as they were.
    pub mis_shaped: Vec<MisShaped>,
    /// Second names of parameters that were loaded, with equal values.
    pub tied: Vec<String>,
    /// Tensors of the file that the model has no place for, under the file's own names.
    pub unexpected: Vec<String>,
    /// What a user of weights in this convention should know.
    pub notes: Vec<String>,
}

/// A parameter that a file has in another shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MisShaped {
    /// The parameter.
    pub name: String,
    /// Its shape in the file.
    pub found: Vec<i64>,
    /// Its shape in the model.
    pub expected: Vec<i64>,
}

impl std::fmt::Display for MisShaped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is {:?} instead of {:?}", self.name, self.found, self.expected)
    }
}

/// Loads a file into a model's variables by VOLTA's names; see [`WeightsFile::open`] for what files.
///
/// A parameter that the file lacks or has in another shape is an error unless its name begins with one of
/// `allow_missing`. Nothing is changed unless everything fits.
///
/// # Errors
/// [`WeightsError::Unreadable`]; [`WeightsError::Misfit`] with every missing and mis-shaped tensor.
pub fn load(
    variables: &VarStore,
    path: &Path,
    allow_missing: &[&str],
) -> Result<LoadReport, WeightsError> {
    Plan::new(variables, WeightsFile::open(path)?, None).carry_out(allow_missing)
}

/// Loads initial weights whose names may be VOLTA's, BERT's, UNITER's or LXMERT's.
///
/// Of BERT, what it has a name for (word embeddings, the text stream's sublayers and those it shares with the regions')
/// must be there and the rest stays as it was; the sublayers are those of the configuration's
/// `bert_layer2attn_sublayer` and `bert_layer2ff_sublayer`. For the others the rules are those of [`load`]. UNITER's and
/// LXMERT's alignment logits are swapped, so that the first means "aligned".
///
/// # Errors
/// As [`load`].
pub fn initialise(
    variables: &VarStore,
    config: &ModelConfig,
    path: &Path,
    allow_missing: &[&str],
) -> Result<LoadReport, WeightsError> {
    Plan::new(variables, WeightsFile::open(path)?, Some(config)).carry_out(allow_missing)
}

/// Which tensor goes where.
pub(super) struct Plan {
    pairs: Vec<(Tensor, Tensor)>,
    /// Parameters that the convention has no name for.
    beyond: Vec<String>,
    pub(super) report: LoadReport,
}

impl Plan {
    pub(super) fn new(
        variables: &VarStore,
        file: WeightsFile,
        config: Option<&ModelConfig>,
    ) -> Plan {
        let WeightsFile { path, format, convention, tensors, .. } = file;
        let table = config.and_then(|config| Table::new(convention, config));
        let renamed = match &table {
            Some(table) => table.to_volta(tensors),
            None => super::names::Renamed { tensors, left: Vec::new() },
        };
        let mut plan = Plan {
            pairs: Vec::new(),
            beyond: Vec::new(),
            report: LoadReport { path, format: Some(format), convention, ..Default::default() },
        };
        let mut parameters: Vec<(String, Tensor)> = variables.variables().into_iter().collect();
        parameters.sort_by(|(a, _), (b, _)| a.cmp(b));
        plan.place(parameters, renamed.tensors, table.as_ref());
        plan.report.unexpected.extend(renamed.left);
        plan.report.notes.extend(notes(convention, table.is_some(), &plan.report.mis_shaped));
        plan
    }

    fn place(
        &mut self,
        parameters: Vec<(String, Tensor)>,
        mut tensors: BTreeMap<String, Tensor>,
        table: Option<&Table>,
    ) {
        let mut placed = BTreeMap::new();
        for (name, variable) in parameters {
            match tensors.remove(&name) {
                Some(tensor) if tensor.size() == variable.size() => {
                    placed.insert(name, tensor.shallow_clone());
                    self.pairs.push((variable, tensor));
                }
                Some(tensor) => {
                    let (found, expected) = (tensor.size(), variable.size());
                    self.report.mis_shaped.push(MisShaped { name, found, expected });
                }
                None => {
                    let covered = table.is_none_or(|table| table.covers(&name));
                    if !covered && self.report.convention == Convention::Bert {
                        self.beyond.push(name.clone());
                    }
                    self.report.missing.push(name);
                }
            }
        }
        self.report.loaded = placed.len();
        for (name, tensor) in tensors {
            match twin_of(&name).and_then(|of| Some((placed.get(&of)?, of))) {
                Some((of, _)) if same(of, &tensor) => self.report.tied.push(name),
                Some((_, of)) => {
                    let note = format!("`{name}` differs from `{of}`, to which the model ties it");
                    self.report.notes.push(note);
                    self.report.unexpected.push(name);
                }
                None => self.report.unexpected.push(name),
            }
        }
    }

    fn carry_out(self, allow_missing: &[&str]) -> Result<LoadReport, WeightsError> {
        let Plan { pairs, beyond, report } = self;
        let allowed = |name: &String| {
            allow_missing.iter().any(|start| name.starts_with(start)) || beyond.contains(name)
        };
        let missing = report.missing.iter().filter(|name| !allowed(name));
        let mut problems: Vec<String> =
            missing.map(|name| format!("`{name}` is missing")).collect();
        let mis_shaped = report.mis_shaped.iter().filter(|found| !allowed(&found.name));
        problems.extend(mis_shaped.map(MisShaped::to_string));
        if !problems.is_empty() {
            problems.extend(report.notes);
            return Err(WeightsError::Misfit { path: report.path, problems });
        }
        tch::no_grad(|| {
            for (mut variable, tensor) in pairs {
                variable.copy_(&tensor.to_kind(Kind::Double).to_kind(variable.kind()));
            }
        });
        Ok(report)
    }
}

fn notes(convention: Convention, translated: bool, mis_shaped: &[MisShaped]) -> Vec<String> {
    let mut notes = Vec::new();
    if convention.is_foreign() && !translated {
        let name = convention.name();
        notes.push(format!("the names are {name}'s: they become a model's with its configuration"));
    }
    if matches!(convention, Convention::Uniter | Convention::Lxmert) && translated {
        notes.push(
            "the original pools with tanh, VOLTA's models with ReLU: pooled vectors and alignment scores are not the \
             original's until the model is trained further"
                .into(),
        );
    }
    let locations = mis_shaped.iter().find(|found| found.name.contains("location_embeddings"));
    if let Some(MisShaped { found, expected, .. }) = locations {
        let count = |shape: &[i64]| shape.last().copied().unwrap_or_default();
        notes.push(format!(
            "locations are {} numbers in the file and {} in the model (4: x1, y1, x2, y2; 5: and area; 7: and width, \
             height, area, as the original UNITER has it): set `num_locs` to {}, or allow the parameter to be missing",
            count(found),
            count(expected),
            count(found),
        ));
    }
    notes
}
