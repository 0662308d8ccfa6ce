"""Between a recipe and the quantizer: layer names become operator indices, and what came out is measured."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from edgekit_converters import read_model_card
from edgekit_converters.layers import name_layers

from .errors import UsageError, suggest
from .float_models import FloatModel
from .recipe import Recipe

__all__ = ["achieved", "layers_of_operators", "quantize_options"]

# What the quantize job says of its work, beside what the variant's record has a field for.
QUANTIZED = ("kept", "equalized", "corrected")
KEPT = ("keep_float", "keep_int16")


def quantize_options(recipe: Recipe, float_model: FloatModel) -> dict[str, Any]:
    """The fields of QuantizeOptions that ``recipe`` asks for, with layers as indices of the operators they became.

    A layer's name may be a pattern with ``*`` and ``?``. Raises UsageError for one that no operator comes from.
    """
    options = dict(recipe.quantize)
    if recipe.precision == "int8" and any(step.technique == "cluster" for step in recipe.steps):
        options.setdefault(
            "share_codes", True
        )  # without it the clusters would not outlive folding and int8's own scales
    wanted = {key: tuple(options[key]) for key in KEPT if options.get(key)}
    if not wanted:
        return options
    origins = layers_of_operators(float_model)
    return {**options, **{key: _indices(recipe, names, origins) for key, names in wanted.items()}}


def layers_of_operators(float_model: FloatModel) -> tuple[str | None, ...]:
    """The Keras layer of every operator, which the export knows; of a .tflite that was given, what its own names tell."""
    return float_model.layers or name_layers(float_model.path.read_bytes())


def _indices(recipe: Recipe, names: Sequence[str], origins: Sequence[str | None]) -> list[int]:
    found: list[int] = []
    for name in names:
        indices = [i for i, origin in enumerate(origins) if origin is not None and fnmatch.fnmatchcase(origin, name)]
        if not indices:
            known = {origin for origin in origins if origin is not None}
            raise UsageError(f"{recipe.name}: the model has no layer {name!r} to keep{suggest(name, known)}")
        found += indices
    return sorted(set(found))


def achieved(tflite: bytes, float_model: FloatModel, quantized: Mapping[str, Any]) -> dict[str, Any]:
    """What was really made: counted in the file itself, beside what the techniques and the quantizer say."""
    from edgekit_converters.tensor_facts import weight_facts

    card = read_model_card(tflite)
    weights = weight_facts(tflite)
    return {
        "macs": card.macs,
        "parameters": card.parameters,
        "sparsity": weights.sparsity,
        "clusters": weights.largest_clusters,
        **{key: quantized[key] for key in QUANTIZED if quantized.get(key)},
        **float_model.achieved,
    }
