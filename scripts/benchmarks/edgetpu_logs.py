"""The Edge TPU compiler's logs read, and its real files put through the whole of ``compile_edgetpu``. Prints Markdown.

Every real log in ``edgetpu/logs`` has to be read without a line left over, its statuses known, and its counts equal to those of
the oracle where the oracle knows the model. The pairs in ``edgetpu/pairs`` are compiled by a stand-in: a process that hands out
the very file the real compiler made, and says nothing but a version and that it succeeded: all but the compiler is real.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit_converters.errors import ConverterError
from edgekit_converters.targets.edgetpu.compiler import Compiler, compile_edgetpu
from edgekit_converters.targets.edgetpu.log import CompilerLog, parse_log
from edgekit_converters.targets.target import find_target
from edgetpu_oracle import Compiled, read_oracle
from measuring import heading, row

VERSION = "16.0.384591198"
REPEATS = 20


def _log_name(model: Compiled) -> str:
    """The name a model's log has in the folder of logs."""
    repository, _, path = model.id.partition(":")
    return f"{repository.replace('/', '+')}__{path.replace('/', '__').removesuffix('.tflite')}.log"


def _unread(log: CompilerLog) -> Iterator[str]:
    """What the parser did not understand, or what does not add up."""
    for attempt in log.attempts:
        yield from attempt.messages
    for model in log.models:
        yield from (f"status unknown: {one.status}" for one in model.rows if one.known is None)
        if model.operators is not None and model.operators != sum(one.count for one in model.rows):
            yield f"{model.operators} operators, and {sum(one.count for one in model.rows)} in the table"
    if not log.version or len(log.models) != 1 or not log.models[0].rows:
        yield "no version, no model or no table"


def _differs(log: CompilerLog, model: Compiled) -> str:
    """How a log's counts differ from what the oracle holds, type by type; empty where they do not."""
    theirs: Counter[tuple[str, bool]] = Counter()
    for op, mapped in zip(model.record["ops"], model.mapped, strict=True):
        theirs[(op["type"].partition(":")[0], mapped)] += 1
    ours: Counter[tuple[str, bool]] = Counter()
    for one in log.models[0].rows:
        ours[(one.type, one.mapped)] += one.count
    return "" if ours == theirs else f"{dict(ours - theirs)} against {dict(theirs - ours)}"


def measure_logs(folder: Path, oracle: list[Compiled]) -> None:
    """Every log, and those of models the oracle knows."""
    paths = sorted((folder / "logs").glob("*.log"))
    logs = {path.name: parse_log(path.read_text(errors="replace")) for path in paths}
    bad = {name: list(_unread(log)) for name, log in logs.items()}
    bad = {name: why for name, why in bad.items() if why}
    for name, why in bad.items():
        print(f"  {name}: {why[:3]}", file=sys.stderr)
    rows = sum(len(log.models[0].rows) for log in logs.values() if log.models)
    row("logs read", f"{len(logs) - len(bad)} of {len(logs)} ({rows} rows of a table)", "all", bool(logs) and not bad)
    known = [(model, logs[_log_name(model)]) for model in oracle if _log_name(model) in logs]
    unequal = {model.id: why for model, log in known if (why := _differs(log, model))}
    for name, why in unequal.items():
        print(f"  {name}: {why}", file=sys.stderr)
    value = f"{len(known) - len(unequal)} of {len(known)}"
    row("counts by type equal to the oracle's", value, "all", bool(known) and not unequal)
    text = "".join(path.read_text(errors="replace") for path in paths)
    begun = time.perf_counter()
    for _ in range(REPEATS):
        parse_log(text)
    seconds = (time.perf_counter() - begun) / REPEATS
    row("reading all of them as one text", f"{1000 * seconds:.1f} ms ({len(text):,} characters)", "–", None)


def _stand_in(folder: Path, content: Path) -> Compiler:
    """A program that says it compiled, and hands out ``content``, which the real compiler made."""
    program = folder / "edgetpu_compiler"
    program.write_text(
        '#!/bin/sh\nfor last; do :; done\nstem=$(basename "$last" .tflite)\n'
        f'cp {shlex.quote(str(content.resolve()))} "$2/${{stem}}_edgetpu.tflite"\n'
        f'echo "Edge TPU Compiler version {VERSION}"\necho "Compilation succeeded! "\n'
    )
    program.chmod(0o755)
    return Compiler(program, VERSION)


def _through(folder: Path, model: Compiled, target: Any) -> tuple[str, float]:
    """What is wrong with a pair after all of ``compile_edgetpu``, empty for nothing; and the seconds beside the compiler's."""
    path = Path(str(model.path))
    content = folder / model.record["edgetpu_file"]
    with tempfile.TemporaryDirectory() as scratch:
        compiler = _stand_in(Path(scratch), content)
        begun = time.perf_counter()
        try:
            (made,) = compile_edgetpu({path.name: path.read_bytes()}, target, compiler=compiler, force=True)
        except ConverterError as error:
            return str(error), 0.0
        seconds = time.perf_counter() - begun - made.compile_s
    report = made.report
    if next(iter(made.files.values())) != content.read_bytes():
        return "another file came out", seconds
    if tuple(op.placement == "edgetpu" for op in report.ops) != model.mapped:
        return f"{report.on_target} operators mapped, the oracle says {sum(model.mapped)}", seconds
    expected = max(package["min_runtime_version"] for package in model.record["packages"])
    return ("" if report.min_runtime == expected else f"runtime {report.min_runtime}, not {expected}"), seconds


def measure_pairs(folder: Path, oracle: list[Compiled]) -> None:
    """Every pair through ``compile_edgetpu``."""
    pairs = [model for model in oracle if model.path is not None]
    target = find_target("coral")
    found = {model.id: _through(folder, model, target) for model in pairs}
    wrong = {name: why for name, (why, _) in found.items() if why}
    for name, why in wrong.items():
        print(f"  {name}: {why}", file=sys.stderr)
    value = f"{len(found) - len(wrong)} of {len(found)}"
    row("real compiled files through compile_edgetpu: every operator's place", value, "all", bool(found) and not wrong)
    seconds = [seconds for _, seconds in found.values()]
    if seconds:
        row("what edgekit adds to the compiler's time, the longest", f"{max(seconds):.2f} s", "–", None)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder with edgetpu/logs, edgetpu/pairs and edgetpu/oracle.json")
    given = parser.parse_args().data_dir
    heading("Edge TPU: what the compiler says and makes")
    folder = given / "edgetpu" if given is not None else None
    if folder is None or not (folder / "oracle.json").is_file():
        print("| not measured: name the data with --data-dir FOLDER (edgetpu/logs, edgetpu/oracle.json) | – | – | – |")
        return
    oracle = read_oracle(folder)
    measure_logs(folder, oracle)
    measure_pairs(folder, oracle)


if __name__ == "__main__":
    main()
