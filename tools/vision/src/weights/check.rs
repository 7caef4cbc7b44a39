//! A file's tensors compared with those that a model has.

use std::collections::BTreeMap;

use super::{Weights, WeightsError};

/// Names and shapes of a model's tensors, in the order in which they are used.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expected(pub Vec<(String, Vec<usize>)>);

impl Expected {
    pub(crate) fn add(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.0.push((name.into(), shape.to_vec()));
    }

    /// `PREFIX.weight` of that shape and `PREFIX.bias` of its first side.
    pub(crate) fn add_linear(&mut self, prefix: &str, shape: &[usize]) {
        self.add(format!("{prefix}.weight"), shape);
        self.add(format!("{prefix}.bias"), &shape[..1]);
    }

    /// The four vectors of a batch normalisation.
    pub(crate) fn add_norm(&mut self, prefix: &str, channels: usize) {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            self.add(format!("{prefix}.{part}"), &[channels]);
        }
    }
}

/// How a file differs from what a model needs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Tensors that the file lacks, or has as something else than floating point.
    pub missing: Vec<String>,
    /// Tensors of the file that the model does not have.
    pub unexpected: Vec<String>,
    /// Tensors of another shape: name, shape needed, shape found.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Report {
    /// Whether the model can be made from the file; superfluous tensors do no harm.
    pub fn fits(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty()
    }

    fn problems(&self, weights: &Weights) -> Vec<String> {
        let missing = self.missing.iter().map(|name| weights.lack(name));
        let misshapen = self.misshapen.iter().map(|(name, needed, found)| {
            format!("`{name}` is {found:?} where {needed:?} is needed")
        });
        let mut problems: Vec<String> = missing.chain(misshapen).collect();
        if problems.len() > 8 {
            let more = problems.len() - 8;
            problems.truncate(8);
            problems.push(format!("and {more} more"));
        }
        problems
    }
}

impl Weights {
    /// Compares the file with what a model needs.
    pub fn compare(&self, expected: &Expected) -> Report {
        let needed: BTreeMap<&str, &Vec<usize>> =
            expected.0.iter().map(|(name, shape)| (name.as_str(), shape)).collect();
        let mut report = Report::default();
        for (name, shape) in &expected.0 {
            match self.shape(name) {
                None => report.missing.push(name.clone()),
                Some(found) if found != shape => {
                    report.misshapen.push((name.clone(), shape.clone(), found.to_vec()));
                }
                Some(_) => {}
            }
        }
        let unexpected = self.names().filter(|name| !needed.contains_key(name));
        report.unexpected = unexpected.map(str::to_owned).collect();
        report
    }

    /// As [`Weights::compare`], for a model of that name; the report tells what is superfluous.
    ///
    /// # Errors
    /// [`WeightsError::Misfit`] with what is missing or has another shape.
    pub fn require(&self, expected: &Expected, model: &str) -> Result<Report, WeightsError> {
        let report = self.compare(expected);
        if report.fits() {
            return Ok(report);
        }
        Err(WeightsError::Misfit {
            path: self.path().to_owned(),
            model: model.to_owned(),
            problems: report.problems(self),
        })
    }
}
