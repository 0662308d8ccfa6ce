"""A model of either Keras, or a SavedModel, as one TensorFlow function with static shapes, named inputs and outputs.

Inputs and outputs are in the model's own order: that of ``model.inputs`` and ``model.outputs``. They bear Keras' names:
the keys where the model takes or gives a dict, the names of the input and output layers otherwise, with every character
that cannot be in an argument's name replaced by ``_``. A SavedModel that neither Keras 3 nor edgekit wrote does not say its
order: its inputs and outputs are sorted by name.

Float inputs and outputs are float32 whatever the model's policy, and so are the inputs of a Keras model that takes integers
of at most 16 bits, which are pixels; token ids are wider.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._tf import import_tensorflow
from .errors import UnsupportedModelError
from .float32 import computing_in_float32, known_attribute
from .load import LoadedModel
from .reason import first_line

__all__ = ["Shapes", "Traced", "trace"]

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Traced:
    """A concrete function that returns a dict in ``output_names`` order; ``module`` keeps its variables alive.

    ``producers`` names the TensorFlow operation behind each output, in the same order.
    """

    function: Any
    module: Any
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    producers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Interface:
    """How to call a model: the structure of its argument, and name, shape and dtype of each tensor in it."""

    structure: Any
    names: tuple[str, ...]
    shapes: tuple[tuple[int | None, ...], ...]
    dtypes: tuple[Any, ...]


def trace(loaded: LoadedModel, *, batch: int, shapes: Shapes) -> Traced:
    """Trace with ``batch`` rows (-1: free); ``shapes`` gives sample shapes where the model leaves dimensions open.

    Raises UnsupportedModelError for a model whose shapes stay unknown or that cannot be traced.
    """
    if loaded.framework == "saved_model":
        return _trace_saved_model(loaded, batch, shapes)
    model = loaded.model
    with computing_in_float32(model, loaded.framework):
        interface = _interface(model, shapes)
        variables = [item.value if loaded.framework == "keras" else item for item in model.variables]

        pack = import_tensorflow().nest.pack_sequence_as

        def call(tensors: Sequence[Any]) -> Any:
            return model(pack(interface.structure, tensors), training=False)

        return _traced(call, interface, _output_names(model), variables, batch, shapes)


def _trace_saved_model(loaded: LoadedModel, batch: int, shapes: Shapes) -> Traced:
    model = loaded.model
    signature = _signature(dict(getattr(model, "signatures", {})))
    specs = signature.structured_input_signature[1]
    names = _as_recorded(loaded.order.get("inputs"), specs) or _served_order(model, specs) or tuple(sorted(specs))
    interface = _Interface(
        list(names),
        names,
        tuple(_sizes(specs[name].shape) for name in names),
        tuple(specs[name].dtype for name in names),
    )
    given = signature.structured_outputs
    outputs = _as_recorded(loaded.order.get("outputs"), given) or tuple(sorted(given, key=_by_number))

    def call(tensors: Sequence[Any]) -> Any:
        results = signature(**dict(zip(names, tensors, strict=True)))
        return [results[name] for name in outputs]

    return _traced(call, interface, outputs, model, batch, shapes)


def _signature(signatures: Mapping[str, Any]) -> Any:
    """``serving_default``, or the only one; raises UnsupportedModelError naming the choices."""
    if "serving_default" in signatures:
        chosen = signatures["serving_default"]
    elif len(signatures) == 1:
        chosen = next(iter(signatures.values()))
    else:
        found = f"the signatures {', '.join(sorted(signatures))}" if signatures else "no signature"
        raise UnsupportedModelError(
            f"expected a SavedModel with the signature serving_default, or a single one, got {found}: save it again with "
            "tf.saved_model.save(model, folder, signatures={'serving_default': function})"
        )
    if not chosen.structured_input_signature[1]:
        raise UnsupportedModelError("expected a SavedModel with an input, got a signature without one: save it again")
    return chosen


def _as_recorded(order: Sequence[str] | None, names: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(order) if order and sorted(order) == sorted(names) else ()


def _served_order(model: Any, specs: Mapping[str, Any]) -> tuple[str, ...]:
    """The order of the inputs where Keras keeps it: its export leaves the model's own call structure in ``serve``."""
    for function in getattr(getattr(model, "serve", None), "concrete_functions", ()):
        flat = import_tensorflow().nest.flatten(function.structured_input_signature[0])
        names = tuple(str(getattr(spec, "name", "")) for spec in flat)
        if sorted(names) == sorted(specs):
            return names
    return ()


def _by_number(name: str) -> tuple[str, int]:
    """Sort ``output_10`` behind ``output_2``."""
    found = re.search(r"\d+$", name)
    return (name[: found.start()], int(found.group())) if found else (name, -1)


def _traced(
    call: Callable[[Sequence[Any]], Any],
    interface: _Interface,
    outputs: tuple[str, ...],
    keep: Any,
    batch: int,
    shapes: Shapes,
) -> Traced:
    """Trace ``call``; its results become a dict, so that the signature carries their names."""
    tensorflow = import_tensorflow()
    names = _identifiers(interface.names)
    count = len(names)
    specs = [
        tensorflow.TensorSpec(_static_shape(name, sizes, batch, shapes, count), _end_dtype(dtype), name=name)
        for name, sizes, dtype in zip(names, interface.shapes, interface.dtypes, strict=True)
    ]
    cast, used, producers = tensorflow.cast, list[tuple[str, ...]](), list[tuple[str, ...]]()

    def flat(*tensors: Any) -> Any:
        # No import here: TensorFlow would trace that too.
        results = call([cast(tensor, dtype) for tensor, dtype in zip(tensors, interface.dtypes, strict=True)])
        # A flat list in the model's order: what a dict holds is sorted by key there too.
        values = tensorflow.nest.flatten(results)
        keys = tuple(sorted(results)) if isinstance(results, dict) else outputs
        producers.append(tuple(str(value.name) for value in values))
        numbered = tuple(f"output_{number}" for number in range(len(values)))
        used.append(_identifiers(keys if len(keys) == len(values) else numbered))
        return {
            key: cast(value, tensorflow.float32) if value.dtype.is_floating else value
            for key, value in zip(used[-1], values, strict=True)
        }

    try:
        function = tensorflow.function(flat, input_signature=specs).get_concrete_function()
    except Exception as error:  # a layer's own error, of any kind
        raise UnsupportedModelError(f"the model cannot be traced with static shapes: {first_line(error)}") from error
    module = tensorflow.Module()
    module.kept = keep
    return Traced(function, module, names, used[-1], producers[-1])


def _end_dtype(dtype: Any) -> Any:
    """The dtype an input or output has in the .tflite: float32 for every float."""
    tensorflow = import_tensorflow()
    kind = tensorflow.dtypes.as_dtype(dtype)
    return tensorflow.float32 if kind.is_floating else kind


def _interface(model: Any, shapes: Shapes) -> _Interface:
    """How to call a Keras model; one that is not built yet is built from the sample shapes first."""
    # What a subclassed model was first called with says little about several inputs: that call may have failed.
    known = _symbolic_interface(model) or (_called_interface(model) if len(shapes) < 2 else None)
    if known is None and shapes:
        built_with = _build(model, shapes)
        known = _symbolic_interface(model) or _structured(built_with, tuple(shapes))
    if known is None:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no known input shape: give it data (--data), call it once on a sample, or build "
            "it with an Input layer"
        )
    return known


def _symbolic_interface(model: Any) -> _Interface | None:
    """Of a functional or sequential model, from its Input layers."""
    inputs = known_attribute(model, "inputs")
    if not inputs:
        return None
    given = known_attribute(model, "input")
    structure = given if isinstance(given, dict) else inputs
    tensors = import_tensorflow().nest.flatten(structure)
    if isinstance(structure, dict) and len(tensors) == len(structure):
        names = tuple(sorted(structure))
    else:
        names = tuple(str(tensor.name) for tensor in tensors)
    # A sequential model, or a functional one of a single tensor, is called with the tensor itself.
    called = structure if isinstance(structure, dict) or len(tensors) > 1 else tensors[0]
    shapes = tuple(_sizes(tensor.shape) for tensor in tensors)
    return _Interface(called, names, shapes, tuple(tensor.dtype for tensor in tensors))


def _called_interface(model: Any) -> _Interface | None:
    """Of a subclassed model, from what it was first called with."""
    if hasattr(model, "save_spec"):  # Keras 2 keeps the specs of the first call
        specs = model.save_spec()
        return None if specs is None else _structured(specs[0][0])
    config = model.get_build_config() if getattr(model, "built", False) else None
    return _structured(_specs((config or {}).get("input_shape")))


def _structured(structure: Any, names: tuple[str, ...] = ()) -> _Interface | None:
    """Of a structure of tensors or specs, named by a dict's keys, by ``names``, or else x0, x1 and so on."""
    leaves = [] if structure is None else import_tensorflow().nest.flatten(structure)
    if isinstance(structure, Mapping) and len(structure) == len(leaves):
        names = tuple(sorted(structure))
    elif len(names) != len(leaves):
        names = ("x",) if len(leaves) == 1 else tuple(f"x{number}" for number in range(len(leaves)))
    if not leaves or any(leaf is None for leaf in leaves):
        return None
    return _Interface(
        structure, names, tuple(_sizes(leaf.shape) for leaf in leaves), tuple(leaf.dtype for leaf in leaves)
    )


def _specs(shape: Any) -> Any:
    """Float32 specs in the structure of ``shape``: a shape, or a list or dict of shapes; None for anything else."""
    tensorflow = import_tensorflow()
    if isinstance(shape, Mapping):
        return {str(name): _specs(item) for name, item in shape.items()}
    if not isinstance(shape, (list, tuple)) or not shape:
        return None
    if all(size is None or isinstance(size, int) for size in shape):
        return tensorflow.TensorSpec((None, *shape[1:]), tensorflow.float32)
    return [_specs(item) for item in shape]


def _build(model: Any, shapes: Shapes) -> Any:
    """What the model takes, after it was called once on zeros: a tensor; of several, a dict by name, or a list."""
    zeros = {name: np.zeros((1, *shape), np.float32) for name, shape in shapes.items()}
    ways: list[Any] = [zeros, list(zeros.values())] if len(zeros) > 1 else list(zeros.values())
    for way in ways:
        try:
            model(way)
        except Exception as error:  # a layer's own error, of any kind
            reason = error
        else:
            return way
    given = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    raise UnsupportedModelError(
        f"the model cannot be built from samples of shape {given}: {first_line(reason)}. Give data it takes, or call it "
        "once on a sample before"
    ) from reason


def _output_names(model: Any) -> tuple[str, ...]:
    """Names of a model's outputs in order; empty where it does not say."""
    # Keras 3 hides those of a sequential model in the functional model inside.
    names = getattr(model, "output_names", None) or getattr(getattr(model, "_functional", None), "output_names", None)
    return tuple(str(name) for name in names or ())


def _sizes(shape: Any) -> tuple[int | None, ...]:
    """A shape as sizes; raises UnsupportedModelError where even the number of dimensions is open."""
    try:
        return tuple(None if size is None else int(size) for size in shape)
    except ValueError as error:
        raise UnsupportedModelError(
            "expected inputs with a known number of dimensions, got one without: rebuild the model with an Input shape"
        ) from error


def _static_shape(
    name: str, sizes: tuple[int | None, ...], batch: int, shapes: Shapes, count: int
) -> tuple[int | None, ...]:
    """``sizes`` with the batch fixed and open dimensions taken from the sample of that name, or the only one."""
    if not sizes:
        return ()
    sample = shapes.get(name, next(iter(shapes.values())) if count == len(shapes) == 1 else None)
    inner = sizes[1:]
    if sample is not None and len(sample) == len(inner):
        inner = tuple(int(given) if size is None else size for size, given in zip(inner, sample, strict=True))
    if None in inner:
        got = f", got samples of shape {tuple(sample)}" if sample is not None else ""
        raise UnsupportedModelError(
            f"input {name!r} has unknown dimensions {(None, *inner)}{got}: give data of the wanted shape (--data), or "
            "rebuild the model with a fixed Input shape"
        )
    return (None if batch == -1 else batch, *inner)


def _identifiers(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` as distinct argument names: a repeated one gets a number."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", str(name).split(":")[0]) or "x"
        number = sum(other == plain or re.fullmatch(rf"{plain}_\d+", other) is not None for other in found)
        found.append(plain if plain not in found else f"{plain}_{number}")
    return tuple(found)
