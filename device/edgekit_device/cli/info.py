"""``edgekit-device info``: what this board is, and which runtimes it has."""

from __future__ import annotations

import argparse
from typing import Any

from .._runtime import installed_runtimes, load_runtime
from .options import Verbs, add_json, add_runtime
from .printing import print_json

__all__ = ["add"]


def add(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = verbs.add_parser("info", help="what this board is, and which runtimes it has")
    parser.add_argument("model", nargs="?", help="also describe this model's inputs and outputs")
    add_json(parser)
    add_runtime(parser)
    parser.set_defaults(verb=_info)


def _info(arguments: argparse.Namespace) -> None:
    import dataclasses

    from ..board import read_board

    facts: dict[str, Any] = {"board": dataclasses.asdict(read_board()), "runtimes": installed_runtimes()}
    if arguments.model:
        facts["model"] = _describe(arguments)
    elif arguments.runtime != "auto":
        facts["runtime"] = load_runtime(arguments.runtime).name
    if arguments.json:
        print_json(facts)
        return
    rows = [(key, value) for key, value in facts["board"].items() if value not in ("", None, 0)]
    rows.append(("runtimes", ", ".join(f"{n} {v}" for n, v in facts["runtimes"].items()) or "none installed"))
    if "model" in facts:
        rows += _model_rows(facts["model"])
    for key, value in rows:
        print(f"{key:14} {value}")


def _model_rows(model: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("sha256", model["sha256"]), ("delegate", model["runtime"]["delegate"] or "unknown")]
    for side in ("inputs", "outputs"):
        for tensor in model[side]:
            quantized = f" scale {tensor['scale']:.9g} zero point {tensor['zero_point']}" if tensor["scale"] else ""
            rows.append((side[:-1], f"{tensor['name']} {tensor['dtype']}{list(tensor['shape'])}{quantized}"))
    return rows


def _describe(arguments: argparse.Namespace) -> dict[str, Any]:
    from ..model import Model

    with Model(
        arguments.model, threads=arguments.threads, runtime=arguments.runtime, delegate=arguments.delegate, probe=False
    ) as model:
        described = {
            side: [
                {"name": s.name, "dtype": str(s.dtype), "shape": s.shape, "scale": s.scale, "zero_point": s.zero_point}
                for s in specs
            ]
            for side, specs in (("inputs", model.inputs), ("outputs", model.outputs))
        }
        return {**described, "runtime": vars(model.runtime), "sha256": model.sha256, "note": model.note}
