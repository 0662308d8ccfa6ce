"""What a target makes of a .tflite, found on this machine before anything is compiled or sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..layers import name_layers
from ..model_card import ModelCard
from .operators import read_operators
from .records import TargetReport
from .target import CPU, EDGETPU, ETHOS_U, Target

__all__ = ["preflight"]


def preflight(
    tflite: bytes,
    target: Target,
    *,
    layers: Sequence[str | None] = (),
    options: Mapping[str, Any] | None = None,
    samples: Sequence[Any] = (),
    card: ModelCard | None = None,
) -> TargetReport:
    """What ``target`` makes of a model: the rules of an Edge TPU, Vela's model of an Ethos-U, TFLM's interpreter, or what the
    runtimes of a processor know.

    ``layers`` names the Keras layer of each operator where the caller knows better than the file. ``options`` are those of
    the target's tool; ``samples`` (arrays, one a sample) are what a microcontroller's outputs are held against LiteRT's with.
    ``card`` is that of the bytes, where it is read already: reading it takes most of the time.

    Raises ModelFileError for bytes that are no .tflite, MissingPackageError when the target's tool is not installed,
    TargetError when it fails. That a target refuses the model is no error: the report's ``refusal`` says so.
    """
    said = dict(options or {})
    # Each room imports its own tool: nothing of the others is loaded.
    if target.kind == CPU:
        from .cpu import check_cpu

        graph = read_operators(tflite, card)
        return check_cpu(graph, target, layers=layers or name_layers(tflite, card=graph.card))
    if target.kind == EDGETPU:
        several = bool(said.get("multiple_subgraphs"))
        return _edgetpu(tflite, target, layers, card, multiple_subgraphs=several)
    if target.kind == ETHOS_U:
        from .ethos_u.vela import VelaOptions, model_ethos_u

        return model_ethos_u(tflite, target, options=VelaOptions.from_mapping(said))
    from .micro.check import check_micro

    return check_micro(tflite, target, samples=samples)


def _edgetpu(
    tflite: bytes, target: Target, layers: Sequence[str | None], card: ModelCard | None, *, multiple_subgraphs: bool
) -> TargetReport:
    from .edgetpu.compiled_model import is_compiled, read_compiled

    if is_compiled(tflite):
        return read_compiled(tflite, target)
    from .edgetpu_map import predict

    graph = read_operators(tflite, card)
    return predict(
        graph, target, layers=layers or name_layers(tflite, card=graph.card), multiple_subgraphs=multiple_subgraphs
    )
