"""Quantization-aware training with TFMOT's wrappers and quantizers: weights learn to live with their int8 rounding.

Jacob et al., 2018, arXiv 1712.05877; Krishnamoorthi, 2018, arXiv 1806.08342. TFMOT's own scheme knows some twenty layer kinds
and refuses a model that holds another, or a nested one. Here every layer takes part: its kernels are rounded as the file
will hold them, one scale per output channel, and its output as the runtime will hold it, unless the next operator is fused
into it. Rounding per channel makes folding batch normalization into the kernel unnecessary: a channel's factor cancels out.

What comes out is a plain model with the trained weights. It takes the one way to int8 of all models: its ranges are
calibrated again. Inputs are not rounded: 8-bit images lose nothing by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .._tf import import_tensorflow, import_tfmot
from ..errors import TechniqueError
from .kernels import (
    Kernel,
    KernelFacts,
    choose_by_name,
    copy_model,
    kernel_facts,
    kernels_of,
    layers_of,
    overall_sparsity,
    passes_masks,
    wrap,
)
from .prune import Train

__all__ = ["QatFacts", "QatSettings", "QuantizationAware", "qat"]

Array = npt.NDArray[Any]
PRESERVED = ("sparsity", "clusters")
MOST_CLUSTERS = 256
RANGE_DECAY = 0.95
LINEAR_LAYERS = ("Conv", "Dense", "Depthwise", "Separable")
FUSED_ACTIVATIONS = ("relu", "relu6")
# TFMOT rounds what goes into these; what comes out has a range known beforehand.
BOUNDED_ACTIVATIONS = ("softmax", "sigmoid", "tanh")
# Their output holds values of their input, which is rounded already, or nothing at inference.
PASSING_LAYERS = (
    "Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout", "SpatialDropout", "ActivityRegularization",
    "Flatten", "Reshape", "Permute", "RepeatVector", "ZeroPadding", "Cropping", "MaxPooling", "GlobalMaxPooling",
    "Masking", "Random", "Softmax", "Embedding",
)  # fmt: skip
OPERATORS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "Lambda")


@dataclass(frozen=True)
class QatSettings:
    """``layers`` says by name or glob which layers are trained with rounding (True, as all others) and which not."""

    layers: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class QatFacts:
    """Measured on the trained model: sparsity over all kernels, and every kernel.

    ``rounded`` are the layers that were trained with their int8 rounding, ``left`` those that were not, and why.
    ``preserved`` are the kernels whose zeros or clusters were kept.
    """

    rounded: tuple[str, ...]
    left: Mapping[str, str]
    preserved: tuple[str, ...]
    sparsity: float
    kernels: tuple[KernelFacts, ...]


@dataclass(frozen=True)
class QuantizationAware:
    """A plain tf_keras model with weights trained for int8, and what was measured on it."""

    model: Any
    facts: QatFacts


def qat(model: Any, settings: QatSettings, train: Train, *, preserve: str | None = None) -> QuantizationAware:
    """Let ``train`` train ``model`` with the rounding of int8 in its forward pass.

    ``model`` is a functional or sequential tf_keras model; it stays as it is. ``preserve`` keeps what pruning
    (``sparsity``: zeros stay zeros) or clustering (``clusters``: equal weights of a kernel stay equal as well) achieved.
    ``train`` gets the wrapped model, whose outputs keep their names. Raises TechniqueError for a model none of whose
    layers can take part.
    """
    if preserve is not None and preserve not in PRESERVED:
        raise TechniqueError(f"expected to preserve one of {', '.join(PRESERVED)}, or None, got {preserve!r}")
    copy = copy_model(model)
    plans, left = _plans(copy.model, settings)
    if not plans:
        reasons = "; ".join(f"{name}: {why}" for name, why in left.items()) or "it has no layers"
        raise TechniqueError(f"expected a model with a layer to train for int8, got one without: {reasons}")
    keepers = {
        id(kernel.variable): keeper
        for plan in plans.values()
        for kernel in plan.kernels
        if (keeper := _keeper(kernel.variable.numpy(), preserve)) is not None
    }
    wrapper_type = _wrapper_type()

    def wrapper_of(name: str, layer: Any) -> Any:
        return wrapper_type(layer, _config(plans[name], keepers)) if name in plans else layer

    train(wrap(copy, wrapper_of), [])
    values = {id(item): keepers[id(item)](item.numpy()) for item in copy.variables if id(item) in keepers}
    plain = copy.finish(values)
    kept = tuple(name for name, plan in plans.items() if any(id(kernel.variable) in keepers for kernel in plan.kernels))
    facts = kernel_facts(plain)
    return QuantizationAware(plain, QatFacts(tuple(plans), dict(left), kept, overall_sparsity(facts), facts))


@dataclass(frozen=True)
class _Plan:
    """What of a layer is rounded: kernels, its output, what goes into its activation."""

    kernels: tuple[Kernel, ...]
    output: bool
    activation: bool


def _plans(model: Any, settings: QatSettings) -> tuple[dict[str, _Plan], dict[str, str]]:
    """Which layers take part and how; and why the others do not, where that costs anything."""
    layers = dict(layers_of(model))
    named = choose_by_name(settings.layers, list(layers))
    plans: dict[str, _Plan] = {}
    left: dict[str, str] = {}
    for name, layer in layers.items():
        plan = _Plan(tuple(kernels_of(layer)), _rounds_output(layer), _rounds_activation(layer))
        if not (plan.kernels or plan.output or plan.activation):
            continue
        if not named.get(name, True):
            left[name] = "left alone as asked"
        elif _kind(layer) in OPERATORS:
            left[name] = "an operator outside any layer: its output is not rounded in training"
        elif plan.output or plan.activation or plan.kernels:
            plans[name] = plan
    return plans, left


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _activation(layer: Any) -> str:
    """The name of a layer's activation, also of one that is a layer; ``linear`` without any."""
    if _kind(layer) == "ReLU":
        plain = not layer.negative_slope and not layer.threshold and layer.max_value in (None, 6)
        return "relu" if plain else "other"
    if _kind(layer) == "Softmax":
        return "softmax"
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else str(getattr(activation, "__name__", "other"))


def _rounds_activation(layer: Any) -> bool:
    return _activation(layer) in BOUNDED_ACTIVATIONS and not kernels_inside(layer) and hasattr(layer, "activation")


def kernels_inside(layer: Any) -> bool:
    """Whether a layer's kernels belong to layers inside it, whose activation is none of its output."""
    return any(kernel.owner is not layer for kernel in kernels_of(layer))


def _rounds_output(layer: Any) -> bool:
    """Whether the runtime holds this layer's output in int8, with a range that must be found."""
    if _kind(layer) == "InputLayer" or _kind(layer).startswith(PASSING_LAYERS):
        return False
    output = layer.get_output_at(0)
    if isinstance(output, (list, tuple, dict)) or not output.dtype.is_floating:
        return False
    return _activation(layer) not in BOUNDED_ACTIVATIONS and not _fused(layer)


def _fused(layer: Any) -> bool:
    """Whether the one operator that takes this layer's output is computed together with it."""
    consumers = {id(node.outbound_layer): node.outbound_layer for node in layer.outbound_nodes}
    if len(consumers) != 1 or _activation(layer) != "linear":
        return False
    consumer = next(iter(consumers.values()))
    if _kind(consumer) == "BatchNormalization":
        return _kind(layer).startswith(LINEAR_LAYERS)
    return _kind(consumer) in ("ReLU", "Activation") and _activation(consumer) in FUSED_ACTIVATIONS


Keeper = Callable[[Any], Any]


def _keeper(values: Array, preserve: str | None) -> Keeper | None:
    """What brings a kernel that was trained back to the zeros or clusters it had; None where it had none."""
    mask = (values != 0).astype(values.dtype)
    distinct, indices = np.unique(values, return_inverse=True)
    if preserve != "clusters" or len(distinct) > min(MOST_CLUSTERS, values.size - 1):
        return None if preserve is None or mask.all() else lambda kernel: kernel * mask
    tensorflow = import_tensorflow()
    indices = indices.reshape(values.shape)

    def keep(kernel: Any) -> Any:
        means = tensorflow.math.unsorted_segment_mean(kernel, indices, len(distinct))
        kept = tensorflow.gather(means, indices) * mask
        return kept.numpy() if isinstance(kernel, np.ndarray) else kept

    return keep


def _wrapper_type() -> Callable[..., Any]:
    """TFMOT's wrapper, for outputs whose shape it need not know."""
    quantization = import_tfmot().quantization.keras
    base = passes_masks(quantization.quantize_scope().custom_objects[0]["QuantizeWrapperV2"])

    class Wrapper(base):  # type: ignore[valid-type, misc]
        def build(self, input_shape: Any) -> None:
            super().build(input_shape)
            self._output_quantizers = self.quantize_config.outputs
            if self._output_quantizers:
                self._output_quantizer_vars = self._output_quantizers[0].build(None, "output", self)

    return Wrapper


def _config(plan: _Plan, keepers: Mapping[int, Keeper]) -> Any:
    """TFMOT's description of how one layer is rounded."""
    quantization = import_tfmot().quantization.keras

    class Config(quantization.QuantizeConfig):  # type: ignore[misc, name-defined]
        outputs = [_range_quantizer()] if plan.output else []

        def get_weights_and_quantizers(self, layer: Any) -> Any:
            return [
                (kernel.variable, _kernel_quantizer(kernel, keepers.get(id(kernel.variable))))
                for kernel in plan.kernels
            ]

        def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
            for kernel, weights in zip(plan.kernels, quantize_weights, strict=True):
                setattr(kernel.owner, kernel.name, weights)

        def get_activations_and_quantizers(self, layer: Any) -> Any:
            return [(layer.activation, _range_quantizer())] if plan.activation else []

        def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
            for activation in quantize_activations:
                layer.activation = activation

        def get_output_quantizers(self, layer: Any) -> Any:
            return []

        def get_config(self) -> dict[str, Any]:
            return {}

    return Config()


def _range_quantizer() -> Any:
    """Rounds an activation to 8 bits over a moving average of the batches' extremes.

    TFMOT's own begins at -6 to 6 and moves a thousandth a step: a short training ends before it has found the range.
    """
    tensorflow = import_tensorflow()
    base: Any = import_tfmot().quantization.keras.quantizers.Quantizer

    class RangeQuantizer(base):  # type: ignore[misc]
        def build(self, tensor_shape: Any, name: str, layer: Any) -> Any:
            return {
                end: layer.add_weight(f"{name}_{end}", initializer="zeros", trainable=False) for end in ("min", "max")
            }

        def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
            low, high = weights["min"], weights["max"]
            if training:
                unknown = tensorflow.logical_and(tensorflow.equal(low, 0), tensorflow.equal(high, 0))
                kept = tensorflow.where(unknown, 0.0, RANGE_DECAY)
                low = low.assign(kept * low + (1 - kept) * tensorflow.minimum(tensorflow.reduce_min(inputs), 0))
                high = high.assign(kept * high + (1 - kept) * tensorflow.maximum(tensorflow.reduce_max(inputs), 0))
            return tensorflow.quantization.fake_quant_with_min_max_vars(inputs, low, high)

        def get_config(self) -> dict[str, Any]:
            return {}

    return RangeQuantizer()


def _kernel_quantizer(kernel: Kernel, keeper: Keeper | None) -> Any:
    """Rounds a kernel of any rank with one scale per output channel, as the quantizer of the file does."""
    tensorflow = import_tensorflow()
    base = import_tfmot().quantization.keras.quantizers.LastValueQuantizer
    shape = tuple(kernel.variable.shape)
    order, channels = _channels_last(kernel)
    back = tuple(int(axis) for axis in np.argsort(order))
    moved = tuple(shape[axis] for axis in order)

    class KernelQuantizer(base):  # type: ignore[misc, valid-type]
        def build(self, tensor_shape: Any, name: str, layer: Any) -> Any:
            return super().build((int(np.prod(shape)) // channels, channels), name, layer)

        def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
            kept = keeper(inputs) if keeper else inputs
            matrix = tensorflow.reshape(tensorflow.transpose(kept, order), (-1, channels))
            # Ranges are those of the weights as they are, also when a validation comes between two steps.
            rounded = super().__call__(matrix, True, weights, **kwargs)
            return tensorflow.transpose(tensorflow.reshape(rounded, moved), back)

    return KernelQuantizer(num_bits=8, per_axis=True, symmetric=True, narrow_range=True)


def _channels_last(kernel: Kernel) -> tuple[tuple[int, ...], int]:
    """The order of a kernel's axes that puts those of its output channels last, and how many channels there are."""
    shape = tuple(kernel.variable.shape)
    axes = tuple(range(len(shape)))
    if kernel.name == "depthwise_kernel":
        return axes, shape[-2] * shape[-1]
    if "Transpose" in _kind(kernel.owner):
        return (*axes[:-2], axes[-1], axes[-2]), shape[-2]
    if kernel.name == "embeddings":
        return (*axes[1:], axes[0]), shape[0]
    return axes, shape[-1]
