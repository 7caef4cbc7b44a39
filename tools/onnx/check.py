#!/usr/bin/env python3
"""Checks ONNX files with the reference implementation: for developers, not part of the tests.

    pip install onnx && tools/onnx/check.py FILE...

Of each file: onnx.checker with full shape inference, strict inference with data propagation, and whether the shapes and
types that the file tells of its inner values are those that inference finds. Exit code 1 if a file fails.
"""
import sys

import onnx


def shapes(graph):
    def dims(value):
        tensor = value.type.tensor_type
        return tensor.elem_type, [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
    return {value.name: dims(value) for value in (*graph.value_info, *graph.output)}


def differences(told, found):
    """Values whose types differ, or of which both shapes know a number and the numbers differ."""
    for name in told.keys() & found.keys():
        (one_type, one), (two_type, two) = told[name], found[name]
        numbers = [(a, b) for a, b in zip(one, two) if isinstance(a, int) and isinstance(b, int)]
        if one_type != two_type or len(one) != len(two) or any(a != b for a, b in numbers):
            yield f"{name}: told {told[name]}, found {found[name]}"


def check(path):
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    told = shapes(model.graph)
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return len(told), list(differences(told, shapes(inferred.graph)))


def main():
    failed = False
    for path in sys.argv[1:]:
        try:
            count, wrong = check(path)
        except Exception as error:  # whatever the reference implementation objects to
            count, wrong = 0, [str(error)]
        failed |= bool(wrong)
        print(f"{path}: " + ("; ".join(wrong) if wrong else f"sound, {count} values as told"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
