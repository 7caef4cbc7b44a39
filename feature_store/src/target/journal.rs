//! What the holder of a [`Claim`](super::Claim) has made beside its target, as the lock's file lists it: a line each.

use super::{PARTIAL, REPLACED};

/// What commands make beside a target, by what its name ends with.
const SUFFIXES: [&str; 6] = [PARTIAL, REPLACED, "export", "copy", "compact", "new"];

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
        debug_assert!(SUFFIXES.contains(&suffix), "{suffix} would not be read back");
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

/// The list in a lock's file; `None` if it is none. The last line may be cut off, and a crash of the machine can leave
/// zeros: both list nothing.
pub(super) fn from_text(text: &[u8]) -> Option<Vec<Made>> {
    if text.iter().all(|&byte| byte == 0) {
        return Some(Vec::new());
    }
    let text = str::from_utf8(text).ok()?;
    let is_suffix = |text: &str| SUFFIXES.contains(&text);
    let (complete, cut) = text.rsplit_once('\n').unwrap_or(("", text));
    let begins_one = |suffix: &&str| suffix.starts_with(cut) || cut.starts_with(*suffix);
    if !SUFFIXES.iter().any(begins_one) {
        return None;
    }
    let entry = |line: &str| match line.split_once(' ') {
        Some((suffix, inode)) if is_suffix(suffix) => {
            Some(Made::exchanged(suffix, inode.parse().ok()?))
        }
        None if is_suffix(line) => Some(Made::new(line)),
        _ => None,
    };
    complete.lines().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let list = [Made::new("export"), Made::exchanged("partial", 71)];
        assert_eq!(from_text(to_text(&list).as_bytes()), Some(list.to_vec()));
        let cut = format!("{}copy 7", to_text(&list));
        assert_eq!(from_text(cut.as_bytes()), Some(list.to_vec()));
        for text in ["", "exp", "export", "\0\0\0"] {
            assert_eq!(from_text(text.as_bytes()), Some(Vec::new()), "{text:?}");
        }
        for text in ["../store\n", "partial x\n", "my notes", "lock\n", "\u{ff}"] {
            assert_eq!(from_text(text.as_bytes()), None, "{text:?}");
        }
    }
}
