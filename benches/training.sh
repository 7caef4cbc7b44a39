#!/usr/bin/env bash
# The training tables of docs/benchmarks.md, ours and the ImageCoDe code in one run, in turn:
#
#   benches/training.sh IMAGECODE_CHECKOUT ANNOTATIONS.json VOCAB.txt [SETS [ROUNDS]] > lines.jsonl
#
# needs a python3 (PYTHON) with the same torch as ours, numpy, and pytorch_transformers 1.2.0 with what it imports.
set -euo pipefail
imagecode=$1/baselines/crossencoders annotations=$2 vocabulary=$3 sets=${4:-4} rounds=${5:-3}
here=$(cd "$(dirname "$0")" && pwd)
cargo build --release --quiet --workspace --bench training
for model in vilbert_base ctrl_uniter_base; do
    "${PYTHON:-python3}" "$here/peers/training.py" "$imagecode" "$imagecode/$model.json" \
        "$annotations" "$vocabulary" --sets "$sets" --rounds "$rounds" 2>/dev/null
    cargo bench --quiet --workspace --bench training -- \
        "$here/../configs/models/$model.json" "$annotations" "$vocabulary" "$sets" "$rounds"
done
