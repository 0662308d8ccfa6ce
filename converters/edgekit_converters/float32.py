"""Make a Keras model compute in float32 for the time of its conversion, whatever its precision policy.

TFLite has no float16 kernels, and no quantizer takes the cast that follows a uint8 input. The weights of a model trained
under a mixed precision policy are float32 already; only computations change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._tf import import_tensorflow

__all__ = ["computing_in_float32", "known_attribute"]

_REDUCED = ("float16", "bfloat16")
_FED_AS_FLOAT = ("float16", "bfloat16", "float64", "uint8", "int8", "uint16", "int16")


@contextmanager
def computing_in_float32(model: Any, framework: str) -> Iterator[None]:
    """Inside the block, layers that compute in float16 do so in float32, and inputs that are no token ids are float32."""
    layers = list(model._flatten_layers())
    reduced = [(layer, layer.dtype_policy) for layer in layers if getattr(layer, "compute_dtype", None) in _REDUCED]
    typed = [(item, _dtype_name(item)) for item in _typed_ends(layers) if _dtype_name(item) in _FED_AS_FLOAT]
    try:
        for layer, _ in reduced:
            _set_policy(layer, "float32", framework)
        for item, _ in typed:
            _set_dtype(item, "float32", framework)
        yield
    finally:
        for layer, policy in reduced:
            _set_policy(layer, policy, framework)
        for item, dtype in typed:
            _set_dtype(item, dtype, framework)


def known_attribute(model: Any, name: str) -> Any:
    """An attribute that both Kerases raise for while a model is not built; None then."""
    try:
        return getattr(model, name, None)
    except ValueError:
        return None


def _typed_ends(layers: list[Any]) -> list[Any]:
    """What casts a model's input, each once: its symbolic inputs and, in Keras 3, its Input layers."""
    ends = [tensor for layer in layers for tensor in known_attribute(layer, "inputs") or () if hasattr(tensor, "dtype")]
    ends += [layer for layer in layers if type(layer).__name__ == "InputLayer" and hasattr(layer, "batch_shape")]
    return list({id(item): item for item in ends}.values())


def _dtype_name(item: Any) -> str:
    return str(import_tensorflow().dtypes.as_dtype(item.dtype).name)


def _set_policy(layer: Any, policy: Any, framework: str) -> None:
    if framework == "keras":
        layer.dtype_policy = policy
    else:
        layer._set_dtype_policy(policy)


def _set_dtype(item: Any, dtype: str, framework: str) -> None:
    """Change what an input is cast to; neither Keras has a public way."""
    if framework == "keras":
        item._dtype = dtype
    else:
        item._type_spec = import_tensorflow().TensorSpec(item.shape, dtype, name=item.type_spec.name)
