"""TFLite's own post-training quantizer, for models with operators that the flatbuffer quantizer leaves in float.

It is what TFLiteConverter runs behind ``representative_dataset``, applied to a float .tflite: the model is not exported
again. It lives in TensorFlow's private modules and may end the process; callers run it in a child.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt

from ._tf import import_tensorflow
from .calibrate import feed_by_index
from .errors import ConverterError, PromiseError

__all__ = ["quantize_mlir"]

Array = npt.NDArray[Any]


def quantize_mlir(
    float_model: bytes, *, precision: str, input_type: str, output_type: str, samples: Mapping[str, Array]
) -> bytes:
    """int8 or int16x8 of ``float_model``; raises PromiseError with the quantizer's reason, MissingPackageError."""
    tensorflow = import_tensorflow()
    try:
        from tensorflow.lite.python.convert import mlir_quantize
        from tensorflow.lite.python.optimize import calibrator
    except ImportError as error:
        raise PromiseError(f"TFLite's quantizer is not where this TensorFlow keeps it: {error}") from error
    types = [tensorflow.dtypes.as_dtype(kind) for kind in (input_type, output_type)]
    try:
        prepared = calibrator.add_intermediate_tensors(float_model)
        engine = calibrator.Calibrator(prepared, [], [])
        if precision == "int8":
            calibrated = engine.calibrate(lambda: _feeds(float_model, samples))
            return bytes(mlir_quantize(calibrated, False, input_data_type=types[0], output_data_type=types[1]))
        return bytes(
            engine.calibrate_and_quantize(
                lambda: _feeds(float_model, samples), *types, False, tensorflow.int16, tensorflow.int64
            )
        )
    except ConverterError:
        raise
    except Exception as error:  # MLIR diagnostics arrive as RuntimeError, ValueError and others
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise PromiseError(f"TFLite's quantizer refuses this model: {lines[0][:300] if lines else error!r}") from error


def _feeds(float_model: bytes, samples: Mapping[str, Array]) -> Iterator[list[Array]]:
    """One list of inputs, in input order, per sample."""
    from ai_edge_litert.interpreter import Interpreter

    feeds = feed_by_index(Interpreter(model_content=float_model), samples)
    for row in range(len(next(iter(feeds.values())))):
        yield [values[row : row + 1] for values in feeds.values()]
