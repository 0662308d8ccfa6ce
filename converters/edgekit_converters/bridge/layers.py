"""One layer rebuilt in the other Keras from its configuration; its weights follow once it is built (``weights.py``)."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from ..errors import UnsupportedModelError
from . import activations
from .sides import KERAS, TF_KERAS, Side

__all__ = ["Rebuild", "counterpart", "other"]

# Rebuilds a model held by a layer (TimeDistributed); given by the caller, who knows how models are rebuilt.
Rebuild = Callable[[Any], Any]

# What the other Keras may lack: it says how a layer is made, computes or draws, and not what it computes.
CREATION = (
    *(
        "autocast",
        "seed",
        "rng_type",
        "batch_input_shape",
        "batch_shape",
        "input_length",
        "implementation",
        "use_cudnn",
    ),
    *("flash_attention", "dynamic", "value_range", "ragged", "lora_rank", "lora_alpha", "gptq_unpacked_column_size"),
    *("quantization_config", "softmax_robust_masking", "robust_masking", "query_shape", "key_shape", "value_shape"),
)
MISSING = object()
# Options that hide behind a **kwargs, with their defaults.
BEHIND_KWARGS: Mapping[str, Any] = {"time_major": False, "zero_output_for_mask": False, "rms_scaling": False}
HELD = ("layer", "backward_layer", "cell", "cells")
# Keras 3 name of an option → tf_keras name.
RENAMED: Mapping[str, Mapping[str, str]] = {"LeakyReLU": {"negative_slope": "alpha"}}
# Identity outside of training; those both Kerases have keep their kind.
AUGMENTATION = (
    *("AugMix", "AutoContrast", "CutMix", "Equalization", "MixUp", "RandAugment", "RandomColorDegeneration"),
    *(
        "RandomColorJitter",
        "RandomElasticTransform",
        "RandomErasing",
        "RandomGaussianBlur",
        "RandomGrayscale",
        "RandomHue",
    ),
    *("RandomInvert", "RandomPerspective", "RandomPosterization", "RandomSaturation", "RandomSharpness", "RandomShear"),
    "Solarization",
)
NO_WAY = {
    "Lambda": "its Python code cannot be read; write it with keras.ops operations instead",
    "StringLookup": "it takes strings; look them up before the model",
    "SpectralNormalization": "it only matters in training; put the layer it wraps in its place",
    "TextVectorization": "it takes strings; tokenize before the model",
    "IntegerLookup": "it looks values up in a table; do so before the model",
    "Hashing": "it hashes values; do so before the model",
    "HashedCrossing": "it hashes values; do so before the model",
}
# Layers that keras.applications defines for itself, in both Kerases under the same name.
APPLICATION_LAYERS = {
    "LayerScale": "convnext",
    "StochasticDepth": "convnext",
    "CustomScaleLayer": "inception_resnet_v2",
}


def other(side: Side) -> Side:
    """The Keras on the other bank."""
    return TF_KERAS if side is KERAS else KERAS


def counterpart(layer: Any, side: Side, name: str, rebuild: Rebuild) -> Any:
    """``layer`` of the Keras ``side`` as a new, unbuilt layer of the other, called ``name``.

    Raises UnsupportedModelError, naming the layer and what to do, where there is none: a class of the user's, a class or an
    option the other Keras lacks.
    """
    special = SPECIAL.get(type(layer).__name__) if side.own(layer) else None
    made = special(layer, side, name, rebuild) if special else _same(layer, side, name, rebuild)
    if not layer.trainable:
        made.trainable = False
    return made


def _same(layer: Any, side: Side, name: str, rebuild: Rebuild) -> Any:
    """The layer of the same class, with the same options."""
    where, target = _where(layer), other(side)
    made = _class_for(layer, side, where)
    config = _crossed(layer, side, made, where, rebuild)
    try:
        return made(name=name, **config)
    except (TypeError, ValueError) as error:
        raise UnsupportedModelError(
            f"{where} cannot be rebuilt in {target.name}: {str(error).strip().splitlines()[0]}"
        ) from error


def _where(layer: Any) -> str:
    return f"the layer {layer.name!r} ({type(layer).__name__})"


def _class_for(layer: Any, side: Side, where: str) -> Any:
    kind, target = type(layer).__name__, other(side)
    if type(layer).__module__.startswith("tensorflow_model_optimization"):
        raise UnsupportedModelError(
            f"{where} is a wrapper of TFMOT: take it off first (strip_pruning, strip_clustering)"
        )
    if not side.own(layer):
        raise UnsupportedModelError(
            f"{where} is a class of its own, which {target.name} does not have. Replace it by layers from keras.layers or by "
            "keras.ops operations on its inputs, or leave this technique out for this model"
        )
    if getattr(layer, "quantization_mode", None):
        raise UnsupportedModelError(
            f"{where} was quantized by Keras ({layer.quantization_mode}): give the model as it was before model.quantize()"
        )
    if kind in NO_WAY:
        raise UnsupportedModelError(f"{where} has no counterpart in {target.name}: {NO_WAY[kind]}")
    if kind in APPLICATION_LAYERS:
        return getattr(getattr(target.module.src.applications, APPLICATION_LAYERS[kind]), kind)
    found = getattr(target.module.layers, kind, None)
    if found is None and kind in AUGMENTATION:
        return target.module.layers.Identity
    if found is None or kind in ("Layer", "Wrapper"):
        raise UnsupportedModelError(
            f"{where} has no counterpart in {target.name}. Replace it by other layers or by keras.ops operations, or leave this "
            "technique out for this model"
        )
    return found


def _crossed(layer: Any, side: Side, made: Any, where: str, rebuild: Rebuild) -> dict[str, Any]:
    """The keyword arguments for ``made``, from the layer's own configuration."""
    kind, target = type(layer).__name__, other(side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf_keras on initializers of its own applications
        config = layer.get_config()
    if kind in AUGMENTATION and made.__name__ == "Identity":
        return {}
    renamed = dict(RENAMED.get(kind, {}))
    if target is KERAS:
        renamed = {new: old for old, new in renamed.items()}
    own_class: Any = type(layer)
    accepted, defaults = _options(made), _defaults(own_class)
    crossed: dict[str, Any] = {}
    for key, value in config.items():
        option = renamed.get(key, key)
        if key in ("name", "trainable", "dtype") or key.endswith("_initializer"):
            continue
        if option in accepted:
            crossed[option] = _value(layer, key, value, side, where, rebuild)
        elif value is not None and key not in CREATION and not _neutral(key, value, defaults.get(key, MISSING)):
            raise UnsupportedModelError(
                f"{where} has {key}={value!r}, which {target.name} does not know; its default is {defaults.get(key)!r}. Build "
                "the layer without it, or leave this technique out for this model"
            )
    integer = _integer_dtype(config)
    return {**crossed, **({"dtype": integer} if integer else {})}


def _neutral(key: str, value: Any, default: Any) -> bool:
    """Whether an option the other Keras lacks has the value that changes nothing."""
    return bool(value == default) or (key == "data_format" and value in (None, "channels_last"))


def _integer_dtype(config: Mapping[str, Any]) -> str | None:
    """The dtype of a layer that computes integers; floats of any width are computed in float32."""
    dtype = config.get("dtype")
    if isinstance(dtype, Mapping):
        dtype = dtype.get("config", {}).get("name")
    return dtype if isinstance(dtype, str) and dtype.startswith(("int", "uint", "bool")) else None


@cache
def _options(made: Any) -> set[str]:
    """What a class takes: its own parameters and, past a ``**kwargs``, those of its bases."""
    found: set[str] = set()
    for base in made.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        found |= {item.name for item in parameters if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)}
        if not any(item.kind is item.VAR_KEYWORD for item in parameters):
            break
    if any(base.__name__ == "RNN" for base in made.__mro__):
        found.add("zero_output_for_mask")
    return found - {"self"}


@cache
def _defaults(made: Any) -> dict[str, Any]:
    found = dict(BEHIND_KWARGS)
    for base in reversed(made.__mro__):
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            found.update({item.name: item.default for item in parameters if item.default is not item.empty})
    return found


def _value(layer: Any, key: str, value: Any, side: Side, where: str, rebuild: Rebuild) -> Any:
    target = other(side)
    if key in ("activation", "recurrent_activation"):
        function = getattr(layer, key)
        if isinstance(function, side.module.layers.Layer):
            return counterpart(function, side, str(function.name), rebuild)
        return activations.cross(function, target.name, where)
    if key.endswith(("_regularizer", "_constraint")) and value is not None:
        return _rule(key, value, target, where)
    if key in HELD:
        return _held(getattr(layer, key), side, rebuild)
    return value.tolist() if isinstance(value, np.ndarray) else value


def _rule(key: str, value: Any, target: Side, where: str) -> Any:
    """A regularizer or constraint; both Kerases have the same ones."""
    plural = "regularizers" if key.endswith("_regularizer") else "constraints"
    kind = value.get("class_name") if isinstance(value, Mapping) else value
    made = getattr(getattr(target.module, plural), str(kind), None)
    if made is None or not isinstance(value, Mapping):
        raise UnsupportedModelError(
            f"{where} has the {key} {kind!r}, which {target.name} does not have: set it to None (it only matters in training) "
            f"or use one of keras.{plural}"
        )
    return made(**value.get("config", {}))


def _held(item: Any, side: Side, rebuild: Rebuild) -> Any:
    """What a layer wraps: a layer, a list of them, or a whole model."""
    if isinstance(item, (list, tuple)):
        return [_held(one, side, rebuild) for one in item]
    if side.functional(item):
        return rebuild(item)
    return counterpart(item, side, str(item.name), rebuild)


def _bidirectional(layer: Any, side: Side, name: str, rebuild: Rebuild) -> Any:
    """Both Kerases put ``forward_`` and ``backward_`` before the name of what they are given."""
    forward, backward = layer.forward_layer, layer.backward_layer
    plain = str(forward.name).removeprefix("forward_")
    made = counterpart(forward, side, plain, rebuild)
    options = {"merge_mode": layer.merge_mode}
    if str(backward.name).removeprefix("backward_") != plain or type(backward) is not type(forward):
        options["backward_layer"] = counterpart(backward, side, str(backward.name).removeprefix("backward_"), rebuild)
    return other(side).module.layers.Bidirectional(made, name=name, **options)


def _normalization(layer: Any, side: Side, name: str, rebuild: Rebuild) -> Any:
    """The statistics become options: as weights the two Kerases count and keep them differently."""
    options = {"axis": layer.get_config()["axis"], "invert": layer.invert}
    axis = options["axis"]
    if isinstance(axis, (list, tuple)) and len(axis) == 1:
        options["axis"] = axis[0]
    for key in ("mean", "variance"):
        options[key] = np.asarray(getattr(layer, key)).reshape(np.shape(getattr(layer, key))).ravel().tolist()
        if axis is None or len(options[key]) == 1:
            options[key] = options[key][0]
    return other(side).module.layers.Normalization(name=name, **options)


def _batch_normalization(layer: Any, side: Side, name: str, rebuild: Rebuild) -> Any:
    """tf_keras keeps its axis in a list once it is built."""
    target, config = other(side), layer.get_config()
    where = _where(layer)
    if config.get("renorm") or config.get("virtual_batch_size"):
        raise UnsupportedModelError(
            f"{where} uses batch renormalization, which {target.name} lacks: build it with renorm=False"
        )
    axis = config["axis"]
    if isinstance(axis, (list, tuple)):
        if len(axis) != 1:
            raise UnsupportedModelError(
                f"{where} normalizes over the axes {list(axis)}, expected one: {target.name} takes one"
            )
        axis = -1 if axis[0] == layer.input_spec.ndim - 1 else axis[0]
    made = target.module.layers.BatchNormalization
    keep = ("momentum", "epsilon", "center", "scale", "synchronized")
    rules = [key for key in config if key.endswith(("_regularizer", "_constraint"))]
    options = {key: config[key] for key in keep if key in config}
    options |= {key: _value(layer, key, config[key], side, where, rebuild) for key in rules}
    return made(name=name, axis=axis, **options)


def _thresholded(layer: Any, side: Side, name: str, rebuild: Rebuild) -> Any:
    return other(side).module.layers.ReLU(threshold=float(layer.theta), name=name)


Special = Callable[[Any, Side, str, Rebuild], Any]
SPECIAL: Mapping[str, Special] = {
    "BatchNormalization": _batch_normalization,
    "Bidirectional": _bidirectional,
    "Normalization": _normalization,
    "SyncBatchNormalization": _batch_normalization,
    "ThresholdedReLU": _thresholded,
}
