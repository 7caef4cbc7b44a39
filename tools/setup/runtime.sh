#!/usr/bin/env bash
# Installs the run-time libraries (libtorch, ONNX Runtime) and CLIP's vocabulary from their Python wheels and links them
# under .runtime, where .cargo/config.toml looks for them.
#
#   tools/setup/runtime.sh          what a CPU needs
#   tools/setup/runtime.sh cuda     what a GPU needs as well
#
# Each library lives in a cache folder named after its version, shared by all checkouts:
# ${XDG_CACHE_HOME:-~/.cache}/xenc. It is installed beside that folder and renamed when complete, so an interrupted
# download is never taken for a finished one. Own copies are used instead when they are named:
#   LIBTORCH=/path/to/libtorch  ORT_DYLIB_PATH=/path/to/libonnxruntime.so  make setup
set -euo pipefail

torch_version=2.11.0
onnxruntime_version=1.31.1
open_clip_version=3.3.0
flavour=${1:-cpu}
project=$(cd "$(dirname "$0")/../.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}/xenc
python=${PYTHON:-python3}

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

need_tools() {
    command -v cargo >/dev/null || die "cargo is missing: install Rust (https://rustup.rs)"
    command -v c++ >/dev/null || die "a C++ compiler is missing (Debian: apt-get install g++)"
    "$python" -m pip --version >/dev/null 2>&1 ||
        die "$python with pip is missing (Debian: apt-get install python3-pip), or set PYTHON"
}

# With an assembler JPEGs decode two and a half times as fast; the pixels are the same.
want_assembler() {
    case $(uname -m) in x86_64 | i?86) ;; *) return ;; esac
    command -v nasm >/dev/null && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "apt-get install nasm"
        { apt-get install -y -qq nasm || { apt-get update -qq && apt-get install -y -qq nasm; }; } >/dev/null 2>&1 && return
    fi
    say "nasm is missing, JPEGs will decode more slowly (Debian: apt-get install nasm, before the first build)"
}

# install_wheels FOLDER PIP-ARGUMENT...   does nothing when the folder is there already
install_wheels() {
    local folder=$1 partial
    shift
    [ -d "$folder" ] && return
    mkdir -p "$cache"
    rm -rf "$folder".partial.*
    partial=$(mktemp -d "$folder.partial.XXXXXX")
    say "installing $(basename "$folder") into $cache"
    "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --no-compile --target "$partial" "$@" || {
        rm -rf "$partial"
        die "pip could not install: $*"
    }
    chmod 755 "$partial"
    # Another set-up may have finished first; its copy is as good.
    mv -T "$partial" "$folder" 2>/dev/null || rm -rf "$partial"
    [ -d "$folder" ] || die "cannot write $folder"
}

link() {
    mkdir -p "$project/.runtime"
    [ "$(readlink "$project/.runtime/$2" || true)" = "$1" ] || ln -sfnT "$1" "$project/.runtime/$2"
}

setup_torch() {
    if [ -n "${LIBTORCH:-}" ] && [ "$(realpath -m "$LIBTORCH")" != "$(realpath -m "$project/.runtime/torch")" ]; then
        ls "$LIBTORCH"/lib/libtorch_cpu.* >/dev/null 2>&1 || die "LIBTORCH=$LIBTORCH holds no lib/libtorch_cpu"
        link "$(realpath "$LIBTORCH")" torch
        return
    fi
    local folder=$cache/torch-$torch_version-$flavour
    if [ "$flavour" = cuda ]; then
        install_wheels "$folder" "torch==$torch_version"
    else
        # The Linux wheel is built with CUDA and needs these two small libraries to load, even where there is no GPU.
        local -a cuda=()
        [ "$(uname -s)" = Linux ] && cuda=('nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cupti==13.0.*')
        install_wheels "$folder" --no-deps "torch==$torch_version" "${cuda[@]}"
    fi
    link "$folder/torch" torch
}

setup_onnxruntime() {
    if [ -n "${ORT_DYLIB_PATH:-}" ] &&
        [ "$(realpath -m "$(dirname "$ORT_DYLIB_PATH")")" != "$(realpath -m "$project/.runtime/onnxruntime")" ]; then
        [ -f "$ORT_DYLIB_PATH" ] || die "ORT_DYLIB_PATH=$ORT_DYLIB_PATH is no file"
        link "$(realpath "$(dirname "$ORT_DYLIB_PATH")")" onnxruntime
        return
    fi
    local package=onnxruntime library
    [ "$flavour" = cuda ] && package=onnxruntime-gpu
    local folder=$cache/$package-$onnxruntime_version
    install_wheels "$folder" --no-deps "$package==$onnxruntime_version"
    library=$(ls "$folder"/onnxruntime/capi/libonnxruntime.so.* 2>/dev/null | head -n 1)
    [ -n "$library" ] || die "no libonnxruntime in $folder: remove that folder and run set-up again"
    ln -sfn "$(basename "$library")" "$folder/onnxruntime/capi/libonnxruntime.so"
    link "$folder/onnxruntime/capi" onnxruntime
}

# The wheel of open_clip carries OpenAI's vocabulary (both MIT); nothing else of it is used.
setup_clip() {
    local vocabulary=bpe_simple_vocab_16e6.txt.gz
    if [ -n "${XENC_CLIP_VOCABULARY:-}" ] &&
        [ "$(realpath -m "$(dirname "$XENC_CLIP_VOCABULARY")")" != "$(realpath -m "$project/.runtime/clip")" ]; then
        [ -f "$XENC_CLIP_VOCABULARY" ] || die "XENC_CLIP_VOCABULARY=$XENC_CLIP_VOCABULARY is no file"
        link "$(realpath "$(dirname "$XENC_CLIP_VOCABULARY")")" clip
        return
    fi
    local folder=$cache/open_clip-$open_clip_version
    install_wheels "$folder" --no-deps "open_clip_torch==$open_clip_version"
    [ -f "$folder/open_clip/$vocabulary" ] || die "no $vocabulary in $folder: remove that folder and run set-up again"
    link "$folder/open_clip" clip
}

need_tools
want_assembler
setup_torch
setup_onnxruntime
setup_clip
