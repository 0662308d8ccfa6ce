"""The only module that imports a TFLite runtime: which are installed, which one is used, what it is called."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Optional

from .errors import DeviceRuntimeError, RuntimeMissingError

__all__ = ["RUNTIMES", "Runtime", "installed_runtimes", "load_runtime"]


@dataclass(frozen=True)
class Runtime:
    """A loaded runtime: its short name, the version of its distribution and its ``Interpreter`` class."""

    name: str
    version: str
    interpreter: Any


@dataclass(frozen=True)
class _Candidate:
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
    """Import the runtime called ``name``, or with ``auto`` the first that can be imported.

    Raises RuntimeMissingError with the line that installs one, or naming the valid choices for an unknown name.
    """
    if name != "auto" and name not in RUNTIMES:
        raise RuntimeMissingError(f"unknown runtime {name!r}: choose from auto, {', '.join(RUNTIMES)}")
    wanted = list(RUNTIMES) if name == "auto" else [name]
    failures = []
    for candidate in wanted:
        try:
            return _load(candidate)
        except RuntimeMissingError as error:
            failures.append(str(error))
    if name == "auto":
        raise RuntimeMissingError(
            f"no TFLite runtime is installed. Install one: {RUNTIMES['litert'].install}, "
            f"or on 32-bit boards {RUNTIMES['tflite'].install}"
        )
    raise RuntimeMissingError(failures[0])


def installed_runtimes() -> dict[str, str]:
    """Name and version of every runtime whose distribution is installed; imports none of them."""
    found = {name: _version(candidate) for name, candidate in RUNTIMES.items()}
    return {name: version for name, version in found.items() if version is not None}


def _load(name: str) -> Runtime:
    candidate = RUNTIMES[name]
    try:
        module = importlib.import_module(candidate.module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != candidate.module.split(".")[0]:
            raise _broken(name, error) from error
        raise RuntimeMissingError(f"the {name} runtime is not installed. Install it: {candidate.install}") from error
    except Exception as error:  # an extension module built for another numpy or libc fails in many ways
        raise _broken(name, error) from error
    return Runtime(name=name, version=_version(candidate) or "", interpreter=module.Interpreter)


def _broken(name: str, error: BaseException) -> RuntimeMissingError:
    reason = str(error).strip().splitlines()
    hint = ": tflite-runtime needs numpy < 2" if name == "tflite" and "numpy" in str(error).lower() else ""
    return RuntimeMissingError(
        f"the {name} runtime is installed but cannot be imported{hint} ({reason[0] if reason else type(error).__name__})"
    )


def _version(candidate: _Candidate) -> Optional[str]:
    from importlib import metadata

    for distribution in candidate.distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def translate(error: Exception, kind: type[DeviceRuntimeError], context: str) -> DeviceRuntimeError:
    """The runtime's own exception as one of ours, its first line kept."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return kind(f"{context}: {lines[0][:300] if lines else type(error).__name__}")
