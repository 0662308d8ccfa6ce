"""Run every model of a folder on its inputs: a plain program, since neither a device's environment nor a userland has pytest.

    python outputs.py MODELS RESULTS RUNTIME

Reads MODELS/NAME.tflite and MODELS/NAME.npy (a batch of rows), writes RESULTS/NAME.npy, and prints the runtime as JSON.
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np
from edgekit_device import Model


def main() -> None:
    models, results, runtime = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    facts = {}
    for path in sorted(models.glob("*.tflite")):
        with Model(path, runtime=runtime) as model:
            np.save(results / f"{path.stem}.npy", model.predict(np.load(path.with_suffix(".npy"))))
            facts[path.stem] = {"version": model.runtime.version, "delegate": model.runtime.delegate}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
