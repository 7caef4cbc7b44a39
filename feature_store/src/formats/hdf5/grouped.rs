//! VOLTA's layout: one group per image with a dataset per field.

use std::path::{Path, PathBuf};

use hdf5_pure::{File, Group};

use super::numbers::{self, Rows, explain};
use super::{check_text, checked};
use crate::formats::{FormatError, RecordError, Records, SourceRecord, check_rows};
use crate::text::visible;
use crate::{Labels, Regions};

/// All groups of the root, in the order of their names.
pub(super) fn records(path: PathBuf, file: &File) -> Result<Records, FormatError> {
    let groups = file
        .root()
        .iter_groups()
        .map_err(|error| FormatError::Malformed { path: path.clone(), what: error.to_string() })?;
    if groups.len() == 0 {
        let what = "an HDF5 file without groups of images and without known datasets".to_owned();
        return Err(FormatError::Unknown { path, what });
    }
    Ok(Box::new(groups.map(move |(id, group)| {
        check_text(&id).map_err(|what| RecordError::new(&path, id.clone(), what))?;
        Ok(Box::new(GroupRecord { path: path.clone(), id, group }) as Box<dyn SourceRecord>)
    })))
}

struct GroupRecord {
    path: PathBuf,
    id: String,
    group: Group,
}

impl SourceRecord for GroupRecord {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        let values = |name| {
            let shape = self.group.dataset(name).and_then(|dataset| dataset.shape());
            shape.map_or(0, |shape| {
                shape.iter().fold(size_of::<f32>() as u64, |n, &m| n.saturating_mul(m))
            })
        };
        ["features", "cls_prob"].map(values).iter().fold(0u64, |a, &b| a.saturating_add(b)) as usize
    }

    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError> {
        match regions(&self.group) {
            Ok(regions) => Ok((self.id, regions)),
            Err(reason) => Err(RecordError::new(Path::new(&self.path), self.id, reason)),
        }
    }
}

/// What stands in the place of a dataset that is not among the group's: nothing, a group, a link that leads nowhere or
/// out of the file (none of which is followed).
fn absent(group: &Group, name: &str) -> String {
    match group.dataset(name) {
        Err(hdf5_pure::Error::Format(hdf5_pure::FormatError::PathNotFound(_))) | Ok(_) => {
            match group.groups().unwrap_or_default().first() {
                Some(below) => format!(
                    "it has no `{name}`, but groups of its own, `{}` first: images are looked for in the file's uppermost \
                     groups only",
                    visible(below)
                ),
                None => format!("it has no `{name}` (a link to another file is not followed)"),
            }
        }
        Err(error) => format!("`{name}` is no dataset of its own: {error}"),
    }
}

fn regions(group: &Group) -> Result<Regions, String> {
    let names = group.datasets().map_err(|error| explain(&error))?;
    let find = |spellings: &[&'static str]| {
        spellings.iter().copied().find(|name| names.iter().any(|there| there == name))
    };
    let dataset =
        |name: &str| group.dataset(name).map_err(|error| format!("`{name}`: {}", explain(&error)));
    let floats = |name: &str| -> Result<(Vec<usize>, Vec<f32>), String> {
        let dataset = dataset(name)?;
        let shape = checked(&dataset, name)?;
        Ok((shape, numbers::floats(&dataset, Rows::All, name)?))
    };
    let integers = |name: &str| -> Result<Vec<i64>, String> {
        let dataset = dataset(name)?;
        checked(&dataset, name)?;
        numbers::integers(&dataset, Rows::All, name)
    };
    let single = |name: &str| match integers(name)?[..] {
        [value] => Ok(value),
        ref values => Err(format!("its `{name}` are {} numbers", values.len())),
    };
    let size = |spellings: &[&'static str]| -> Result<u32, String> {
        let name = find(spellings).ok_or_else(|| format!("it has no `{}`", spellings[0]))?;
        let value = single(name)?;
        u32::try_from(value).map_err(|_| format!("its `{name}` is {value}"))
    };
    let labels = |ids: &[&'static str], confidences: &[&'static str]| -> Result<_, String> {
        let labels = Labels {
            ids: find(ids).map_or(Ok(Vec::new()), integers)?,
            confidences: find(confidences)
                .map_or(Ok(Vec::new()), |name| Ok::<_, String>(floats(name)?.1))?,
        };
        Ok((labels != Labels::default()).then_some(labels))
    };
    let name = find(&["features"]).ok_or_else(|| absent(group, "features"))?;
    let found = dataset(name)?;
    let shape = checked(&found, name)?;
    // Rows of nothing take no place in a file, however many it says there are: boxes of zeros would be made for all.
    let (n, dim) = match shape[..] {
        [n, dim] if dim > 0 => (n, dim),
        _ => return Err(format!("its `features` have the shape {shape:?}")),
    };
    let (features, rounding) = numbers::features(&found, Rows::All, name)?;
    let (box_shape, boxes) =
        floats(find(&["boxes", "bbox"]).ok_or_else(|| absent(group, "boxes"))?)?;
    let (boxes, rest) = boxes.as_chunks::<4>();
    if boxes.len() != n || !rest.is_empty() || n == 0 {
        return Err(format!(
            "its `boxes` hold {} numbers for {n} regions",
            4 * boxes.len() + rest.len()
        ));
    }
    check_rows(&box_shape, "boxes", n)?;
    let count = find(&["num_boxes"]).map(single).transpose()?;
    if let Some(count) = count.filter(|&count| count != n as i64) {
        return Err(format!("its `num_boxes` is {count}, its `boxes` are {n}"));
    }
    let class_probabilities = match find(&["cls_prob"]) {
        Some(name) => {
            let (shape, values) = floats(name)?;
            check_rows(&shape, name, n)?;
            Some(values)
        }
        None => None,
    };
    let regions = Regions {
        width: size(&["img_w", "image_w", "image_width"])?,
        height: size(&["img_h", "image_h", "image_height"])?,
        boxes: boxes.to_vec(),
        features,
        dim,
        objects: labels(&["obj_id", "objects_id", "objects"], &["obj_conf", "objects_conf"])?,
        attributes: labels(&["attr_id", "attrs_id"], &["attr_conf", "attrs_conf"])?,
        extents: None,
        class_probabilities,
        rounding,
    };
    regions.check()?;
    Ok(regions)
}
