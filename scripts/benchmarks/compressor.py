"""The compressor on real data: ResNet-8 on CIFAR-10 by every technique, a budget search on a skewed network, and the table of
all recipes on Fashion-MNIST. Every figure comes from the commands a user types; accuracies are on the whole test set.

    compressor.py --data-dir FOLDER [--part resnet8|skewed|fashion ...] [--seed N] [--keep FOLDER]

A part takes minutes to half an hour on two cores: everything is trained.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from images import cifar10
from measuring import heading, row

PARTS = ("resnet8", "skewed", "fashion")
ROUNDS = 3
RESNET8 = (
    "float32",
    "int8",
    "finetune-int8",
    "qat-int8",
    "prune75-int8",
    "prune75-qat-int8",
    "cluster16-int8",
    "cluster16-qat-int8",
)
# Half a network learns longer, and from the labels: on these JPEGs the original, trained on the pixels before, teaches less.
SLIMMED = ("slim50-int8", "slim50branches-int8")
SLIM_TRAINING = ("--epochs", 8, "--learning-rate", 2e-3, "--augment", "flip-shift", "--teacher", "none")
FASHION_SCALE = 1 / 255
FASHION_EPOCHS = 2


def edgekit(*arguments: object, codes: Sequence[int] = (0,)) -> dict[str, Any]:
    """The JSON that an edgekit command answers; ends the program when it fails."""
    command = [sys.executable, "-m", "edgekit", *map(str, arguments), "--json"]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if answer.returncode not in codes:
        sys.exit(f"exit {answer.returncode}: {' '.join(command)}")
    return json.loads(answer.stdout)


def medians(run: Path, names: Sequence[str]) -> dict[str, float]:
    """Median latencies in ms on the local device: each variant in turn, and the whole turn ROUNDS times."""
    only = [part for name in names for part in ("--variant", name)]
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for report in edgekit("bench", run, *only)["reports"]:
            found[report["variant"]].append(report["latency"]["median_ms"])
    return {name: statistics.median(values) for name, values in found.items()}


def accuracies(run: Path, data: Path) -> dict[str, float]:
    """Accuracy on the test split by variant."""
    return {item["variant"]: item["accuracy"] for item in edgekit("evaluate", run, "--data", data)["evaluations"]}


def resnet8(folder: Path, scratch: Path, seed: int) -> None:
    """MLPerf Tiny's trained ResNet-8 through the techniques, against the bars."""
    data, run = scratch / "cifar10.npz", scratch / f"resnet8-{seed}"
    if not data.exists():
        np.savez(data, **cifar10(folder / "cifar10"))
    model = folder / "mlperf-tiny" / "image_classification" / "pretrainedResnet.h5"
    known = {}
    for names, training in ((RESNET8, ()), (SLIMMED, SLIM_TRAINING)):
        wanted = [part for name in names for part in ("--recipe", name)]
        made = edgekit("convert", model, "--data", data, *wanted, *training, "--seed", seed, "--out", run)["variants"]
        known.update({item["name"]: item for item in made})
    right, took = accuracies(run, data), medians(run, [*known])
    base = right["float32"]

    def lost(name: str) -> float:
        return 100 * (base - right[name])

    def ratio(name: str, field: str) -> float:
        return known[name][field] / known["int8"][field]

    heading(f"ResNet-8 on CIFAR-10, seed {seed}: float32 {base:.2%}")
    row("int8, accuracy lost", f"{lost('int8'):.2f} points", "≤ 0.5", lost("int8") <= 0.5)
    row(
        "qat-int8 over int8",
        f"{lost('int8') - lost('qat-int8'):+.2f} points",
        "≥ 0",
        right["qat-int8"] >= right["int8"],
    )
    trained = right["finetune-int8"]
    row("the same training without a technique", f"{100 * (trained - base):+.2f} points", "–", None)
    for name in ("prune75-int8", "prune75-qat-int8"):
        row(f"{name}, lost", f"{lost(name):.2f} points", "≤ 1", lost(name) <= 1)
        share = known[name]["achieved"]["sparsity"]
        zipped = ratio(name, "zipped_bytes")
        row(f"{name}, zipped", f"{zipped:.3f}× ({share:.1%} zeros)", "≤ 0.55×", zipped <= 0.55)
    for name in ("cluster16-int8", "cluster16-qat-int8"):
        zipped = ratio(name, "zipped_bytes")
        row(f"{name}, zipped", f"{zipped:.3f}× ({lost(name):.2f} points lost)", "≤ 0.5×", zipped <= 0.5)
    for name in SLIMMED:
        row(f"{name}, lost", f"{lost(name):.2f} points", "≤ 2", lost(name) <= 2)
        macs = known[name]["achieved"]["macs"] / known["int8"]["achieved"]["macs"]
        row(f"{name}, MACs", f"{macs:.3f}×", "≤ 0.5×", macs <= 0.5)
        faster = took[name] / took["int8"]
        times = f"{faster:.3f}× ({took[name]:.4f} ms against {took['int8']:.4f} ms)"
        row(f"{name}, median latency", times, "≤ 0.65×", faster <= 0.65)
        size = ratio(name, "size_bytes")
        row(f"{name}, size", f"{size:.3f}×", "≤ 0.6×", size <= 0.6)
    table(known, right, took)


def skewed(folder: Path, scratch: Path, seed: int) -> None:
    """A budget of half a point on a network whose plain int8 loses two and more."""
    import skewed as network

    data, model, run = scratch / "fashion-float.npz", scratch / f"skewed-{seed}.keras", scratch / f"skewed-{seed}"
    arrays = fashion_mnist(folder)
    if not data.exists():
        np.savez(data, **arrays)
    if not model.exists():
        inputs = arrays["x_train"][: network.TRAINING].astype(np.float32) * np.float32(FASHION_SCALE)
        trained = network.train(network.build(seed=seed), inputs, arrays["y_train"][: network.TRAINING], seed=seed)
        network.skew(trained, seed=seed).save(model)
    started = time.perf_counter()
    common = ("--data", data, "--scale", FASHION_SCALE, "--seed", seed)
    answer = edgekit("convert", model, *common, "--max-drop", 0.005, "--out", run, codes=(0, 1))
    seconds = time.perf_counter() - started
    budget = answer["budget"]
    plain = next(step for step in budget["steps"] if step["variant"] == "int8")
    heading(f"A budget of 0.5 point on a MobileNet with skewed channels, seed {seed}: float32 {budget['baseline']:.2%}")
    row("plain int8, lost", f"{100 * plain['drop']:.2f} points", "≥ 2", plain["drop"] >= 0.02)
    held = f"{100 * budget['drop']:.2f} points by {budget['choice'] or 'none'}"
    row("the search, lost", held, "≤ 0.5", budget["met"])
    tries = ", ".join(
        f"{step['variant']} {100 * step['drop']:.2f}" for step in budget["steps"] if step["drop"] is not None
    )
    row("the search took", f"{seconds:.0f} s, {len(budget['steps'])} tries ({tries})", "–", None)
    if budget["choice"]:
        took = medians(run, ["float32", "int8", budget["choice"]])
        speedups = [took["float32"] / took[name] for name in (budget["choice"], "int8")]
        kept = speedups[0] / speedups[1]
        row("speed-up kept", f"{kept:.1%} ({speedups[0]:.2f}× of {speedups[1]:.2f}×)", "≥ 80 %", kept >= 0.8)


def fashion(folder: Path, scratch: Path, seed: int) -> None:
    """All built-in recipes on a network trained on Fashion-MNIST."""
    data, run = scratch / "fashion.npz", scratch / f"fashion-{seed}"
    if not data.exists():
        np.savez(data, **fashion_mnist(folder))
    model = scratch / f"fashion-{seed}.keras"
    if not model.exists():
        _trained(data, model, seed)
    names = [item["name"] for item in edgekit("recipes")["recipes"]]
    wanted = [part for name in names for part in ("--recipe", name)]
    common = ("--data", data, "--scale", FASHION_SCALE, "--seed", seed)
    answer = edgekit("convert", model, *common, *wanted, "--epochs", FASHION_EPOCHS, "--out", run, codes=(0, 3))
    known = {item["name"]: item for item in answer["variants"]}
    heading(f"Every recipe on Fashion-MNIST (a small MobileNet, {FASHION_EPOCHS} epochs a step, seed {seed})")
    for failure in answer["failures"]:
        row(failure["variant"], failure["error"], "–", None)
    table(known, accuracies(run, data), medians(run, [*known]))


def _trained(data: Path, model: Path, seed: int) -> None:
    import skewed as network

    with np.load(data) as arrays:
        inputs = arrays["x_train"].astype(np.float32) * np.float32(FASHION_SCALE)
        network.train(network.build(seed=seed), inputs, arrays["y_train"], epochs=3, seed=seed).save(model)


def fashion_mnist(folder: Path) -> Mapping[str, np.ndarray]:
    """The 60,000 and 10,000 images, as they are."""
    from edgekit.data.builtin import load_builtin

    data = load_builtin("fashion-mnist", folder=folder / "fashion-mnist")
    assert data.train is not None
    assert data.test is not None
    splits = (("train", data.train), ("test", data.test))
    return {
        key: value for name, it in splits for key, value in ((f"x_{name}", it.inputs["x"]), (f"y_{name}", it.labels))
    }


def table(known: Mapping[str, Any], right: Mapping[str, float], took: Mapping[str, float]) -> None:
    """Every variant: accuracy, size, zipped size, MACs, zeros, distinct weights, median latency."""
    print("\n| recipe | accuracy | size | zipped | MACs | zeros | distinct weights | median |")
    print("| :-- | --: | --: | --: | --: | --: | --: | --: |")
    for name, item in known.items():
        made = item["achieved"]
        print(
            f"| {name} | {right[name]:.2%} | {item['size_bytes']:,} | {item['zipped_bytes']:,} | {made['macs']:,} "
            f"| {made['sparsity']:.1%} | {made['clusters']} | {took[name]:.4f} ms |",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder with mlperf-tiny/, cifar10/ and fashion-mnist/")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; repeat for several")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the runs; one that is there is gone on with")
    options = parser.parse_args()
    if options.data_dir is None or not (options.data_dir / "cifar10").is_dir():
        heading("The compressor")
        print(
            "| not measured: name the data with --data-dir FOLDER (mlperf-tiny/, cifar10/, fashion-mnist/) | – | – | – |"
        )
        return
    measured: dict[str, Callable[[Path, Path, int], None]] = {"resnet8": resnet8, "skewed": skewed, "fashion": fashion}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.keep or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        for part in options.part or PARTS:
            measured[part](options.data_dir, scratch, options.seed)


if __name__ == "__main__":
    main()
