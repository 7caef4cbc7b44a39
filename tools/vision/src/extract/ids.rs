//! How a picture's file becomes its id.

use std::str::FromStr;

/// How a picture's path, below what was given, becomes its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdRule {
    /// [`ImageCode`](IdRule::ImageCode) where every picture is `SET/imgN`, else [`Stem`](IdRule::Stem).
    #[default]
    Auto,
    /// The file's name without extension.
    Stem,
    /// The path without extension.
    Path,
    /// ImageCoDe's: `SET/img5.jpg` is the set's letters and digits, then `img5`.
    ImageCode,
}

impl FromStr for IdRule {
    type Err = String;

    fn from_str(words: &str) -> Result<IdRule, String> {
        match words {
            "auto" => Ok(IdRule::Auto),
            "stem" => Ok(IdRule::Stem),
            "path" => Ok(IdRule::Path),
            "imagecode" => Ok(IdRule::ImageCode),
            _ => Err(format!("`{words}` is no rule for ids: auto, stem, path or imagecode")),
        }
    }
}

impl IdRule {
    /// The rule that is meant for pictures of these paths, `/` between folders.
    pub(super) fn resolve<'a>(self, mut paths: impl Iterator<Item = &'a str>) -> IdRule {
        match self {
            IdRule::Auto if paths.all(|path| image_code(path).is_some()) => IdRule::ImageCode,
            IdRule::Auto => IdRule::Stem,
            rule => rule,
        }
    }

    /// The id of a picture, if the rule fits its path.
    pub(super) fn id(self, path: &str) -> Option<String> {
        match self {
            IdRule::Auto | IdRule::Stem => Some(without_extension(last(path).1).to_owned()),
            IdRule::Path => Some(without_extension(path).to_owned()),
            IdRule::ImageCode => image_code(path),
        }
    }
}

fn image_code(path: &str) -> Option<String> {
    let (folder, name) = last(path);
    let number = without_extension(name).strip_prefix("img")?.parse().ok()?;
    let set = last(folder).1;
    (!set.is_empty()).then(|| dataset::image_id(set, number))
}

fn last(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn without_extension(name: &str) -> &str {
    match name.rfind('.') {
        Some(at) if !name[at..].contains('/') && at > 0 => &name[..at],
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_found_and_gives_ids() {
        let sets =
            ["image-sets/open-images-18_f9/img5.jpg", "image-sets/MSR_video7-shot1_0/img12.jpg"];
        let rule = IdRule::Auto.resolve(sets.into_iter());
        assert_eq!(rule, IdRule::ImageCode);
        assert_eq!(rule.id(sets[0]).as_deref(), Some("openimages18f9img5"));
        let mixed = ["a/img5.jpg", "a/photo.one.png"];
        let rule = IdRule::Auto.resolve(mixed.into_iter());
        assert_eq!(rule, IdRule::Stem);
        assert_eq!(rule.id(mixed[1]).as_deref(), Some("photo.one"));
        assert_eq!(IdRule::Path.id("a.b/photo").as_deref(), Some("a.b/photo"));
        assert_eq!(IdRule::ImageCode.id("img5.jpg"), None);
    }
}
