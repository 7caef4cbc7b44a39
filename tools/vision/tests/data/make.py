"""Makes pictures.safetensors: small pictures of every kind, and what Pillow 12 and OpenCV 5 make of them.

    pip install pillow==12.0.0 opencv-python-headless==5.0.* numpy safetensors && python make.py

Pillow 13 resizes some tall pictures along the columns first; what was published was made before it.

Tensors: `NAME.file` the file's bytes; `NAME.bgr` OpenCV's pixels; `NAME.clip` the 24 by 24 crop of CLIP's preprocessing
in red, green, blue.
"""
import io
import cv2
import numpy as np
from PIL import Image
from safetensors.numpy import save_file

rng = np.random.default_rng(7)
yy, xx = np.mgrid[0:40, 0:62]
base = np.stack([xx * 4, yy * 6, (xx * yy) % 256], -1).astype(np.uint8)
base[10:20, 15:30] = rng.integers(0, 256, (10, 15, 3))
alpha = ((xx * 7 + yy * 3) % 256).astype(np.uint8)
alpha[:8] = 0
alpha[8:14] = 255
rgb = Image.fromarray(base)
rgba = Image.fromarray(np.dstack([base, alpha]))
cmyk = rgb.convert("CMYK")
cmyk = Image.fromarray(np.dstack([np.asarray(cmyk)[..., :3], (xx * 2).astype(np.uint8)]), "CMYK")


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def saved(image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


files = {
    "jpeg444": saved(rgb, format="JPEG", quality=90, subsampling=0),
    "jpeg422": saved(rgb, format="JPEG", quality=80, subsampling=1),
    "jpeg420": saved(rgb, format="JPEG", quality=75, subsampling=2),
    "jpeg_progressive": saved(rgb, format="JPEG", quality=75, progressive=True),
    "jpeg_grey": saved(rgb.convert("L"), format="JPEG"),
    "jpeg_cmyk": saved(cmyk, format="JPEG", quality=90),
    "png_rgb": saved(rgb, format="PNG"),
    "png_rgba": saved(rgba, format="PNG"),
    "png_grey": saved(rgb.convert("L"), format="PNG"),
    "png_grey_alpha": saved(rgba.convert("LA"), format="PNG"),
    "png_one_bit": saved(rgb.convert("1"), format="PNG"),
    "png_palette": saved(rgb.quantize(17), format="PNG"),
    "png_palette_transparent": saved(rgb.quantize(40), format="PNG", transparency=3),
    "png_tiny_palette": saved(rgb.quantize(4), format="PNG"),
    "webp_lossless": saved(rgb, format="WEBP", lossless=True),
    "webp_rgba": saved(rgba, format="WEBP", lossless=True, exact=True),
    "png_rgb16": cv2.imencode(".png", rng.integers(0, 65536, (40, 62, 3)).astype(np.uint16))[1].tobytes(),
}
for orientation in range(1, 9):
    files[f"jpeg_exif{orientation}"] = saved(rgb, format="JPEG", exif=exif(orientation))
for w, h in [(31, 97), (97, 31), (5, 7), (24, 60), (1, 1), (3, 90)]:
    noise = rng.integers(0, 256, (h, w, 4)).astype(np.uint8)
    files[f"noise_{w}x{h}"] = saved(Image.fromarray(noise[..., :3]), format="PNG")
    files[f"noise_alpha_{w}x{h}"] = saved(Image.fromarray(noise), format="PNG")
files["png_exif6"] = saved(rgb, format="PNG", exif=exif(6))


def clip(file, n=24):
    image = Image.open(io.BytesIO(file))
    w, h = image.size
    nw, nh = (n, int(n * h / w)) if w <= h else (int(n * w / h), n)
    image = image.resize((nw, nh), Image.Resampling.BICUBIC)
    left, top = int(round((nw - n) / 2.0)), int(round((nh - n) / 2.0))
    return np.asarray(image.crop((left, top, left + n, top + n)).convert("RGB"))


tensors = {}
for name, file in files.items():
    tensors[f"{name}.file"] = np.frombuffer(file, np.uint8)
    tensors[f"{name}.bgr"] = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    tensors[f"{name}.clip"] = np.ascontiguousarray(clip(file))
# Lossy WebP: decoders differ by rounding.
lossy = saved(rgb, format="WEBP", quality=80)
tensors["webp_lossy.file"] = np.frombuffer(lossy, np.uint8)
tensors["webp_lossy.bgr"] = cv2.imdecode(np.frombuffer(lossy, np.uint8), cv2.IMREAD_COLOR)
tensors["webp_lossy.clip"] = np.ascontiguousarray(clip(lossy))
save_file(tensors, "pictures.safetensors")
