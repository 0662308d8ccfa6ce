"""Facts about weights, measured on files of every precision, against numpy on the Keras weights."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from edgekit_converters._tf import import_tf_keras
from edgekit_converters.errors import ModelFileError
from edgekit_converters.export import export_float
from edgekit_converters.load import LoadedModel
from edgekit_converters.quantize import quantize
from edgekit_converters.tensor_facts import weight_facts, zipped_bytes


@pytest.mark.keras
def test_sparsity_and_distinct_values_at_every_precision() -> None:
    """A pruned, clustered dense layer and a full one: the same zeros and values in float32, float16, int8 and weight-only."""
    tf_keras = import_tf_keras()
    layers = tf_keras.layers
    source = layers.Input((32,), name="source")
    few, many = layers.Dense(48, use_bias=False, name="few"), layers.Dense(2, use_bias=False, name="many")
    model = tf_keras.Model(source, many(few(source)))
    rng = np.random.default_rng(0)
    kernel = rng.choice(np.array([-1, 0, 0, 0.5, 1], np.float32), (32, 48))
    full = rng.uniform(1, 2, (48, 2)).astype(np.float32)
    few.set_weights([kernel])
    many.set_weights([full])
    float_model = export_float(LoadedModel(model, "tf_keras")).tflite
    samples = {"source": rng.normal(size=(8, 32)).astype(np.float32)}
    zeros = float(np.mean(kernel == 0)) * kernel.size / (kernel.size + full.size)
    for precision in ("float32", "float16", "int8", "dynamic-int8"):
        made = quantize(float_model, precision=precision, samples=samples).tflite
        facts = weight_facts(made)
        found = {item.shape: item for item in facts.kernels}
        assert found[48, 32].sparsity == pytest.approx(np.mean(kernel == 0)), precision
        assert found[48, 32].distinct == 4
        assert found[2, 48].sparsity == 0
        assert facts.sparsity == pytest.approx(zeros)
        assert facts.largest_clusters == found[2, 48].distinct > 4
    assert zipped_bytes(float_model) == len(zlib.compress(float_model, 9))


def test_bytes_that_are_no_model() -> None:
    """The reader's own error."""
    with pytest.raises(ModelFileError):
        weight_facts(b"rubbish")
