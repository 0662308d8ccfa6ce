"""Names to choose from that the command line shows before anything heavy is imported."""

from __future__ import annotations

__all__ = ["AUGMENTATIONS", "IO_TYPES", "RUNTIMES"]

RUNTIMES = ("auto", "litert", "tflite", "tf")
IO_TYPES = ("float32", "int8", "uint8")
AUGMENTATIONS = ("none", "shift", "flip", "flip-shift")
