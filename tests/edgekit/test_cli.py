"""The command line from outside: help, JSON, exit codes, and the verbs in any order on one run folder."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgekit.choices import RUNTIMES
from edgekit.cli.main import VERBS, main
from tests.conftest import Cli

OPTIONS = {
    "run": ["--out", "--data-folder", "--json"],
    "convert": [
        "--data", "--recipe", "--out", "--input-type", "--output-type", "--calibration-samples", "--seed", "--batch",
        "--trust", "--scale", "--offset", "--size", "--target", "--json",
    ],
    "evaluate": ["--data", "--variant", "--reference", "--threads", "--runtime", "--scale", "--offset", "--size", "--json"],
    "bench": [
        "--device", "--threads", "--runtime", "--runs", "--warmup", "--deadline", "--data", "--variant", "--against",
        "--remeasure", "--max-regression", "--allow-not-comparable", "--markdown", "--junit", "--json",
    ],
    "compare": ["--baseline", "--max-drop", "--max-latency-ms", "--max-size-kb", "--markdown", "--html", "--json"],
    "report": ["--baseline", "--max-drop", "--max-latency-ms", "--max-size-kb", "--json"],
    "diagnose": [
        "--data", "--data-folder", "--recipe", "--samples", "--max-s", "--calibration-samples", "--seed", "--trust",
        "--markdown", "--scale", "--offset", "--size", "--json",
    ],
    "recipes": ["--json"],
    "targets": ["--operators", "--json"],
    "inspect": ["--target", "--json"],
    "compile": [
        "--target", "--out", "--variant", "--together", "--compiler", "--min-runtime-version", "--search-delegate",
        "--delegate-search-step", "--multiple-subgraphs", "--num-segments", "--intermediate-tensors", "--timeout-s",
        "--accelerator-config", "--system-config", "--memory-mode", "--vela-config", "--optimise", "--arena-cache-size",
        "--arena-headroom", "--data", "--data-folder", "--deadline-s", "--force", "--json",
    ],
    "device": [],
    "hub": ["serve", "token", "collect"],
    "doctor": ["--json"],
}  # fmt: skip
HEAVY = (
    "numpy",
    "rich",
    "jinja2",
    "ai_edge_litert",
    "tensorflow",
    "keras",
    "edgekit_device",
    "edgekit_converters",
    "PIL",
)
LATENCY = {
    "count",
    "init_ms",
    "first_ms",
    "warmup_mean_ms",
    "mean_ms",
    "median_ms",
    "std_ms",
    "min_ms",
    "max_ms",
    "p5_ms",
    "p90_ms",
    "p95_ms",
    "p99_ms",
}


def parsed(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    """The one JSON object on standard output, of a command that ended with ``code``."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("\n") == 1
    found = json.loads(done.stdout, parse_constant=pytest.fail)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_shows_an_example_and_every_option(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And says what the verb does in the words of the overview."""
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out

    assert f"edgekit {verb} " in shown.split("Example:")[1] or f"edgekit {verb}\n" in shown
    assert [option for option in OPTIONS[verb] if option not in shown] == []


def test_help_lists_the_verbs_and_loads_nothing_heavy() -> None:
    """In a clean interpreter, within 0.3 s at its fastest."""
    code = (
        f"import sys\nfrom edgekit.cli import main\ncode = main(['--help'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)"
    )
    durations = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        durations.append(time.perf_counter() - started)
        assert done.stderr == "[] 0\n"
        assert all(verb in done.stdout for verb in VERBS)
    assert min(durations) < 0.3


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    """From the module, so that it needs no installed metadata."""
    import edgekit

    assert main(["--version"]) == 0
    assert edgekit.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cmopare"], "did you mean 'compare'"),
        (["convert"], "Missing argument"),
        (["convert", "m.tflite"], "Missing option '--out'"),
        (["bench", "x", "--threads", "0"], "Invalid value for '--threads'"),
        (["bench", "x", "--runtime", "liteRT"], "Invalid value for '--runtime'"),
        (["bench", "x", "--thread", "1"], "No such option"),
        (["compare", "x", "--json", "--markdown"], "expected one of --json and --markdown, got both"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what is wrong on standard error, and nothing on standard output."""
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""


def test_the_runtimes_offered_are_those_of_the_device(device_cli: Cli) -> None:
    """The host lists them without asking; the device has the say."""
    assert "{" + ",".join(RUNTIMES) + "}" in device_cli("bench", "--help").stdout


def test_the_verbs_work_in_any_order_on_one_run_folder(
    edgekit_cli: Cli, float_model: Path, data: Path, tmp_path: Path
) -> None:
    """convert, compare, bench, evaluate, report, compare: each prints the contract's fields, and adds to what is known."""
    run = tmp_path / "run"
    recipes = ("--recipe", "float32", "--recipe", "int8")
    made = parsed(edgekit_cli("convert", float_model, "--data", data, *recipes, "--out", run, "--json"))
    assert [item["name"] for item in made["variants"]] == ["float32", "int8"]
    for item in made["variants"]:
        assert Path(item["path"]).stat().st_size == item["size_bytes"] > item["zipped_bytes"] * 0.5
        assert {"recipe", "sha256", "convert_s", "calibration", "preprocessing", "versions"} <= set(item)

    before = parsed(edgekit_cli("compare", run, "--json"))
    assert (before["choice"], before["gate"]) == ("int8", {"passed": True, "limits": {}, "failures": []})

    measured = parsed(edgekit_cli("bench", run, "--runs", 30, "--threads", 2, "--runtime", "litert", "--json"))
    for report in measured["reports"]:
        assert set(report["latency"]) >= LATENCY
        assert {"schema", "id", "memory", "board", "variant"} <= set(report)
        assert (report["latency"]["count"], report["runtime"]["threads"]) == (30, 2)
        assert report["runtime"]["name"] == "litert"
        assert report["model"]["sha256"] in {item["sha256"] for item in made["variants"]}

    done = edgekit_cli("evaluate", run, "--data", data, "--json")
    scored = parsed(done)
    assert "INFO:" not in done.stderr  # the runtime's own chatter is not the user's
    for item in scored["evaluations"]:
        assert {"variant", "accuracy", "top5", "agreement", "count"} <= set(item)
    assert scored["evaluations"][0]["accuracy"] == 1.0

    written = parsed(edgekit_cli("report", run, "--json"))
    assert set(written) == {"json", "md", "html"}
    assert all(Path(path).stat().st_size > 500 for path in written.values())

    after = parsed(edgekit_cli("compare", run, "--json"))
    assert {"variants", "front", "choice", "reason", "gate"} <= set(after)
    assert set(after["front"]) <= {line["name"] for line in after["variants"]}
    assert all(line["median_ms"] and line["accuracy"] is not None for line in after["variants"])
    assert parsed(edgekit_cli("convert", float_model, "--data", data, *recipes, "--out", run, "--json"))["variants"][0][
        "reused"
    ]


def test_a_gate_that_says_no_is_1(edgekit_cli: Cli, run_folder: Path) -> None:
    """In every form of output, with the misses named; without a limit it is 0."""
    gated = ("compare", run_folder, "--max-size-kb", 1)
    as_json = parsed(edgekit_cli(*gated, "--json"), code=1)
    assert (as_json["choice"], as_json["gate"]["passed"]) == (None, False)
    assert {failure["limit_name"] for failure in as_json["gate"]["failures"]} == {"max_size_kb"}
    markdown = edgekit_cli(*gated, "--markdown")
    assert (markdown.returncode, "Gate failed" in markdown.stdout) == (1, True)
    unmeasured = edgekit_cli("compare", run_folder, "--max-latency-ms", 5)
    assert unmeasured.returncode == 1
    assert "latency was not measured" in unmeasured.stdout
    page = run_folder.parent / "page.html"
    assert edgekit_cli("compare", run_folder, "--html", page).returncode == 0
    assert page.read_text().startswith("<!")


def test_single_models_are_evaluated_measured_and_shown(edgekit_cli: Cli, run_folder: Path, data: Path) -> None:
    """Also one that lies in a run folder; --json or a line for people."""
    model = run_folder / "variants" / "int8.tflite"
    scored = parsed(
        edgekit_cli("evaluate", model, "--data", data, "--reference", run_folder / "float.tflite", "--json")
    )
    assert scored["evaluations"][0]["variant"] == "int8"
    assert scored["evaluations"][0]["agreement"] > 0.9
    [report] = parsed(edgekit_cli("bench", model, "--data", data, "--runs", 5, "--json"))["reports"]
    assert (report["variant"], report["accuracy"]["count"]) == ("int8", 100)
    card = parsed(edgekit_cli("inspect", model, "--json"))
    assert {"inputs", "outputs", "ops", "parameters", "macs"} <= set(card)
    assert all({"type", "version"} <= set(op) for op in card["ops"])
    assert card["note"]["recipe"] == "int8"
    for verb in (
        ("evaluate", model, "--data", data),
        ("bench", model, "--runs", 5, "--data", data),
        ("inspect", model),
    ):
        done = edgekit_cli(*verb)
        assert done.returncode == 0
        assert "int8" in done.stdout


def test_inspect_needs_no_tensorflow(edgekit_cli: Cli, float_model: Path, tmp_path: Path) -> None:
    """With TensorFlow and the interpreter made unimportable it answers the same."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nclass Hidden:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('tensorflow', 'keras', 'tf_keras') or name == 'ai_edge_litert.interpreter':\n"
        "            raise ModuleNotFoundError(name, name=name)\nsys.meta_path.insert(0, Hidden())\n"
    )
    card = parsed(edgekit_cli("inspect", float_model, "--json", env={"PYTHONPATH": str(tmp_path)}))

    assert (card["parameters"], card["macs"]) == (64 * 32 + 32, 64 * 32)
    assert [op["type"] for op in card["ops"]] == ["FULLY_CONNECTED"]


def test_doctor_prints_json(edgekit_cli: Cli) -> None:
    """Every check with its fix."""
    found = parsed(edgekit_cli("doctor", "--json"))

    assert found["ok"]
    assert {"name", "ok", "required", "found", "purpose", "fix"} == set(found["checks"][0])


def test_a_reader_that_goes_away_is_no_traceback(float_model: Path) -> None:
    """``edgekit … | head`` ends quietly."""
    command = f"{sys.executable} -m edgekit inspect {float_model} --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)

    assert "Traceback" not in done.stderr


@pytest.mark.keras
def test_the_main_job(digits_run: Path) -> None:
    """Digits from training to verdict: five variants measured in a process of their own, and three reports."""
    found = json.loads((digits_run.parent / "stdout.json").read_text())
    names = {"float32", "float16", "dynamic-int8", "int8", "int16x8"}

    assert {line["name"] for line in found["variants"]} == names
    assert all(line["accuracy"] > 0.95 and line["median_ms"] > 0 for line in found["variants"])
    assert found["choice"] in names
    assert found["failures"] == []
    assert {parity["variant"] for parity in found["parities"]} == names
    assert all(parity["same_answer"] == 1.0 for parity in found["parities"])
    for name in ("report.json", "report.md", "report.html"):
        assert 1000 < (digits_run / name).stat().st_size < 2 << 20
    page = (digits_run / "report.html").read_text()
    assert not [mark for mark in ('src="http', 'href="http', "url(http") if mark in page]


@pytest.mark.keras
def test_the_main_job_again_keeps_everything(edgekit_cli: Cli, digits_run: Path, root: Path) -> None:
    """No training, no conversion, no measurement: each is said to be kept, and nothing else is done."""
    done = edgekit_cli("run", root / "examples" / "digits" / "edgekit.toml", "--out", digits_run, "--json")
    lines = [line.strip() for line in done.stderr.splitlines()]

    assert parsed(done)["choice"] == json.loads((digits_run.parent / "stdout.json").read_text())["choice"]
    assert lines[0] == "loading the data"
    assert all(line.endswith("before, kept") for line in lines[1:])
    assert len(lines) == 1 + 1 + 5 + 5 + 5


@pytest.mark.keras
def test_a_keras_file_is_converted_without_data(edgekit_cli: Cli, digits_run: Path, tmp_path: Path) -> None:
    """By recipes that need none; and evaluate, bench and inspect say to convert it first."""
    model = digits_run / "model.keras"
    made = parsed(edgekit_cli("convert", model, "--recipe", "float16", "--out", tmp_path / "run", "--json"))
    assert [item["name"] for item in made["variants"]] == ["float16"]
    assert made["variants"][0]["source"]["framework"] == "keras"
    for verb in (["evaluate", model, "--data", "digits"], ["bench", model], ["inspect", model]):
        done = edgekit_cli(*verb)
        assert done.returncode == 2
        assert f"Convert it first: edgekit convert {model} --out RUN" in done.stderr
