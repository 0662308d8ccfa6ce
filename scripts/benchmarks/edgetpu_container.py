"""Compiled files opened without the compiler, and what is predicted of them: memory against the oracle, latency against Google's.

What is measured: every compiled file parsed, each field equal to the oracle's; the operators the compiler took, found by names;
the bytes of parameters, predicted from the original alone; the compiler's own cycles; the published latencies, each left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from edgekit_converters.targets.edgetpu.compiled_model import has_package, is_compiled, read_compiled, read_packages
from edgekit_converters.targets.edgetpu.container import PARAMETER_CACHING, Executable, Layer
from edgekit_converters.targets.edgetpu.cycles import count_cycles
from edgekit_converters.targets.edgetpu.latency import RATES
from edgekit_converters.targets.edgetpu.matching import placed_by_compiler
from edgekit_converters.targets.edgetpu.memory import predict_memory
from edgekit_converters.targets.edgetpu.published import PUBLISHED
from edgekit_converters.targets.operators import Operator, read_operators
from edgekit_converters.targets.target import find_target
from edgetpu_oracle import Compiled, distinct, read_oracle, repositories
from measuring import heading, row

_EXECUTABLE = {
    "name": "name",
    "type": "type",
    "batch": "batch",
    "scratch": "scratch_bytes",
    "params": "parameter_bytes",
    "instr_bytes": "instruction_bytes",
    "chunks": "instruction_chunks",
    "chip": "chip",
    "narrow_per_tile": "narrow_bytes_per_tile",
    "token": "caching_token",
    "tpu_dram": "parameters_in_dram",
}
_LAYER = {"name": "name", "size": "size_bytes", "y": "y", "x": "x", "z": "z", "dtype": "data_type", "execs": "runs"}
_TRANSFERS = {
    "instr": "instructions",
    "in": "inputs",
    "in_bytes": "input_bytes",
    "param": "parameters",
    "param_bytes": "parameter_bytes",
    "out": "outputs",
    "out_bytes": "output_bytes",
    "scratch": "scratches",
    "scratch_bytes": "scratch_bytes",
    "fence": "fences",
    "irq": "interrupts",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder with edgetpu/oracle.json and edgetpu/pairs")
    given = parser.parse_args().data_dir
    folder = given / "edgetpu" if given is not None else None
    heading("Compiled Edge TPU files, opened without the compiler")
    if folder is None or not (folder / "oracle.json").is_file():
        print("| not measured: name the data with --data-dir FOLDER (edgetpu/oracle.json, edgetpu/pairs) | – | – | – |")
    else:
        measure_compiled(read_oracle(folder), folder)
    heading("Latency on the Edge TPU, estimated from Google's published table (modelled, not measured)")
    for link in RATES:
        measure_latency(link)


def measure_compiled(models: Sequence[Compiled], folder: Path) -> None:
    """Compiled files against the oracle, and what is predicted of them."""
    kept = [model for model in models if model.path is not None]
    _containers(kept, folder)
    _matching(kept, folder)
    compiled = [model for model in distinct(models) if model.record["packages"]]
    heading("Parameters on the Edge TPU, predicted from the original model")
    _memory(compiled)
    _cycles(compiled)


def _containers(kept: Sequence[Compiled], folder: Path) -> None:
    fields, wrong, parsed, started = 0, 0, 0, time.perf_counter()
    target = find_target("coral")
    for model in kept:
        data = (folder / model.record["edgetpu_file"]).read_bytes()
        packages = list(read_packages(data).values())
        for package, expected in zip(packages, model.record["packages"], strict=True):
            pairs = list(_package_fields(package, expected))
            fields, wrong = fields + len(pairs), wrong + sum(ours != theirs for ours, theirs in pairs)
        report = read_compiled(data, target)
        told = _bytes(model, caching=True), _bytes(model, caching=False)
        parsed += is_compiled(data) and has_package(data) and (report.cached_bytes, report.streamed_bytes) == told
    took = time.perf_counter() - started
    row("files parsed, cached and streamed bytes equal", f"{parsed} of {len(kept)}", "all", parsed == len(kept))
    row("fields of packages equal to the oracle's", f"{fields - wrong:,} of {fields:,}", "all", wrong == 0)
    row("time for all of them, each parsed three times", f"{took:.2f} s", "–", None)


def _package_fields(package: Any, expected: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    yield package.min_runtime, expected["min_runtime_version"]
    yield package.compiler_version, expected["compiler_version"]
    yield package.model_identifier, expected["model_identifier"]
    for ours, theirs in zip(package.executables, expected["exes"], strict=True):
        yield from _executable_fields(ours, theirs)


def _executable_fields(ours: Executable, theirs: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    for name, attribute in _EXECUTABLE.items():
        yield getattr(ours, attribute), theirs[name]
    yield ours.estimated_cycles, theirs["est_cycles64"] or theirs["est_cycles"]
    for name, attribute in _TRANSFERS.items():
        yield getattr(ours.transfers, attribute), theirs["dma"].get(name, 0)
    yield int(ours.transfers.complete), theirs["dma"]["deterministic"]
    for layers, side in ((ours.inputs, "inputs"), (ours.outputs, "outputs")):
        for layer, expected in zip(layers, theirs[side], strict=True):
            yield from _layer_fields(layer, expected)


def _layer_fields(ours: Layer, theirs: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    for name, attribute in _LAYER.items():
        yield getattr(ours, attribute), theirs[name]


def _matching(kept: Sequence[Compiled], folder: Path) -> None:
    right = operators = whole = 0
    for model in kept:
        assert model.path is not None
        original = read_operators(model.path.read_bytes())
        found = placed_by_compiler(original, read_operators((folder / model.record["edgetpu_file"]).read_bytes()))
        equal = sum(ours == theirs for ours, theirs in zip(found, model.mapped, strict=True))
        right, operators, whole = right + equal, operators + len(found), whole + (equal == len(found))
    row("operators found absorbed or left, as the oracle has it", f"{right} of {operators}", "all", right == operators)
    row("models found so whole", f"{whole} of {len(kept)}", "all", whole == len(kept))


def _mapped(model: Compiled) -> list[Operator]:
    """The operators the compiler took: from the file, which has the constants, where it is kept."""
    graph = model.graph if model.path is None else read_operators(model.path.read_bytes())
    return [op for op, there in zip(graph.operators, model.mapped, strict=True) if there]


def _bytes(model: Compiled, *, caching: bool) -> int:
    executables = [one for package in model.record["packages"] for one in package["exes"]]
    return sum(one["params"] for one in executables if (one["type"] == PARAMETER_CACHING) == caching)


def _memory(models: Sequence[Compiled]) -> None:
    errors: dict[str, list[float]] = {repository: [] for repository in repositories(models)}
    exact = unknown = streamed_right = streamed = 0
    for model in models:
        memory = predict_memory(_mapped(model))
        cached, sent = _bytes(model, caching=True), _bytes(model, caching=False)
        total = cached + sent
        if memory.packed_bytes is None:
            unknown += 1
            continue
        exact += memory.packed_bytes == total
        errors[model.repository].append(abs(memory.packed_bytes - total) / total if total else 0.0)
        if memory.streamed_bytes is not None and model.record["packages"][0]["min_runtime_version"] >= 12:
            streamed += 1
            streamed_right += abs(memory.streamed_bytes - sent) <= 64 + 0.01 * sent
    every = [error for each in errors.values() for error in each]
    row("models whose bytes are predicted", f"{len(every)} of {len(models)}", "–", None)
    row("exact to the byte", f"{exact} of {len(every)}", "–", None)
    row("off by at most 1 %", f"{sum(error <= 0.01 for error in every)} of {len(every)}", "–", None)
    row("relative error, median", f"{statistics.median(every):.2%}", "–", None)
    row("relative error, 90th percentile and worst", f"{np.quantile(every, 0.9):.1%}, {max(every):.0%}", "–", None)
    row("streamed bytes right (within 1 %, compilers from 2.0)", f"{streamed_right} of {streamed}", "–", None)
    for repository, each in errors.items():
        if each:
            figures = f"median {statistics.median(each):.2%}, worst {max(each):.1%}"
            row(f"{repository} ({len(each)})", figures, "–", None)


def _cycles(models: Sequence[Compiled]) -> None:
    ratios: dict[int, float] = {}
    for model in models:
        first = max(model.record["packages"][0]["exes"], key=lambda one: int(one["est_cycles64"] or one["est_cycles"]))
        theirs = int(first["est_cycles64"] or first["est_cycles"])
        ours = sum(map(count_cycles, _mapped(model)))
        if theirs > 1000 and ours:
            ratios[theirs] = theirs / ours
    every = sorted(ratios.values())
    spread = f"{statistics.median(every):.2f} ({every[0]:.2f} to {every[-1]:.2f}, {len(every)} models)"
    row("the compiler's cycles over ours, median", spread, "–", None)


def measure_latency(link: str) -> None:
    """Each published figure beside the fit that did not see it."""
    features = np.array([[1, one.cycles / 1e6, one.moved_bytes / 1e6, one.layers] for one in PUBLISHED])
    told = np.array([getattr(one, f"{link}_ms") for one in PUBLISHED])
    ratios = []
    for i, one in enumerate(PUBLISHED):
        others = np.arange(len(PUBLISHED)) != i
        estimate = float(features[i] @ _fit(features[others], told[others]))
        ratios.append(told[i] / estimate)
        row(f"{one.name}, {link}", f"published {told[i]:g} ms, a fit without it {estimate:.2f} ms", "–", None)
    rates = RATES[link]
    worst = max(max(ratio, 1 / ratio) for ratio in ratios)
    inside = sum(rates.low <= ratio <= rates.high for ratio in ratios)
    row(f"{link}: worst factor of a fit without it", f"{worst:.2f}", "–", None)
    row(
        f"{link}: within the bounds around a fit without it", f"{inside} of {len(ratios)}", "all", inside == len(ratios)
    )
    ours = (rates.start_ms, rates.ms_per_mcycle, rates.ms_per_mbyte, rates.ms_per_operator)
    same = np.allclose(ours, _fit(features, told), atol=0.001)
    row(f"{link}: the rates in use are those of the fit", "yes" if same else "no", "yes", same)


def _fit(features: Any, told: Any) -> Any:
    """Least squares of relative errors."""
    return np.linalg.lstsq(features / told[:, None], np.ones(len(told)), rcond=None)[0]


if __name__ == "__main__":
    main()
