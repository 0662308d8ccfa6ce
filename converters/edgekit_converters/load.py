"""Read a model from disk, whatever wrote it: Keras 3, Keras 2, a SavedModel, or a .tflite."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._tf import import_keras, import_tensorflow, import_tf_keras
from .bridge.activations import register
from .errors import ConverterError, ModelFileError, UnsupportedModelError
from .reason import first_line, short

__all__ = ["KINDS", "LoadedModel", "detect_kind", "ensure_movable", "is_keras_model", "load_model"]

KINDS = ("keras", "h5", "saved_model", "tflite")
ORDER_FILE = "edgekit-order.json"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# TensorFlow functions that reach outside the graph.
OUTSIDE_FUNCTIONS = (
    "io.",
    "raw_ops.",
    "data.",
    "py_function",
    "numpy_function",
    "load_",
    "saved_model.",
    "train.",
    "compat.",
    "summary.",
    "distribute.",
    "debugging.",
)
FORMS = "a Keras 3 or Keras 2 .keras, a .h5, a SavedModel folder, or a float .tflite"
# How the two Kerases say that they do not know a class.
UNKNOWN_LAYER = re.compile(
    r"ould not locate (?:class|function) '([^']+)'"
    r"|nknown (?:layer|object|class): '?([\w.>]+)"
    r"|ould not deserialize '([^']+)' because it is not a KerasSaveable"
    r"|layer=([\w.>]+) of type <class 'str'>"
)
CONFIG_CAP_BYTES = 64 * 2**20


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory and what owns it: ``keras``, ``tf_keras`` or ``saved_model``.

    ``order`` is the order of ``inputs`` and ``outputs`` by name, which a SavedModel does not keep by itself, and ``origin``
    what ``layers.Origin`` holds of the model that was saved.
    """

    model: Any
    framework: str
    order: Mapping[str, list[str]] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)


def detect_kind(path: str | os.PathLike[str]) -> str:
    """One of ``KINDS``, told by the content and not by the name; imports nothing heavy.

    Raises ModelFileError for a missing path, an empty file, or content that is none of them.
    """
    target = Path(path)
    if target.is_dir():
        if (target / "saved_model.pb").is_file() or (target / "saved_model.pbtxt").is_file():
            return "saved_model"
        raise ModelFileError(f"expected {FORMS}, got a folder without saved_model.pb: {target}")
    if target.exists() and not target.is_file():
        raise ModelFileError(f"expected {FORMS}, got something that is neither a file nor a folder: {target}")
    try:
        with target.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise ModelFileError(f"cannot read the model {target}: {error.strerror or error}") from error
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(HDF5_MAGIC):
        return "h5"
    if head.startswith(b"PK") and "config.json" in _zip_names(target):
        return "keras"
    raise ModelFileError(f"expected {FORMS}, got {target} starting {head[:8].hex() or 'with nothing: it is empty'}")


def load_model(path: str | os.PathLike[str], *, trust: bool = False) -> LoadedModel:
    """Load a Keras model or a SavedModel.

    Lambda layers hold Python bytecode that loading would run: they are refused unless ``trust``. Raises ModelFileError
    for a broken file, UnsupportedModelError for a layer nobody here knows or code that is not trusted.
    """
    kind = detect_kind(path)
    if kind == "tflite":
        raise UnsupportedModelError(f"{path} is a .tflite already: it can be quantized, not loaded as a Keras model")
    if kind == "saved_model":
        loaded = _guard(path, lambda: import_tensorflow().saved_model.load(str(path)))
        return LoadedModel(loaded, "saved_model", *_order(Path(path)))
    config, version = _keras_config(Path(path), kind)
    if not trust:
        _refuse_code(Path(path), config)
    framework = "tf_keras" if version.split(".")[0] in ("1", "2") else "keras"
    module = import_tf_keras() if framework == "tf_keras" else import_keras()
    register()
    model = _guard(path, lambda: module.models.load_model(str(path), compile=False, safe_mode=not trust))
    return LoadedModel(model, framework)


def is_keras_model(model: object) -> str | None:
    """``keras`` or ``tf_keras`` for a model in memory, None for anything else; imports neither."""
    for base in type(model).__mro__:
        root = base.__module__.split(".")[0]
        if base.__name__ == "Model" and root in ("keras", "tf_keras"):
            return root
    return None


def ensure_movable(model: Any) -> None:
    """Raise UnsupportedModelError for a model in memory that another process could not take apart and change.

    That is one without a graph (a subclassed model), and one with a layer whose class only this program has.
    """
    graph = [base.__name__ for base in type(model).__mro__]
    if "Functional" not in graph and "Sequential" not in graph:
        raise UnsupportedModelError(
            f"expected a functional or sequential model to change, got the subclassed {type(model).__name__}, whose layers "
            "cannot be walked: rebuild it with keras.Model(inputs, outputs), or choose recipes that only quantize"
        )
    for layer in model._flatten_layers(include_self=False):
        if type(layer).__module__.split(".")[0] not in ("keras", "tf_keras"):
            raise UnsupportedModelError(
                f"expected layers of Keras itself to change, got {layer.name!r} of the class {type(layer).__name__}, which only "
                "this program knows: replace it by layers of keras.layers, or choose recipes that only quantize"
            )


def _zip_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelFileError(f"expected a .keras archive, got a damaged ZIP in {path}: {error}") from error


def _keras_config(path: Path, kind: str) -> tuple[Any, str]:
    """The model's configuration and the Keras version that wrote it; ``2`` where an old file does not say."""
    try:
        return _archive_config(path) if kind == "keras" else _hdf5_config(path)
    except ConverterError:
        raise
    except Exception as error:  # zipfile, h5py and json raise a dozen kinds for damaged files
        raise ModelFileError(f"{path} is damaged: {first_line(error).rstrip('.')}. Save the model again") from error


def _archive_config(path: Path) -> tuple[Any, str]:
    with zipfile.ZipFile(path) as archive:
        large = [info for info in archive.infolist() if info.filename.endswith(".json")]
        if any(info.file_size > CONFIG_CAP_BYTES for info in large):
            raise ModelFileError(f"expected a configuration under {CONFIG_CAP_BYTES} bytes, got a larger one in {path}")
        config = json.loads(archive.read("config.json"))
        metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in archive.namelist() else {}
    return config, str(metadata.get("keras_version", "3"))


def _hdf5_config(path: Path) -> tuple[Any, str]:
    import h5py

    with h5py.File(path, "r") as file:
        raw = file.attrs.get("model_config")
        version = _text(file.attrs.get("keras_version", "2"))
    if raw is None:
        raise UnsupportedModelError(
            f"{path} holds weights without an architecture: build the model, load them with load_weights, "
            "and save it whole (model.save('model.keras'))"
        )
    return json.loads(_text(raw)), version


def _order(folder: Path) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """The order and the origin that ``export_saved_model`` wrote beside the model; empty for any other SavedModel."""
    try:
        raw = json.loads((folder / ORDER_FILE).read_text(encoding="utf-8"))
        origin = raw.get("origin")
        order = {side: [str(name) for name in raw[side]] for side in ("inputs", "outputs")}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}, {}
    return order, origin if isinstance(origin, dict) else {}


def _refuse_code(path: Path, config: Any) -> None:
    for layer in _nodes(config):
        what = _code_in(layer)
        if what:
            inner = layer.get("config")
            name = inner.get("name", "?") if isinstance(inner, dict) else "?"
            raise UnsupportedModelError(
                f"{path} has {what} ({short(str(name))}), which is code inside the file. If you trust where it comes "
                "from, pass trust=True (--trust); better, replace it by layers from keras.layers or keras.ops"
            )


def _code_in(layer: Mapping[str, Any]) -> str:
    """What in a layer's configuration would run code of the file's author; empty for nothing."""
    kind = str(layer.get("class_name")).rsplit(">", 1)[-1]
    if kind in ("Lambda", "__lambda__"):
        return "a Lambda layer"
    inner = layer.get("config")
    function = str(inner.get("function", "")) if isinstance(inner, dict) else ""
    # Keras 2 stores plain operators as the name of any TensorFlow function, also of those that read or write files.
    if kind in ("TFOpLambda", "SlicingOpLambda") and function.removeprefix("tf.").startswith(OUTSIDE_FUNCTIONS):
        return f"a call of tf.{short(function)}"
    return ""


def _nodes(config: Any) -> Iterator[dict[str, Any]]:
    """Every dict inside a configuration, without recursion."""
    stack = [config]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _guard(path: object, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except ConverterError:
        raise
    except Exception as error:  # Keras raises every kind there is for files it cannot read
        unknown = UNKNOWN_LAYER.search(str(error))
        if unknown:
            name = next(group for group in unknown.groups() if group)
            raise UnsupportedModelError(
                f"{path} has the layer {short(name)!r}, which this Keras does not know: build the model in Python, where "
                "its class is registered, and hand it over in memory: edgekit.convert(model, …)"
            ) from error
        raise ModelFileError(
            f"{path} cannot be loaded: {first_line(error).rstrip('.')}. Save the model again"
        ) from error


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
