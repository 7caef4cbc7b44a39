"""The peers' side of docs/benchmarks.md for feature stores: VOLTA's conversion and reader, and h5py.

    python store.py VOLTA_CHECKOUT DUMP.tsv WORK_FOLDER

needs numpy, lmdb and h5py. VOLTA's own files run unchanged; of torch, which its reader imports and does not use here,
only the name is needed. Prints one JSON object.
"""

import importlib.util
import json
import os
import random
import resource
import sys
import time
import types


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_torch():
    torch, nn = types.ModuleType("torch"), types.ModuleType("torch.nn")
    nn.functional = types.ModuleType("torch.nn.functional")
    torch.nn = nn
    sys.modules.update({"torch": torch, "torch.nn": nn, "torch.nn.functional": nn.functional})


def main():
    volta, dump, work = sys.argv[1:4]
    without_torch()
    sys.modules.setdefault("tqdm", types.SimpleNamespace(tqdm=lambda items: items))
    out = {}

    converter = load(os.path.join(volta, "data/mscoco/convert_coco_lmdb.py"), "converter")
    lmdb_path = os.path.join(work, "volta.lmdb")
    if not os.path.exists(lmdb_path):
        started = time.perf_counter()
        converter.convert_to_lmdb([dump], lmdb_path)
        out["convert_seconds"] = time.perf_counter() - started
        out["convert_max_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        out["lmdb_bytes_on_disk"] = os.stat(os.path.join(lmdb_path, "data.mdb")).st_blocks * 512

    reader_module = load(os.path.join(volta, "volta/datasets/_image_features_reader.py"), "reader")
    config = types.SimpleNamespace(
        v_feature_size=2048, num_locs=5, add_global_imgfeat="first", norm_embeddings=False)
    reader = reader_module.ImageFeaturesH5Reader(lmdb_path, config)
    ids = [key.decode() for key in reader._image_ids]
    random.Random(0).shuffle(ids)
    ids = ids[:1000]
    for _ in range(2):  # the second round finds the pages in the cache
        started = time.perf_counter()
        for image in ids:
            reader[image]
        seconds = time.perf_counter() - started
    out["reader_images_per_second"] = len(ids) / seconds

    h5_path = os.path.join(work, "volta.h5")
    if os.path.exists(h5_path):
        import h5py
        with h5py.File(h5_path) as file:
            names = list(file.keys())
            random.Random(0).shuffle(names)
            names = names[:1000]
            for _ in range(2):
                started = time.perf_counter()
                for name in names:
                    group = file[name]
                    group["features"][()], group["boxes"][()], group["img_w"][()], group["img_h"][()]
                seconds = time.perf_counter() - started
        out["h5py_images_per_second"] = len(names) / seconds
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
