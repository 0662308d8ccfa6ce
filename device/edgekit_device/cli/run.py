"""``edgekit-device run``: a model on an array, or on random input."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import InputError
from .options import Verbs, add_json, add_runtime
from .printing import number, print_json

__all__ = ["add"]


def add(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = verbs.add_parser("run", help="run a model on an array, or on random input")
    parser.add_argument("model", help="a .tflite")
    parser.add_argument(
        "--input", metavar="F", help=".npy with a leading batch axis, or .npz by signature name; random when left out"
    )
    parser.add_argument("--output", metavar="F", help="where the output goes: .npy, or .npz for several")
    add_json(parser)
    add_runtime(parser)
    parser.set_defaults(verb=_run)


def _run(arguments: argparse.Namespace) -> None:
    import numpy as np

    from ..arrays import read_arrays
    from ..model import Model
    from ..tensors import random_input

    with Model(
        arguments.model, threads=arguments.threads, runtime=arguments.runtime, delegate=arguments.delegate, probe=False
    ) as model:
        values: Any = read_arrays(arguments.input) if arguments.input else [random_input(s) for s in model.inputs]
        result = model.predict(values)
        names = [spec.name for spec in model.outputs]
    if isinstance(result, dict):
        names, result = list(result), tuple(result.values())
    outputs = result if isinstance(result, tuple) else (result,)
    if arguments.output:
        _keep(arguments.output, outputs)
    shown = [
        {"name": name, "dtype": str(value.dtype), "shape": value.shape, "first": value.reshape(-1)[:10].tolist()}
        for name, value in zip(names, (np.asarray(output) for output in outputs))
    ]
    if arguments.json:
        print_json({"outputs": shown})
        return
    for each in shown:
        print(f"{each['name']} {each['dtype']}{list(each['shape'])}: {', '.join(number(v) for v in each['first'])}")


def _keep(path: str, outputs: tuple[Any, ...]) -> None:
    from ..arrays import write_npy, write_npz

    if path.endswith(".npz"):
        write_npz(path, {f"output_{index}": value for index, value in enumerate(outputs)})
    elif len(outputs) == 1:
        write_npy(path, outputs[0])
    else:
        raise InputError(f"expected --output F.npz for this model's {len(outputs)} outputs, got {path}")
