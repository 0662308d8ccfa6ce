"""Records, and reading them back from JSON that anybody may have edited."""

from __future__ import annotations

import json

import pytest

from edgekit.errors import StoreError
from edgekit.plain import plain_json
from edgekit.records import ClassScore, Evaluation, Parity, Variant, from_dict, to_dict

EVALUATION = Evaluation(
    "int8", 4, 0.75, None, 1.0, per_class=(ClassScore("a", 1.0, 0.5, 0.6, 2),), confusion=((1, 1), (0, 2))
)


@pytest.mark.parametrize(
    "record",
    [EVALUATION, Variant("int8", "int8", calibration={"count": 3}, source={"sha256": "x"}), Parity("a", 1, 1.0, 0.0)],
)
def test_a_record_survives_json(record: object) -> None:
    """Written and read back it is equal, tuples and nested records included."""
    assert from_dict(type(record), json.loads(json.dumps(to_dict(record)))) == record


def test_unknown_fields_are_ignored() -> None:
    """A later version may have written more."""
    assert from_dict(Parity, {**to_dict(Parity("a", 1, 1.0, 0.0)), "new": 1}) == Parity("a", 1, 1.0, 0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"variant": 3},
        {"count": "4"},
        {"count": True},
        {"accuracy": "0.9"},
        {"per_class": 1},
        {"per_class": [{"label": "a"}]},
        {"per_class": ["a"]},
        {"confusion": [[0.5]]},
    ],
)
def test_a_value_of_the_wrong_type_is_damage(change: dict[str, object]) -> None:
    """No field is believed unless it has its type."""
    with pytest.raises(StoreError):
        from_dict(Evaluation, {**to_dict(EVALUATION), **change})


@pytest.mark.parametrize("raw", [None, [], "x", 1, {}, {"variant": "a"}])
def test_anything_but_a_whole_record_is_damage(raw: object) -> None:
    """Neither another kind of JSON nor an object with fields missing is read."""
    with pytest.raises(StoreError):
        from_dict(Evaluation, raw)


def test_what_json_cannot_hold_becomes_null_or_text() -> None:
    """NaN and infinity are no JSON."""
    value = {"a": float("nan"), 1: (float("inf"), 2.5, True, None), "path": Exception("x")}

    assert plain_json(value) == {"a": None, "1": [None, 2.5, True, None], "path": "x"}
