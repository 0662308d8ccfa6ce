"""The oracle of compiled models as operator graphs: what was compiled, and where the real compiler placed each operator.

``oracle.json`` holds, of each model, its operators with shapes, types and options, and whether the compiler took each into the
Edge TPU's operator; no values of constants.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from edgekit_converters.model_card import ModelCard, TensorCard
from edgekit_converters.targets.operators import Operator, OperatorGraph

_WIDTHS = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "float16": 2, "int64": 8, "float64": 8}
_CUSTOM = "CUSTOM:"


@dataclass(frozen=True)
class Compiled:
    """One model of the oracle: its graph, and whether each operator runs on the Edge TPU.

    ``path`` is the model's file, None where it is not kept. ``record`` is all the oracle holds of it.
    """

    id: str
    repository: str
    graph: OperatorGraph
    mapped: tuple[bool, ...]
    path: Path | None
    record: dict[str, Any]

    @property
    def key(self) -> str:
        """What models have in common that are copies of each other: types, shapes, options and places, but no names."""
        return json.dumps([[o["type"], o["ins"], o["outs"], o["opts"], o["tpu"]] for o in self.record["ops"]])


def read_oracle(folder: Path) -> list[Compiled]:
    """Every model of the oracle in ``folder`` whose placement is known, by repository."""
    models = json.loads((folder / "oracle.json").read_text())["models"]
    known = [m for m in models if m["consistent"] and all(o["tpu"] is not None and o["sg"] == 0 for o in m["ops"])]
    return sorted(
        (_compiled(model, folder) for model in known), key=lambda compiled: (compiled.repository, compiled.id)
    )


def repositories(models: Sequence[Compiled]) -> list[str]:
    """The repositories of the models, each once."""
    return sorted({model.repository for model in models})


def distinct(models: Sequence[Compiled]) -> list[Compiled]:
    """One of each model: those whose operators are equal in all that is known count once."""
    return list({model.key: model for model in models}.values())


def _compiled(model: dict[str, Any], folder: Path) -> Compiled:
    operators = tuple(_operators(model["ops"]))
    tensors = {tensor.index: tensor for op in operators for tensor in op.operands}
    made = {tensor.index for op in operators for tensor in op.outputs if tensor is not None}
    used = {tensor.index for op in operators for tensor in op.computed_inputs}
    card = ModelCard(
        inputs=tuple(tensors[index] for index in sorted(used - made)),
        outputs=tuple(tensors[index] for index in sorted(made - used)),
        ops=(),
        tensors=tuple(tensors.values()),
        signatures=(),
        parameters=0,
        macs=0,
        size_bytes=model["cpu_bytes"],
        sha256=model["cpu_sha256"],
        schema_version=3,
        description="",
        subgraphs=1,
        metadata=(),
    )
    path = folder / model["cpu_file"] if model["cpu_file"] else None
    return Compiled(
        model["id"], model["repo"], OperatorGraph(card, operators), tuple(o["tpu"] for o in model["ops"]), path, model
    )


def _operators(ops: Sequence[dict[str, Any]]) -> Iterator[Operator]:
    for op in ops:
        custom = op["type"].startswith(_CUSTOM)
        yield Operator(
            index=op["i"],
            type=op["type"].removeprefix(_CUSTOM),
            version=op["ver"],
            custom=custom,
            inputs=tuple(map(_tensor, op["in_ids"], op["ins"])),
            outputs=tuple(map(_tensor, op["out_ids"], op["outs"])),
            options=op["opts"],
        )


def _tensor(index: int, raw: list[Any] | None) -> TensorCard | None:
    if raw is None or index < 0:
        return None
    dtype, shape = raw[0].lower(), tuple(raw[1])
    scales = raw[3] if len(raw) > 3 else 1
    return TensorCard(
        index=index,
        name=f"tensor {index}",
        dtype=dtype,
        shape=shape,
        shape_signature=None,
        scales=(1.0,) * scales,
        zero_points=(0,) * scales,
        quantized_dimension=0,
        constant=raw[2] == "c",
        size_bytes=prod(shape) * _WIDTHS.get(dtype, 4),
    )
