"""Data that a Python function of the user makes: ``module:function``."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from ..errors import DataError, EdgekitError, suggest
from .arrays import dataset_from_value
from .dataset import Dataset

__all__ = ["is_function_spec", "load_function"]

_SPEC = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)")


def is_function_spec(spec: str) -> bool:
    """Whether ``spec`` reads ``module:function`` or ``package.module:function``."""
    return _SPEC.fullmatch(spec) is not None


def load_function(spec: str) -> Dataset:
    """Import the module, the current folder first on the path, and call the function without arguments.

    It returns a Dataset, a mapping with the keys of an ``.npz`` file, or ((x_train, y_train), (x_test, y_test)).
    Raises DataError when the module or function is missing, raises, or returns something else; edgekit's own errors
    pass as they are.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise DataError(f"expected module:function, got {spec!r}; type e.g. my_data:load for load() in my_data.py")
    with _current_folder_first():
        module = _import(match["module"], spec)
        value = _call(module, match["function"], spec)
    return dataset_from_value(value, spec)


@contextmanager
def _current_folder_first() -> Iterator[None]:
    saved = list(sys.path)
    sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = saved


def _import(name: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(f"importing {name} for {spec!r}", error) from error
        raise DataError(
            f"{spec!r}: expected a module {name!r} in {os.getcwd()} or installed, got none named {error.name!r}; "
            f"change to the folder that holds {name.split('.')[0]}.py, or check the spelling"
        ) from error
    except EdgekitError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(f"importing {name} for {spec!r}", error) from error


def _call(module: ModuleType, name: str, spec: str) -> object:
    function = getattr(module, name, None)
    if not callable(function):
        functions = [key for key, item in vars(module).items() if callable(item) and not key.startswith("_")]
        got = f"a value of type {type(function).__name__}" if hasattr(module, name) else "nothing of that name"
        hint = suggest(name, functions) if functions else "; write one"
        raise DataError(f"{spec!r}: expected a function {name!r} in {module.__name__}, got {got}{hint}")
    try:
        return function()
    except EdgekitError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(f"calling {spec!r} without arguments", error) from error


def _failed(doing: str, error: BaseException) -> DataError:
    where = _place(error)
    return DataError(f"{doing}: expected data, got {type(error).__name__}: {error}{where}; run it alone and correct it")


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename != __file__ and not _is_import_machinery(frame.filename)]
    # The deepest frame may lie in numpy; the user's own line is the first one, and the last one says why.
    places = dict.fromkeys(f"{frame.filename}, line {frame.lineno}" for frame in theirs[:1] + theirs[-1:])
    return f" ({'; raised in '.join(places)})" if places else ""


def _is_import_machinery(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename == importlib.__file__
