//! What the holder of a [`Claim`](super::Claim) has made beside its target, as the lock's file lists it: a line each.

use super::PARTIAL;

/// Something beside a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    /// It is called `.NAME.SUFFIX`.
    pub(super) suffix: String,
    /// Inode of the folder of that name before it changed places with the target: once that is done, what was replaced has
    /// the name.
    pub(super) successor: Option<u64>,
}

impl Made {
    /// What is of no use to anybody else.
    pub(super) fn new(suffix: &str) -> Made {
        Made { suffix: suffix.to_owned(), successor: None }
    }

    /// Whether what now has the name, of this inode, is something to go on with: a partial that has not changed places yet.
    pub(super) fn is_of_use(&self, inode: u64) -> bool {
        self.suffix == PARTIAL && self.successor == Some(inode)
    }

    /// What is to change places with the target.
    pub(super) fn exchanged(suffix: &str, inode: u64) -> Made {
        Made { suffix: suffix.to_owned(), successor: Some(inode) }
    }
}

pub(super) fn to_text(list: &[Made]) -> String {
    let line = |made: &Made| match made.successor {
        Some(inode) => format!("{} {inode}\n", made.suffix),
        None => format!("{}\n", made.suffix),
    };
    list.iter().map(line).collect()
}

/// Lines that are none of these, as a crash of the machine can leave them, list nothing.
pub(super) fn from_text(text: &str) -> Vec<Made> {
    let is_suffix = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase());
    let complete = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let entry = |line: &str| match line.split_once(' ') {
        Some((suffix, inode)) if is_suffix(suffix) => {
            Some(Made::exchanged(suffix, inode.parse().ok()?))
        }
        None if is_suffix(line) => Some(Made::new(line)),
        _ => None,
    };
    complete.filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let list = [Made::new("export"), Made::exchanged("partial", 71)];
        assert_eq!(from_text(&to_text(&list)), list);
        for text in ["", "export", "../store\n", "partial x\n", "\0\0\n", "\n"] {
            assert!(from_text(text).is_empty(), "{text:?}");
        }
    }
}
