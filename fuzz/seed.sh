#!/usr/bin/env bash
# Fills fuzz/corpus with the reference files, as seeds.
set -euo pipefail
cd "$(dirname "$0")"
features=../data/fixtures/features
mkdir -p corpus/{pickle,file,lmdb,npy}
cp ../data/fixtures/checkpoints/*.pkl corpus/pickle/
cp "$features"/*.tsv "$features"/uniter/npz/*.npz "$features"/volta.h5 corpus/file/
find "$features" ../attacks -name data.mdb | while read -r file; do
    cp "$file" "corpus/lmdb/$(dirname "$file" | tr '/.' '__').mdb"
done
for info in "$features"/npy/*_info.npy; do
    cat "${info%_info.npy}.npy" "$info" > "corpus/npy/$(basename "$info")"
done
