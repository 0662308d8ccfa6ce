"""TFLite's own post-training quantizer, for models with operators that the flatbuffer quantizer leaves in float.

It is what TFLiteConverter runs behind ``representative_dataset``, applied to a float .tflite: the model is not exported
again. It lives in TensorFlow's private modules and may end the process; callers run it in a child.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy.typing as npt

from .._tf import import_tensorflow
from ..errors import ConverterError, PromiseError
from ..reason import first_line
from .calibrate import Ranges, feed_batches
from .surgery import FlatModel

__all__ = ["quantize_mlir"]

Array = npt.NDArray[Any]
ATTEMPTS = 8


def quantize_mlir(
    float_model: bytes,
    *,
    precision: str,
    input_type: str,
    output_type: str,
    samples: Mapping[str, Array],
    ranges: Ranges | None = None,
    keep_float: Sequence[int] = (),
) -> Iterator[bytes]:
    """int8 or int16x8 of ``float_model``, as attempts to be verified: the first good one will do.

    For int8, ``ranges`` by tensor name replace those its calibration finds (extremes), and the operators of subgraph 0
    in ``keep_float`` stay in float32.

    The quantizer's int8 result depends on the order of pointers in memory, and in up to four of ten runs it leaves an
    operator (the SPLIT of a GRU, say) in float. What varies is only that: all attempts that kept the promise were the
    same bytes, in 20 attempts in each of three processes, for a GRU, an LSTM and two networks for images.

    Raises PromiseError with the quantizer's reason, MissingPackageError.
    """
    tensorflow = import_tensorflow()
    try:
        from tensorflow.lite.python.convert import mlir_quantize
        from tensorflow.lite.python.optimize import calibrator
        from tensorflow.lite.python.util import modify_model_io_type
    except ImportError as error:
        raise PromiseError(
            f"TensorFlow {tensorflow.__version__} does not keep TFLite's quantizer where 2.21 did ({first_line(error)}): "
            'choose another precision, or pip install "tensorflow==2.21.*"'
        ) from error
    kept = _names(float_model, keep_float)
    float32, int16, int64 = tensorflow.float32, tensorflow.int16, tensorflow.int64
    try:
        engine = calibrator.Calibrator(calibrator.add_intermediate_tensors(float_model), [], [])
        feeds = partial(_feeds, float_model, samples)
        if precision == "int16x8":
            yield bytes(engine.calibrate_and_quantize(feeds, float32, float32, False, int16, int64))
            return
        calibrated = bytes(engine.calibrate(feeds))
        if ranges is not None:
            calibrated = _with_ranges(calibrated, ranges)
        # Float ends first, then off with them: asked for integer ends at once it leaves operators inside in float.
        types = [tensorflow.dtypes.as_dtype(kind) for kind in (input_type, output_type)]
        for _ in range(ATTEMPTS):
            made = mlir_quantize(
                calibrated, False, input_data_type=float32, output_data_type=float32, denylisted_nodes=kept
            )
            yield bytes(modify_model_io_type(made, *types))
    except ConverterError:
        raise
    except Exception as error:  # MLIR diagnostics arrive as RuntimeError, ValueError and others
        raise PromiseError(f"TFLite's quantizer refuses this model: {first_line(error)}") from error


def _names(float_model: bytes, operators: Sequence[int]) -> set[str] | None:
    """The names by which the quantizer knows these operators: those of their outputs."""
    if not operators:
        return None
    flat = FlatModel(float_model)
    return {flat.name(tensor) for op in operators for tensor in flat.outputs(op)}


def _with_ranges(calibrated: bytes, ranges: Ranges) -> bytes:
    """The calibrated model with other ranges; it keeps them as ``min`` and ``max`` beside each tensor."""
    flat = FlatModel(calibrated)
    for index, tensor in enumerate(flat.graph.tensors):
        found, known = ranges.get(flat.name(index)), tensor.quantization
        if found is not None and known is not None and known.min is not None and known.max is not None:
            known.min, known.max = [found[0]], [found[1]]
    return flat.to_bytes()


def _feeds(float_model: bytes, samples: Mapping[str, Array]) -> Iterator[list[Array]]:
    """One list of inputs, in input order, per run."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=float_model)
    for feed in feed_batches(interpreter, samples):
        yield [feed[int(raw["index"])] for raw in interpreter.get_input_details()]
