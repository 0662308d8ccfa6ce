"""Models for the bridge: weights that a mix-up cannot hide in, and every family of keras.applications that becomes int8."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray

# Family → the smallest image its layers take, or nearly so: time goes into the number of layers.
FAMILIES = {
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "MobileNetV3Large": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "DenseNet121": 64,
    "NASNetMobile": 64,
    "Xception": 75,
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
    "ConvNeXtTiny": 64,
}


def variables(model: Any) -> Iterator[tuple[Any, str, Any]]:
    """Every weight of a model of either Keras, with its layer and its own name."""
    for layer in model._flatten_layers(include_self=False):
        owned = getattr(layer, "_trainable_variables", None)
        owned = layer._trainable_weights if owned is None else owned
        rest = getattr(layer, "_non_trainable_variables", None)
        rest = layer._non_trainable_weights if rest is None else rest
        for variable in [*owned, *rest]:
            yield layer, str(variable.name).rsplit("/", 1)[-1].split(":")[0], variable


def shake(model: Any, *, seed: int = 0) -> Any:
    """``model`` with biases, scales and statistics drawn at random: fresh ones are all 0 or 1, and their order tells nothing."""
    random = np.random.default_rng(seed)
    for layer, name, variable in variables(model):
        if name in ("moving_variance", "gamma") or type(layer).__name__ == "LayerScale":
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif name in ("bias", "beta", "moving_mean", "alpha"):
            variable.assign(random.uniform(-0.2, 0.2, variable.shape))
    return model


def family(keras: Any, name: str) -> Any:
    """A model of ``keras.applications`` or ``tf_keras.applications``, shaken; its outputs are logits: probabilities are tiny."""
    size = FAMILIES[name]
    return shake(
        getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classifier_activation=None)
    )
