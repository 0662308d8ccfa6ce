"""The bridge between Keras 3 and tf_keras: the other Keras is the oracle."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from edgekit_converters import bridge
from edgekit_converters._tf import import_keras


def test_import_is_light() -> None:
    """Importing the bridge loads neither TensorFlow nor a Keras."""
    code = "import sys, edgekit_converters.bridge; print({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.keras
def test_both_ways_keep_names_and_outputs() -> None:
    """A model that goes to tf_keras and back has the names it had, and the same outputs."""
    keras = import_keras()
    layers = keras.layers
    image = layers.Input((8, 8, 3), name="image")
    hidden = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(image))
    model = keras.Model(image, layers.Dense(3, name="scores")(layers.Flatten(name="flat")(hidden)))

    there = bridge.to_tf_keras(model)
    back = bridge.to_keras(there)

    sample = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
    names = [layer.name for layer in model.layers]
    assert [layer.name for layer in there.layers] == names
    assert [layer.name for layer in back.layers] == names
    np.testing.assert_allclose(there(sample), model(sample), atol=1e-5)
    np.testing.assert_allclose(back(sample), model(sample), atol=1e-5)
