"""LiteRT's accelerators by name, each tried with a small model: which work here, and why the others do not."""

from __future__ import annotations

import base64
import functools
import zlib
from dataclasses import dataclass

from .._runtime import Runtime
from ..delegates import LITERT_ACCELERATORS, DelegateRequest
from ..errors import DelegateError, ModelError

__all__ = ["LiteRtAccelerator", "find_accelerators", "tiny_model"]

# x + x of one float32[1, 4], without a signature (tests/device/test_litert.py builds it anew).
TINY = (
    "c-mc1F%H5o47@;xN)1(q3=ADI@B{h=CI$uuRw@RNfTdI_zvU<4;y6^o(aDMLY@gBsIPUga2agtOI5e=Vl_+=zYcn=PM-&EFVh$5)"
    "gbg9AnEUZ|fBF9Hujl7Q`6lu@J<hgTJH-9ONp(&p){>*PqPA8oqsn~~cNy(j{CUZMa-I77u%{Fs$^S4ug#Y;$Z;)5|gQSi8q_eWt"
    "C|}3{zBuR>iU"
)


@dataclass(frozen=True)
class LiteRtAccelerator:
    """``name`` is what ``--delegate`` takes; ``library`` and ``adapter`` what it ran on, ``reason`` why it did not.

    ``software`` is a GPU that is a program on the processor.
    """

    name: str
    available: bool
    library: str = ""
    adapter: str = ""
    software: bool = False
    reason: str = ""


def tiny_model() -> bytes:
    """The .tflite that accelerators are tried with."""
    return zlib.decompress(base64.b85decode(TINY))


def find_accelerators(runtime: Runtime) -> tuple[LiteRtAccelerator, ...]:
    """``litert:cpu``, ``litert:gpu`` and ``litert:npu``, each tried in a process of its own (about half a second each).

    Empty where ``runtime`` is no LiteRT. With a LiteRT without CompiledModel all are there with that reason.
    """
    if runtime.name != "litert":
        return ()
    return tuple(_tried(runtime, name) for name in reversed(LITERT_ACCELERATORS))


@functools.lru_cache(maxsize=8)
def _tried(runtime: Runtime, accelerator: str) -> LiteRtAccelerator:
    from ..litert_trial import try_litert
    from ..loading import probe_model

    name, asked = f"litert:{accelerator}", DelegateRequest("litert", accelerators=(accelerator,))
    try:
        if accelerator == "cpu":
            probe_model(runtime, tiny_model(), 1, "a small model", delegate=asked)
            return LiteRtAccelerator(name, True)
        took = try_litert(runtime, tiny_model(), 1, "a small model", asked)
    except (DelegateError, ModelError) as error:
        # LiteRT's own words where it only refused; a crash or a hang is told whole.
        refused = [] if getattr(error, "signal_name", None) else getattr(error, "findings", [])
        return LiteRtAccelerator(name, False, reason=refused[0].found if refused else str(error))
    return LiteRtAccelerator(name, True, took.library, dict(took.options).get("adapter", ""), "software" in took.taken)
