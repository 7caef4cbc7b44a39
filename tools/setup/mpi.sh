#!/usr/bin/env bash
# Checks that the feature `mpi` can be built and run here: an MPI library with its headers and launcher, and libclang,
# with which their Rust bindings are generated. As root on Debian or Ubuntu what is missing is installed; otherwise the
# command to do so is printed.
set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# A libclang where bindgen looks for one: named, in the linker's cache, or in an LLVM folder.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return
    ldconfig -p 2>/dev/null | grep -q 'libclang[-.]' && return
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null
}

packages=()
command -v mpicc >/dev/null || packages+=(libopenmpi-dev)
command -v mpirun >/dev/null || packages+=(openmpi-bin)
has_libclang || packages+=(libclang-dev)
[ ${#packages[@]} -eq 0 ] && exit

install="apt-get install -y --no-install-recommends ${packages[*]}"
if ! command -v apt-get >/dev/null; then
    die "MPI needs mpicc, mpirun and libclang (on Debian: ${packages[*]}); this system's package manager has them"
elif [ "$(id -u)" -ne 0 ]; then
    die "MPI needs packages that are missing: sudo $install"
fi
say "$install"
apt-get update -qq && DEBIAN_FRONTEND=noninteractive $install -qq >/dev/null ||
    die "apt-get could not install ${packages[*]}"
