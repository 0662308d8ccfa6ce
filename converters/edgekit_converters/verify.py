"""Verify a converted model: is it what its name promises?

A converter may leave out what it cannot do and still succeed, and then a file called int8 runs in float32. So every
variant is read back, and earns its name only here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from .errors import PromiseError
from .model_card import ModelCard, OpCard, TensorCard
from .op_costs import count_elements

__all__ = ["IO_TYPES", "MIN_KERNEL_ELEMENTS", "PRECISIONS", "verify"]

IO_TYPES = ("float32", "int8", "uint8", "int16")

# The converters leave smaller kernels in float32 where the format allows it: they would gain nothing.
MIN_KERNEL_ELEMENTS = 1024

_SHOWN = 3
_NAME_SHOWN = 60
_FLOATS = frozenset({"float32", "complex64"})
_PLAIN = frozenset({"int32", "int64", "uint32", "uint64", "bool", "string", "resource", "variant"})
_NATURAL_INTEGERS = frozenset({"int32", "int64", "bool"})
_BOUNDARY_OPS = frozenset({"QUANTIZE", "DEQUANTIZE"})
# The int8 kernels of these keep their state in int16.
_INT16_STATE_OPS = frozenset({"UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM", "SVDF"})
_KERNEL_OPERANDS = {
    "CONV_2D": (1,),
    "DEPTHWISE_CONV_2D": (1,),
    "CONV_3D": (1,),
    "TRANSPOSE_CONV": (1,),
    "FULLY_CONNECTED": (1,),
    "EMBEDDING_LOOKUP": (1,),
    "BATCH_MATMUL": (0, 1),
}
_BIAS_OPERAND = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "CONV_3D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}


def verify(
    card: ModelCard,
    *,
    precision: str,
    input_type: str,
    output_type: str,
    kept: Mapping[str, Mapping[str, int]] | None = None,
) -> None:
    """Raise PromiseError, naming the first offenders and their number, unless the model keeps ``precision``'s promise.

    The promises, in all subgraphs, where plain integers (int32, int64, bool: shapes, axes, token ids) are always fine:

    - ``float32``: every other tensor is float32 (or complex64, a pair of them), and no integer carries a scale.
    - ``float16``: kernels of at least 1,024 elements are float16 constants, at least one constant is, each is read
      through DEQUANTIZE, and everything computed is float32. Biases and small kernels may be float32.
    - ``dynamic-int8``: kernels of at least 1,024 elements are int8 with scales, at least one constant is; biases and
      everything computed are float32.
    - ``int8``: every operator works on int8, with int8 kernels and int32 biases, and at least one does; float32 and
      uint8 appear only where a QUANTIZE or DEQUANTIZE meets an input or output of the model.
    - ``int16x8``: the same with activations int16 and biases int64 or int32.
    - ``mixed-int8``: every operator keeps the promise of int8, of int16x8, or works on float32 with float32 constants;
      at least one works on int8, at least one does not, and only QUANTIZE and DEQUANTIZE work on two kinds. ``kept``
      says which may leave int8: how many of each type are to be ``float32`` and ``int16``; without it any may.

    A kernel is the weight of a convolution, a fully connected layer, a matrix product or an embedding lookup.
    Every promise includes: no custom operator, so none of select TensorFlow (``Flex...``), which a plain runtime lacks;
    inputs are ``input_type`` and outputs ``output_type`` (one of IO_TYPES), but what is an integer by nature (token
    ids, masks, an index that comes out) may stay one; integer inputs and outputs of int8 and int16x8 carry a scale.

    Raises ValueError for an unknown ``precision``, ``input_type`` or ``output_type``.
    """
    _check_choice("precision", precision, PRECISIONS)
    _check_choice("input_type", input_type, IO_TYPES)
    _check_choice("output_type", output_type, IO_TYPES)
    graph = _Graph(card)
    problems = [
        *_find_custom(graph),
        *_find_wrong_ends("input", card.inputs, input_type, precision),
        *_find_wrong_ends("output", card.outputs, output_type, precision),
        *_PROMISES[precision](graph),
        *(_find_not_kept(graph, kept) if kept is not None else ()),
    ]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise PromiseError(
            f"expected a model that is {precision} with {input_type} input and {output_type} output, "
            f"got {len(problems)} {'problem' if len(problems) == 1 else 'problems'}: "
            f"{'; '.join(problems[:_SHOWN])}{more}: "
            "choose another precision, or replace the layer these come from",
            problems=problems,
        )


class _Graph:
    """The card with its tensors looked up by operator."""

    def __init__(self, card: ModelCard) -> None:
        self.ops = (*card.ops, *card.other_ops)
        self.tensors = {(tensor.subgraph, tensor.index): tensor for tensor in (*card.tensors, *card.other_tensors)}
        self.ends = {(tensor.subgraph, tensor.index) for tensor in (*card.inputs, *card.outputs)}
        self.producers = {(op.subgraph, index): op for op in self.ops for index in op.outputs}

    def operands(self, op: OpCard) -> list[TensorCard]:
        """Every tensor ``op`` reads or writes."""
        return [self.tensors[op.subgraph, index] for index in (*op.inputs, *op.outputs) if index >= 0]

    def is_end(self, tensor: TensorCard) -> bool:
        """Whether ``tensor`` is an input or output of the model."""
        return (tensor.subgraph, tensor.index) in self.ends

    def constant(self, op: OpCard, position: int) -> TensorCard | None:
        """The constant at an operand's position, also behind a DEQUANTIZE; None when there is none."""
        index = op.inputs[position] if position < len(op.inputs) else -1
        producer = self.producers.get((op.subgraph, index))
        if producer is not None and producer.type == "DEQUANTIZE" and producer.inputs:
            index = producer.inputs[0]
        tensor = self.tensors.get((op.subgraph, index))
        return tensor if tensor is not None and tensor.constant else None

    def kernels(self) -> Iterator[tuple[OpCard, TensorCard]]:
        """Every operator with a constant kernel, and the kernel."""
        for op in self.ops:
            for position in _KERNEL_OPERANDS.get(op.type, ()):
                kernel = self.constant(op, position)
                if kernel is not None:
                    yield op, kernel

    def biases(self) -> Iterator[tuple[OpCard, TensorCard]]:
        """Every operator with a constant bias, and the bias."""
        for op in self.ops:
            bias = self.constant(op, _BIAS_OPERAND[op.type]) if op.type in _BIAS_OPERAND else None
            if bias is not None:
                yield op, bias


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"expected {name} to be one of {', '.join(choices)}, got {value!r}")


def _name(op: OpCard) -> str:
    return f"op {op.index} {op.type}" + (f" of subgraph {op.subgraph}" if op.subgraph else "")


def _tensor(tensor: TensorCard) -> str:
    name = tensor.name if len(tensor.name) <= _NAME_SHOWN else tensor.name[: _NAME_SHOWN - 3] + "..."
    return f"tensor {tensor.index} {name!r} ({tensor.dtype})"


def _find_custom(graph: _Graph) -> Iterator[str]:
    for op in graph.ops:
        if op.custom and op.type.startswith("Flex"):
            yield f"{_name(op)} needs the select-TensorFlow runtime"
        elif op.custom:
            yield f"{_name(op)} is a custom operator no plain runtime knows"


def _find_wrong_ends(end: str, tensors: tuple[TensorCard, ...], expected: str, precision: str) -> Iterator[str]:
    for position, tensor in enumerate(tensors):
        if tensor.dtype != expected and tensor.dtype not in _NATURAL_INTEGERS:
            yield f"{end} {position} {tensor.name!r} is {tensor.dtype}, not {expected}"
        elif tensor.dtype in IO_TYPES[1:] and precision in _STATIC and not tensor.scales:
            yield f"{end} {position} {tensor.name!r} is {tensor.dtype} without a scale"


def _find_outside(graph: _Graph, computed: frozenset[str], constants: frozenset[str]) -> Iterator[str]:
    """Operators and their first operand of a dtype outside the two sets; the model's ends have a check of their own."""
    for op in graph.ops:
        for tensor in graph.operands(op):
            if tensor.dtype not in (constants if tensor.constant else computed) and not graph.is_end(tensor):
                yield f"{_name(op)} works on {_tensor(tensor)}"
                break


def _find_float32(graph: _Graph) -> Iterator[str]:
    yield from _find_outside(graph, _FLOATS | _PLAIN, _FLOATS | _PLAIN)
    for tensor in graph.tensors.values():
        if tensor.scales and tensor.dtype in _PLAIN:
            yield f"{_tensor(tensor)} is quantized"


def _find_float16(graph: _Graph) -> Iterator[str]:
    yield from _find_outside(graph, _FLOATS | _PLAIN, _FLOATS | _PLAIN | {"float16"})
    yield from _find_large_kernels(graph, "float16")
    for op in graph.ops:
        for tensor in graph.operands(op):
            if tensor.dtype == "float16" and op.type != "DEQUANTIZE":
                yield f"{_name(op)} reads {_tensor(tensor)} without a DEQUANTIZE"
    if not any(tensor.constant and tensor.dtype == "float16" for tensor in graph.tensors.values()):
        yield "no constant is float16"


def _find_dynamic_int8(graph: _Graph) -> Iterator[str]:
    yield from _find_outside(graph, _FLOATS | _PLAIN, _FLOATS | _PLAIN | {"int8"})
    yield from _find_large_kernels(graph, "int8")
    for op, bias in graph.biases():
        if bias.dtype != "float32":
            yield f"{_name(op)} has a bias that is not float32: {_tensor(bias)}"
    for op, kernel in graph.kernels():
        if kernel.dtype == "int8" and not kernel.scales:
            yield f"{_name(op)} has a kernel without a scale: {_tensor(kernel)}"
    if not any(tensor.constant and tensor.dtype == "int8" for tensor in graph.tensors.values()):
        yield "no constant is int8"


def _find_large_kernels(graph: _Graph, expected: str) -> Iterator[str]:
    for op, kernel in graph.kernels():
        elements = count_elements(kernel.shape)
        if elements >= MIN_KERNEL_ELEMENTS and kernel.dtype != expected:
            yield f"{_name(op)} has a kernel of {elements} elements that is not {expected}: {_tensor(kernel)}"


def _find_static(activations: str, biases: frozenset[str]) -> Callable[[_Graph], Iterator[str]]:
    """The check of a fully quantized model: ``activations`` is its dtype between operators."""

    def find(graph: _Graph) -> Iterator[str]:
        for op in graph.ops:
            yield from _find_not_integer(graph, op, activations)
        for op, kernel in graph.kernels():
            if kernel.dtype != "int8" or not kernel.scales:
                yield f"{_name(op)} has a kernel that is not int8 with a scale: {_tensor(kernel)}"
        for op, bias in graph.biases():
            if bias.dtype not in biases:
                yield f"{_name(op)} has a bias that is not {' or '.join(sorted(biases))}: {_tensor(bias)}"
        if not any(_is_quantized(graph, op, activations) for op in graph.ops):
            yield f"no operator works on quantized {activations}"

    return find


def _find_not_integer(graph: _Graph, op: OpCard, activations: str) -> Iterator[str]:
    """The first operand of ``op`` that a fully quantized model has no place for."""
    computed = _PLAIN | {activations} | ({"int16"} if op.type in _INT16_STATE_OPS else set())
    for tensor in graph.operands(op):
        if op.type in _BOUNDARY_OPS and graph.is_end(tensor):
            continue
        if tensor.dtype not in (computed | {"int8"} if tensor.constant else computed):
            yield f"{_name(op)} works on {_tensor(tensor)}"
            break


def _is_quantized(graph: _Graph, op: OpCard, activations: str) -> bool:
    tensors = graph.operands(op) if op.type not in _BOUNDARY_OPS else []
    return any(tensor.dtype == activations and tensor.scales and not tensor.constant for tensor in tensors)


def _kind(graph: _Graph, op: OpCard) -> str:
    """What ``op`` computes with in a mixed model: int8, int16 or float32; nothing for plain integers and boundaries."""
    if op.type in _BOUNDARY_OPS:
        return ""
    kinds = {tensor.dtype for tensor in graph.operands(op) if not tensor.constant}
    if "int8" in kinds:  # first, for some operators keep an int16 state beside it
        return "int8"
    return "int16" if "int16" in kinds else "float32" if kinds & _FLOATS else ""


def _find_mixed(graph: _Graph) -> Iterator[str]:
    kinds = [(op, _kind(graph, op)) for op in graph.ops]
    allowed = {
        "int8": _find_operator("int8", frozenset({"int32"})),
        "int16": _find_operator("int16", frozenset({"int32", "int64"})),
    }
    for op, kind in kinds:
        if kind in allowed:
            yield from allowed[kind](graph, op)
        elif op.type not in _BOUNDARY_OPS:
            other = [tensor for tensor in graph.operands(op) if tensor.dtype not in _FLOATS | _PLAIN]
            if other:
                yield f"{_name(op)} works on {_tensor(other[0])}"
    found = {kind for _, kind in kinds}
    if "int8" not in found:
        yield "no operator works on quantized int8"
    if not found & {"int16", "float32"}:
        yield "no operator is kept out of int8: it is an int8 model"


def _find_operator(activations: str, biases: frozenset[str]) -> Callable[[_Graph, OpCard], Iterator[str]]:
    """The check of one quantized operator of a mixed model."""

    def find(graph: _Graph, op: OpCard) -> Iterator[str]:
        yield from _find_not_integer(graph, op, activations)
        for position in _KERNEL_OPERANDS.get(op.type, ()):
            kernel = graph.constant(op, position)
            if kernel is not None and (kernel.dtype != "int8" or not kernel.scales):
                yield f"{_name(op)} has a kernel that is not int8 with a scale: {_tensor(kernel)}"
        bias = graph.constant(op, _BIAS_OPERAND[op.type]) if op.type in _BIAS_OPERAND else None
        if bias is not None and bias.dtype not in biases:
            yield f"{_name(op)} has a bias that is not {' or '.join(sorted(biases))}: {_tensor(bias)}"

    return find


def _find_not_kept(graph: _Graph, kept: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Operator types of which more, or fewer, are at a precision than were to be kept at it."""
    for kind in ("float32", "int16"):
        found = Counter(op.type for op in graph.ops if _kind(graph, op) == kind)
        wanted = kept.get(kind, {})
        for name in sorted({*found, *wanted}):
            if found[name] != wanted.get(name, 0):
                yield f"{found[name]} {name} work on {kind}, to be kept so were {wanted.get(name, 0)}"


_STATIC = ("int8", "int16x8", "mixed-int8")
_PROMISES: dict[str, Callable[[_Graph], Iterator[str]]] = {
    "float32": _find_float32,
    "float16": _find_float16,
    "dynamic-int8": _find_dynamic_int8,
    "int8": _find_static("int8", frozenset({"int32"})),
    "int16x8": _find_static("int16", frozenset({"int32", "int64"})),
    "mixed-int8": _find_mixed,
}
PRECISIONS = tuple(_PROMISES)
