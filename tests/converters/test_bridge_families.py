"""Every family of keras.applications that becomes int8, across the bridge: minutes, so not by default."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from edgekit_converters import bridge
from edgekit_converters._tf import import_keras, import_tf_keras

from tests.converters.bridge_models import FAMILIES, family
from tests.converters.test_bridge_layers import assert_same

pytestmark = [pytest.mark.keras, pytest.mark.families]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Let go of what a family took."""
    yield
    import_keras().backend.clear_session()
    import_tf_keras().backend.clear_session()


@pytest.mark.parametrize("name", FAMILIES)
def test_family_crosses_both_ways(name: str) -> None:
    """Keras 3's model in tf_keras and back: the outputs, and the names of all layers."""
    model = family(import_keras(), name)

    there = bridge.to_tf_keras(model)
    back = bridge.to_keras(there)

    assert_same(model, there, back, high=1)
    assert sorted(layer.name for layer in there.layers) == sorted(
        [*bridge.flat_names(model).values(), model.layers[0].name]
    )
    assert sorted(bridge.flat_names(back).values()) == sorted(bridge.flat_names(model).values())


@pytest.mark.parametrize("name", FAMILIES)
def test_keras_2_family_crosses(name: str) -> None:
    """tf_keras' own model of the family in Keras 3, as one from an old file is."""
    model = family(import_tf_keras(), name)

    assert_same(bridge.to_keras(model), model)
