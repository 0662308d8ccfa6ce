"""What the README and the examples say is run here."""

from __future__ import annotations

import gzip
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Cli

PREPARE = """
import numpy
import keras
rng = numpy.random.default_rng(0)
x = rng.integers(0, 256, (80, 8, 8, 1), dtype=numpy.uint8)
y = (x.mean(axis=(1, 2, 3)) > 127).astype("int64")
numpy.savez("mine.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")])
"""


def _blocks(root: Path, language: str) -> list[str]:
    text = (root / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.keras
def test_the_readme_s_python_example_runs(root: Path, tmp_path: Path) -> None:
    """The dozen lines beside the commands convert, evaluate, measure and compare a model in memory."""
    example = next(block for block in _blocks(root, "python") if "edgekit.convert" in block)
    lines = [line for line in example.splitlines() if line.strip()]

    done = subprocess.run(
        [sys.executable, "-c", PREPARE + example], capture_output=True, text=True, cwd=tmp_path, check=False
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) <= 12
    assert re.match(r"(float32|int8): ", done.stdout)


def _idx(values: np.ndarray) -> bytes:
    """Big-endian IDX of bytes, as the MNIST family's files are (magic 0x08, then the number of dimensions)."""
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(header + values.astype(np.uint8).tobytes())


@pytest.mark.keras
def test_the_fashion_mnist_example_runs_on_a_small_copy_of_such_data(
    edgekit_cli: Cli, root: Path, tmp_path: Path
) -> None:
    """The second example, on files of the same form in a given folder."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 300), ("t10k", 60)):
        labels = rng.integers(0, 10, count)
        images = rng.integers(0, 64, (count, 28, 28), dtype=np.uint8)
        images[np.arange(count), 2 * labels + 4] = 255  # a bar whose height is the class
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(_idx(images))
        (tmp_path / f"{name}-labels-idx1-ubyte.gz").write_bytes(_idx(labels))

    done = edgekit_cli(
        "run",
        root / "examples" / "fashion-mnist" / "edgekit.toml",
        *("--data-folder", tmp_path, "--out", tmp_path / "run", "--json"),
    )
    assert done.returncode in (0, 1), done.stderr[-2000:]
    answer = json.loads(done.stdout)

    assert [item["count"] for item in answer["evaluations"]] == [60] * 5
    assert {item["name"] for item in answer["variants"]} == {"float32", "float16", "dynamic-int8", "int8", "int16x8"}


@pytest.mark.keras
def test_the_compressing_example_runs(edgekit_cli: Cli, root: Path, tmp_path: Path) -> None:
    """Every recipe is made, measured, and said to bring something, or nothing."""
    done = edgekit_cli("run", root / "examples" / "compress" / "edgekit.toml", "--out", tmp_path / "run", "--json")
    assert done.returncode in (0, 1), done.stderr[-2000:]
    lines = {item["name"]: item for item in json.loads(done.stdout)["variants"]}

    assert set(lines) == {"float32", "int8", "slim50-int8", "prune75-int8", "cluster16-qat-int8"}
    assert {"size", "zip"} <= set(lines["slim50-int8"]["gains"])
    assert "zip" in lines["prune75-int8"]["gains"]
    assert "zip" in lines["cluster16-qat-int8"]["gains"]
    assert all(item["median_ms"] > 0 and item["against"] in (None, "float32", "int8") for item in lines.values())


@pytest.mark.keras
def test_the_coral_example_runs(edgekit_cli: Cli, root: Path, tmp_path: Path) -> None:
    """Without Coral's compiler it ends with what would run on the chip: all of a plain network."""
    without = {**os.environ, "EDGEKIT_EDGETPU_COMPILER": ""}
    toml, run = root / "examples" / "coral" / "edgekit.toml", tmp_path / "run"
    done = edgekit_cli("run", toml, "--out", run, "--json", env=without)
    assert done.returncode in (0, 1), done.stderr[-2000:]
    (line,) = [item for item in json.loads(done.stdout)["across"] if item["target"] == "coral"]

    assert (line["variant"], line["on_target"], line["subgraphs"]) == ("int8", line["operators"], 1)


def test_every_link_in_the_documentation_leads_somewhere(root: Path) -> None:
    """Relative links of every Markdown page name a file that is there."""
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert broken == []


def test_the_commands_the_readme_names_exist(root: Path) -> None:
    """Every ``edgekit VERB`` of a code block is a verb, and every script is there and executable."""
    from edgekit.cli.main import VERBS

    code = "\n".join(_blocks(root, ""))
    verbs = set(re.findall(r"^edgekit (\w+)", code, re.MULTILINE))
    scripts = set(re.findall(r"scripts/[\w-]+", code))

    assert verbs
    assert verbs <= set(VERBS)
    assert all((root / script).stat().st_mode & 0o111 for script in scripts)
