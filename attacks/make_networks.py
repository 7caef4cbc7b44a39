"""Makes the hostile pictures, weights and networks of this folder again; needs nothing but Python.

None of them does harm when it is looked at; README.md says what each would do to a careless reader.
"""

import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "../data/fixtures")
COMMAND = "touch PWNED"


class Runs:
    def __reduce__(self):
        return os.system, (COMMAND,)


def write(name, data):
    with open(os.path.join(HERE, name), "wb") as file:
        file.write(data)


def archive(name, entries, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(os.path.join(HERE, name), "w", method) as file:
        for entry, data in entries:
            file.writestr(zipfile.ZipInfo(entry), data, method)


def zeros(count):
    """Deflated, without holding them."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(count >> 20))
    return packed + packer.flush()


# Pictures.


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, packed, *more):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", packed)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + pixels + chunk(b"IEND", b"")


def grey(width, height):
    return zlib.compress(b"".join(b"\0" + bytes((x * 7 + y * 3) & 255 for x in range(width)) for y in range(height)))


def webp(*chunks):
    body = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def lossless(width, height):
    """The head of a lossless picture, with little behind it."""
    return b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + b"\x07\x10" + bytes(14)


def extended(width, height):
    return bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


def marker(code, data):
    return b"\xff" + bytes([code]) + struct.pack(">H", len(data) + 2) + data


def behind_start(jpeg, *segments):
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def small_pictures():
    with open(os.path.join(HERE, "../tools/vision/tests/data/pictures.safetensors"), "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start = file.tell()

        def picture(name):
            begin, end = header[name + ".file"]["data_offsets"]
            file.seek(start + begin)
            return file.read(end - begin)

        return picture("jpeg420"), picture("jpeg_cmyk"), picture("webp_lossy")


def pictures():
    jpeg, ink, lossy = small_pictures()
    frame = jpeg.index(b"\xff\xc0") + 5
    write("pictures/truncated.jpg", jpeg[: len(jpeg) // 2])
    write("pictures/truncated_after_the_header.png", png(20, 20, 8, 0, b"")[:33])
    write("pictures/nothing.jpg", b"")
    write("pictures/text.jpg", b"This is no picture, whatever its name says.\n")
    write("pictures/gif.jpg", b"GIF89a\x01\0\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;")
    write("pictures/jpeg_of_65500x65500.jpg", jpeg[:frame] + struct.pack(">HH", 65500, 65500) + jpeg[frame + 4 :])
    write("pictures/jpeg_of_no_lines.jpg", jpeg[:frame] + struct.pack(">HH", 0, 62) + jpeg[frame + 4 :])
    write("pictures/jpeg_of_two_thousand_markers.jpg", behind_start(jpeg, b"\xff\xfe\0\x02" * 2000)[:-600])
    write("pictures/png_of_60000x60000.png", png(60000, 60000, 1, 0, zeros(1 << 20)))
    write("pictures/png_of_no_width.png", png(0, 20, 8, 0, zlib.compress(b"\0" * 20)))
    write("pictures/png_with_a_false_checksum.png", png(20, 20, 8, 0, grey(20, 20))[:-20] + bytes(20))
    write("pictures/png_with_half_its_pixels.png", png(20, 20, 8, 0, grey(20, 10)))
    write("pictures/webp_of_16383x16383.webp", webp((b"VP8L", lossless(16383, 16383))))
    write("pictures/webp_with_a_larger_frame.webp", webp((b"VP8X", extended(2, 2)), (b"VP8L", lossless(16383, 16383))))
    write("pictures/sound_webp_of_four_gigabytes.webp", lossy[:4] + b"\xfe\xff\xff\xff" + lossy[8:16] + b"\xf0\xff\xff\xff" + lossy[20:])

    write("pictures/one_pixel.png", png(1, 1, 8, 0, zlib.compress(b"\0\x80")))

    # What is odd and may be taken all the same.
    write("pictures/sound_jpeg.png", jpeg)
    write("pictures/sound_png_that_unpacks_to_more.png", png(20, 20, 8, 0, zeros(16 << 20)))
    profile = chunk(b"iCCP", b"bomb\0\0" + zeros(16 << 20))
    write("pictures/sound_png_with_a_profile_bomb.png", png(20, 20, 8, 0, grey(20, 20), profile))
    broken = marker(0xE2, b"ICC_PROFILE\0\x01\xff" + b"\xff" * 40)
    write("pictures/sound_ink_with_a_broken_profile.jpg", behind_start(ink, broken))
    # A directory of one entry, the orientation 200; the next directory is said to be this one.
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\xc8\0\0\0\x08\0\0\0"
    write("pictures/sound_exif_that_contains_itself.jpg", behind_start(jpeg, marker(0xE1, exif)))


def lists():
    jpeg = small_pictures()[0]
    sound = png(20, 20, 8, 0, grey(20, 20))
    archive("archives/leads_out.zip", [("../../leads_out.png", sound), ("/leads/out.jpg", jpeg)])
    archive("archives/bomb.zip", [("bomb.png", bytes(16 << 20)), ("sound.jpg", jpeg)], zipfile.ZIP_DEFLATED)
    whole = open(os.path.join(HERE, "archives/leads_out.zip"), "rb").read()
    write("archives/truncated.zip", whole[: len(whole) // 2])
    head = bytearray(512)
    head[:5], head[100:107], head[156:157], head[257:265] = b"a.png", b"0000644", b"0", b"ustar\x0000"
    # 2^62 bytes, in the form for sizes beyond eight gigabytes.
    head[124:136] = b"\x80\0\0\0" + struct.pack(">Q", 1 << 62)
    head[148:156] = b" " * 8
    head[148:155] = b"%06o\0" % sum(head)
    write("archives/file_of_exabytes.tar", bytes(head) + sound + bytes(1024))
    write("archives/devices.txt", b"zero\t/dev/zero\nstdin\t/dev/stdin\nfolder\t/\n")
    write("archives/no_text.txt", b"\xff\xfe\0\0" * 9)


# Weights.


def safetensors(tensors):
    header, body = {}, b""
    for name, shape, data in tensors:
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    header = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(header)) + header + body


def detector(value, classes=1, anchors=12, twisted=()):
    """All tensors of a detector of one channel, everywhere the same value."""
    shapes = {}

    def convolution(name, *shape):
        shapes[name + ".weight"] = shape
        for part in ["weight", "bias", "running_mean", "running_var"]:
            shapes[f"{name}.norm.{part}"] = shape[:1]

    def linear(name, *shape):
        shapes[name + ".weight"], shapes[name + ".bias"] = shape, shape[:1]

    convolution("backbone.stem.conv1", 1, 3, 7, 7)
    before = 1
    for stage in range(4):
        middle = out = 1 << stage
        prefix = ["backbone.res2", "backbone.res3", "backbone.res4", "roi_heads.res5"][stage] + ".0"
        convolution(prefix + ".shortcut", out, before, 1, 1)
        convolution(prefix + ".conv1", middle, before, 1, 1)
        convolution(prefix + ".conv2", middle, middle, 3, 3)
        convolution(prefix + ".conv3", out, middle, 1, 1)
        before = out
    head = "proposal_generator.rpn_head."
    linear(head + "conv", 1, 4, 3, 3)
    linear(head + "objectness_logits", anchors, 1, 1, 1)
    linear(head + "anchor_deltas", 4 * anchors, 1, 1, 1)
    linear("roi_heads.box_predictor.cls_score", classes + 1, 8)
    linear("roi_heads.box_predictor.bbox_pred", 4 * classes, 8)
    for name in twisted:
        shapes[name] = shapes[name][::-1]

    def size(shape):
        return 4 * shape[0] * (size(shape[1:]) // 4) if shape else 4

    return safetensors([(name, list(shape), value * (size(shape) // 4)) for name, shape in shapes.items()])


def weights():
    ones = struct.pack("<f", 0.01)
    write("weights/pickle_runs_a_command.pkl", pickle.dumps({"model": Runs(), "__author__": "x"}, 2))
    runs = pickle.dumps(Runs(), 2)
    archive("weights/archive_runs_a_command.pt", [("x/data.pkl", runs), ("x/version", b"3")])
    code = b"\x80\x02c__torch__\nCLIP\n)\x81}X\x01\0\0\0w" + runs[2:-1] + b"sb."
    archive("weights/script_runs_a_command.pt", [("x/data.pkl", code), ("x/constants.pkl", b"\x80\x02).")])
    write("weights/pickle_of_exabytes.pkl", b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.")
    write("weights/truncated.safetensors", safetensors([("text_projection", [64, 64], bytes(64 * 64 * 4))])[:-9000])
    write("weights/header_of_exabytes.safetensors", struct.pack("<Q", 1 << 60) + b'{"a":')
    entry = {"dtype": "F32", "shape": [1 << 31, 1 << 31], "data_offsets": [0, 1 << 64 - 1]}
    text = json.dumps({"text_projection": entry}).encode()
    write("weights/tensor_of_exabytes.safetensors", struct.pack("<Q", len(text)) + text)
    write("weights/nested_too_deep.safetensors", struct.pack("<Q", 5000) + b'{"a":' + b"[" * 4995)
    write("weights/of_no_numbers.safetensors", detector(struct.pack("<f", float("nan"))))
    write("weights/knows_no_objects.safetensors", detector(ones, classes=0))
    write("weights/has_fifteen_anchors.safetensors", detector(ones, anchors=15))
    twisted = ["backbone.stem.conv1.weight", "roi_heads.box_predictor.cls_score.weight"]
    write("weights/is_twisted.safetensors", detector(ones, twisted=twisted))
    write("weights/text.pkl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 252146389\n")
    archive("weights/bomb.pt", [("x/data.pkl", bytes(16 << 20)), ("x/version", b"3")], zipfile.ZIP_DEFLATED)


# Networks: the fields of onnx.proto, by number.


def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


FLOAT, INT64 = 1, 7


def value(name, kind, sides):
    """Name, type and shape of an input or output."""
    shape = b"".join(field(1, field(1, side) if isinstance(side, int) else field(2, side)) for side in sides)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def node(operator, inputs, outputs, attributes=b"", domain=""):
    names = b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs)
    return names + field(4, operator) + attributes + (field(7, domain) if domain else b"")


def tensor(name, kind, dims, raw):
    return b"".join(field(1, side) for side in dims) + field(2, kind) + field(8, name) + field(9, raw)


def outside(name, dims, **places):
    entries = b"".join(field(13, field(1, key) + field(2, text)) for key, text in places.items())
    return b"".join(field(1, side) for side in dims) + field(2, FLOAT) + field(8, name) + entries + field(14, 1)


def graph(nodes, inputs, outputs, constants=()):
    parts = [(1, nodes), (5, constants), (11, inputs), (12, outputs)]
    return field(2, "graph") + b"".join(field(number, part) for number, some in parts for part in some)


def model(graph, version=8, opset=17):
    return field(1, version) + field(7, graph) + field(8, field(2, opset))


IMAGE = value("image", FLOAT, [1, 3, "height", "width"])
X, Y = value("x", FLOAT, ["n"]), value("y", FLOAT, ["n"])


def detector_that_gives(shapes, number=1.0):
    """A graph with a detector's names; each output has a fixed shape and is the same number everywhere."""
    names = ["proposals", "features", "class_logits", "box_deltas"]
    fill = field(5, field(1, "value") + field(5, tensor("", FLOAT, [1], struct.pack("<f", number))) + field(20, 4))
    nodes = [node("ConstantOfShape", ["shape_" + name], [name], fill) for name in names]
    packed = [struct.pack(f"<{len(shape)}q", *shape) for shape in shapes]
    constants = [
        tensor("shape_" + name, INT64, [len(shape)], raw) for name, shape, raw in zip(names, shapes, packed)
    ]
    outputs = [value(name, FLOAT, [f"{name}_{n}" for n in range(len(shape))]) for name, shape in zip(names, shapes)]
    return model(graph(nodes, [IMAGE], outputs, constants))


def networks():
    identity = graph([node("Identity", ["x"], ["y"])], [X], [Y])
    write("networks/noise.onnx", bytes((n * n * 31 + n * 7) >> 3 & 255 for n in range(1000)))
    write("networks/nothing.onnx", b"")
    write("networks/without_a_graph.onnx", field(1, 8) + field(8, field(2, 17)))
    write("networks/of_something_else.onnx", model(identity))
    write("networks/of_a_later_format.onnx", model(identity, version=999))
    write("networks/of_a_later_operator_set.onnx", model(identity, opset=999))
    write("networks/truncated.onnx", model(identity)[:-30])
    write("networks/with_an_unknown_operator.onnx", model(graph([node("Run", ["x"], ["y"], domain="shell")], [X], [Y])))
    add = [node("Add", ["x", "w"], ["y"])]
    for name, places in [
        ("reads_a_password", {"location": "../../../../../../../../../../etc/passwd", "offset": "0", "length": "16"}),
        ("reads_an_absolute_password", {"location": "/etc/passwd", "offset": "0", "length": "16"}),
        ("reads_beyond_the_end", {"location": "nothing.onnx", "offset": str(1 << 62), "length": str(1 << 62)}),
        ("reads_a_device", {"location": "/dev/zero", "offset": "0", "length": "16"}),
    ]:
        write(f"networks/{name}.onnx", model(graph(add, [X], [Y], [outside("w", [4], **places)])))
    inner = field(5, field(1, "value") + field(5, outside("", [4], location="/etc/passwd", length="16")) + field(20, 4))
    nodes = [node("Constant", [], ["w"], inner)] + add
    write("networks/reads_a_password_in_a_node.onnx", model(graph(nodes, [X], [Y])))
    write("networks/constant_of_exabytes.onnx", model(graph(add, [X], [Y], [tensor("w", FLOAT, [1 << 31, 1 << 31], bytes(16))])))
    write("networks/constant_of_a_negative_size.onnx", model(graph(add, [X], [Y], [tensor("w", FLOAT, [-1, 4], bytes(16))])))
    side = tensor("s", INT64, [2], struct.pack("<2q", 1 << 31, 1 << 20))
    nodes = [node("ConstantOfShape", ["s"], ["w"])] + add
    write("networks/makes_petabytes.onnx", model(graph(nodes, [X], [Y], [side])))
    write("networks/in_a_circle.onnx", model(graph([node("Identity", ["y"], ["z"]), node("Identity", ["z"], ["y"])], [X], [Y])))
    deep = identity
    for _ in range(200):
        branch = field(5, field(1, "then_branch") + field(6, deep) + field(20, 5))
        deep = graph([node("If", ["x"], ["y"], branch)], [X], [Y])
    write("networks/nested_too_deep.onnx", model(deep))
    write("networks/detector_of_no_columns.onnx", detector_that_gives([[4, 4], [4, 8], [4, 0], [4, 4]]))
    write("networks/detector_of_other_rows.onnx", detector_that_gives([[4, 4], [3, 8], [4, 3], [4, 8]]))
    write("networks/detector_of_other_boxes.onnx", detector_that_gives([[4, 5], [4, 8], [4, 3], [4, 8]]))
    write("networks/detector_of_one_side.onnx", detector_that_gives([[16], [32], [12], [32]]))
    write("networks/detector_of_nothing.onnx", detector_that_gives([[0, 4], [0, 8], [0, 3], [0, 8]]))
    whole = [[4, 4], [4, 8], [4, 3], [4, 8]]
    write("networks/detector_of_no_numbers.onnx", detector_that_gives(whole, float("nan")))
    pool = [node("GlobalAveragePool", ["image"], ["image_features"])]
    huge = value("image", FLOAT, ["images", 3, 1 << 40, 1 << 40])
    features = value("image_features", FLOAT, ["a", "b", "c", "d"])
    write("networks/clip_of_huge_pictures.onnx", model(graph(pool, [huge], [features])))
    small = value("image", FLOAT, ["images", 3, 8, 8])
    write("networks/clip_of_four_sides.onnx", model(graph(pool, [small], [features])))
    shape = [tensor("s", INT64, [2], struct.pack("<2q", 0, 7))]
    nothing = [node("ConstantOfShape", ["s"], ["image_features"])]
    write("networks/clip_of_nothing.onnx", model(graph(nothing, [small], [value("image_features", FLOAT, ["a", "b"])], shape)))


for folder, make in [("pictures", pictures), ("archives", lists), ("weights", weights), ("networks", networks)]:
    shutil.rmtree(os.path.join(HERE, folder), ignore_errors=True)
    os.makedirs(os.path.join(HERE, folder))
    make()
