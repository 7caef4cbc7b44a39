#!/usr/bin/env python3
"""Checks src/cuda_kernels.tsv against the CUDA provider's library.

    pip download --no-deps onnxruntime-gpu==1.31.1 && unzip onnxruntime_gpu-*.whl
    tools/onnx/cuda_kernels.py onnxruntime/capi/libonnxruntime_providers_cuda.so

The library's symbols are stripped, but the run-time type names of the kernels' classes are there. Prints the classes
(--list), or the operators of the table whose class is not in the library; exit code 1 if there are any.
"""
import mmap
import pathlib
import re
import sys


def classes(library):
    """Names of the classes in the namespaces of CUDA kernels."""
    with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = set()
        for match in re.finditer(rb"N11onnxruntime(?:4cuda|7contrib4cuda)(\d+)", data):
            length = int(match.group(1))
            found.add(data[match.end():match.end() + length].decode("ascii", "replace"))
        return found


def main():
    known = classes(sys.argv[-1])
    if "--list" in sys.argv:
        print("\n".join(sorted(known)))
        return 0
    table = pathlib.Path(__file__).parent / "src" / "cuda_kernels.tsv"
    rows = [line.split("\t") for line in table.read_text().splitlines() if line and not line.startswith("#")]
    missing = [row[0] for row in rows if row[3] not in known]
    print("\n".join(missing) or f"all {len(rows)} operators' classes are in the library")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
