"""Why TFLM does not run an operator: its own words, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...model_card import OpCard, TensorCard
from ...reason import short
from ..operators import EDGETPU_OPERATOR, ETHOS_U_OPERATOR
from .interpret import CRASHED, Trial
from .operators import BUILTINS, CUSTOMS

__all__ = ["failed_node", "reason_of", "remedy_of"]

FLEX = "Flex"
INT8 = "convert it to whole int8: edgekit convert MODEL --data DATA --target micro"
# PreprocessSoftmaxScaling (tensorflow/lite/kernels/internal/quantization_util.cc) asks for scale * beta * 2**26 above 1.
LEAST_SOFTMAX_SCALE = 2.0**-26
_NODE = re.compile(r"Node (\S+) \(number (\d+)\) failed to (?:prepare|invoke)")
# Where in TFLM's sources a line comes from says nothing to a user; the file's name does.
_PATH = re.compile(r"^(?:\w+/)+(?=\w+\.(?:cc|h)\b)")
_FOLLOWS = re.compile(r"^(?:Node \S+ \(number \d+\) failed|Failed to get registration|Failed starting model)")
# What to build instead of an operator without a kernel, in Keras' words.
_INSTEAD = {
    "GELU": "use relu or hard_swish instead of gelu",
    "RELU_N1_TO_1": "use relu6 or tanh",
    "RELU_0_TO_1": "use relu6, or hard_sigmoid written as relu6",
    "POW": "write x ** 2 as x * x",
    "TILE": "use BROADCAST_TO (a multiplication by ones) instead of tile or RepeatVector",
    "ONE_HOT": "encode before the model",
    "TOPK_V2": "take the largest values of the output in your own code",
    "NON_MAX_SUPPRESSION_V4": "suppress boxes in your own code, or export with TFLite_Detection_PostProcess",
    "NON_MAX_SUPPRESSION_V5": "suppress boxes in your own code, or export with TFLite_Detection_PostProcess",
    "REDUCE_PROD": "multiply the slices",
    "CONV_3D": "use Conv2D over the stacked third dimension",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "use an LSTM, or SimpleRNN with unroll=True",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "use two LSTMs, one with go_backwards=True",
    "LOCAL_RESPONSE_NORMALIZATION": "use BatchNormalization, which costs nothing once converted",
}


def failed_node(printed: str) -> tuple[str, int] | None:
    """The operator's type and position that TFLM names in what it printed, where it names one."""
    found = _NODE.search(printed)
    return None if found is None else (found[1][:60], int(found[2]))


def reason_of(op: OpCard, trial: Trial) -> str:
    """TFLM's own words about an operator it did not run."""
    if op.custom and op.type not in CUSTOMS:
        return f"Failed to get registration from op code CUSTOM: TFLM has no operator named {short(op.type)}"
    if not op.custom and op.type not in BUILTINS:
        return f"Didn't find op for builtin opcode '{op.type}'"
    lines = [line.strip() for line in trial.printed.splitlines() if line.strip()]
    telling = [line for line in lines if not _FOLLOWS.match(line)] or lines
    said = short(_PATH.sub("", telling[0])) if telling else ""
    if trial.stage == CRASHED:
        return f"TFLM's process died of it ({trial.death})" + (f": {said}" if said else "")
    return said or "TFLM gave no reason"


def remedy_of(op: OpCard, operands: Sequence[TensorCard]) -> str:
    """What to do about an operator that TFLM does not run; empty where nothing is known."""
    if op.custom:
        return _custom_remedy(op.type)
    if op.type not in BUILTINS:
        instead = _INSTEAD.get(op.type, "replace the layer it came from")
        return f"{instead}; or write a kernel and register it with MicroMutableOpResolver::AddCustom"
    if op.type == "SOFTMAX" and operands and 0 < max(operands[0].scales, default=1.0) <= LEAST_SOFTMAX_SCALE:
        return (
            f"its scores are all alike (scale {operands[0].scales[0]:.3g}; TFLM aborts at {LEAST_SOFTMAX_SCALE:.3g} and below): "
            "train the model, or leave the softmax out, the largest score is the same"
        )
    dtypes = {tensor.dtype for tensor in operands}
    computed = {tensor.dtype for tensor in operands if not tensor.constant}
    if dtypes & {"int4", "int2", "uint4"}:
        return f"weights of 4 bits or less have no kernel here: {INT8}"
    if "float16" in dtypes:
        return f"float16 has no kernels in TFLM: {INT8}, or --recipe float32"
    if "uint8" in dtypes:
        return f"uint8 is not in this kernel (TFLM has int8 ones; uint8 is TensorFlow 1's scheme, or a uint8 input): {INT8}"
    if "float32" in computed and any(tensor.constant and tensor.dtype == "int8" for tensor in operands):
        return f"dynamic-range (hybrid) kernels are not in TFLM: {INT8}"
    return "replace the layer it came from, or leave this operator to your own code after the model"


def _custom_remedy(name: str) -> str:
    if name == EDGETPU_OPERATOR:
        return "this file is compiled for an Edge TPU: give the .tflite from before edgetpu_compiler"
    if name == ETHOS_U_OPERATOR:
        return (
            "this file is compiled by Vela: it runs on the chip with the Ethos-U driver, which this interpreter lacks; check the "
            ".tflite from before Vela"
        )
    if name.startswith(FLEX):
        return "convert without TensorFlow operators (SELECT_TF_OPS): replace the layer that needs one"
    return "write a kernel and register it with MicroMutableOpResolver::AddCustom, or replace the layer it came from"
