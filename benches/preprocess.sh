#!/usr/bin/env bash
# Preprocessing of pictures on one core, ours and Pillow's in one run, in milliseconds a picture:
#
#   benches/preprocess.sh [PICTURE...]
#
# needs python3 (or PYTHON) with numpy and pillow 11 or later.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pictures=("$@")
[ $# -gt 0 ] || pictures=("$PWD"/data/fixtures/detector/photos/{landscape.jpg,portrait.png})
cargo bench --quiet --package vision --bench preprocess -- "${pictures[@]}" > "$work/ours"
"${PYTHON:-python3}" benches/peers/preprocess.py "${pictures[@]}" > "$work/peer"
printf '%-44s %9s %9s %7s\n' 'picture, work' xenc pillow ratio
join <(awk '{print $1"/"$2, $3}' "$work/ours" | sort) <(awk '{print $1"/"$2, $3}' "$work/peer" | sort) |
    awk '{printf "%-44s %9.3f %9.3f %6.1fx\n", $1, $2, $3, $3 / $2}'
