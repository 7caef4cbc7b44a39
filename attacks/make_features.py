"""Makes the hostile features again: python make_features.py XENC, with lmdb, numpy, h5py, msgpack and zstandard installed.

None of them does harm when it is looked at; README.md says what each would do to a careless reader.
"""

import base64
import gzip
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

import h5py
import lmdb
import msgpack
import numpy as np
import zstandard

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "features")
COMMAND = "touch PWNED"


class Runs:
    def __reduce__(self):
        return os.system, (COMMAND,)


def environment(name, records):
    path = os.path.join(HERE, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    env = lmdb.open(path, map_size=1 << 20)
    with env.begin(write=True) as transaction:
        for key, value in records.items():
            transaction.put(key, value)
    env.close()
    os.remove(os.path.join(path, "lock.mdb"))
    # Pages that were never used are not needed.
    data = os.path.join(path, "data.mdb")
    last = max(struct.unpack_from("<Q", open(data, "rb").read(), at + 16 + 120)[0] for at in (0, 4096))
    os.truncate(data, (last + 1) * 4096)
    return data


def volta(name, value):
    environment(name, {b"img0": value, b"keys": pickle.dumps([b"img0"])})


def write(name, data):
    path = os.path.join(HERE, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def npy(descr, shape, data):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def floats(*values):
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


volta("pickle_runs_a_command", pickle.dumps(Runs()))
volta("pickle_declares_exabytes", b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.")
laughs = b"\x80\x02]q\x00"
for level in range(1, 31):
    laughs += b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1])) * 10 + b"e"
volta("pickle_of_a_billion_laughs", laughs + b".")
volta("pickle_in_the_list_of_keys_too", b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.")

row = ["img0", "100", "80", "1", floats(0, 0, 9, 9)]
write("tsv_without_base64.tsv", "\t".join(row + ["!" * 64]).encode() + b"\r\n")
write("tsv_that_counts_too_much.tsv", "\t".join(row[:3] + ["4000000000", row[4], floats(1, 2)]).encode() + b"\r\n")
write("tsv_of_half_a_float.tsv", "\t".join(row + [base64.b64encode(b"12345").decode()]).encode() + b"\r\n")
write("tsv_in_a_gzip_bomb.tsv.gz", gzip.compress(b"img0\t100\t80\t1\t" + b"A" * (150 << 20), 9, mtime=0))
write("tsv_in_a_zstd_bomb.tsv.zst", zstandard.compress(b"img0\t100\t80\t1\t" + b"A" * (400 << 20), 19))

info = io.BytesIO()
np.save(info, np.array({"bbox": np.ones((1, 4), "f4"), "image_width": 9, "image_height": 9}, dtype=object))
write("npy_of_terabytes/img0.npy", npy("<f4", (1 << 40, 1 << 40), b"1234"))
write("npy_of_terabytes/img0_info.npy", info.getvalue())
write("npy_that_runs_a_command/img0.npy", npy("<f4", (1, 1), b"1234"))
write("npy_that_runs_a_command/img0_info.npy", npy("|O", "()", pickle.dumps(np.array(Runs(), dtype=object))))


def npz(**arrays):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in arrays.items():
            entry = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return out.getvalue()


boxes = npy("<f4", (1, 6), np.ones(6, "<f4").tobytes())
write("npz_bomb.npz", npz(norm_bb=boxes, features=npy("<f4", (1, 25 << 20), bytes(100 << 20))))


def image(group):
    group["boxes"] = np.ones((1, 4), "f4")
    group["img_w"], group["img_h"] = 100, 80


def hdf5(name, build):
    path = os.path.join(HERE, name)
    with h5py.File(path, "w", libver="earliest") as file:
        build(file)


def huge(file):
    group = file.create_group("img0")
    image(group)
    group.create_dataset("features", shape=(1 << 40, 2048), dtype="f4", chunks=(1, 2048))


def loop(file):
    group = file.create_group("img0")
    image(group)
    group["features"] = group


def outside(file):
    group = file.create_group("img0")
    image(group)
    group.create_dataset("features", (1, 16), "f4", external=[("/etc/passwd", 0, 64)])


def elsewhere(file):
    group = file.create_group("img0")
    image(group)
    group["features"] = h5py.ExternalLink("/etc/passwd", "/features")


hdf5("hdf5_of_petabytes.h5", huge)
hdf5("hdf5_that_contains_itself.h5", loop)
hdf5("hdf5_with_data_outside.h5", outside)
hdf5("hdf5_with_a_link_outside.h5", elsewhere)

environment("msgpack_of_four_billion_items", {b"img0.npz": b"\x81\xa8features\xdd\xff\xff\xff\xff"})
environment("msgpack_nested_too_deep", {b"img0.npz": b"\x81\xa8features" + b"\x91" * 100000 + b"\x01"})
array = {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [1 << 31, 1 << 31], b"data": b"1234"}
environment("msgpack_with_a_false_shape", {b"img0.npz": msgpack.packb({"features": array, "norm_bb": array})})

with tempfile.TemporaryDirectory() as folder:
    dump = os.path.join(folder, "dump.tsv")
    with open(dump, "w") as file:
        for number in range(40):
            file.write("\t".join([f"img{number:02}", "100", "80", "1", floats(0, 0, 9, 9), floats(*range(16))]) + "\n")
    store = os.path.join(folder, "store")
    subprocess.run([sys.argv[1], "store", "convert", dump, store], check=True, stdout=subprocess.DEVNULL)
    sound = open(os.path.join(store, "data.mdb"), "rb").read()

newest = max((0, 4096), key=lambda at: struct.unpack_from("<Q", sound, at + 16 + 128)[0])
main_root = struct.unpack_from("<Q", sound, newest + 16 + 112)[0]
# The first image's record, wherever an earlier transaction has left a copy of it.
size = struct.pack("<IIII", 100, 80, 1, 16)
headers = [at for at in range(len(sound)) if sound.startswith(size, at)]


def store(name, positions, *patch):
    data = bytearray(sound)
    for position in positions:
        struct.pack_into(patch[0], data, position, *patch[1:])
    shutil.rmtree(os.path.join(HERE, name), ignore_errors=True)
    write(f"{name}/data.mdb", bytes(data))


store("store_record_counts_too_much", [at + 8 for at in headers], "<I", 0x7FFFFFFF)
store("store_record_with_unknown_parts", [at - 2 for at in headers], "<H", 0xFFFF)
store("store_record_changed", [at + 60 for at in headers], "<I", 0x12345678)
store("store_root_outside", [newest + 16 + 112], "<Q", 1 << 40)
store("store_node_outside_its_page", [main_root * 4096 + 16], "<H", 0xFFF0)
store("store_page_in_two_places", [newest + 16 + 64], "<Q", main_root)
shutil.rmtree(os.path.join(HERE, "store_cut"), ignore_errors=True)
write("store_cut/data.mdb", sound[: len(sound) // 2])

environment("uniter_counts_too_much/feat_th0.2_max100_min10", {
    b"img0.npz": npz(norm_bb=boxes, features=npy("<f4", (1, 4), bytes(16)))})
write("uniter_counts_too_much/nbb_th0.2_max100_min10.json", json.dumps({"img0.npz": 1 << 40}).encode())


def entries(page):
    """Offsets of a page's entries."""
    count = (struct.unpack_from("<H", sound, page * 4096 + 12)[0] - 16) // 2
    return [page * 4096 + struct.unpack_from("<H", sound, page * 4096 + 16 + 2 * i)[0] for i in range(count)]


def key(entry):
    return sound[entry + 8 : entry + 8 + struct.unpack_from("<H", sound, entry + 6)[0]]


regions = next(entry for entry in entries(main_root) if key(entry) == b"regions")
leaf = struct.unpack_from("<Q", sound, regions + 8 + len(b"regions") + 40)[0]
while sound[leaf * 4096 + 10] == 1:
    leaf = struct.unpack_from("<I", sound, entries(leaf)[0])[0]
free_root = struct.unpack_from("<Q", sound, newest + 16 + 64)[0]
store("store_page_without_entries", [leaf * 4096 + 12], "<H", 16)
store("store_keys_out_of_order", [entries(leaf)[1] + 8], "5s", b"img00")
store("store_free_page_in_use", [entry + 16 for entry in entries(free_root)[:1]], "<QQ", 1, leaf)
