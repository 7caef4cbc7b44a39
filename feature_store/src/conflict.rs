//! Images that come twice.

use serde::Serialize;

/// What to do with an image that comes twice, with different contents; with equal contents it may always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflict {
    /// Stop and name it.
    #[default]
    Fail,
    /// Keep the one that came first: of several stores that of the one named first, in an append the store's.
    First,
    /// Keep the one that came last.
    Last,
}
