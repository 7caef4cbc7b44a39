#!/usr/bin/env bash
# Fills fuzz/corpus with the reference files, as seeds.
set -euo pipefail
cd "$(dirname "$0")"
features=../data/fixtures/features
mkdir -p corpus/{dataset,pickle,file,lmdb,npy,picture,archive,weights,network,text}
cp ../data/fixtures/checkpoints/*.pkl corpus/pickle/
cp "$features"/*.tsv "$features"/uniter/npz/*.npz "$features"/volta.h5 corpus/file/
find "$features" ../attacks -name data.mdb | while read -r file; do
    cp "$file" "corpus/lmdb/$(dirname "$file" | tr '/.' '__').mdb"
done
for info in "$features"/npy/*_info.npy; do
    cat "${info%_info.npy}.npy" "$info" > "corpus/npy/$(basename "$info")"
done
cp ../attacks/pictures/* ../data/fixtures/detector/photos/* corpus/picture/
cp ../attacks/archives/* corpus/archive/
cp ../attacks/weights/* ../data/fixtures/checkpoints/*.{pkl,bin} corpus/weights/
cp ../attacks/networks/* corpus/network/
# Sentences and strings that break tokenizers, one a file.
split -l 1 --additional-suffix .json ../data/fixtures/clip/tokenizer.jsonl corpus/text/
# The first byte says which file it is: 0 ImageCoDe's, 1 JSON Lines, 2 phenomena.
printf '0{"open-images-1_a": {"7": "a red bird"}}' > corpus/dataset/labelled
printf '0[{"directory": "a", "pos_idx": 1, "neg_idx": 4, "caption": "x"}]' > corpus/dataset/simple
