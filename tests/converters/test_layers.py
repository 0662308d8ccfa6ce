"""Which Keras layer each operator comes from: exported models of both Kerases, and names made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edgekit_converters._tf import import_keras, import_tf_keras
from edgekit_converters.export import FloatExport, export_float, export_saved_model
from edgekit_converters.layers import Origin, layer_names, name_layers
from edgekit_converters.load import LoadedModel, load_model
from edgekit_converters.model_card import read_model_card

from tests.tflite_builder import Graph, Op, Tensor, build, dense_model

BOTH = pytest.mark.parametrize("framework", ["keras", "tf_keras"])


def framework_of(name: str) -> Any:
    """One of the two Kerases."""
    return import_keras() if name == "keras" else import_tf_keras()


def tangled_model(keras: Any) -> Any:
    """Default-like names in an order that makes scopes ambiguous, nesting, sharing, fused activations, a layer of layers."""
    layers = keras.layers
    inner = keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(name="act"),
        ],
        name="inner",
    )
    left, right = layers.Input((8, 8, 3), name="left"), layers.Input((8, 8, 3), name="right")
    both = layers.Concatenate(name="both")([inner(left), inner(right)])
    shared = layers.Conv2D(8, 1, name="conv_1")
    once = layers.Activation("tanh", name="squash")(shared(both))
    twice = shared(once)
    folded = layers.Conv2D(4, 3, name="conv")(twice)
    rows = layers.Reshape((-1, 4), name="rows")(folded)
    pooled = layers.GlobalAveragePooling1D(name="pool")(layers.TimeDistributed(layers.Dense(3), name="each")(rows))
    return keras.Model([left, right], layers.Softmax(name="scores")(layers.Dense(5, name="dense_7")(pooled)))


def by_type(export: FloatExport) -> list[tuple[str, str | None]]:
    """Every operator's type and layer."""
    return list(zip((op.type for op in read_model_card(export.tflite).ops), export.layers, strict=True))


@pytest.mark.keras
@BOTH
def test_every_operator_of_a_tangled_model_bears_its_layer(framework: str, tmp_path: Path) -> None:
    """Nested, shared and look-alike names are told apart, directly and through the SavedModel of a model in memory."""
    model = tangled_model(framework_of(framework))
    export = export_float(LoadedModel(model, framework))
    kinds = by_type(export)
    assert [layer for kind, layer in kinds if kind == "CONV_2D"] == [
        "inner/conv",
        "inner/conv",
        "conv_1",
        "conv_1",
        "conv",
    ]
    wanted = [("CONCATENATION", "both"), ("TANH", "squash"), ("MEAN", "pool"), ("SOFTMAX", "scores")]
    assert [found for found in kinds if found[0] in dict(wanted)] == wanted
    dense = [layer for kind, layer in kinds if kind == "FULLY_CONNECTED"]
    assert dense[-1] == "dense_7"
    assert str(dense[0]).startswith("each")
    assert set(export.layers) <= set(layer_names(model))

    export_saved_model(model, tmp_path)
    again = export_float(load_model(tmp_path))
    assert again.layers == export.layers


@pytest.mark.keras
@BOTH
@pytest.mark.parametrize("family", ["MobileNetV2"])
def test_an_application_names_all_operators(framework: str, family: str) -> None:
    """At least 99 % of the operators have a name, and each name is a layer's; convolutions come in the layers' order."""
    model = getattr(framework_of(framework).applications, family)(input_shape=(32, 32, 3), weights=None, classes=4)
    export = export_float(LoadedModel(model, framework))
    known = layer_names(model)
    named = [layer for layer in export.layers if layer in known]
    assert len(named) >= 0.99 * len(export.layers)
    kernels = [layer.name for layer in model.layers if "conv" in type(layer).__name__.lower()]
    assert [layer for kind, layer in by_type(export) if kind in ("CONV_2D", "DEPTHWISE_CONV_2D")] == kernels


@pytest.mark.keras
@BOTH
def test_layers_are_listed_in_graph_order_with_paths(framework: str) -> None:
    """Models inside are named by their layers; input layers are no layers."""
    names = layer_names(tangled_model(framework_of(framework)))
    assert names[:3] == ["inner/conv", "inner/bn", "inner/act"]
    assert names.index("both") < names.index("conv_1") < names.index("squash") < names.index("scores")
    assert not {"left", "right", "inner"} & set(names)


@pytest.mark.keras
@BOTH
def test_an_operation_outside_of_layers_bears_its_own_name(framework: str) -> None:
    """``x * x`` is no operator that the converter inserted, so it has a name."""
    keras = framework_of(framework)
    source = keras.layers.Input((4,))
    export = export_float(LoadedModel(keras.Model(source, keras.layers.Dense(2)(source * source)), framework))
    assert None not in export.layers
    assert "mul" in str(export.layers[0]).lower()


@pytest.mark.keras
def test_fused_recurrent_layers_bear_their_layers_names() -> None:
    """Keras 2's LSTMs become one operator without a scope."""
    layers = import_tf_keras().layers
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")
    stack = [
        layers.Input((5, 4)),
        layers.Dense(4, name="before"),
        layers.Dropout(0.5),
        both,
        layers.LSTM(2, name="last"),
        layers.Dense(2, name="out"),
    ]
    export = export_float(LoadedModel(import_tf_keras().Sequential(stack), "tf_keras"))
    recurrent = [layer for kind, layer in by_type(export) if kind.endswith("_LSTM")]
    assert recurrent == ["both", "both", "last"]
    assert None not in export.layers


def chain(*outputs: str) -> bytes:
    """A model of ABS operators whose outputs have these names."""
    tensors = [Tensor("in", "float32", (1, 4)), *(Tensor(name, "float32", (1, 4)) for name in outputs)]
    ops = [Op("ABS", (i,), (i + 1,)) for i in range(len(outputs))]
    return build(Graph(tensors, ops, (0,), (len(outputs),)))


def test_scopes_are_the_names_where_no_layer_is_known() -> None:
    """The model's and the operation's own scopes are left out, Keras 3's numbers with them; nothing else is guessed."""
    keras2 = chain("model/conv/Abs", "model/block/conv_1/Abs", "model/dense/einsum/Abs", "tfl.abs")
    assert name_layers(keras2) == ("conv", "block/conv_1", "dense", None)
    keras3 = chain("net_1/conv_1/Abs", "net_1/conv_1_2/Abs;net_1/bn_1/batchnorm/mul", "net_1/deep_1/dense_1/Abs")
    assert name_layers(keras3) == ("conv", "conv_1", "deep/dense")


def test_known_layers_decide_how_scopes_are_read() -> None:
    """Without a framework the reading that fits more of the known names is taken."""
    content = chain("net/conv_1/Abs", "net/conv_2/Abs")
    assert name_layers(content, ["conv_1", "conv_2"]) == ("conv_1", "conv_2")
    assert name_layers(content, ["conv", "other"]) == ("conv", "conv")
    assert name_layers(content, ["conv", "conv_1", "conv_2"], framework="tf_keras") == ("conv_1", "conv_2")


def test_the_producer_names_what_the_converter_calls_an_output() -> None:
    """The last operator's tensor bears the call's name; the operation that made it is known from the trace."""
    content = chain("net/first/Abs", "StatefulPartitionedCall:0")
    assert name_layers(content, ["first", "second"]) == ("first", None)
    named = name_layers(content, ["first", "second"], framework="tf_keras", producers=["net/second/Abs:0"])
    assert named == ("first", "second")


def test_a_model_without_scopes_has_no_names() -> None:
    """A hand-made file says nothing."""
    assert name_layers(dense_model()) == (None,)


def test_an_origin_survives_json_and_ignores_anything_else() -> None:
    """What is not its own JSON gives an empty origin."""
    origin = Origin(("a", "b"), ("m/a/Abs:0",), "keras")
    assert Origin.from_dict(origin.to_dict()) == origin
    assert Origin.from_dict(None) == Origin.from_dict({"layers": 3}) == Origin()
