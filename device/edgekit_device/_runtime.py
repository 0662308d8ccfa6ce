"""The only module that imports a TFLite runtime: which are installed, which one is used, what it is called."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

from .errors import DeviceRuntimeError, RuntimeMissingError
from .text import first_line

__all__ = ["RUNTIMES", "Runtime", "installed_runtimes", "load_runtime", "translate"]


class Runtime(NamedTuple):
    """A loaded runtime: its short name, its version, what makes an interpreter of ``model_content``, and the module it is
    in, which also loads delegates."""

    name: str
    version: str
    interpreter: Callable[..., Any]
    module: Any = None


class _Candidate(NamedTuple):
    module: str
    distributions: tuple[str, ...]
    install: str


# In order of preference: LiteRT is maintained and has the int8 kernels, tflite-runtime serves old and 32-bit boards.
RUNTIMES: dict[str, _Candidate] = {
    "litert": _Candidate("ai_edge_litert.interpreter", ("ai-edge-litert",), 'pip install "edgekit-device[litert]"'),
    "tflite": _Candidate("tflite_runtime.interpreter", ("tflite-runtime",), 'pip install "edgekit-device[tflite]"'),
    "tf": _Candidate("tensorflow.lite.python.interpreter", ("tensorflow", "tensorflow-cpu"), "pip install tensorflow"),
}


def load_runtime(name: str = "auto") -> Runtime:
    """Import the runtime called ``name``, or with ``auto`` the first of RUNTIMES that is installed and works.

    Raises RuntimeMissingError with the line that installs one, or naming the valid choices for an unknown name.
    """
    if name == "auto":
        return _first_that_works()
    if name not in RUNTIMES:
        raise RuntimeMissingError(f"unknown runtime {name!r}: choose from auto, {', '.join(RUNTIMES)}")
    return _load(name)


def installed_runtimes() -> dict[str, str]:
    """Name and version of every runtime whose distribution is installed; imports none of them."""
    found = {name: _distribution_version(candidate) for name, candidate in RUNTIMES.items()}
    return {name: version for name, version in found.items() if version is not None}


def translate(error: BaseException, kind: type[DeviceRuntimeError], context: str) -> DeviceRuntimeError:
    """The runtime's own exception as one of ours, its first line kept."""
    return kind(f"{context}: {first_line(error)}")


def _first_that_works() -> Runtime:
    broken = []
    for name in RUNTIMES:
        try:
            return _load(name)
        except RuntimeMissingError as error:
            if not isinstance(error.__cause__, ModuleNotFoundError):
                broken.append(str(error))
    raise RuntimeMissingError(
        "; ".join(broken)
        or f"no TFLite runtime is installed. Install one: {RUNTIMES['litert'].install}, "
        f"or on 32-bit boards {RUNTIMES['tflite'].install}"
    )


def _load(name: str) -> Runtime:
    candidate = RUNTIMES[name]
    try:
        module = importlib.import_module(candidate.module)
        interpreter = module.Interpreter
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != candidate.module.split(".")[0]:
            raise _broken(name, error) from error
        raise RuntimeMissingError(f"the {name} runtime is not installed. Install it: {candidate.install}") from error
    except Exception as error:  # an extension module built for another numpy or libc fails in many ways
        raise _broken(name, error) from error
    return Runtime(name, _version(candidate), _quietly(interpreter) if name == "tf" else interpreter, module)


def _quietly(interpreter: Callable[..., Any]) -> Callable[..., Any]:
    """TensorFlow's interpreter without its notice that it will be deleted: whoever names ``tf`` chose it."""

    def make(**options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
            return interpreter(**options)

    return make


def _broken(name: str, error: Exception) -> RuntimeMissingError:
    hint = ": tflite-runtime needs numpy < 2" if name == "tflite" and "numpy" in str(error).lower() else ""
    return RuntimeMissingError(
        f"the {name} runtime is installed but cannot be imported{hint} ({first_line(error)}). "
        f"Install it again: {RUNTIMES[name].install}"
    )


def _version(candidate: _Candidate) -> str:
    """What the imported package says of itself, which is what runs; its distribution's version where it says nothing."""
    package = sys.modules.get(candidate.module.split(".")[0])
    return str(getattr(package, "__version__", None) or _distribution_version(candidate) or "")


def _distribution_version(candidate: _Candidate) -> Optional[str]:
    from importlib import metadata  # slow to import, and seldom needed

    for distribution in candidate.distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None
