"""Sizes at the edge of a 32-bit board: a plain program that prints how each ended, as JSON.

python sizes.py MODELS RUNTIME
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import struct
import sys
from unittest import mock

import numpy as np
from edgekit_device import DeviceRuntimeError, Model
from edgekit_device import probe as probing

ROWS = 4000  # 3 MB of images, and the outputs beside them
HUGE = 3_000_000  # rows of 768 bytes: more than 2**31 bytes in one tensor


def cap_memory() -> str:
    """The memory cap of the trial, on a board whose memory is larger than its addresses."""
    real = os.sysconf
    for pages in (1 << 16, 1 << 21, 1 << 29):  # 256 MB, 8 GB, 2 TB
        with mock.patch.object(
            os, "sysconf", lambda name, pages=pages: pages if name == "SC_PHYS_PAGES" else real(name)
        ):
            probing.probe(lambda: None, f"{pages} pages")
    return "fine"


def main() -> None:
    models, runtime = pathlib.Path(sys.argv[1]), sys.argv[2]
    found = {"pointer_bits": struct.calcsize("P") * 8, "machine": platform.machine(), "cap": cap_memory()}
    x = np.random.default_rng(1).integers(-128, 128, (ROWS, 8, 8, 3), dtype=np.int8)
    with Model(models / "conv_int8.tflite", runtime=runtime) as model:
        some = model.predict(x[-5:])
        found["many_rows"] = "equal" if np.array_equal(model.predict(x)[-5:], some) else "different"
    with Model(models / "conv.tflite", runtime=runtime) as model:
        one = model.predict(np.ones((1, 8, 8, 3), np.float32))
        try:
            if sys.maxsize < 2**32:
                model.resize(HUGE)
            else:  # a size that no machine has
                model.resize(HUGE * 1_000_000)
            found["too_large"] = "fine"
        except (DeviceRuntimeError, MemoryError) as error:
            found["too_large"] = type(error).__name__
        again = model.predict(np.ones((1, 8, 8, 3), np.float32))
        found["afterwards"] = "equal" if np.allclose(again, one, atol=1e-5) else "different"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
