"""A model that hands out what it computes inside."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from edgekit_converters import ModelFileError, TechniqueError
from edgekit_converters.reveal import reveal_tensors
from edgekit_device import Model

from tests.device.models import MODELS
from tests.tflite_builder import Graph, Tensor, build, conv_model


@pytest.mark.parametrize(
    "name", ["conv", "conv_int8", "dense_int8_float_io", "difference_and_product", "quantized_sum"]
)
def test_every_tensor_is_what_an_interpreter_that_keeps_them_holds(name: str) -> None:
    """To the bit, with the delegate left out on both sides; in the order they are computed."""
    from ai_edge_litert.interpreter import OpResolverType

    content = MODELS[name]()
    revealed, tensors = reveal_tensors(content)
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    keeping = Interpreter(
        model_content=content, experimental_preserve_all_tensors=True, experimental_op_resolver_type=plain
    )
    opened = Interpreter(model_content=revealed, experimental_op_resolver_type=plain)
    draw = np.random.default_rng(0)
    for interpreter in (keeping, opened):
        interpreter.allocate_tensors()
    for ours, theirs in zip(keeping.get_input_details(), opened.get_input_details(), strict=True):
        value = draw.uniform(-100, 100, ours["shape"]).astype(ours["dtype"])
        keeping.set_tensor(ours["index"], value)
        opened.set_tensor(theirs["index"], value)
    keeping.invoke()
    opened.invoke()
    by_name = {item["name"]: keeping.get_tensor(item["index"]) for item in keeping.get_tensor_details() if item["name"]}

    assert [item.op for item in tensors] == sorted(item.op for item in tensors)
    assert len(opened.get_output_details()) == len(tensors)
    for item, detail in zip(tensors, opened.get_output_details(), strict=True):
        assert np.array_equal(opened.get_tensor(detail["index"]), by_name[item.tensor]), item


def test_the_scale_is_that_of_the_tensor() -> None:
    """Read from the file; 0 where the tensor is not quantized."""
    assert [item.scale for item in reveal_tensors(MODELS["quantized_sum"]())[1]] == [0.75]
    assert [item.scale for item in reveal_tensors(conv_model())[1]] == [0.0] * len(reveal_tensors(conv_model())[1])


def test_named_inputs_keep_their_names() -> None:
    """The signature still takes what it took, and names as many outputs as there are."""
    revealed, tensors = reveal_tensors(MODELS["difference_and_product"]())
    before, after = Model(MODELS["difference_and_product"]()), Model(revealed)

    assert {key: value["inputs"] for key, value in after.signatures.items()} == {
        key: value["inputs"] for key, value in before.signatures.items()
    }
    a, b = np.full((1, 4), 5, "float32"), np.full((1, 4), 3, "float32")
    outputs = after.predict({"input_1": a, "input_0": b})
    assert isinstance(outputs, dict)
    assert len(outputs) == len(tensors)
    assert [value[0, 0] for _, value in sorted(outputs.items())] == [2.0, 15.0]


def test_what_is_no_model_is_refused() -> None:
    """With the converters' own error; so is a graph that computes nothing."""
    passing = build(Graph([Tensor("x", "float32", (1, 4))], [], (0,), (0,)))
    with pytest.raises(TechniqueError, match="operators give tensors of numbers"):
        reveal_tensors(passing)
    with pytest.raises(ModelFileError):
        reveal_tensors(b"rubbish")
