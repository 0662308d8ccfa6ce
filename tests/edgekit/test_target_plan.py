"""What ``convert --target`` fills in and refuses, before anything is converted."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.errors import UsageError
from edgekit.target_plan import DEFAULT_RECIPES, plan_for


def test_without_a_target_nothing_changes() -> None:
    """Float ends and the two recipes everybody wants."""
    plan = plan_for(None)

    assert (plan.target, plan.recipes, plan.input_type, plan.output_type) == (
        None,
        DEFAULT_RECIPES,
        "float32",
        "float32",
    )


@pytest.mark.parametrize(
    ("target", "recipes", "ends"),
    [
        ("coral", ("int8",), "int8"),
        ("coral-dev-board", ("int8",), "int8"),
        ("ethos-u55-128", ("int8",), "int8"),
        ("micro", ("int8",), "int8"),
        ("raspberry-pi-4", ("int8",), "float32"),
    ],
)
def test_a_target_says_what_it_wants(target: str, recipes: tuple[str, ...], ends: str) -> None:
    """An accelerator takes int8 in and out, a processor is fed floats."""
    plan = plan_for(target)

    assert (plan.recipes, plan.input_type, plan.output_type) == (recipes, ends, ends)
    assert plan.target is not None
    assert plan.target.name == target


def test_what_was_said_goes_first() -> None:
    """As far as the target runs it; a float recipe beside one that runs is there to be compared with."""
    plan = plan_for("coral", recipes=["float32", "prune50-int8"], input_type="uint8", output_type="float32")

    assert (plan.recipes, plan.input_type, plan.output_type) == (("float32", "prune50-int8"), "uint8", "float32")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"target": "corall"}, "unknown target 'corall'; did you mean 'coral'"),
        ({"target": "coral", "recipes": ["float16"]}, "coral runs int8, got float16: take --recipe int8"),
        ({"target": "coral", "recipes": []}, "expected at least one recipe"),
        ({"target": "coral", "batch": -1}, r"fixed shapes and 1 row, got free rows \(--batch -1\): leave --batch out"),
        ({"target": "micro", "batch": 8}, "got 8 rows"),
        ({"target": "micro", "input_type": "uint8"}, "takes int8, float32 as input, got uint8: --input-type int8"),
        ({"target": "micro", "output_type": "uint8"}, "--output-type int8"),
        ({"target": "coral", "recipes": ["int9"]}, "unknown recipe 'int9'"),
    ],
)
def test_what_a_target_can_never_run_is_refused(asked: dict[str, Any], message: str) -> None:
    """With what to type instead."""
    with pytest.raises(UsageError, match=message):
        plan_for(**asked)
