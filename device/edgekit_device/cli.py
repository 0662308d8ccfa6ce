"""edgekit-device: info, run, bench.

Exit codes: 0 fine, 2 wrong usage or input, 3 the world failed (no runtime, a crash), 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any, Optional

from . import __version__
from ._runtime import RUNTIMES, installed_runtimes, load_runtime
from .errors import DeviceRuntimeError, InputError
from .model import Model
from .supervise import EXIT_INTERRUPTED, EXIT_WORLD, supervise
from .text import clean_text

__all__ = ["main", "run"]

EXAMPLES = """examples:
  edgekit-device info
  edgekit-device bench int8.tflite --threads 2 --json
  edgekit-device run int8.tflite --input image.npy --output scores.npy
"""


def run() -> None:
    """Entry point of the ``edgekit-device`` command."""
    sys.exit(main())


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Parse ``argv`` and run its verb in a supervised child; returns the exit code."""
    try:
        arguments = _parser().parse_args(argv)
        return supervise(lambda: _guarded(arguments), clean_text(arguments.model) or "no model")
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SystemExit as stop:  # argparse leaves this way, having said why
        return stop.code if isinstance(stop.code, int) else 0


def _guarded(arguments: argparse.Namespace) -> int:
    try:
        arguments.verb(arguments)
    except DeviceRuntimeError as error:
        return _complain(str(error), error.exit_code)
    except MemoryError:
        return _complain("not enough memory for this model or this data", EXIT_WORLD)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}", EXIT_WORLD)
    return 0


def _complain(message: str, code: int) -> int:
    print(f"edgekit-device: error: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgekit-device",
        description="Run and measure .tflite models on this board.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgekit-device {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    info = verbs.add_parser("info", help="what this board is, and which runtimes it has")
    info.add_argument("model", nargs="?", help="also describe this model's inputs and outputs")
    info.set_defaults(verb=_info)

    runner = verbs.add_parser("run", help="run a model on an array, or on random input")
    runner.add_argument("model", help="a .tflite")
    runner.add_argument(
        "--input", metavar="F", help=".npy with a leading batch axis, or .npz by signature name; random when left out"
    )
    runner.add_argument("--output", metavar="F", help="where the output goes: .npy, or .npz for several")
    runner.set_defaults(verb=_run)

    bench = verbs.add_parser("bench", help="measure latency, memory and, with --data, accuracy")
    bench.add_argument("model", help="a .tflite")
    bench.add_argument(
        "--runs", type=int, metavar="N", help="timed inferences (default: at least 50 and 1 s, at most 20,000)"
    )
    bench.add_argument(
        "--warmup", type=int, default=5, metavar="N", help="inferences before (default 5, at least 0.2 s)"
    )
    bench.add_argument("--data", metavar="F.npz", help="samples x and labels y to measure accuracy on")
    bench.add_argument("--outputs", metavar="F.npz", help="keep the outputs for --data here")
    bench.set_defaults(verb=_bench)

    for verb in (info, runner, bench):
        verb.add_argument("--json", action="store_true", help="one JSON object on standard output")
        verb.add_argument("--runtime", choices=["auto", *RUNTIMES], default="auto", help="default: the first installed")
        verb.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the runtime (default 1)")
    return parser


def _info(arguments: argparse.Namespace) -> None:
    import dataclasses

    from .board import read_board

    facts: dict[str, Any] = {"board": dataclasses.asdict(read_board()), "runtimes": installed_runtimes()}
    if arguments.model:
        facts["model"] = _describe(arguments)
    elif arguments.runtime != "auto":
        facts["runtime"] = load_runtime(arguments.runtime).name
    if arguments.json:
        _print_json(facts)
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

    with Model(arguments.model, threads=arguments.threads, runtime=arguments.runtime, probe=False) as model:
        described = {
            side: [
                {"name": s.name, "dtype": str(s.dtype), "shape": s.shape, "scale": s.scale, "zero_point": s.zero_point}
                for s in specs
            ]
            for side, specs in (("inputs", model.inputs), ("outputs", model.outputs))
        }
        return {**described, "runtime": vars(model.runtime), "sha256": model.sha256, "note": model.note}


def _run(arguments: argparse.Namespace) -> None:
    import numpy as np

    from .arrays import read_arrays
    from .tensors import random_input

    with Model(arguments.model, threads=arguments.threads, runtime=arguments.runtime, probe=False) as model:
        values: Any = read_arrays(arguments.input) if arguments.input else [random_input(s) for s in model.inputs]
        result = model.predict(values)
        names = [spec.name for spec in model.outputs]
    if isinstance(result, dict):
        names, result = list(result), tuple(result.values())
    outputs = result if isinstance(result, tuple) else (result,)
    if arguments.output:
        _keep(arguments.output, outputs)
    shown = [
        {"name": name, "dtype": str(value.dtype), "shape": value.shape, "first": value.reshape(-1)[:10].tolist()}
        for name, value in zip(names, (np.asarray(output) for output in outputs))
    ]
    if arguments.json:
        _print_json({"outputs": shown})
        return
    for each in shown:
        print(f"{each['name']} {each['dtype']}{list(each['shape'])}: {', '.join(_number(v) for v in each['first'])}")


def _keep(path: str, outputs: tuple[Any, ...]) -> None:
    from .arrays import write_npy, write_npz

    if path.endswith(".npz"):
        write_npz(path, {f"output_{index}": value for index, value in enumerate(outputs)})
    elif len(outputs) == 1:
        write_npy(path, outputs[0])
    else:
        raise InputError(f"expected --output F.npz for this model's {len(outputs)} outputs, got {path}")


def _bench(arguments: argparse.Namespace) -> None:
    from .evaluation import read_samples
    from .measurement import measure

    if arguments.outputs and not arguments.data:
        raise InputError("--outputs keeps the outputs for --data: give both")
    samples = read_samples(arguments.data) if arguments.data else None
    report = measure(
        arguments.model,
        threads=arguments.threads,
        runtime=arguments.runtime,
        runs=arguments.runs,
        warmup=arguments.warmup,
        samples=samples,
        outputs_path=arguments.outputs,
        probe=False,
    )
    if arguments.json:
        print(report.to_json())
        return
    latency, runtime = report.latency, report.runtime
    used = f"{runtime.name} {runtime.version}, delegate {runtime.delegate or 'unknown'}"
    print(f"{report.model.name}: {used}, {runtime.threads} thread(s)")
    for label in ("init", "first", "median", "mean", "std", "min", "max", "p5", "p90", "p95", "p99"):
        print(f"  {label:8} {getattr(latency, label + '_ms'):.4g} ms")
    print(f"  {'runs':8} {latency.count}")
    if report.memory.peak_rss_mb is not None:
        print(f"  {'peak':8} {report.memory.peak_rss_mb:.1f} MiB resident")
    if report.accuracy.accuracy is not None:
        print(f"  {'accuracy':8} {report.accuracy.accuracy:.4f} on {report.accuracy.count} samples")


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _print_json(facts: object) -> None:
    """One JSON object; NaN and infinity, which JSON has no words for, become null."""
    print(json.dumps(_finite(facts), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
