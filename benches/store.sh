#!/usr/bin/env bash
# The tables of docs/benchmarks.md for feature stores, ours and the peers' in one run:
#
#   benches/store.sh XENC VOLTA_CHECKOUT WORK_FOLDER [IMAGES]
#
# needs python3 with numpy, lmdb and h5py, GNU time, and about 2 MB of disk per image (default 4000).
set -euo pipefail
xenc=$1 volta=$2 work=$3 images=${4:-4000}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
timed() { /usr/bin/time -f "  %e s, %M KiB resident" "$@" 2>&1 >/dev/null | tail -1; }

[ -f "$work/dump.tsv" ] || python3 "$here/peers/make_dump.py" "$images" "$work/dump.tsv"
cat "$work/dump.tsv" > /dev/null

echo "disk: writing as many bytes as the store has, with fsync"
dd if=/dev/zero of="$work/zeros" bs=1M count=$((images * 283 / 1000)) conv=fsync 2>&1 | tail -1
rm "$work/zeros"
for round in 1 2 3; do
    echo "TSV -> store, round $round"
    rm -rf "$work/store"
    timed "$xenc" store convert "$work/dump.tsv" "$work/store"
done
for format in hdf5 volta uniter npy tsv; do
    rm -rf "$work/out" "$work/back"
    echo "store -> $format"
    timed "$xenc" store convert "$work/store" "$work/out" --to $format
    echo "$format -> store"
    timed "$xenc" store convert "$work/out" "$work/back"
    [ $format = hdf5 ] && mv "$work/out" "$work/volta.h5"
done
rm -rf "$work/out" "$work/back"
for options in "--precision f16" "--precision bf16" "--precision int8" "--compression lz4" "--compression zstd"; do
    echo "store -> store $options"
    rm -rf "$work/other"
    timed "$xenc" store convert "$work/store" "$work/other" $options
    echo "  $(du -k "$work/other" | cut -f1) KiB on disk, $(du -k "$work/store" | cut -f1) at f32"
    "$xenc" store info "$work/other" | grep rounding || true
    "$xenc" store bench "$work/other" --random --seconds 3 | grep -E "rate|share"
done
echo "peers"
rm -rf "$work/volta.lmdb"
python3 "$here/peers/store.py" "$volta" "$work/dump.tsv" "$work"
for options in "" "--random" "--random --threads 2" "--cold" "--random --cold" "--random --cold --prefetch"; do
    echo "bench $options"
    "$xenc" store bench "$work/store" --seconds 4 $options
done
echo "validate"
timed "$xenc" store validate "$work/store"
