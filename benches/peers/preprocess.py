"""Pillow's side of docs/benchmarks.md for preprocessing: the same work in the same order as the originals do it.

    python preprocess.py PICTURE...

needs numpy and pillow. Prints a line of picture, work and milliseconds: the median of 15 rounds.
"""

import io
import os
import sys
import time

import numpy as np
from PIL import Image

MEANS = np.array([102.9801, 115.9465, 122.7717], np.float32)
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def median(work):
    work()
    times = []
    for _ in range(15):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)[7]


def detector_size(w, h, short=800, longest=1333):
    scale = short / min(h, w)
    nh, nw = (short, scale * w) if h < w else (scale * h, short)
    if max(nh, nw) > longest:
        shrink = longest / max(nh, nw)
        nh, nw = nh * shrink, nw * shrink
    return int(nw + 0.5), int(nh + 0.5)


def clip_size(w, h, n=224):
    return (n, int(n * h / w)) if w <= h else (int(n * w / h), n)


def crop(image, n=224):
    left, top = round((image.width - n) / 2.0), round((image.height - n) / 2.0)
    return image.crop((left, top, left + n, top + n))


for file in sys.argv[1:]:
    data = open(file, "rb").read()
    name = os.path.basename(file)

    def decode():
        return Image.open(io.BytesIO(data)).convert("RGB")

    image = decode()
    large, small = detector_size(*image.size), clip_size(*image.size)

    def detector():
        pixels = np.asarray(decode().resize(large, Image.Resampling.BILINEAR))[:, :, ::-1]
        return np.ascontiguousarray((pixels.astype(np.float32) - MEANS).transpose(2, 0, 1))

    def clip():
        pixels = np.asarray(crop(decode().resize(small, Image.Resampling.BICUBIC)))
        return np.ascontiguousarray((pixels.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)

    print(name, "decode", median(decode))
    print(name, "resize_detector", median(lambda: image.resize(large, Image.Resampling.BILINEAR)))
    print(name, "resize_clip", median(lambda: crop(image.resize(small, Image.Resampling.BICUBIC))))
    print(name, "detector", median(detector))
    print(name, "clip", median(clip))
