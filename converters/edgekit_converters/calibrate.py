"""Activation ranges: the float model is run over the calibration samples, and every tensor's extremes are kept.

One pass serves every static precision. Ranges are global minimum and maximum over all samples (Krishnamoorthi, 2018,
arXiv 1806.08342, section 3.1.1); a moving average of them costs some networks ten points of accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import CalibrationError, ModelFileError
from .model_card import read_model_card

__all__ = ["Ranges", "collect_ranges", "feed_by_index"]

Array = npt.NDArray[Any]
Ranges = dict[str, tuple[float, float]]


def collect_ranges(float_model: bytes, samples: Mapping[str, Array], *, threads: int = 2) -> Ranges:
    """Smallest and largest value of every float activation of subgraph 0, by tensor name.

    ``samples`` maps input names (any name, when there is one input) to arrays of shape (N, …), preprocessed.
    Raises CalibrationError when they do not fit the model or are not finite.
    """
    from ai_edge_litert.interpreter import Interpreter

    card = read_model_card(float_model)
    constant = {tensor.index for tensor in card.tensors if tensor.constant}
    interpreter = _interpreter(Interpreter, float_model, threads)
    feeds = feed_by_index(interpreter, samples)
    watched = [
        (int(raw["index"]), str(raw["name"]))
        for raw in interpreter.get_tensor_details()
        if raw["dtype"] is np.float32 and int(raw["index"]) not in constant
    ]
    ranges: Ranges = {}
    for row in range(_rows(feeds)):
        for index, values in feeds.items():
            interpreter.set_tensor(index, values[row : row + 1])
        interpreter.invoke()
        for index, name in watched:
            _widen(ranges, name, interpreter, index)
    broken = [name for name, (low, high) in ranges.items() if not (np.isfinite(low) and np.isfinite(high))]
    if broken:
        raise CalibrationError(
            f"expected finite activations, got NaN or infinity in {broken[0]!r} and {len(broken) - 1} more tensors: "
            "check the samples' scale (--scale, --offset) and the model's weights"
        )
    return ranges


def feed_by_index(interpreter: Any, samples: Mapping[str, Array]) -> dict[int, Array]:
    """``samples`` by tensor index, in the tensors' dtypes, checked against their shapes; raises CalibrationError."""
    details = interpreter.get_input_details()
    named = _signature_inputs(interpreter)
    if len(details) == len(samples) == 1:
        by_index = {int(details[0]["index"]): next(iter(samples.values()))}
    elif set(named) == set(samples):
        by_index = {named[name]: values for name, values in samples.items()}
    else:
        raise CalibrationError(f"expected calibration samples for inputs {sorted(named)}, got {sorted(samples)}")
    feeds = {}
    for raw in details:
        values = np.asarray(by_index[int(raw["index"])])
        if values.shape[1:] != tuple(raw["shape"][1:]):
            expected = ("N", *(int(size) for size in raw["shape"][1:]))
            raise CalibrationError(f"expected calibration samples of shape {expected}, got {values.shape}")
        if not np.isfinite(values).all():
            raise CalibrationError("expected finite calibration samples, got NaN or infinity")
        feeds[int(raw["index"])] = values.astype(raw["dtype"])
    return feeds


def _interpreter(kind: Any, float_model: bytes, threads: int) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that keeping every tensor needs memory: that is the point here
        try:
            interpreter = kind(model_content=float_model, num_threads=threads, experimental_preserve_all_tensors=True)
            for raw in interpreter.get_input_details():  # a free batch is calibrated one sample at a time
                interpreter.resize_tensor_input(raw["index"], [1, *raw["shape"][1:]])
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(f"the float model does not load: {str(error).splitlines()[0]}") from error
    return interpreter


def _signature_inputs(interpreter: Any) -> dict[str, int]:
    keys = list(interpreter.get_signature_list())
    if len(keys) != 1:
        return {str(raw["name"]): int(raw["index"]) for raw in interpreter.get_input_details()}
    details = interpreter.get_signature_runner(keys[0]).get_input_details()
    return {name: int(raw["index"]) for name, raw in details.items()}


def _rows(feeds: Mapping[int, Array]) -> int:
    rows = {len(values) for values in feeds.values()}
    if len(rows) != 1 or 0 in rows:
        raise CalibrationError(
            f"expected the same number of samples, at least one, for every input, got {sorted(rows)}"
        )
    return rows.pop()


def _widen(ranges: Ranges, name: str, interpreter: Any, index: int) -> None:
    try:
        values = interpreter.get_tensor(index)
    except ValueError:  # tensors inside a fused operator are never materialised
        return
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    known = ranges.get(name)
    ranges[name] = (low, high) if known is None else (min(low, known[0]), max(high, known[1]))
