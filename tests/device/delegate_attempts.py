"""Load models with delegates over whichever runtime the Python that runs this file has; what came of each, as JSON.

    python delegate_attempts.py RUNTIME ATTEMPTS DEADLINE_S

ATTEMPTS is a JSON list of [model path, delegate]. A plain program: a device's environment has no pytest.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
from edgekit_device import DeviceRuntimeError, Model, litert_trial, trial


def attempt(runtime: str, path: str, delegate: str) -> dict[str, Any]:
    try:
        with Model(path, runtime=runtime, delegate=delegate) as model:
            spec = model.inputs[0]
            outputs = model.predict(np.zeros(spec.shape, spec.dtype))
            return {"runtime": vars(model.runtime), "outputs": np.asarray(outputs).tolist()}
    except DeviceRuntimeError as error:
        facts = {"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
        findings = [finding.code for finding in getattr(error, "findings", ())]
        return {**facts, "signal": getattr(error, "signal_name", None), "findings": findings}


def main() -> None:
    runtime, attempts, deadline_s = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
    trial.DEADLINE_S = litert_trial.DEADLINE_S = deadline_s
    results = [attempt(runtime, path, delegate) for path, delegate in attempts]
    print(json.dumps({"results": results, "pid": os.getpid()}))


main()
