"""The stub delegate library, compiled; and a model that is compiled for an Edge TPU in name alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.tflite_builder import Graph, Op, Tensor, build

SOURCE = Path(__file__).with_name("stub_delegate.c")


def compile_stub(folder: Path, *, symbols: bool = True) -> Path:
    """Build the library into ``folder``; without ``symbols`` it is a library, and no delegate."""
    library = folder / ("libstub.so" if symbols else "libnothing.so")
    flags = [] if symbols else ["-DSTUB_WITHOUT_SYMBOLS"]
    subprocess.run(
        [
            "gcc",
            "-std=c11",
            "-D_GNU_SOURCE",
            "-Wall",
            "-Werror",
            "-O1",
            "-shared",
            "-fPIC",
            *flags,
            "-o",
            library,
            SOURCE,
        ],
        check=True,
        timeout=60,
    )
    return library


def compiled_model() -> bytes:
    """int8[1, 8] -> edgetpu-custom-op -> int8[1, 4]: what edgetpu_compiler leaves of a model it maps as a whole."""
    tensors = [
        Tensor("image", "int8", (1, 8), None, (0.5,), (3,)),
        Tensor("scores", "int8", (1, 4), None, (0.25,), (-1,)),
    ]
    return build(Graph(tensors, [Op("edgetpu-custom-op", (0,), (1,), custom=True)], (0,), (1,), "serving_default"))
