"""ai-edge-quantizer, the public quantizer that works on the flatbuffer: its recipes, its statistics, and what it takes.

Of its own it only decides how a tensor follows from a range; which ranges, and which operators, is decided here.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConverterError, MissingPackageError
from ..model_card import ModelCard
from ..op_costs import count_elements
from ..reason import first_line
from ..verify import MIN_KERNEL_ELEMENTS
from .calibrate import Ranges
from .surgery import FlatModel

__all__ = [
    "SMALLEST_SCALE",
    "Kept",
    "QuantizerGap",
    "dynamic_recipe",
    "float16_recipe",
    "kept_operators",
    "run_quantizer",
    "static_recipe",
    "statistics",
    "widened",
]

Array = npt.NDArray[Any]
Rule = dict[str, Any]
# No scale below this: 6 / scale must fit int32, or the runtimes refuse a fused ReLU6 (kernel_util.cc,
# no_integer_overflow_from_quantization). Only dead tensors of untrained networks come near it.
SMALLEST_SCALE = 1e-8
# It cuts longer scopes before it matches them.
LONGEST_SCOPE = 10_000
_INSTALL = 'this needs ai-edge-quantizer. Install it: pip install "edgekit[keras]"'
_QUANTIZE: Rule = {"algorithm_key": "min_max_uniform_quantize"}
_LEAVE: Rule = {"algorithm_key": "no_quantize", "op_config": {}}


class QuantizerGap(ConverterError):
    """The flatbuffer quantizer cannot take this model; another one may."""


@dataclass(frozen=True)
class Kept:
    """An operator that a rule is for: what people call it, its kind for the quantizer (none if unknown), its scope."""

    label: str
    operation: str
    scope: str
    unique: bool


def run_quantizer(float_model: bytes, recipe: list[Rule], calibration: Any) -> bytes:
    """``float_model`` quantized by ``recipe``; raises QuantizerGap with its reason, MissingPackageError without it."""
    try:
        from ai_edge_quantizer import quantizer
    except ImportError as error:
        raise MissingPackageError(_INSTALL) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of its own use of the runtime, which is no concern of the caller
            result = quantizer.Quantizer(float_model, recipe).quantize(
                calibration, enable_progress_bar=False, enable_progress_report=False
            )
    except Exception as error:  # it raises ValueError, KeyError, AssertionError … for operators it does not know
        raise QuantizerGap(f"the quantizer cannot take this model: {first_line(error)}") from error
    return bytes(result.quantized_model)


def float16_recipe() -> list[Rule]:
    """Every weight float16, dequantized when the model is loaded."""
    weights = {"num_bits": 16, "dtype": "FLOAT"}
    config = {"weight_tensor_config": weights, "compute_precision": "FLOAT", "explicit_dequantize": True}
    return [{"regex": ".*", "operation": "*", "algorithm_key": "float_casting", "op_config": config}]


def dynamic_recipe(card: ModelCard) -> list[Rule]:
    """Kernels of MIN_KERNEL_ELEMENTS and more become int8; every one where all are smaller."""
    constants = (item for item in (*card.tensors, *card.other_tensors) if item.constant)
    largest = max((count_elements(item.shape) for item in constants), default=0)
    weights = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
    config = {
        "weight_tensor_config": weights,
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
        "min_weight_elements": MIN_KERNEL_ELEMENTS if largest >= MIN_KERNEL_ELEMENTS else 0,
    }
    return [{"regex": ".*", "operation": "*", "algorithm_key": "min_max_uniform_quantize", "op_config": config}]


def static_recipe(
    precision: str,
    input_type: str,
    output_type: str,
    *,
    keep_float: Sequence[Kept] = (),
    keep_int16: Sequence[Kept] = (),
) -> list[Rule]:
    """Everything int8 or int16x8, but ``keep_float`` and ``keep_int16``; raises QuantizerGap where it cannot tell them."""
    config = _static_config(8 if precision == "int8" else 16)
    recipe: list[Rule] = [{**_QUANTIZE, "regex": ".*", "operation": "*", "op_config": config}]
    for operation, kind in (("INPUT", input_type), ("OUTPUT", output_type)):
        boundary: Rule = {"regex": ".*", "operation": operation}
        if kind == "float32":
            recipe.append({**boundary, **_LEAVE})
        elif kind == "uint8":
            unsigned = {**config, "activation_tensor_config": {**config["activation_tensor_config"], "dtype": "UINT"}}
            recipe.append({**boundary, **_QUANTIZE, "op_config": unsigned})
    recipe += [{**_scoped(kept), **_LEAVE} for kept in keep_float if kept.operation]
    recipe += [{**_scoped(kept), **_QUANTIZE, "op_config": _static_config(16)} for kept in keep_int16]
    return recipe


def kept_operators(flat: FlatModel, indices: Sequence[int]) -> list[Kept]:
    """Operators of ``flat`` as the recipe names them."""
    try:
        from ai_edge_quantizer.utils.tfl_flatbuffer_utils import TFL_OP_CODE_TO_NAME
    except ImportError as error:
        raise MissingPackageError(_INSTALL) from error
    scopes = Counter(flat.scope(op) for op in range(len(flat.graph.operators)))
    return [
        Kept(
            f"{flat.type(op)} {op}",
            str(getattr(TFL_OP_CODE_TO_NAME.get(flat.code(op)), "value", "")),
            flat.scope(op),
            scopes[flat.scope(op)] == 1 and 0 < len(flat.scope(op)) <= LONGEST_SCOPE,
        )
        for op in indices
    ]


def _scoped(kept: Kept) -> Rule:
    """The part of a rule that says for which operator it is.

    A pattern is searched for in the names of an operator's outputs, and the model's end has the same scope as the
    operator before it: so the pattern is the whole scope, and the kind of operator is given too.
    """
    if not kept.operation or not kept.unique:
        why = "has no name of its own" if kept.operation else "is of a kind it leaves in float"
        raise QuantizerGap(f"the quantizer cannot keep the operator {kept.label}, which {why}")
    return {"regex": f"^{re.escape(kept.scope)}$", "operation": kept.operation}


def _static_config(bits: int) -> dict[str, Any]:
    return {
        "activation_tensor_config": {
            "num_bits": bits,
            "symmetric": bits == 16,
            "granularity": "TENSORWISE",
            "dtype": "INT",
        },
        "weight_tensor_config": {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"},
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
    }


def widened(ranges: Ranges, levels: int) -> Ranges:
    """Ranges whose scale is at least SMALLEST_SCALE."""
    least = SMALLEST_SCALE * levels
    return {name: (min(low, 0.0), max(high, low + least, least)) for name, (low, high) in ranges.items()}


def statistics(card: ModelCard, ranges: Ranges) -> dict[str, dict[str, Array]]:
    """Ranges in the quantizer's form: arrays of the tensor's rank with one element."""
    ranks = {tensor.name: len(tensor.shape) for tensor in card.tensors}
    return {
        name: {
            "min": np.full((1,) * ranks.get(name, 1), low, np.float32),
            "max": np.full((1,) * ranks.get(name, 1), high, np.float32),
        }
        for name, (low, high) in ranges.items()
    }
