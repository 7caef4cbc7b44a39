//! What is said of a conversion, an append or a merge that is over.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use feature_store::StoreError;
use feature_store::convert::{ConvertError, Findings, OnError, SkippedRecord};
use feature_store::formats::FormatError;
use feature_store::text::{visible, visible_id};
use feature_store::validate::Finding;
use serde::Serialize;
use serde_json::Value;

use super::count;
use super::selection::Asked;
use crate::console::shown;
use crate::interrupt;

/// Skipped records that are told one by one; more are only counted.
const TOLD: usize = 20;
/// Ids that are named in one line; more are only counted.
const NAMED: usize = 5;

/// What progress says of records that were left out.
pub fn skipped_remark(skipped: u64) -> String {
    if skipped > 0 { format!("{skipped} skipped") } else { String::new() }
}

/// Says which records were left out, the first of them one by one.
pub fn say_skipped(skipped: &[SkippedRecord], on_error: &OnError, json: bool) {
    for record in skipped.iter().take(TOLD) {
        errln!("skipped: {}", visible(&record.reason));
    }
    let more = skipped.len().saturating_sub(TOLD);
    if more > 0 {
        let place = if json { "stdout lists" } else { "--json lists" };
        errln!("skipped: {more} more ({place} all)");
    }
    if let OnError::Quarantine(folder) = on_error
        && !skipped.is_empty()
    {
        say_quarantined(skipped.len() as u64, folder);
    }
}

/// Says where bad records are kept.
pub fn say_quarantined(records: u64, folder: &Path) {
    errln!(
        "{} in {} (report.jsonl says what is wrong with each)",
        count(records, "bad record"),
        shown(folder)
    );
}

/// A report as JSON, with the ids that were asked for and not found, and what is wrong with the source's own lists.
pub fn report_json(report: &impl Serialize, asked: &Asked) -> anyhow::Result<String> {
    let mut value = serde_json::to_value(report)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("not_found".into(), serde_json::to_value(asked.missing_ids())?);
        fields.insert("list_findings".into(), serde_json::to_value(asked.list_findings())?);
    }
    Ok(crate::console::json(&value)?)
}

/// Says what was asked for and not found, what is wrong with the source's own lists, and how many images of the target have
/// something wrong; the exit code is 1 if there is such a thing, or if records were skipped.
pub fn verdict(
    skipped: &[SkippedRecord],
    findings: &Findings,
    target: &Path,
    asked: &Asked,
) -> ExitCode {
    let unmet = asked.say_unmet();
    let found = say_findings(findings, target);
    ExitCode::from(u8::from(unmet || found || !skipped.is_empty()))
}

/// Says how many images of the target have something wrong; whether there are any.
pub fn say_findings(findings: &Findings, target: &Path) -> bool {
    if let Some(Finding { id, what }) = &findings.first {
        errln!(
            "{} with findings, taken as they are; `{}` first: {}; `xenc store validate {}` lists them",
            count(findings.images, "image"),
            visible_id(id),
            visible(what),
            shown(target)
        );
    }
    findings.images > 0
}

/// Says that the user has stopped a command, and where it goes on.
pub fn interrupted(error: &ConvertError) -> ExitCode {
    errln!("{error}");
    interrupt::exit_code()
}

fn is_duplicate(error: &ConvertError) -> bool {
    matches!(
        error,
        ConvertError::Store(StoreError::Duplicate { .. })
            | ConvertError::Source(FormatError::Duplicate { .. })
    )
}

/// Says of which images with different contents one was kept, as --on-conflict has it: asked for, and so no finding. If a
/// rename rule has made them one, that is said, too.
pub fn say_settled(conflicts: u64, ids: &BTreeSet<String>, asked: Option<&Asked>, json: bool) {
    if conflicts == 0 {
        return;
    }
    errln!(
        "{} settled by --on-conflict: of images of one id with different contents one was kept, for {}",
        count(conflicts, "conflict"),
        first_of(ids, json)
    );
    if let Some(merged) = asked.and_then(Asked::merged) {
        errln!("{merged}");
    }
}

/// The first ids, and how many more there are.
fn first_of(ids: &BTreeSet<String>, json: bool) -> String {
    let named = ids.iter().take(NAMED).map(|id| format!("`{}`", visible(id)));
    let mut parts: Vec<String> = named.collect();
    if ids.len() > NAMED {
        let place = if json { "stdout lists" } else { "--json lists" };
        parts.push(format!("and {} more ({place} all)", ids.len() - NAMED));
    }
    parts.join(", ")
}

/// Why nothing was taken: perhaps nothing that was asked for is there; or why images are one.
pub fn explain(error: ConvertError, asked: &Asked) -> anyhow::Error {
    match error {
        ConvertError::Empty { path, first } if asked.is_some() && first.is_empty() => {
            asked.say_unmet();
            anyhow!("{path} holds none of the images that were asked for")
        }
        other => match (is_duplicate(&other), asked.merged()) {
            (true, Some(merged)) => anyhow!("{other}; {merged}"),
            _ => other.into(),
        },
    }
}
