"""Feed mutated model files to ``Model``: a plain program that must end by itself, and print how it went.

    python fuzz_models.py FOLDER RUNTIME COUNT SEED

FOLDER holds the seeds as *.tflite. Every mutant is loaded with the default probe. What survives is run in a child of
its own, as edgekit-device runs every model: a damaged file that a trial let through may still crash on other data.
Prints one JSON object: how many mutants ended how, and every exception that is not one of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import sys
import traceback
from collections import Counter

import edgekit_device.probe
import numpy as np
from edgekit_device import DeviceRuntimeError, Model, ModelError
from edgekit_device.probe import probe
from edgekit_device.tensors import random_input

DEADLINE_S = 1.0


def mutate(seed: bytes, rng: random.Random) -> bytes:
    """``seed`` with flipped bits, other bytes, extreme words, moved blocks, or an end."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 3, 8, 32))):
        at = rng.randrange(8, len(data))
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            word = rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000, rng.getrandbits(32)))
            data[at & ~3 : (at & ~3) + 4] = word.to_bytes(4, "little")
        elif kind == 3:
            end = min(len(data), at + rng.choice((2, 4, 16, 64)))
            start = rng.randrange(8, len(data))
            block = data[start : start + end - at]
            data[at : at + len(block)] = block
        elif kind == 4 and len(data) > 64:
            del data[at : at + rng.choice((1, 4, 32))]
        elif kind == 5 and rng.random() < 0.1:
            del data[rng.randrange(16, len(data)) :]
        if len(data) < 32:
            break
    return bytes(data)


def use(model: Model) -> None:
    """Everything a caller may do with a survivor; only our own errors may come out."""
    for rows in (1, 3):
        for fill in (random_input, lambda spec: np.zeros(spec.shape, spec.dtype)):
            values = [fill(spec) for spec in model.inputs]
            with contextlib.suppress(DeviceRuntimeError):
                model.predict([np.repeat(value, rows, axis=0) if value.ndim else value for value in values])
    for key, names in model.signatures.items():
        values = dict(zip(names["inputs"], [random_input(spec) for spec in model.inputs]))  # noqa: B905 -- Python 3.9 has no strict
        with contextlib.suppress(DeviceRuntimeError):
            model.predict(values, signature=key)
    _ = model.runtime, model.note, repr(model)


def used_in_a_child(model: Model) -> str:
    try:
        probe(lambda: use(model), "use", deadline_s=5 * DEADLINE_S)
    except edgekit_device.ModelCrashError as error:
        return f"used: {error.signal_name}"
    except ModelError as error:
        raise AssertionError(f"using a survivor raised {error}") from error
    return "used: fine"


def main() -> None:
    folder, runtime, count, seed = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    edgekit_device.probe.DEADLINE_S = DEADLINE_S
    seeds = [path.read_bytes() for path in sorted(folder.glob("*.tflite"))]
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    foreign = []
    for number in range(count):
        mutant = mutate(rng.choice(seeds), rng)
        pathlib.Path("last_mutant.tflite").write_bytes(mutant)
        try:
            with Model(mutant, runtime=runtime) as model:
                outcomes[used_in_a_child(model)] += 1
        except edgekit_device.ModelCrashError as error:
            outcomes[f"probe: {error.signal_name}"] += 1
        except DeviceRuntimeError as error:
            outcomes[type(error).__name__] += 1
        except Exception:
            foreign.append({"number": number, "traceback": traceback.format_exc()[-1500:]})
    print(json.dumps({"outcomes": outcomes, "foreign": foreign[:5], "foreign_count": len(foreign)}))
    sys.stdout.flush()
    os._exit(0)  # what damaged models left behind is not ours to tear down


if __name__ == "__main__":
    main()
