"""Delegates: what takes operators over from the runtime's own kernels. From a name to what an interpreter is made with.

``auto`` is what the runtime does by itself, ``none`` its plain kernels, ``xnnpack`` insists on XNNPACK, ``edgetpu`` is
libedgetpu, ``external:PATH`` any library of TFLite's external delegate interface
(tensorflow/lite/delegates/external/external_delegate_interface.h), ``litert:gpu`` an accelerator of LiteRT's CompiledModel.
"""

from __future__ import annotations

import ctypes
import dataclasses
import difflib
import re
import time
from dataclasses import dataclass
from typing import Any

from ._runtime import Runtime
from .accelerators.compiled import EDGETPU_OPERATOR, custom_operators, edgetpu_library
from .errors import InputError
from .text import clean_text

__all__ = [
    "AUTO",
    "DELEGATES",
    "DelegateRequest",
    "choose_delegate",
    "delegate_options",
    "parse_delegate",
    "reopened_options",
]

DELEGATES = ("auto", "none", "xnnpack", "edgetpu", "external", "litert")
FORMS = (
    "auto, none, xnnpack, edgetpu, edgetpu:usb, edgetpu:usb:0, edgetpu:pci:0, edgetpu::0, external:PATH.so, litert:cpu, "
    "litert:gpu, litert:npu, litert:gpu+cpu, litert:npu+cpu"
)
# In the order they are tried for an operator; the processor takes what is left, and LiteRT refuses without it.
LITERT_ACCELERATORS = ("npu", "gpu", "cpu")
REOPENING, REOPENING_PAUSE_S = 5, 0.5
DEVICE = re.compile(r"(usb|pci)?(:\d{1,3})?", re.ASCII)
# libedgetpu's own names and values (tflite/edgetpu_delegate_for_custom_op_tflite_plugin.cc).
EDGETPU_OPTIONS = {
    "performance": ("Performance", ("Low", "Medium", "High", "Max")),
    "usb.always_dfu": ("Usb.AlwaysDfu", ("True", "False")),
    "usb.max_bulk_in_queue_length": ("Usb.MaxBulkInQueueLength", tuple(str(number) for number in range(256))),
}


@dataclass(frozen=True)
class DelegateRequest:
    """``kind`` is one of DELEGATES; ``library`` the file or name to load, ``options`` what the library is given.

    Of kind ``litert``: ``accelerators`` of LITERT_ACCELERATORS, and after the trial ``taken``, what took the model over.
    """

    kind: str
    library: str = ""
    options: tuple[tuple[str, str], ...] = ()
    accelerators: tuple[str, ...] = ()
    taken: str = ""

    @property
    def loads_code(self) -> bool:
        """Whether code from outside the runtime comes into the process: a library, or a driver of LiteRT's."""
        return bool(self.library) or any(name != "cpu" for name in self.accelerators)

    @property
    def options_text(self) -> str:
        """The options as a report holds them."""
        return ";".join(f"{key}={value}" for key, value in self.options)


AUTO = DelegateRequest("auto")


def parse_delegate(text: str) -> DelegateRequest:
    """``auto``, ``none``, ``xnnpack``, ``edgetpu[:DEVICE][;option=value]``, ``external:PATH[;key=value]`` or ``litert:A[+A]``.

    DEVICE is ``usb``, ``usb:N``, ``pci``, ``pci:N`` or ``:N``. libedgetpu heeds its options only beside an explicit index:
    they are refused without. Raises InputError for anything else, with what was probably meant.
    """
    if not isinstance(text, str):
        raise InputError(f"expected a delegate (--delegate) as text, got {type(text).__name__}")
    head, *settings = text.split(";")
    kind, _, rest = head.partition(":")
    options = tuple(_setting(setting, text) for setting in settings)
    if kind == "external" or (kind not in DELEGATES and _is_library(head)):
        path = rest if kind == "external" else head
        if not path:
            raise InputError(f"expected external:PATH, the file of a delegate, got {clean_text(text)!r}")
        return DelegateRequest("external", path, options)
    if kind == "edgetpu":
        return DelegateRequest("edgetpu", edgetpu_library(), _edgetpu_options(head, rest, options))
    if kind == "litert" and not options:
        return DelegateRequest("litert", accelerators=_litert_accelerators(head, rest))
    if head not in DELEGATES or options:
        raise InputError(f"unknown delegate {clean_text(text)!r}{_suggestion(kind)}")
    return DelegateRequest(kind)


def choose_delegate(request: DelegateRequest, content: bytes, name: str) -> DelegateRequest:
    """What ``request`` means for this model: ``auto`` is the Edge TPU for a model that was compiled for one.

    Raises InputError when an Edge TPU is asked for and the model was not compiled for one: it could do nothing there.
    """
    if request.kind not in ("auto", "edgetpu"):
        return request
    compiled = EDGETPU_OPERATOR in custom_operators(content)
    if request.kind == "edgetpu" and not compiled:
        raise InputError(
            f"expected a model compiled for the Edge TPU, and {name} holds no {EDGETPU_OPERATOR}: compile its int8 variant "
            "with edgetpu_compiler M.tflite, or run it with --delegate auto"
        )
    return dataclasses.replace(request, kind="edgetpu", library=edgetpu_library()) if compiled else request


def delegate_options(runtime: Runtime, request: DelegateRequest) -> dict[str, Any]:
    """What the runtime's interpreter is made with; a library is loaded into this process here.

    Raises what the runtime's load_delegate raises: OSError, ValueError, AttributeError.
    """
    if request.kind == "none":
        return {"experimental_op_resolver_type": runtime.module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    if request.loads_code:
        # First by ourselves: load_delegate leaves a half-made object behind for a library it cannot use.
        library = ctypes.CDLL(request.library)
        for symbol in ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"):
            getattr(library, symbol)
        return {"experimental_delegates": [runtime.module.load_delegate(request.library, dict(request.options))]}
    return {}


def reopened_options(runtime: Runtime, request: DelegateRequest) -> dict[str, Any]:
    """``delegate_options`` right after a trial process has used the device.

    An Edge TPU on USB leaves the bus for a moment when it is let go of, and comes back: it is asked for REOPENING times.
    """
    for _ in range(REOPENING if request.kind == "edgetpu" else 0):
        try:
            return delegate_options(runtime, request)
        except ValueError:
            time.sleep(REOPENING_PAUSE_S)
    return delegate_options(runtime, request)


def _litert_accelerators(head: str, rest: str) -> tuple[str, ...]:
    """The accelerators' names in LiteRT's order; raises InputError for others, and for one named twice."""
    asked = rest.split("+")
    for name in asked:
        if name not in LITERT_ACCELERATORS or asked.count(name) > 1:
            raise InputError(
                f"unknown accelerator {clean_text(name)!r} of LiteRT in {clean_text(head)!r}{_close(name, LITERT_ACCELERATORS)}: "
                "choose from litert:cpu, litert:gpu, litert:npu, and with the CPU for what is left litert:gpu+cpu, litert:npu+cpu"
            )
    return tuple(name for name in LITERT_ACCELERATORS if name in asked)


def _edgetpu_options(head: str, device: str, options: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    if (head != "edgetpu" and not device) or not DEVICE.fullmatch(device):
        raise InputError(
            f"unknown Edge TPU {clean_text(head)!r}: choose from edgetpu, edgetpu:usb[:N], edgetpu:pci[:N], edgetpu::N"
        )
    if options and not device[-1:].isdecimal():
        raise InputError(
            f"expected an explicit Edge TPU beside {options[0][0]}, such as edgetpu:usb:0;{options[0][0]}={options[0][1]}: "
            "libedgetpu ignores options without an index"
        )
    named = tuple(_edgetpu_option(key, value) for key, value in options)
    return ((("device", device),) if device else ()) + named


def _edgetpu_option(key: str, value: str) -> tuple[str, str]:
    """One option by libedgetpu's own name and spelling."""
    known = {name.replace("_", ""): spelt for name, spelt in EDGETPU_OPTIONS.items()}
    spelt = known.get(key.lower().replace("_", ""))
    if spelt is None:
        raise InputError(
            f"unknown option {clean_text(key)!r} of the Edge TPU{_close(key.lower(), EDGETPU_OPTIONS)}: choose from "
            f"{', '.join(EDGETPU_OPTIONS)}"
        )
    name, values = spelt
    for allowed in values:
        if allowed.lower() == value.lower():
            return name, allowed
    choices = ", ".join(values) if len(values) < 10 else f"a number from {values[0]} to {values[-1]}"
    raise InputError(f"expected {clean_text(key)} as {choices}, got {clean_text(value)!r}")


def _setting(setting: str, text: str) -> tuple[str, str]:
    key, equals, value = setting.partition("=")
    if not (key and equals):
        raise InputError(f"expected options as ;key=value, got {clean_text(setting)!r} in {clean_text(text)!r}")
    return key.strip(), value.strip()


def _is_library(head: str) -> bool:
    """Whether this is a path to a library rather than a misspelt name."""
    return "/" in head or "\\" in head or bool(re.search(r"\.(so|dylib|dll)(\.\d+)*$", head))


def _suggestion(kind: str) -> str:
    return f"{_close(kind, DELEGATES)}: choose from {FORMS}"


def _close(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
