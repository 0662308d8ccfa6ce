"""``edgekit compile --target coral`` as it is typed, with the tests' stub for Coral's compiler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.converters.edgetpu_chains import chain
from tests.edgetpu_compiler_stub import install_stub


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A model of which everything can map."""
    path = tmp_path / "lake.tflite"
    path.write_bytes(chain("CONV_2D", "ADD", "RELU"))
    return path


def test_options_reach_the_compiler_and_its_files_the_folder(edgekit_cli: Cli, lake: Path, tmp_path: Path) -> None:
    """Typed options become the compiler's; the compiled file and its log are written; the report has every operator."""
    out = tmp_path / "out"
    program = install_stub(tmp_path / "bin", "partial:2")
    options = ("--min-runtime-version", 13, "--timeout-s", 60, "--multiple-subgraphs", "--compiler", program)

    done = edgekit_cli("compile", lake, "--target", "coral", "--out", out, "--json", *options)

    assert done.returncode == 0, done.stderr
    (made,) = json.loads(done.stdout)["compiled"]
    assert made["files"] == [str(out / f"lake_edgetpu.{ending}") for ending in ("tflite", "log")]
    assert [op["placement"] for op in made["target"]["ops"]] == ["edgetpu", "edgetpu", "cpu"]
    assert (made["target"]["basis"], made["target"]["min_runtime"]) == ("compiled", 13)
    assert made["target"]["options"]["multiple_subgraphs"] is True
    assert (out / "lake_edgetpu.tflite").read_bytes().count(b"edgetpu-custom-op") >= 1
    assert "Mapped to Edge TPU" in (out / "lake_edgetpu.log").read_text()


def test_without_a_compiler_it_says_how_to_get_one(edgekit_cli: Cli, lake: Path, tmp_path: Path) -> None:
    """Exit code 3, the lines to type, no traceback and no file."""
    done = edgekit_cli(
        "compile",
        lake,
        "--target",
        "coral",
        "--out",
        tmp_path / "out",
        env={"PATH": "", "EDGEKIT_EDGETPU_COMPILER": ""},
    )

    assert done.returncode == 3
    assert "sudo apt-get install edgetpu-compiler" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_force_has_the_compiler_say_it(edgekit_cli: Cli, tmp_path: Path) -> None:
    """A float model is refused before the compiler runs; with --force its success with nothing mapped is exit code 2 as well."""
    path = tmp_path / "sea.tflite"
    path.write_bytes(chain("CONV_2D", "ADD", dtype="float32"))
    program = install_stub(tmp_path / "bin", "nothing")
    arguments = ("compile", path, "--target", "coral", "--out", tmp_path / "out", "--compiler", program)

    first, second = edgekit_cli(*arguments), edgekit_cli(*arguments, "--force")

    assert (first.returncode, second.returncode) == (2, 2)
    assert "The compiler was not run: --force" in first.stderr
    assert "calls sea a success and mapped none of its operators to the Edge TPU: the model is float" in second.stderr
    assert not (tmp_path / "out").exists()
