"""The limits of size that no document states, each with what fixes it. Where two sources disagree, what was seen wins.

Sizes of YOLO's heads are worked out from the export's input size (640, 416, 320, 224) and the rows of its operation log.
"""

from __future__ import annotations

from collections.abc import Mapping

from .evidence import NARROW_BYTES, Evidence, Limit

__all__ = ["LIMITS", "Limits"]

Limits = Mapping[str, Limit]

# Half of what a tile has for activations: three of the limits below, found apart from each other, lie around it.
HALF = NARROW_BYTES // 2
_BOTH_FIT = "what goes in and what comes out fit a tile's 192 KiB together"
_HALF_LIES_BETWEEN = "half of a tile's 192 KiB lies between what was seen on either side"

_ISSUES = "google-coral/edgetpu issues"
_YOLOV8_640 = "MaxwellHogan/coral_wifi_webserver (log)"
_YOLOV8_320 = "MRezqalla/GoalBuddy (log)"
_YOLOV5_640 = "Sandhya1708/modelnew (log)"
_YOLOV5_224 = "jveitchmichaelis/edgetpu-yolo (log)"
_FACTS = "a first rule set, fitted to 116 compiled models"

_ALL = (
    Limit(
        "transpose-size",
        "elements",
        (
            Evidence(57_600, True, "1x20x20x144", _YOLOV8_640),
            Evidence(100_000, False, "every larger one", _FACTS),
            Evidence(134_400, False, "1x4x16x2100", _YOLOV8_320),
            Evidence(150_528, False, "1x3x224x224", f"{_ISSUES} #433"),
            Evidence(230_400, False, "1x40x40x144", _YOLOV8_640),
        ),
        suggested=HALF,
        because=_BOTH_FIT,
    ),
    Limit(
        "resize-bilinear-size",
        "elements of the output",
        (
            Evidence(337_824, True, "1x23x27x136 to 1x46x54x136", "PINTO0309/MobileNetV2-PoseEstimation"),
            Evidence(524_288, True, "1x64x64x32 to 1x128x128x32", f"{_ISSUES} #31"),
            Evidence(1_000_000, False, "every larger one", _FACTS),
            Evidence(1_572_864, False, "1x256x256x6 to 1x512x512x6", f"{_ISSUES} #597"),
            Evidence(8_388_608, False, "1x256x256x32 to 1x512x512x32", f"{_ISSUES} #31"),
        ),
        suggested=999_999,
        because="compiled models have none above a million",
    ),
    Limit(
        "resize-nearest-size",
        "bytes of input and output on one tile",
        (
            Evidence(64_000, True, "1x40x40x128 to 1x80x80x128", _YOLOV8_640),
            Evidence(327_680, False, "1x512x512x3 to 1x1024x1024x3", f"{_ISSUES} #597"),
        ),
        suggested=327_679,
        because="no smaller one was ever seen refused",
    ),
    Limit(
        "reshape-size",
        "bytes of input and output on one tile, where rows and columns are regrouped, or channels become columns",
        (
            Evidence(42_000, True, "1x64x2100 to 1x4x16x2100", _YOLOV8_320),
            Evidence(60_800, True, "1x40x40x255 to 1x1600x3x85", _YOLOV5_640),
            Evidence(68_992, True, "1x784x3x85 to 1x2352x85", _YOLOV5_224),
            Evidence(140_800, False, "1x1600x3x85 to 1x4800x85", _YOLOV5_640),
            Evidence(168_000, False, "1x64x8400 to 1x4x16x8400", _YOLOV8_640),
            Evidence(243_200, False, "1x80x80x255 to 1x6400x3x85", _YOLOV5_640),
        ),
        suggested=HALF,
        because=_HALF_LIES_BETWEEN,
    ),
    Limit(
        "reshape-fold-size",
        "elements, where columns become channels (1xAxBxC to 1xAxBC)",
        (
            Evidence(57_600, True, "1x144x20x20 to 1x144x400", _YOLOV8_640),
            Evidence(230_400, False, "1x144x40x40 to 1x144x1600", _YOLOV8_640),
            Evidence(921_600, False, "1x144x80x80 to 1x144x6400", _YOLOV8_640),
        ),
        suggested=HALF,
        because=_BOTH_FIT,
    ),
    Limit(
        "mean-window",
        "elements averaged into one",
        (
            Evidence(8_192, True, "1x64x128x3 over both sides", f"{_ISSUES} #461"),
            Evidence(32_768, False, "1x256x128x3 over both sides", f"{_ISSUES} #461"),
        ),
        suggested=32_767,
        because="no smaller one was ever seen refused; 32,768 is where a count outgrows 15 bits",
    ),
    Limit(
        "softmax-size",
        "elements in a row",
        (Evidence(16_384, True, "1x16384", "ricardodeazambuja/LibrEdgeTPU"),),
        suggested=16_000,
        because="documented as 16,000; one of 16,384 maps, and what maps wins",
    ),
    Limit(
        "transpose-conv-size",
        "bytes of input and output on one tile",
        (Evidence(196_608, False, "1x32x32x1024 to 1x64x64x512", f"{_ISSUES} #684"),),
        suggested=NARROW_BYTES - 1,
        because="a tile's 192 KiB, which input and output fill together, leave no room for anything else",
    ),
    Limit(
        "row-tensor-size",
        "bytes of inputs and outputs on one tile, of tensors of a single row (1xBxC) with many channels",
        (
            Evidence(84_000, True, "LOGISTIC 1x80x2100", _YOLOV8_320),
            Evidence(88_200, True, "CONCATENATION to 1x84x2100", _YOLOV8_320),
            Evidence(109_200, False, "STRIDED_SLICE 1x144x2100 to 1x64x2100", _YOLOV8_320),
            Evidence(151_200, False, "CONCATENATION to 1x144x2100", _YOLOV8_320),
            Evidence(336_000, False, "LOGISTIC 1x80x8400", _YOLOV8_640),
        ),
        suggested=HALF,
        because=_HALF_LIES_BETWEEN,
    ),
)

LIMITS: Limits = {limit.name: limit for limit in _ALL}
