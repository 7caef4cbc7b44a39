//! Writes libtorch's folder into the run path of `xenc`, so that it starts without any environment variable.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if std::env::var_os("CARGO_FEATURE_TORCH").is_none() {
        return;
    }
    let Some(libtorch) = std::env::var_os("LIBTORCH") else { return };
    // The real path, not the link in the project, so that an installed binary outlives the checkout.
    if let Ok(lib) = PathBuf::from(libtorch).join("lib").canonicalize() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
