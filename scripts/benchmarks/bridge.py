"""How equal the models are that cross between the two Kerases, and what that takes: every family, both ways."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from measuring import ROOT, heading, row

sys.path[:0] = [str(ROOT)]
from edgekit_converters import bridge  # noqa: E402 - the repository first
from edgekit_converters._tf import import_keras, import_tf_keras  # noqa: E402
from edgekit_converters.bridge.proof import distance  # noqa: E402

from tests.converters.bridge_models import FAMILIES, family  # noqa: E402

SEED = 7


def measured(model: Any, cross: Any) -> tuple[float, float]:
    """The largest difference between both models' outputs on fresh samples, and the seconds of the bridge with its proof."""
    started = time.perf_counter()
    made = cross(model)
    seconds = time.perf_counter() - started
    samples = np.random.default_rng(SEED).uniform(-1, 1, (8, *model.inputs[0].shape[1:])).astype(np.float32)
    before, after = (np.asarray(one(samples, training=False)) for one in (model, made))
    return distance(before, after), seconds


def main() -> int:
    """Print the table; 1 where a model is further off than the bridge promises."""
    worst = 0.0
    for title, module, cross in (
        ("Keras 3 to tf_keras", import_keras(), bridge.to_tf_keras),
        ("tf_keras to Keras 3", import_tf_keras(), bridge.to_keras),
    ):
        heading(f"Bridge, {title}: largest output difference on 8 random images, seconds with the proof")
        for name, size in FAMILIES.items():
            apart, seconds = measured(family(module, name), cross)
            worst = max(worst, apart)
            row(
                f"{name} {size}×{size}",
                f"{apart:.1e} in {seconds:.1f} s",
                f"≤ {bridge.TOLERANCE:g}",
                apart <= bridge.TOLERANCE,
            )
            module.backend.clear_session()
    return int(worst > bridge.TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
