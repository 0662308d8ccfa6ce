"""The search for a variant that keeps its accuracy: what is tried, in which order, and when it stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekit import budget, search
from edgekit.budget import Budget, Search, SearchLimits
from edgekit.data import Split
from edgekit.errors import ConversionError, UsageError
from edgekit.progress import Silent
from edgekit.quality import METRICS
from edgekit.recipe import Recipe, find_recipe
from edgekit.records import Evaluation, Variant
from tests.conftest import Cli

LAYERS = [("stem",), ("block1", "block2"), ("block3",), ("head",), ("tail",)]


class PlannedSearch(Search):
    """The real ladder over variants whose accuracy is planned: ``accuracies`` by recipe name, else ``otherwise``."""

    def __init__(self, accuracies: dict[str, float], otherwise: float, limits: SearchLimits) -> None:
        test = Split({"x": np.zeros((100, 1))}, np.zeros(100, np.int64))
        job: Any = SimpleNamespace(request=SimpleNamespace(seed=3))
        store: Any = SimpleNamespace(report=lambda variant: None, folder=Path())
        super().__init__(job, store, test, (), limits, Silent())
        self.accuracies, self.otherwise = accuracies, otherwise
        self.clock = 0.0

    def _convert(self, recipe: Recipe) -> Variant:
        self._recipes[recipe.name] = recipe
        value = self.accuracies.get(recipe.name, self.otherwise)
        if value < 0:
            raise ConversionError(f"{recipe.name} cannot be made")
        kept = len(recipe.quantize.get("keep_float", ()))
        self.made[recipe.name] = Variant(recipe.name, recipe.name, size_bytes=100 + kept, precision=recipe.precision)
        return self.made[recipe.name]

    def _evaluate(self, variant: Variant) -> Evaluation:
        accuracy = 0.9 if variant.name == "float32" else self.accuracies.get(variant.name, self.otherwise)
        found = Evaluation(variant.name, 100, accuracy=accuracy)
        self._evaluations[variant.name] = found
        return found


Plan = Callable[..., tuple[Budget, list[str]]]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """plan(accuracies, otherwise=, asked=, max_drop=): the budget, and the names of the tries in order."""

    def guilty(job: Any, recipe: Recipe, **how: Any) -> tuple[list[tuple[str, ...]], int]:
        return LAYERS, 12

    monkeypatch.setattr(budget, "guilty_layers", guilty)

    def run(
        accuracies: dict[str, float], otherwise: float = 0.5, asked: tuple[str, ...] = ("int8",), max_drop: float = 0.01
    ) -> tuple[Budget, list[str]]:
        search = PlannedSearch(accuracies, otherwise, SearchLimits(max_drop))
        found = search.run([find_recipe(name) for name in asked], None)
        return found, [step.variant for step in found.steps]

    return run


def test_a_recipe_that_holds_is_all_that_is_tried(plan: Plan) -> None:
    """The search stops as soon as the budget holds."""
    found, tried = plan({"int8": 0.895})

    assert tried == ["int8"]
    assert (found.met, found.choice, found.baseline) == (True, "int8", 0.9)
    assert found.drop == pytest.approx(0.005)


def test_correction_and_better_calibration_come_next_one_at_a_time(plan: Plan) -> None:
    """Cheap tries first; the rest of the rung is not tried once one holds."""
    found, tried = plan({"int8-mse": 0.9})

    assert tried == ["int8", "int8-equalized-corrected", "int8-percentile", "int8-mse"]
    assert (found.choice, found.drop) == ("int8-mse", 0.0)


def test_then_the_best_calibration_corrected_and_the_other_quantizer(plan: Plan) -> None:
    """What was best so far is built upon."""
    found, tried = plan({"int8-entropy": 0.8, "int8-tflite": 0.9})

    assert tried[4:] == ["int8-entropy", "int8-entropy-equalized-corrected", "int8-tflite"]
    assert found.choice == "int8-tflite"


def test_then_the_guilty_layers_stay_in_float_as_few_as_will_do(plan: Plan) -> None:
    """Doubling until the budget holds, halving the gap after that: four groups hold and three do, two do not."""
    found, tried = plan({"int8-percentile": 0.7, "int8-percentile-keep4": 0.9, "int8-percentile-keep5": 0.9})

    mixed = [name for name in tried if "keep" in name]
    # Two groups hold three layers, three groups four, four groups five.
    assert mixed == ["int8-percentile-keep1", "int8-percentile-keep3", "int8-percentile-keep5", "int8-percentile-keep4"]
    # Both meet it; without a latency the smaller is chosen.
    assert found.choice == "int8-percentile-keep4"
    kept = next(step for step in found.steps if step.variant == found.choice)
    assert kept.note == "in float: stem, block1, block2, block3"


def test_training_is_the_last_resort(plan: Plan) -> None:
    """Quantization-aware training, plain and as the best calibration so far had it."""
    found, tried = plan({"int8-mse": 0.6, "qat-int8-mse": 0.9})

    assert tried.index("qat-int8") == len(tried) - 2
    assert (tried[-1], found.choice) == ("qat-int8-mse", "qat-int8-mse")
    assert [step.rung for step in found.steps][-2:] == ["training", "training"]


def test_a_budget_nobody_meets_names_the_best_and_why(plan: Plan) -> None:
    """No choice; the best that was found, how much it loses, and what can be done."""
    found, tried = plan({"int8-percentile-keep3": 0.85})

    assert (found.met, found.choice, found.best) == (False, None, None if "x" in tried else found.best)
    assert found.reason.startswith("no variant loses 0.01 of accuracy or less: the best, ")
    assert "nothing more is left to try" in found.reason
    assert "qat-int8" in tried


def test_everything_asked_for_is_tried_and_compared(plan: Plan) -> None:
    """The asked recipes are the first rung, whole; what holds there needs no ladder."""
    found, tried = plan({"slim50-int8": 0.895, "int8": 0.9}, asked=("slim50-int8", "int8"))

    assert tried == ["slim50-int8", "int8"]
    assert found.met


def test_the_ladder_starts_from_the_first_int8_recipe_asked_for(plan: Plan) -> None:
    """What the user asked for is made better, not replaced."""
    _, tried = plan({}, asked=("slim50-int8",))

    assert tried[1] == "slim50-int8-equalized-corrected"
    assert any(name.startswith("slim50-qat-int8") for name in tried)


def test_a_recipe_that_cannot_be_made_stops_nothing(plan: Plan) -> None:
    """Its reason is in its step."""
    found, tried = plan({"int8": -1, "int8-percentile": 0.9})

    assert (tried[-1], found.choice) == ("int8-percentile", "int8-percentile")
    assert (found.steps[0].drop, found.steps[0].note) == (None, "int8 cannot be made")


def test_no_new_try_begins_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try takes a second of this clock; the third would begin after two and a half."""
    clock = iter(np.arange(0.0, 1000.0, 0.25))
    monkeypatch.setattr(budget.time, "monotonic", lambda: float(next(clock)))
    search = PlannedSearch({}, 0.5, SearchLimits(0.01, max_search_s=2.5))

    found = search.run([find_recipe("int8")], None)

    assert 1 <= len(found.steps) < 4
    assert "the time for the search was up" in found.reason


@pytest.mark.parametrize(
    ("metric", "baseline", "value", "drop"),
    [("accuracy", 0.9, 0.88, 0.02), ("mean-absolute-error", 1.0, 1.5, 0.5), ("macro-f1", 0.5, 0.6, -0.1)],
)
def test_a_drop_is_what_got_worse(metric: str, baseline: float, value: float, drop: float) -> None:
    """More is better for accuracy, less for an error."""
    assert METRICS[metric].drop(baseline, value) == pytest.approx(drop)


# -- for real -------------------------------------------------------------------------------------------------------


def test_the_contract_of_a_budget_that_holds(edgekit_cli: Cli, float_model: Path, data: Path, tmp_path: Path) -> None:
    """One JSON object, exit 0, and the same numbers as evaluate gives."""
    run = tmp_path / "run"

    done = edgekit_cli("convert", float_model, "--data", data, "--max-drop", "0.05", "--out", run, "--json")

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    found = answer["budget"]
    assert answer["choice"] == "int8"
    assert {item["name"] for item in answer["variants"]} == {"float32", "int8"}
    assert found["met"] is True
    assert found["steps"][0]["median_ms"] > 0
    evaluated = edgekit_cli("evaluate", run, "--data", data, "--json")
    accuracies = {item["variant"]: item["accuracy"] for item in json.loads(evaluated.stdout)["evaluations"]}
    assert found["baseline"] == accuracies["float32"]
    assert found["drop"] == pytest.approx(accuracies["float32"] - accuracies["int8"])


def test_a_budget_that_cannot_be_met_is_exit_1_with_the_best_found(
    edgekit_cli: Cli, float_model: Path, data: Path, tmp_path: Path
) -> None:
    """A gain of half of all answers is asked for: every rung is climbed, and everything made is kept."""
    run = tmp_path / "run"

    done = edgekit_cli("convert", float_model, "--data", data, "--max-drop", "-0.5", "--out", run)

    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Nothing keeps its accuracy: no variant loses" in " ".join(done.stdout.split())
    kept = json.loads((run / "budget.json").read_text())
    assert (kept["met"], kept["choice"]) == (False, None)
    assert {step["rung"] for step in kept["steps"]} >= {"asked", "calibration", "correction", "training"}
    assert {path.stem for path in (run / "variants").glob("*.tflite")} >= {"float32", "int8", "int8-mse"}


def test_the_same_search_again_goes_on_from_what_is_there(float_model: Path, data: Path, tmp_path: Path) -> None:
    """Same seed, same result: nothing is made anew."""
    first = search(float_model, data=data, max_drop=0.05, out=tmp_path / "run", device=None)
    again = search(float_model, data=data, max_drop=0.05, out=tmp_path / "run", device=None)

    assert [(item.name, item.sha256) for item in again.variants] == [(v.name, v.sha256) for v in first.variants]
    assert all(item.reused for item in again.variants)
    assert (again.choice, again.budget.drop) == (first.choice, first.budget.drop)


def test_the_same_seed_gives_the_same_search(float_model: Path, data: Path, tmp_path: Path) -> None:
    """Every variant to the byte, every step, also where the whole ladder is climbed."""
    first, second = (
        search(float_model, data=data, max_drop=-0.5, out=tmp_path / name, device=None) for name in ("a", "b")
    )

    assert [(item.name, item.sha256) for item in first.variants] == [(v.name, v.sha256) for v in second.variants]
    assert [(s.variant, s.drop) for s in first.budget.steps] == [(s.variant, s.drop) for s in second.budget.steps]
    assert len(first.variants) > 5


BAD = {
    "drop in points": (["--max-drop", "5"], "as a fraction such as 0.01"),
    "no time": (["--max-drop", "0.01", "--max-search-s", "0"], "seconds above 0"),
    "metric typo": (["--max-drop", "0.01", "--metric", "acuracy"], "did you mean 'accuracy'"),
    "metric this data lacks": (["--max-drop", "0.01", "--metric", "mean-absolute-error"], "float targets"),
    "metric without a search": (["--metric", "accuracy"], "add --max-drop 0.01"),
    "a free batch": (["--max-drop", "0.01", "--batch", "-1"], "leave --batch out"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_search_nobody_can_mean_is_refused(
    case: str, edgekit_cli: Cli, float_model: Path, data: Path, tmp_path: Path
) -> None:
    """Exit 2, what was expected, no traceback."""
    arguments, message = BAD[case]

    done = edgekit_cli("convert", float_model, "--data", data, "--out", tmp_path / "run", *arguments)

    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert message in done.stderr


def test_a_search_without_data_says_so(float_model: Path, edgekit_cli: Cli, tmp_path: Path) -> None:
    """There is nothing to measure accuracy on."""
    done = edgekit_cli("convert", float_model, "--max-drop", "0.01", "--out", tmp_path / "run")

    assert done.returncode == 2
    assert "--max-drop needs data" in done.stderr


def test_a_recipe_that_trains_needs_a_keras_model(float_model: Path, data: Path, tmp_path: Path) -> None:
    """A .tflite cannot be pruned any more."""
    with pytest.raises(UsageError, match=r"expected a Keras model .* got a \.tflite"):
        search(float_model, data=data, max_drop=0.05, out=tmp_path / "run", recipes=("prune75-int8",), device=None)


def test_an_experiment_can_search(edgekit_cli: Cli, float_model: Path, data: Path, tmp_path: Path) -> None:
    """``convert.search`` begins with the recipes and compares everything it made."""
    path = tmp_path / "edgekit.toml"
    path.write_text(
        f'name = "dense"\n[data]\nsource = "{data}"\n[model]\npath = "{float_model}"\n'
        '[convert]\nrecipes = ["int8"]\nsearch = true\n[compare]\nmax_drop = 0.05\n'
    )

    done = edgekit_cli("run", path, "--out", tmp_path / "run", "--json")

    answer = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert {item["name"] for item in answer["variants"]} == {"float32", "int8"}
    assert json.loads((tmp_path / "run" / "budget.json").read_text())["choice"] == "int8"
