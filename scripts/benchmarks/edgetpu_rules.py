"""The rules of the Edge TPU against what the real compiler did: in sample, leave one repository out, and what is missed.

Prints Markdown. The limits of size are put anew for every repository from what all others show, so that a model is judged by
rules that have seen neither it nor its siblings.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from edgekit_converters.targets.edgetpu.conditions import measure
from edgekit_converters.targets.edgetpu.evidence import Evidence, Limit
from edgekit_converters.targets.edgetpu.limits import LIMITS, Limits
from edgekit_converters.targets.edgetpu.placing import Placing, place
from edgekit_converters.targets.edgetpu.refusals import find_refusal
from edgekit_converters.targets.edgetpu.rules import RULES, broken_rule
from edgekit_converters.targets.operators import Operator, read_operators
from edgetpu_oracle import Compiled, distinct, read_oracle, repositories
from measuring import heading, row

LEAVE_OUT_OPS, LEAVE_OUT_MODELS, FALSE_FULLY = 0.97, 0.90, 0.02
PREFLIGHT_OPS, PREFLIGHT_S, REPEATS = 500, 0.5, 9
_PROBE = """
import sys
from edgekit.cli import main
main(sys.argv[1:])
print('tensorflow' in sys.modules, file=sys.stderr)
"""


@dataclass(frozen=True)
class Judged:
    """A model beside what was predicted of it."""

    model: Compiled
    placing: Placing

    @property
    def wrong(self) -> list[int]:
        """Where the prediction differs."""
        pairs = zip(self.placing.mapped, self.model.mapped, strict=True)
        return [at for at, (predicted, actual) in enumerate(pairs) if predicted != actual]

    @property
    def falsely_full(self) -> bool:
        """Said to run on the Edge TPU whole, and does not."""
        return all(self.placing.mapped) and not all(self.model.mapped)


def learned_limits(models: Sequence[Compiled], without: str = "") -> Limits:
    """The limits with what ``models`` show added, and all left out that comes from ``without``, a repository, or ``owner/``."""
    shown: dict[str, list[Evidence]] = {name: [] for name in LIMITS}
    for model in models:
        if not without or not model.repository.startswith(without):
            for name, evidence in _shown_by(model):
                shown[name].append(evidence)
    limits = {name: _without_repository(limit, without) for name, limit in LIMITS.items()}
    return {name: limit.with_evidence(shown[name]) for name, limit in limits.items()}


def _without_repository(limit: Limit, without: str) -> Limit:
    if not without:
        return limit
    for source in {seen.source for seen in limit.evidence if seen.source.startswith(without)}:
        limit = limit.without(source)
    return limit


def _shown_by(model: Compiled) -> Iterator[tuple[str, Evidence]]:
    """What a compiled model shows of the limits: sizes that mapped, and refused ones where nothing else explains it."""
    unlimited = {name: limit.with_evidence([Evidence(2**62, True, "", "")]) for name, limit in LIMITS.items()}
    reached = _reached(model)
    for at, (operator, mapped) in enumerate(zip(model.graph.operators, model.mapped, strict=True)):
        if not mapped and (at not in reached or broken_rule(operator, unlimited) is not None):
            continue
        for name in {name for rule in RULES if rule.is_about(operator) for name in rule.limits}:
            if _applies(operator, name):
                yield name, Evidence(measure(operator, name), mapped, operator.type, model.repository)


def _applies(operator: Operator, name: str) -> bool:
    """Whether the limit is about this operator: whether it would be refused if the limit were 0."""
    zero = {
        key: replace(limit, evidence=(Evidence(0, False, "", ""),), suggested=-1 if key == name else 2**62)
        for key, limit in LIMITS.items()
    }
    rule = broken_rule(operator, zero)
    return rule is not None and name in rule.limits


def _reached(model: Compiled) -> set[int]:
    """Operators all of whose inputs the Edge TPU has, or the model is given: nothing before them stops them."""
    made_off = {
        tensor.index
        for operator, mapped in zip(model.graph.operators, model.mapped, strict=True)
        if not mapped
        for tensor in operator.outputs
        if tensor is not None
    }
    return {
        at
        for at, operator in enumerate(model.graph.operators)
        if not any(tensor.index in made_off for tensor in operator.computed_inputs)
    }


def judge(models: Sequence[Compiled], limits_for: Callable[[str], Limits]) -> list[Judged]:
    """Place every model by the limits for its repository."""
    limits = {repository: limits_for(repository) for repository in repositories(models)}
    return [Judged(model, place(model.graph.operators, limits=limits[model.repository])) for model in models]


def _all_mapped(models: Sequence[Compiled]) -> list[Judged]:
    """What a rule that refuses nothing would say."""
    return [
        Judged(model, Placing(model.graph.operators, (None,) * len(model.mapped), (tuple(range(len(model.mapped))),)))
        for model in models
    ]


def summary(judged: Sequence[Judged]) -> tuple[float, float, float]:
    """Shares of operators and of models right, and of models falsely said to map whole."""
    ops = sum(len(one.model.mapped) for one in judged)
    wrong = sum(len(one.wrong) for one in judged)
    exact = sum(not one.wrong for one in judged)
    return 1 - wrong / ops, exact / len(judged), sum(one.falsely_full for one in judged) / len(judged)


def _print_summary(title: str, judged: Sequence[Judged], *, barred: bool) -> None:
    ops, exact, full = summary(judged)
    counted = sum(len(one.model.mapped) for one in judged)
    row(
        f"{title}: operators right",
        f"{ops:.2%} of {counted:,}",
        f"≥ {LEAVE_OUT_OPS:.0%}" if barred else "–",
        ops >= LEAVE_OUT_OPS if barred else None,
    )
    row(
        f"{title}: models exactly right",
        f"{exact:.2%} of {len(judged)}",
        f"≥ {LEAVE_OUT_MODELS:.0%}" if barred else "–",
        exact >= LEAVE_OUT_MODELS if barred else None,
    )
    row(
        f"{title}: falsely “maps whole”",
        f"{full:.2%}",
        f"≤ {FALSE_FULLY:.0%}" if barred else "–",
        full <= FALSE_FULLY if barred else None,
    )


def print_rules(folder: Path) -> None:
    """The tables of the rules."""
    models = read_oracle(folder)
    seen = judge(models, lambda repository: learned_limits(models))
    unseen = judge(models, lambda repository: learned_limits(models, without=repository))
    heading("Edge TPU: rules against compiled models")
    _print_summary("for scale, everything said to map", _all_mapped(models), barred=False)
    _print_summary("as shipped", judge(models, lambda repository: LIMITS), barred=False)
    _print_summary("in sample", seen, barred=False)
    _print_summary("leave one repository out", unseen, barred=True)
    keys = {model.id for model in distinct(models)}
    _print_summary("the same, each distinct model once", [one for one in unseen if one.model.id in keys], barred=True)
    owners = judge(models, lambda repository: learned_limits(models, without=repository.split("/")[0] + "/"))
    _print_summary("leave all repositories of one owner out", owners, barred=True)
    refused = [model.id for model in models if find_refusal(model.graph) is not None]
    row("compiled models said to be refused", f"{len(refused)} of {len(models)}", "0", not refused)
    same, files = _same_as_files(models)
    row("files whose prediction is that of their record", f"{same} of {files}", "all", same == files)
    seconds, processor, tensorflow = measure_preflight()
    row(
        f"pre-flight of a model of {PREFLIGHT_OPS} operators, a whole process",
        f"{seconds:.2f} s ({processor:.2f} s of processor)",
        f"< {PREFLIGHT_S} s",
        seconds < PREFLIGHT_S,
    )
    row("TensorFlow loaded for it", "yes" if tensorflow else "no", "no", not tensorflow)
    _print_repositories(unseen)
    _print_misses(unseen)


def _print_repositories(judged: Sequence[Judged]) -> None:
    print("\nEach repository, judged without it:\n")
    print("| repository | models | exact | operators | wrong | falsely whole |\n| :-- | --: | --: | --: | --: | --: |")
    for repository in sorted({one.model.repository for one in judged}):
        theirs = [one for one in judged if one.model.repository == repository]
        ops = sum(len(one.model.mapped) for one in theirs)
        wrong = sum(len(one.wrong) for one in theirs)
        exact = sum(not one.wrong for one in theirs)
        print(
            f"| {repository} | {len(theirs)} | {exact} | {ops:,} | {wrong} | {sum(one.falsely_full for one in theirs)} |"
        )


def _print_misses(judged: Sequence[Judged]) -> None:
    missed = [one for one in judged if one.wrong]
    print(f"\nMisses: {len(missed)} of {len(judged)} models.\n")
    if not missed:
        return
    print("| model | operator | shapes | compiler | predicted | why |\n| :-- | :-- | :-- | :-- | :-- | :-- |")
    for one in missed:
        for at in one.wrong[:5]:
            operator = one.model.graph.operators[at]
            shapes = " → ".join(
                "+".join("×".join(map(str, t.shape)) for t in side)
                for side in (operator.computed_inputs, operator.outputs)
                if side
            )
            said = ["cpu", "edgetpu"]
            print(
                f"| {one.model.id.rsplit('/', 1)[-1]} | {at} {operator.type} | {shapes} | {said[one.model.mapped[at]]} | "
                f"{said[one.placing.mapped[at]]} | {one.placing.cause(at) or 'no rule known'} |"
            )


def _same_as_files(models: Sequence[Compiled]) -> tuple[int, int]:
    """How many of the models kept as files are placed alike, read from the file and from the record."""
    kept = [model for model in models if model.path is not None]
    same = sum(
        place(read_operators(model.path.read_bytes()).operators).mapped == place(model.graph.operators).mapped
        for model in kept
        if model.path is not None
    )
    return same, len(kept)


def measure_preflight() -> tuple[float, float, bool]:
    """Median seconds of ``edgekit inspect M --target coral --json`` on a built model, of which how many of the processor's, and
    whether TensorFlow was loaded."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.tflite_builder import Graph, Op, Tensor, build

    names = [f"model/layer_{i}/Relu" for i in range(PREFLIGHT_OPS + 1)]
    tensors = [Tensor(name, "int8", (1, 8, 8, 16), None, (0.5,), (0,)) for name in names]
    ops = [Op("RELU", (i,), (i + 1,), version=2) for i in range(PREFLIGHT_OPS)]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "model.tflite")
        path.write_bytes(build(Graph(tensors, ops, (0,), (PREFLIGHT_OPS,))))
        arguments = ["inspect", str(path), "--target", "coral", "--json"]
        seconds, processor = [], []
        for _ in range(REPEATS):
            started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-m", "edgekit", *arguments], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        probe = [sys.executable, "-c", _PROBE, *arguments]
        answer = subprocess.run(probe, check=True, capture_output=True, text=True)
    return median(seconds), median(processor), answer.stderr.strip().endswith("True")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder with edgetpu/oracle.json")
    folder = parser.parse_args().data_dir
    if folder is None or not (folder / "edgetpu" / "oracle.json").is_file():
        heading("Edge TPU: rules against compiled models")
        print("| not measured: name the data with --data-dir FOLDER (edgetpu/oracle.json) | – | – | – |")
        return
    print_rules(folder / "edgetpu")


if __name__ == "__main__":
    main()
