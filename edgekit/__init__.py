"""edgekit: from a Keras model to a fast, small, measured .tflite on your own board.

Every name here is imported at its first use, so that ``import edgekit`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit_device import BenchmarkReport, Model

    from .benchmark import bench
    from .comparison import Limits, compare
    from .conversion import Conversion, convert
    from .data import Preprocessing, load_data
    from .diagnosis import DiagnosisReport, diagnose
    from .errors import EdgekitError
    from .evaluation import evaluate
    from .pipeline import run
    from .records import Comparison, Evaluation, Variant
    from .results import Results
    from .searching import SearchResult, search

__version__ = "0.1.0"

_HOME = {
    "BenchmarkReport": "edgekit_device",
    "Comparison": "edgekit.records",
    "Conversion": "edgekit.conversion",
    "DiagnosisReport": "edgekit.diagnosis",
    "EdgekitError": "edgekit.errors",
    "Evaluation": "edgekit.records",
    "Limits": "edgekit.comparison",
    "Model": "edgekit_device",
    "Preprocessing": "edgekit.data",
    "Results": "edgekit.results",
    "SearchResult": "edgekit.searching",
    "Variant": "edgekit.records",
    "bench": "edgekit.benchmark",
    "compare": "edgekit.comparison",
    "convert": "edgekit.conversion",
    "diagnose": "edgekit.diagnosis",
    "evaluate": "edgekit.evaluation",
    "load_data": "edgekit.data",
    "run": "edgekit.pipeline",
    "search": "edgekit.searching",
}

__all__ = [
    "BenchmarkReport",
    "Comparison",
    "Conversion",
    "DiagnosisReport",
    "EdgekitError",
    "Evaluation",
    "Limits",
    "Model",
    "Preprocessing",
    "Results",
    "SearchResult",
    "Variant",
    "__version__",
    "bench",
    "compare",
    "convert",
    "diagnose",
    "evaluate",
    "load_data",
    "run",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
