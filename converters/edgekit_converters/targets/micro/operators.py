"""The operators TensorFlow Lite Micro has kernels for, and how a resolver is told of each.

Names are those of the members of ``MicroMutableOpResolver`` (tensorflow/lite/micro/micro_mutable_op_resolver.h). That the two
tables hold what the wheel's own resolver registers (python/tflite_micro/python_ops_resolver.cc), no more and no less, is
tested against the wheel: a name it does not know fails in another way than a shape it does not like.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["BUILTINS", "CUSTOMS", "resolver_calls"]

# The member is the operator's name in camel case, except where it is not.
_IRREGULAR = {
    "BATCH_MATMUL": "AddBatchMatMul",
    "CONV_2D": "AddConv2D",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CUMSUM": "AddCumSum",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "L2_POOL_2D": "AddL2Pool2D",
    "MAX_POOL_2D": "AddMaxPool2D",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
_NAMES = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO
    CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE
    ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER
    GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOG_SOFTMAX LOGICAL_AND LOGICAL_NOT
    LOGICAL_OR LOGISTIC MAX_POOL_2D MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE
    READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND
    RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE
    SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE
    ZEROS_LIKE
"""


def _member(builtin: str) -> str:
    return _IRREGULAR.get(builtin) or "Add" + "".join(part.capitalize() for part in builtin.split("_"))


BUILTINS: Mapping[str, str] = {name: _member(name) for name in _NAMES.split()}

# Custom operators that come with TFLM: the name in the file, and the member. Detection post-processing is TFLite's; the rest are
# the signal library's (signal/micro/kernels), which the audio front end of micro_speech uses.
CUSTOMS: Mapping[str, str] = {
    "BasicClassifier": "AddBasicClassifier",
    "CIRCULAR_BUFFER": "AddCircularBuffer",
    "TFLite_Detection_PostProcess": "AddDetectionPostprocess",
    "TFLM_DECODE": "AddDecode",
    "SignalDelay": "AddDelay",
    "SignalEnergy": "AddEnergy",
    "SignalFftAutoScale": "AddFftAutoScale",
    "SignalFilterBank": "AddFilterBank",
    "SignalFilterBankLog": "AddFilterBankLog",
    "SignalFilterBankSpectralSubtraction": "AddFilterBankSpectralSubtraction",
    "SignalFilterBankSquareRoot": "AddFilterBankSquareRoot",
    "SignalFramer": "AddFramer",
    "SignalIrfft": "AddIrfft",
    "SignalOverlapAdd": "AddOverlapAdd",
    "SignalPCAN": "AddPCAN",
    "SignalRfft": "AddRfft",
    "SignalStacker": "AddStacker",
    "SignalWindow": "AddWindow",
}


def resolver_calls(types: Iterable[tuple[str, bool]]) -> tuple[str, ...]:
    """The members of a resolver to call for operators of these ``(type, custom)``, each once, in alphabetical order.

    Raises KeyError for one that TFLM has no kernel for.
    """
    return tuple(sorted({(CUSTOMS if custom else BUILTINS)[name] for name, custom in types}))
