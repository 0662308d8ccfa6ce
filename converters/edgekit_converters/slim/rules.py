"""What each Keras operation does with channels: one rule per kind, chosen by the class's name.

Only Keras' own classes have rules; a subclass of one, a Lambda, an attention, whatever is not in ``RULES`` keeps the
channels that flow into it and out of it. So do operations that mix channels without a kernel (softmax over the channels,
LayerNormalization and its kin): with fewer channels they would give other values for those that stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .channels import Call, Flow, Ids, Slot, Tracer, Work, flows_of, width

__all__ = ["follow"]

Rule = Callable[[Tracer, Call], Any]

# Activations that work element by element: a channel's value does not depend on which others there are.
_ELEMENTWISE = frozenset(
    (
        *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu"),
        *("linear", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softplus"),
        *("softsign", "sparse_plus", "sparse_sigmoid", "squareplus", "tanh", "tanh_shrink", "threshold"),
    )
)
# Layers, and operations of keras.ops, that give each channel what they get from the same channel.
_PASSING = (
    *("ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity"),
    *(
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "ELU",
        "LeakyReLU",
        "ReLU",
        "Resizing",
        "RepeatVector",
    ),
    *(f"{kind}Pooling{rank}D" for kind in ("Average", "Max", "GlobalAverage", "GlobalMax") for rank in (1, 2, 3)),
    *(f"{kind}{rank}D" for kind in ("UpSampling", "ZeroPadding", "Cropping") for rank in (1, 2, 3)),
    *("Absolute", "Celu", "Clip", "Elu", "Exp", "Gelu", "HardSigmoid", "HardSilu", "HardTanh", "LeakyRelu", "Mish"),
    *("Negative", "Relu", "Relu6", "Selu", "Sigmoid", "Silu", "Softplus", "Softsign", "Sqrt", "Square", "Tanh"),
)
_MERGING = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Divide", "TrueDivide")
_REDUCING = ("Mean", "Max", "Min", "Sum")


def follow(tracer: Tracer, call: Call) -> Any:
    """Apply the rule of the operation that is called; returns what flows out of it.

    Where the rule cannot be applied, or there is none, everything around the operation is frozen.
    """
    kind = type(call.operation)
    rule = RULES.get(kind.__name__) if kind.__module__.startswith("keras.") else None
    if rule is not None and _applies(rule, call):
        return rule(tracer, call)
    return _opaque(tracer, call, f"{call.path} ({kind.__name__}) has no rule for removing channels")


def _applies(rule: Rule, call: Call) -> bool:
    """Whether a layer holds the weights (not those of LoRA or of Keras' own quantization) and inputs its rule counts on."""
    operation = call.operation
    if getattr(operation, "quantization_mode", None) is not None or getattr(operation, "lora_enabled", False):
        return False
    return len(call.flows) == 1 or (len(call.flows) > 1 and rule in _SEVERAL)


def _opaque(tracer: Tracer, call: Call, reason: str) -> Any:
    for flow in call.flows:
        tracer.freeze(flow.ids, reason)
    tracer.member(call)
    return flows_of(tracer, call.spec, reason)


def _positions(spec: Any) -> int:
    """How many values a channel has in one sample; an open size counts as 1, as in the model card."""
    return math.prod(size or 1 for size in spec.shape[1:-1])


def _made(tracer: Tracer, call: Call, setting: str) -> tuple[Flow, Ids]:
    """The channels a layer gives out: new ones at its first call, the same ones at every other."""
    member = tracer.member(call)
    if member.made is None:
        member.made = tracer.fresh(width(call.spec), call.path)
        member.settings[setting] = member.made
        _freeze_mixed(tracer, call, member.made)
    return Flow(call.spec, member.made), member.made


def _freeze_mixed(tracer: Tracer, call: Call, ids: Ids) -> None:
    """Freeze what goes through an activation that mixes channels."""
    activation = getattr(call.operation, "activation", None)
    name = getattr(activation, "__name__", type(activation).__name__)
    own = (getattr(activation, "__module__", None) or type(activation).__module__).startswith("keras.")
    if activation is not None and not (own and (name in _ELEMENTWISE or name in _PASSING)):
        tracer.freeze(ids, f"the activation {name!r} of {call.path} may mix channels")


def _slots(tracer: Tracer, call: Call, *slots: Slot) -> None:
    """Note the weights of a layer at its first call; later calls bring channels that are one with the first ones."""
    member = tracer.member(call)
    if not member.slots:
        member.slots = list(slots)
        return
    for known, slot in zip(member.slots, slots, strict=True):
        tracer.merge(known.ids, slot.ids)


def _bias(call: Call, weight: int, ids: Ids) -> list[Slot]:
    return [Slot(weight, 0, ids, "follows")] if call.operation.use_bias else []


def _convolution(tracer: Tracer, call: Call) -> Any:
    """kernel [.., cin, cout]."""
    flow, operation = call.flows[0], call.operation
    if operation.groups != 1:
        result = _opaque(tracer, call, f"{call.path} is a convolution in {operation.groups} groups")
        tracer.member(call).made = result.ids
        factor = _positions(call.spec) * math.prod(operation.kernel_size) // operation.groups
        tracer.work.append(Work(factor, (flow.ids, result.ids)))
        return result
    result, made = _made(tracer, call, "filters")
    _slots(tracer, call, Slot(0, -2, flow.ids, "reads"), Slot(0, -1, made, "makes"), *_bias(call, 1, made))
    tracer.reads(flow.ids)
    tracer.work.append(Work(_positions(call.spec) * math.prod(operation.kernel_size), (flow.ids, made)))
    return result


def _transposed(tracer: Tracer, call: Call) -> Any:
    """kernel [.., cout, cin]; work is counted at the input, as in op_costs."""
    flow = call.flows[0]
    result, made = _made(tracer, call, "filters")
    _slots(tracer, call, Slot(0, -1, flow.ids, "reads"), Slot(0, -2, made, "makes"), *_bias(call, 1, made))
    tracer.reads(flow.ids)
    tracer.work.append(Work(_positions(flow.spec) * math.prod(call.operation.kernel_size), (flow.ids, made)))
    return result


def _depthwise(tracer: Tracer, call: Call) -> Any:
    """kernel [.., cin, multiplier]; output channel i is made of input channel i // multiplier alone."""
    flow, operation = call.flows[0], call.operation
    out = np.repeat(flow.ids, operation.depth_multiplier)
    _slots(tracer, call, Slot(0, -2, flow.ids, "makes"), *_bias(call, 1, out))
    tracer.member(call).made = out
    _freeze_mixed(tracer, call, out)
    tracer.work.append(Work(_positions(call.spec) * math.prod(operation.kernel_size), (out,)))
    return Flow(call.spec, out)


def _separable(tracer: Tracer, call: Call) -> Any:
    """depthwise kernel [.., cin, multiplier], pointwise kernel [.., cin x multiplier, cout]."""
    flow, operation = call.flows[0], call.operation
    between = np.repeat(flow.ids, operation.depth_multiplier)
    result, made = _made(tracer, call, "filters")
    _slots(
        tracer,
        call,
        Slot(0, -2, flow.ids, "reads"),
        Slot(1, -2, between, "reads"),
        Slot(1, -1, made, "makes"),
        *_bias(call, 2, made),
    )
    tracer.reads(flow.ids)
    positions = _positions(call.spec)
    tracer.work.append(Work(positions * math.prod(operation.kernel_size), (between,)))
    tracer.work.append(Work(positions, (between, made)))
    return result


def _dense(tracer: Tracer, call: Call) -> Any:
    """kernel [cin, cout], applied at every position."""
    flow = call.flows[0]
    result, made = _made(tracer, call, "units")
    _slots(tracer, call, Slot(0, 0, flow.ids, "reads"), Slot(0, 1, made, "makes"), *_bias(call, 1, made))
    tracer.reads(flow.ids)
    tracer.work.append(Work(_positions(call.spec), (flow.ids, made)))
    return result


def _embedding(tracer: Tracer, call: Call) -> Any:
    """table [vocabulary, dimension]."""
    tracer.freeze(call.flows[0].ids, f"{call.path} looks them up")
    result, made = _made(tracer, call, "output_dim")
    _slots(tracer, call, Slot(0, 1, made, "makes"))
    return result


def _recurrent(tracer: Tracer, call: Call) -> Any:
    """Kernel [cin, gates x units]: the input may lose channels, the state keeps its own."""
    flow = call.flows[0]
    _slots(tracer, call, Slot(0, 0, flow.ids, "reads"))
    tracer.reads(flow.ids)
    result = flows_of(tracer, call.spec, f"{call.path} is recurrent: its units stay")
    kernel, recurrent = (weight.shape for weight in call.operation.weights[:2])
    steps = _positions(flow.spec)
    tracer.work.append(Work(steps * kernel[1], (flow.ids,)))
    tracer.work.append(Work(steps * math.prod(recurrent), ()))
    return result


def _attention(tracer: Tracer, call: Call) -> Any:
    """Projections of queries, keys and values to heads, and the products between them: all stay."""
    layer, flows = call.operation, call.flows
    query, key = _positions(flows[0].spec), _positions(flows[1].spec)
    made, read = layer.key_dim, layer.value_dim
    products = query * key * (made + read)
    projections = query * made * len(flows[0].ids) + key * made * len(flows[-1].ids) + key * read * len(flows[1].ids)
    tracer.work.append(Work(layer.num_heads * (products + projections + query * read * (width(call.spec) or 1)), ()))
    return _opaque(tracer, call, f"{call.path} is an attention")


def _batch_norm(tracer: Tracer, call: Call) -> Any:
    """One scale, offset, mean and variance per channel."""
    flow, operation = call.flows[0], call.operation
    axis = operation.axis if isinstance(operation.axis, int) else operation.axis[0]
    if axis not in (-1, len(flow.spec.shape) - 1):
        return _opaque(tracer, call, f"{call.path} normalizes axis {axis}, not the channels")
    scale = 0 if operation.scale else -1
    roles = ["scales" if number == scale else "follows" for number in range(len(operation.weights))]
    _slots(tracer, call, *(Slot(number, 0, flow.ids, role) for number, role in enumerate(roles)))
    return Flow(call.spec, flow.ids)


def _prelu(tracer: Tracer, call: Call) -> Any:
    """A slope per channel, unless the channels share one."""
    flow = call.flows[0]
    slopes = call.operation.weights[0].shape
    tracer.member(call)
    if slopes[-1] == len(flow.ids):
        _slots(tracer, call, Slot(0, -1, flow.ids, "follows"))
    return Flow(call.spec, flow.ids)


def _passing(tracer: Tracer, call: Call) -> Any:
    return Flow(call.spec, call.flows[0].ids)


def _activation(tracer: Tracer, call: Call) -> Any:
    _freeze_mixed(tracer, call, call.flows[0].ids)
    return _passing(tracer, call)


def _softmax(tracer: Tracer, call: Call) -> Any:
    """Softmax over positions leaves channels alone."""
    rank, axes = len(call.spec.shape), call.operation.axis
    over = axes if isinstance(axes, (list, tuple)) else [axes]
    if rank - 1 in [axis % rank for axis in over]:
        tracer.freeze(call.flows[0].ids, f"{call.path} is a softmax over the channels")
    return _passing(tracer, call)


def _rescaling(tracer: Tracer, call: Call) -> Any:
    if np.ndim(call.operation.scale) or np.ndim(call.operation.offset):
        return _opaque(tracer, call, f"{call.path} has a scale for each channel")
    return _passing(tracer, call)


def _merging(tracer: Tracer, call: Call) -> Any:
    """Channel i of every operand becomes channel i of the result; a single channel is spread over all."""
    if any(np.ndim(item) for item in call.constants if not isinstance(item, (str, dict))):
        return _opaque(tracer, call, f"{call.path} takes a constant with a value for each channel")
    count = width(call.spec)
    wide = [flow.ids for flow in call.flows if len(flow.ids) == count]
    for flow in call.flows:
        if len(flow.ids) != count:
            tracer.freeze(flow.ids, f"{call.path} spreads it over all channels")
    if not wide:
        return _opaque(tracer, call, f"{call.path} takes channels of an unknown number")
    for ids in wide[1:]:
        tracer.merge(wide[0], ids)
    return Flow(call.spec, wide[0])


def _concatenate(tracer: Tracer, call: Call) -> Any:
    if call.operation.axis in (-1, len(call.spec.shape) - 1):
        return Flow(call.spec, np.concatenate([flow.ids for flow in call.flows]))
    return _merging(tracer, call)


def _reducing(tracer: Tracer, call: Call) -> Any:
    """keras.ops.mean and its kin over positions."""
    rank, axes = len(call.flows[0].spec.shape), call.operation.axis
    over = range(rank) if axes is None else axes if isinstance(axes, (list, tuple)) else [axes]
    if {0, rank - 1} & {axis % rank for axis in over}:
        return _opaque(tracer, call, f"{call.path} reduces over the channels")
    return _passing(tracer, call)


def _permute(tracer: Tracer, call: Call) -> Any:
    dims = call.operation.dims
    return _passing(tracer, call) if dims[-1] == len(dims) else _opaque(tracer, call, f"{call.path} moves the channels")


def _reshape(tracer: Tracer, call: Call) -> Any:
    """The last axis stays (spatial axes may change), or takes in whole positions, each with all its channels."""
    ids, count = call.flows[0].ids, width(call.spec)
    if not len(ids) or not count or count % len(ids):
        return _opaque(tracer, call, f"{call.path} splits the channels")
    out = np.tile(ids, count // len(ids))
    if hasattr(call.operation, "target_shape"):
        tracer.member(call).settings["target_shape"] = out
    elif type(call.operation).__name__ != "Flatten":
        return _opaque(tracer, call, f"{call.path} is an operation of keras.ops: use the Reshape layer")
    return Flow(call.spec, out)


# Rules for operations that take several inputs.
_SEVERAL: tuple[Rule, ...] = (_merging, _concatenate, _attention)
RULES: dict[str, Rule] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _convolution),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _transposed),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN"), _recurrent),
    **dict.fromkeys(_PASSING, _passing),
    **dict.fromkeys(_MERGING, _merging),
    **dict.fromkeys(_REDUCING, _reducing),
    **dict.fromkeys(("Flatten", "Reshape"), _reshape),
    "Activation": _activation,
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "Dense": _dense,
    "Embedding": _embedding,
    "MultiHeadAttention": _attention,
    "Permute": _permute,
    "PReLU": _prelu,
    "Rescaling": _rescaling,
    "Softmax": _softmax,
}
