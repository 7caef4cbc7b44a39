#!/usr/bin/env bash
# Checks that the feature `mpi` can be built and run here: an MPI library with its headers and launcher, and libclang,
# with which their Rust bindings are generated. As root on Debian or Ubuntu what is missing is installed; otherwise the
# command to do so is printed.
set -euo pipefail

. "$(dirname "$0")/packages.sh"

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
install_missing "MPI" ${packages[@]+"${packages[@]}"}
