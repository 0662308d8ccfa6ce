"""edgekit-device: info, run, bench.

Exit codes: 0 fine, 2 wrong usage or input, 3 the world failed (no runtime, a crash), 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Optional

from .errors import DataError, DeviceRuntimeError, InputError
from .supervise import EXIT_WORLD, supervise

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
    arguments = _parser().parse_args(argv)
    about = getattr(arguments, "model", None) or "no model"
    return supervise(lambda: _guarded(arguments), about)


def _guarded(arguments: argparse.Namespace) -> int:
    try:
        arguments.verb(arguments)
    except DeviceRuntimeError as error:
        return _complain(str(error), error.exit_code)
    except MemoryError:
        return _complain("not enough memory for this model or this data", EXIT_WORLD)
    except OSError as error:
        return _complain(f"{error.filename or ''} {error.strerror or error}".strip(), EXIT_WORLD)
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
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    info = verbs.add_parser("info", help="what this board is, and which runtimes it has")
    info.add_argument("model", nargs="?", help="also describe this model's inputs and outputs")
    info.set_defaults(verb=_info)

    runner = verbs.add_parser("run", help="run a model on an array, or on random input")
    runner.add_argument("model")
    runner.add_argument("--input", metavar="F.npy", help="array with a leading batch axis; random when left out")
    runner.add_argument("--output", metavar="F.npy", help="where the (first) output goes")
    runner.set_defaults(verb=_run)

    bench = verbs.add_parser("bench", help="measure latency, memory and, with --data, accuracy")
    bench.add_argument("model")
    bench.add_argument("--runs", type=int, metavar="N", help="timed inferences (default: at least 50 and 1 s)")
    bench.add_argument(
        "--warmup", type=int, default=5, metavar="N", help="inferences before (default 5, at least 0.2 s)"
    )
    bench.add_argument("--data", metavar="F.npz", help="samples x and labels y to measure accuracy on")
    bench.add_argument("--outputs", metavar="F.npz", help="keep the outputs for --data here")
    bench.set_defaults(verb=_bench)

    for verb in (info, runner, bench):
        verb.add_argument("--json", action="store_true", help="one JSON object on standard output")
        verb.add_argument("--runtime", choices=["auto", "litert", "tflite", "tf"], default="auto")
        verb.add_argument("--threads", type=int, default=1, metavar="N")
    return parser


def _info(arguments: argparse.Namespace) -> None:
    import dataclasses

    from ._runtime import installed_runtimes, load_runtime
    from .board import read_board

    facts: dict[str, Any] = {"board": dataclasses.asdict(read_board()), "runtimes": installed_runtimes()}
    if arguments.model:
        facts["model"] = _describe(arguments)
    elif arguments.runtime != "auto":
        facts["runtime"] = load_runtime(arguments.runtime).name
    if arguments.json:
        print(json.dumps(facts))
        return
    for key, value in facts["board"].items():
        if value not in ("", None, 0):
            print(f"{key:14} {value}")
    print(f"{'runtimes':14} {', '.join(f'{n} {v}' for n, v in facts['runtimes'].items()) or 'none installed'}")
    for side in ("inputs", "outputs"):
        for tensor in facts.get("model", {}).get(side, []):
            print(f"{side[:-1]:14} {tensor['name']} {tensor['dtype']} {tensor['shape']} scale {tensor['scale']}")


def _describe(arguments: argparse.Namespace) -> dict[str, Any]:
    from .model import Model

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

    from .measure import random_input
    from .model import Model

    with Model(arguments.model, threads=arguments.threads, runtime=arguments.runtime, probe=False) as model:
        values: Any = [random_input(spec) for spec in model.inputs]
        if arguments.input:
            values = _load_array(arguments.input)
        outputs = model.predict(values)
        first = np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs)
        if arguments.output:
            _save_array(arguments.output, first)
        shown = first.reshape(-1)[:10].tolist()
        if arguments.json:
            print(json.dumps({"shape": first.shape, "dtype": str(first.dtype), "first": shown}))
        else:
            print(f"{first.dtype}{list(first.shape)}: {', '.join(f'{v:.6g}' for v in shown)}")


def _bench(arguments: argparse.Namespace) -> None:
    from .evaluation import read_samples
    from .measure import measure

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


def _load_array(path: str) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # numpy raises many kinds for damaged files
        raise DataError(f"cannot read {path} as .npy: {error}") from error


def _save_array(path: str, value: Any) -> None:
    import numpy as np

    aside = f"{path}.{os.getpid()}.part"
    try:
        with open(aside, "wb") as file:
            np.save(file, value)
        os.replace(aside, path)
    except BaseException:
        if os.path.exists(aside):
            os.unlink(aside)
        raise


if __name__ == "__main__":
    run()
