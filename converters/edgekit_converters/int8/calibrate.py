"""Activation ranges: the float model is run over the calibration samples, and every tensor's extremes are kept.

One pass serves every static precision. Ranges are global minimum and maximum over all samples (Krishnamoorthi, 2018,
arXiv 1806.08342, section 3.1.1); a moving average of them costs some networks ten points of accuracy.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CalibrationError, ModelFileError
from ..model_card import read_model_card
from ..reason import first_line

__all__ = [
    "Ranges",
    "collect_ranges",
    "ensure_finite",
    "feed_batches",
    "input_indices",
    "open_interpreter",
    "run_samples",
    "watch_activations",
]

Array = npt.NDArray[Any]
Ranges = dict[str, tuple[float, float]]


def collect_ranges(float_model: bytes, samples: Mapping[str, Array], *, threads: int = 2) -> Ranges:
    """Smallest and largest value of every float activation of subgraph 0, by tensor name.

    ``samples`` maps input names (any name, when there is one input) to arrays of shape (N, …), preprocessed.
    Raises CalibrationError when they do not fit the model or are not finite.
    """
    ranges: Ranges = {}

    def widen(name: str, values: Array) -> None:
        low, high = ranges.get(name, (math.inf, -math.inf))
        # Unlike min() and max(), these keep a NaN.
        ranges[name] = (float(np.minimum(low, values.min())), float(np.maximum(high, values.max())))

    watch_activations(float_model, samples, widen, threads=threads)
    ensure_finite(ranges)
    return ranges


def watch_activations(
    model: bytes,
    samples: Mapping[str, Array],
    see: Callable[[str, Array], None],
    *,
    names: Container[str] | None = None,
    dtypes: Container[type[np.generic]] = (np.float32,),
    threads: int = 2,
) -> None:
    """Run ``model`` over ``samples`` and show each activation of subgraph 0, by tensor name, after every run.

    Only those of ``dtypes`` are shown, and of ``names`` where given. Tensors inside a fused operator, which are never
    computed, and empty ones are not. Raises CalibrationError for samples that do not fit the model.
    """
    # Not the constants, nor the scratch tensors that the runtime adds, in which anything may be.
    computed = {tensor.index for tensor in read_model_card(model).tensors if not tensor.constant}
    interpreter = open_interpreter(model, threads=threads)
    watched = [
        (int(raw["index"]), str(raw["name"]))
        for raw in interpreter.get_tensor_details()
        if raw["dtype"] in dtypes and int(raw["index"]) in computed and (names is None or raw["name"] in names)
    ]
    for _ in run_samples(interpreter, samples):
        for index, name in watched:
            try:
                values = interpreter.get_tensor(index)
            except ValueError:  # inside a fused operator
                continue
            if values.size:
                see(name, values)


def ensure_finite(ranges: Ranges) -> None:
    """Raise CalibrationError, naming the first, when activations were NaN or infinite."""
    broken = [name for name, (low, high) in ranges.items() if not (np.isfinite(low) and np.isfinite(high))]
    if broken:
        raise CalibrationError(
            f"expected finite activations, got NaN or infinity in {broken[0]!r} and {len(broken) - 1} more tensors: "
            "check the samples' scale (--scale, --offset) and the model's weights"
        )


def run_samples(interpreter: Any, samples: Mapping[str, Array]) -> Iterator[int]:
    """Run the interpreter once per batch, yielding its number after each; raises CalibrationError."""
    for number, feed in enumerate(feed_batches(interpreter, samples)):
        for index, values in feed.items():
            interpreter.set_tensor(index, values)
        try:
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:  # a token id beyond the embedding's table, for one
            raise CalibrationError(
                f"expected samples the model runs on, got one it refuses: {first_line(error)}. Check the samples' values"
            ) from error
        yield number


def feed_batches(interpreter: Any, samples: Mapping[str, Array]) -> Iterator[dict[int, Array]]:
    """``samples`` as one feed by tensor index per run, of as many rows as the model takes; the last is filled up.

    Raises CalibrationError, before the first feed, for samples that do not fit the model's inputs.
    """
    details = {int(raw["index"]): raw for raw in interpreter.get_input_details()}
    indices = input_indices(interpreter, samples)
    feeds = {indices[name]: _checked(values, details[indices[name]]) for name, values in samples.items()}
    counts = sorted({len(values) for values in feeds.values()})
    if len(counts) != 1 or counts == [0]:
        raise CalibrationError(f"expected the same number of samples, at least one, for every input, got {counts}")
    rows = sorted({int(raw["shape"][0]) for raw in details.values() if len(raw["shape"])}) or [1]
    if len(rows) != 1:
        raise CalibrationError(f"expected a model whose inputs all have the same batch, got batches of {rows}")
    return _batches(feeds, {index: len(raw["shape"]) for index, raw in details.items()}, counts[0], rows[0])


def _batches(feeds: Mapping[int, Array], ranks: Mapping[int, int], count: int, rows: int) -> Iterator[dict[int, Array]]:
    for start in range(0, count, rows):
        chosen = np.arange(start, start + rows) % count
        yield {index: values[chosen] if ranks[index] else values[start] for index, values in feeds.items()}


def input_indices(interpreter: Any, samples: Mapping[str, Array]) -> dict[str, int]:
    """Which input tensor each array of ``samples`` is for; raises CalibrationError for names that do not fit."""
    named = _signature_inputs(interpreter)
    if len(named) == len(samples) == 1:
        return {next(iter(samples)): next(iter(named.values()))}
    if set(named) != set(samples):
        raise CalibrationError(
            f"expected calibration samples for the inputs {', '.join(sorted(named))}, "
            f"got {', '.join(sorted(samples)) or 'none'}: name the arrays like the inputs"
        )
    return {name: named[name] for name in samples}


def _checked(values: Any, raw: Mapping[str, Any]) -> Array:
    """One input's samples in the dtype of its tensor; raises CalibrationError for another kind, shape or NaN."""
    array, wanted = np.asarray(values), np.dtype(raw["dtype"])
    shape = tuple(int(size) for size in raw["shape"][1:])
    whole = array.dtype.kind in "biu" or (array.dtype.kind == "f" and bool(np.all(array == np.round(array))))
    if array.dtype.kind not in "biuf" or (wanted.kind in "iu" and not whole):
        raise CalibrationError(f"expected calibration samples that {wanted} can hold, got {array.dtype}")
    if not array.ndim or array.shape[1:] != shape:
        raise CalibrationError(
            f"expected calibration samples of shape {('N', *shape)}, got {array.shape}{_layout_hint(array.shape[1:], shape)}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(wanted)
    if not np.isfinite(cast).all():
        raise CalibrationError(f"expected finite calibration samples in {wanted}, got NaN, infinity or a larger number")
    return cast


def _layout_hint(given: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What to type where only the channels stand elsewhere."""
    if len(given) != 3 or given == wanted:
        return ""
    if (*given[1:], given[0]) == wanted:
        return ": move the channels last, np.moveaxis(x, 1, -1)"
    return ": move the channels first, np.moveaxis(x, -1, 1)" if (given[-1], *given[:-1]) == wanted else ""


def open_interpreter(model: bytes, *, watched: bool = True, threads: int = 2) -> Any:
    """An interpreter ready to run, which keeps every tensor when ``watched``; raises ModelFileError."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that keeping every tensor needs memory: that is the point here
        try:
            interpreter = Interpreter(
                model_content=model, num_threads=threads, experimental_preserve_all_tensors=watched
            )
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(f"the model does not load: {first_line(error)}. Convert it again") from error
    return interpreter


def _signature_inputs(interpreter: Any) -> dict[str, int]:
    keys = list(interpreter.get_signature_list())
    if len(keys) != 1:
        return {str(raw["name"]): int(raw["index"]) for raw in interpreter.get_input_details()}
    details = interpreter.get_signature_runner(keys[0]).get_input_details()
    return {name: int(raw["index"]) for name, raw in details.items()}
