"""Names of layers across the bridge: kept where they can be, joined with their path where a nested model is dissolved."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["Names", "flat_names"]

# Keras 3 forbids a slash; TensorFlow's scopes, which tf_keras opens under a layer's name, allow these characters only.
JOINT = "."
FORBIDDEN = re.compile(r"[^A-Za-z0-9_.\-]")


class Names:
    """Unique names, valid in both Kerases, for the steps of one model; a step that is shared keeps one name."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = set(reserved)
        self._of: dict[int, str] = {}

    def of(self, item: Any, path: tuple[str, ...]) -> str:
        """The name of ``item``, met at ``path``: the same at every later call."""
        if id(item) not in self._of:
            self._of[id(item)] = self.free(path)
        return self._of[id(item)]

    def free(self, path: tuple[str, ...]) -> str:
        """A name that is taken from now on: the path joined, with a number where it is taken already."""
        wanted = safe(JOINT.join(path))
        name, number = wanted, 1
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name


def safe(name: str) -> str:
    """``name`` with what one of the Kerases refuses replaced by underscores."""
    changed = FORBIDDEN.sub("_", name)
    return changed if changed[:1].isalnum() or changed[:1] == "." else f"layer{changed}"


def flat_names(model: Any) -> dict[str, str]:
    """What the bridge calls every layer and operation of a Keras 3 or tf_keras model: path (``base/conv``) → ``base.conv``.

    Raises UnsupportedModelError for a model that cannot be walked.
    """
    from ..load import is_keras_model
    from .sides import KERAS, TF_KERAS

    side = TF_KERAS if is_keras_model(model) == "tf_keras" else KERAS
    names = Names(input_names(side, model))
    found: dict[str, str] = {}

    def note(item: Any, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
        found["/".join(path)] = names.of(item, path)
        return [0] * side.results(item)

    side.walk(model, [0 for _ in model.inputs], note)
    return found


def input_names(side: Any, model: Any) -> list[str]:
    """The names of a model's inputs, in its own order."""
    keep = "operation" if side.name == "keras" else "layer"
    return [safe(str(getattr(tensor._keras_history, keep).name)) for tensor in model.inputs]
