//! What interrupted runs leave beside a target.

use super::WriterOptions;
use crate::target::{self, Claim};
use crate::{Schema, StoreError};

/// What keeps a run from going on with what another has left of a store.
pub(super) fn difference(there: &Schema, options: &WriterOptions) -> Option<String> {
    let (old, new) = (&there.provenance, &options.provenance);
    Some(if there.precision != options.precision {
        format!("precision ({})", there.precision.name())
    } else if there.compression != options.compression {
        format!("compression ({})", there.compression.name())
    } else if old.source != new.source {
        format!("source ({})", old.source)
    } else if old.fingerprint != new.fingerprint {
        "choice, naming or --on-conflict of images, or from a source that has changed since,".into()
    } else {
        return None;
    })
}

/// Makes sure that nothing is left of a store at a claimed target that an interrupted run could go on with; drops it if so
/// asked.
///
/// # Errors
/// [`StoreError::OtherPartial`], [`StoreError::Io`].
pub(crate) fn check_progress(claim: &Claim, drop_it: bool) -> Result<(), StoreError> {
    let partial = claim.partial()?;
    if drop_it {
        return target::remove(&partial).map_err(StoreError::io(&partial));
    }
    if partial.symlink_metadata().is_err() {
        return Ok(());
    }
    let (target, differs) = (claim.target().to_owned(), "format (store)".into());
    Err(StoreError::OtherPartial { target, partial, differs })
}
