"""The operators of a model's graph, and which of them a delegate's kernels stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from ._runtime import Runtime
from .text import clean_text

__all__ = ["GraphOperator", "graph_operators", "match"]

# What XNNPACK's kernels are called, by how the name begins, and the operators they come from. A kernel for matrices runs
# convolutions of 1 x 1 as well, so that all that multiply weights are one family.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"),
    "Fully Connected": ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"),
    "Deconvolution": ("TRANSPOSE_CONV",),
    "Batch Matrix Multiply": ("BATCH_MATMUL",),
    "Add": ("ADD",),
    "Subtract": ("SUB",),
    "Multiply": ("MUL",),
    "Divide": ("DIV",),
    "Maximum": ("MAXIMUM",),
    "Minimum": ("MINIMUM",),
    "Max Pooling": ("MAX_POOL_2D",),
    "Average Pooling": ("AVERAGE_POOL_2D",),
    "Global Average Pooling": ("MEAN",),
    "Mean": ("MEAN",),
    "Softmax": ("SOFTMAX",),
    "Sigmoid": ("LOGISTIC",),
    "Tanh": ("TANH",),
    "HardSwish": ("HARD_SWISH",),
    "Leaky ReLU": ("LEAKY_RELU",),
    "PReLU": ("PRELU",),
    "ELU": ("ELU",),
    "Resize Bilinear": ("RESIZE_BILINEAR",),
    "Static Reshape": ("RESHAPE",),
    "Concatenate": ("CONCATENATION",),
    "Constant Pad": ("PAD",),
    "Transpose": ("TRANSPOSE",),
}


class GraphOperator(NamedTuple):
    """An operator of the main graph: its place, its type, and the name of the first tensor it makes."""

    place: int
    type: str
    output: str


def graph_operators(runtime: Runtime, content: bytes) -> list[GraphOperator]:
    """The operators in the file's order, none of them taken over; empty where the runtime does not tell."""
    interpreter = runtime.interpreter(
        model_content=content,
        num_threads=1,
        experimental_op_resolver_type=runtime.module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    try:
        listed = interpreter._get_ops_details()
    except AttributeError:
        return []
    # A tensor of merged operations is called by all of them, the one that makes it first.
    names = {int(raw["index"]): clean_text(raw["name"].partition(";")[0]) for raw in interpreter.get_tensor_details()}
    found = []
    for operator in listed:
        outputs = [int(tensor) for tensor in operator["outputs"]]
        name = names.get(outputs[0], "") if outputs else ""
        found.append(GraphOperator(int(operator["index"]), str(operator["op_name"]), name))
    return found


def match(
    kernels: Sequence[str], indices: Sequence[int], graph: Sequence[GraphOperator]
) -> list[Optional[GraphOperator]]:
    """The operator each kernel stands for, None where nobody can tell.

    ``kernels`` are names in the order they ran. The runtime's own carry the operator's type, and ``indices`` its place. Those
    of XNNPACK keep the graph's order: where a family has as many kernels as operators, the n-th is the n-th.
    """
    types = {operator.type for operator in graph}
    places = {operator.place: operator for operator in graph}
    found: list[Optional[GraphOperator]] = [None] * len(kernels)
    taken = set()
    for at, (kernel, index) in enumerate(zip(kernels, indices)):
        operator = places.get(index) if kernel in types else None
        if operator is not None and operator.type == kernel:
            found[at] = operator
            taken.add(index)
    left = [operator for operator in graph if operator.place not in taken]
    for family in {FAMILIES[name] for kernel in kernels if (name := _family(kernel))}:
        at_of = [
            at for at, kernel in enumerate(kernels) if found[at] is None and FAMILIES.get(_family(kernel)) == family
        ]
        operators = [operator for operator in left if operator.type in family]
        if len(at_of) == len(operators) and all(_fits(kernels[at], op) for at, op in zip(at_of, operators)):
            for at, operator in zip(at_of, operators):
                found[at] = operator
    return found


def _family(kernel: str) -> str:
    return kernel.partition(" (")[0] if kernel.partition(" (")[0] in FAMILIES else ""


def _fits(kernel: str, operator: GraphOperator) -> bool:
    """Only convolutions run as depthwise kernels, and only they as others of their own name."""
    if "DWConv" in kernel:
        return operator.type in ("DEPTHWISE_CONV_2D", "CONV_2D")
    return not (kernel.startswith("Convolution") and operator.type == "FULLY_CONNECTED")
