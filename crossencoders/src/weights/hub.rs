//! Addresses of files on the Hugging Face hub, `hf://ORG/REPO[@REVISION]/FILE`, and fetching them.
//!
//! Only what is addressed so is ever fetched, once: the cache is the one that Python's `huggingface_hub` uses (`HF_HOME`,
//! by default `~/.cache/huggingface`). Without the crate's feature `hub` an address is an error that says so.

use std::path::{Path, PathBuf};

const SCHEME: &str = "hf://";

/// A file in a model repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// "org/name".
    pub repository: String,
    /// A branch, tag or commit.
    pub revision: String,
    /// Path of the file in the repository.
    pub file: String,
}

/// Why a file of the hub cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not an address.
    #[error(
        "`{0}` is no address of a file on the hub: it is hf://ORG/REPO/FILE or hf://ORG/REPO@REVISION/FILE"
    )]
    Address(String),
    /// Built without the feature.
    #[error(
        "{0}: this program was built without downloads (feature `hub`); build it with them, or download the file and \
         give its path"
    )]
    NotBuilt(String),
    /// No network, no such repository or file, no permission.
    #[error("{address} cannot be downloaded: {reason}")]
    Download {
        /// The address.
        address: String,
        /// What went wrong.
        reason: String,
    },
}

impl Address {
    /// `None` for what does not begin with `hf://`, such as a path.
    ///
    /// # Errors
    /// [`HubError::Address`] for what does, but names no file, or leaves the repository (`..`).
    pub fn parse(text: &str) -> Result<Option<Address>, HubError> {
        let Some(rest) = text.strip_prefix(SCHEME) else { return Ok(None) };
        let malformed = || HubError::Address(text.to_owned());
        let mut parts = rest.splitn(3, '/');
        let (Some(org), Some(name), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let whole = [org, name, revision].into_iter().chain(file.split('/'));
        let sound =
            |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\\');
        if !whole.into_iter().all(sound) {
            return Err(malformed());
        }
        Ok(Some(Address {
            repository: format!("{org}/{name}"),
            revision: revision.to_owned(),
            file: file.to_owned(),
        }))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SCHEME}{}@{}/{}", self.repository, self.revision, self.file)
    }
}

/// A path is its own; an address is that of the file in the cache, which is fetched if it is not there.
///
/// # Errors
/// [`HubError`].
pub fn locate(path: &Path) -> Result<PathBuf, HubError> {
    match Address::parse(&path.to_string_lossy())? {
        None => Ok(path.to_owned()),
        Some(address) => fetch(&address, &Place::default()),
    }
}

/// Where files are kept and fetched from; what is `None` is told by the environment.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "hub"), allow(dead_code))]
struct Place {
    cache: Option<PathBuf>,
    endpoint: Option<String>,
}

#[cfg(feature = "hub")]
fn fetch(address: &Address, place: &Place) -> Result<PathBuf, HubError> {
    use hf_hub::api::sync::ApiBuilder;
    use hf_hub::{Repo, RepoType};

    let failed = |error: hf_hub::api::sync::ApiError| HubError::Download {
        address: address.to_string(),
        reason: error.to_string(),
    };
    let mut builder = ApiBuilder::from_env().with_progress(false);
    if let Some(cache) = &place.cache {
        builder = builder.with_cache_dir(cache.clone());
    }
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let (repository, revision) = (address.repository.clone(), address.revision.clone());
    let repository = Repo::with_revision(repository, RepoType::Model, revision);
    builder.build().and_then(|api| api.repo(repository).get(&address.file)).map_err(failed)
}

#[cfg(not(feature = "hub"))]
fn fetch(address: &Address, _: &Place) -> Result<PathBuf, HubError> {
    Err(HubError::NotBuilt(address.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Address>, String> {
        Address::parse(text).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_told_from_paths() {
        assert_eq!(parse("weights/model.safetensors"), Ok(None));
        let address = parse("hf://org/repo/sub/model.bin").unwrap().unwrap();
        assert_eq!(
            (&*address.repository, &*address.revision, &*address.file),
            ("org/repo", "main", "sub/model.bin")
        );
        let address = parse("hf://org/repo@v1.0/model.bin").unwrap().unwrap();
        assert_eq!((&*address.repository, &*address.revision), ("org/repo", "v1.0"));
        assert_eq!(address.to_string(), "hf://org/repo@v1.0/model.bin");
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for text in [
            "hf://",
            "hf://org",
            "hf://org/repo",
            "hf://org/repo/",
            "hf://org/repo@/f",
            "hf://org/../f",
        ] {
            assert!(parse(text).unwrap_err().contains(text), "{text}");
        }
        assert!(parse("hf://org/repo/../../.ssh/id").is_err());
    }

    #[test]
    #[cfg(not(feature = "hub"))]
    fn without_the_feature_an_address_says_what_to_do() {
        let error = locate(Path::new("hf://org/repo/model.bin")).unwrap_err();
        assert!(error.to_string().contains("feature `hub`"), "{error}");
        assert_eq!(locate(Path::new("model.bin")).unwrap(), Path::new("model.bin"));
    }

    #[cfg(feature = "hub")]
    mod with_the_feature {
        use super::*;

        /// Nothing listens on port 9 of this machine.
        fn unreachable(cache: &Path) -> Place {
            let endpoint = Some("http://127.0.0.1:9".to_owned());
            Place { cache: Some(cache.to_owned()), endpoint }
        }

        #[test]
        fn a_file_in_the_cache_is_found_without_a_network() {
            let folder = tempfile::tempdir().unwrap();
            let repository = folder.path().join("models--org--repo");
            let snapshot = repository.join("snapshots/0123abc");
            std::fs::create_dir_all(&snapshot).unwrap();
            std::fs::create_dir_all(repository.join("refs")).unwrap();
            std::fs::write(repository.join("refs/main"), "0123abc").unwrap();
            std::fs::write(snapshot.join("model.bin"), "weights").unwrap();
            let address = Address::parse("hf://org/repo/model.bin").unwrap().unwrap();
            let found = fetch(&address, &unreachable(folder.path())).unwrap();
            assert_eq!(std::fs::read(found).unwrap(), b"weights");
        }

        #[test]
        fn a_file_that_cannot_be_fetched_is_named() {
            let folder = tempfile::tempdir().unwrap();
            let address = Address::parse("hf://org/repo/model.bin").unwrap().unwrap();
            let error = fetch(&address, &unreachable(folder.path())).unwrap_err();
            let HubError::Download { .. } = &error else { panic!("{error}") };
            assert!(error.to_string().contains("hf://org/repo@main/model.bin"), "{error}");
        }
    }
}
