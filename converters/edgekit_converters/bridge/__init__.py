"""Keras 3 ⇄ tf_keras: a model rebuilt in the other Keras, layer by layer, with its weights, and proven to compute the same.

TFMOT works on tf_keras models only, everything else here on Keras 3. Nested models come out flat, as TFMOT needs them: a
layer ``conv`` of a nested model ``base`` is called ``base.conv`` then (``flat_names``); all other names stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .names import flat_names
from .proof import TOLERANCE
from .rebuild import to_keras, to_tf_keras

if TYPE_CHECKING:
    from ..load import LoadedModel

__all__ = ["TOLERANCE", "ensure_keras", "flat_names", "to_keras", "to_tf_keras"]


def ensure_keras(loaded: LoadedModel) -> Any:
    """A Keras 3 model, whichever Keras ``loaded`` came from; raises UnsupportedModelError for a SavedModel."""
    from ..errors import UnsupportedModelError

    if loaded.framework == "keras":
        return loaded.model
    if loaded.framework == "tf_keras":
        return to_keras(loaded.model)
    raise UnsupportedModelError(
        "expected a Keras model, got a SavedModel, which holds a graph without layers: give the .keras or .h5 file it was "
        "exported from"
    )
