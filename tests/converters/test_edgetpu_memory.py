"""The memory parameters take on an Edge TPU, against the bytes in files the real compiler made of public models."""

from __future__ import annotations

import pytest
from edgekit_converters.targets.edgetpu.memory import PARAMETER_MEMORY_BYTES, Memory, packed_bytes, predict_memory
from edgekit_converters.targets.operators import Operator

from tests.converters.edgetpu_layers import LOWEST, dense, layer, mobilenet_v1, mobilenet_v2, plain, tensor

MIB = 2**20


@pytest.mark.parametrize(
    ("compiled_bytes", "operators"),
    [
        # Sizes of PARAMETER_CACHING executables: google-coral/test_data and google-coral/edgetpu.
        pytest.param(3_363_072, mobilenet_v1(), id="mobilenet-v1-224-extractor"),
        pytest.param(3_900_864, mobilenet_v2(), id="mobilenet-v2-224"),
        # ricardodeazambuja/LibrEdgeTPU: one layer of int8 with scales per channel and no bias.
        pytest.param(67_584, [dense(256, 256, per_channel=True, no_bias=True)], id="dense-256"),
        pytest.param(266_240, [dense(512, 512, per_channel=True, no_bias=True)], id="dense-512"),
        pytest.param(1_056_768, [dense(1024, 1024, per_channel=True, no_bias=True)], id="dense-1024"),
        # ferhatyaman/Edge-TPU: 784 pixels of zero point -128, no bias.
        pytest.param(100_352, [dense(784, 100, zero=LOWEST["int8"], no_bias=True)], id="mnist-100"),
        pytest.param(401_408, [dense(784, 500, zero=LOWEST["int8"], no_bias=True)], id="mnist-500"),
    ],
)
def test_packed_bytes_are_the_compiler_s(compiled_bytes: int, operators: list[Operator]) -> None:
    """The sum over a model is the size of its parameters in the compiled file, to the byte."""
    assert predict_memory(operators) == Memory(compiled_bytes, 0, compiled_bytes)


def test_chain_of_convolutions_is_the_compiler_s() -> None:
    """iwatake2222's ten 7 x 7 x 32 convolutions on 128 x 128 and a last one to a single channel take 459,328 bytes."""
    first = layer("CONV_2D", tensor((1, 128, 128, 3), "uint8"), (32, 7, 7, 3), (1, 128, 128, 32))
    others = [layer("CONV_2D", tensor((1, 128, 128, 32), "uint8"), (32, 7, 7, 32), (1, 128, 128, 32)) for _ in range(9)]
    last = layer("CONV_2D", tensor((1, 128, 128, 32), "uint8"), (1, 1, 1, 32), (1, 1, 1, 1))
    assert predict_memory([first, *others, last]).packed_bytes == 459_328


def test_image_into_a_dense_layer_pads_each_pixel() -> None:
    """iwatake2222's first dense layer reads 2 x 2 x 3: four pixels of three channels are stored as four."""
    op = layer("FULLY_CONNECTED", tensor((1, 2, 2, 3), "uint8"), (100, 12), (1, 100))
    assert packed_bytes(op) == 128 * (2 * 2 * 4 + 4)


def test_depthwise_layer_stores_each_weight_four_times() -> None:
    """A depthwise kernel takes four bytes a weight, and beside it 4 bytes a channel, 16 with scales per channel."""
    image = tensor((1, 14, 14, 64))
    assert packed_bytes(layer("DEPTHWISE_CONV_2D", image, (1, 3, 3, 64), (1, 14, 14, 64))) == 64 * (9 * 4 + 4)
    per_channel = layer("DEPTHWISE_CONV_2D", image, (1, 3, 3, 64), (1, 14, 14, 64), per_channel=True)
    assert packed_bytes(per_channel) == 64 * (9 * 4 + 16)


def test_filters_of_one_channel_are_a_convolution() -> None:
    """LibrEdgeTPU's Gabor bank: eight 7 x 7 filters of one channel, zero bias, scales per channel: 3,200 bytes."""
    image = tensor((1, 64, 64, 1), zero=-128)
    op = layer("DEPTHWISE_CONV_2D", image, (1, 7, 7, 8), (1, 32, 32, 8), per_channel=True, bias=[0] * 8)
    assert packed_bytes(op) == 3200


@pytest.mark.parametrize(("zero", "bias", "kept"), [(-128, 0, False), (-128, 5, True), (3, 0, True)])
def test_bias_is_stored_unless_nothing_would_be_added(zero: int, bias: int, kept: bool) -> None:
    """A zero bias costs nothing where the input's zero point is its lowest value, else 4 bytes an output."""
    op = layer("CONV_2D", tensor((1, 8, 8, 16), zero=zero), (16, 1, 1, 16), (1, 8, 8, 16), bias=[bias] * 16)
    assert packed_bytes(op) == 16 * (16 + (4 if kept else 0))


def test_softmax_has_tables_by_channels() -> None:
    """MobileNetV1's softmax over 1,001 classes adds 48,256 bytes; over an image that was reshaped, only its channels count."""
    scores = tensor((1, 1001))
    assert packed_bytes(plain("SOFTMAX", [scores], tensor((1, 1001)))) == 48_256
    image, flat = tensor((1, 16, 16, 1)), tensor((1, 256))
    reshape = plain("RESHAPE", [image], flat)
    softmax = plain("SOFTMAX", [flat], tensor((1, 256)))
    assert packed_bytes(softmax, {flat.index: reshape}) == 48 * 4


def test_reshapes_in_a_circle_end() -> None:
    """A damaged graph whose reshapes read each other does not keep the reader."""
    one, other = tensor((1, 8)), tensor((1, 8))
    circle = {one.index: plain("RESHAPE", [other], one), other.index: plain("RESHAPE", [one], other)}
    assert packed_bytes(plain("SOFTMAX", [one], tensor((1, 8))), circle) == 48 * 8 + 64


def test_constant_image_is_sent_every_time() -> None:
    """MoveNet multiplies with a constant of 48 x 48: 2,304 bytes in the executable that runs."""
    image = tensor((1, 48, 48, 1))
    op = plain("MUL", [image, tensor((48, 48, 1), constant=True)], tensor((1, 48, 48, 1)))
    assert predict_memory([op]) == Memory(cached_bytes=0, streamed_bytes=2304, packed_bytes=2304)


def test_dense_layer_of_many_inputs_is_streamed() -> None:
    """LibrEdgeTPU's trackers: two layers of 16,384 inputs are sent every time, of 4,096 they stay."""
    large, small = dense(16_384, 1, zero=-128, no_bias=True), dense(4096, 1, zero=-128, no_bias=True)
    assert predict_memory([large, large]) == Memory(0, 524_288, 524_288)
    assert predict_memory([small, small]) == Memory(131_072, 0, 131_072)


def test_what_nobody_saw_is_not_predicted() -> None:
    """Between 4,096 and 16,384 inputs nobody looked: the sum is told, not where it stays; an LSTM's packing is not known."""
    unsure = predict_memory([dense(8192, 16)])
    assert unsure == Memory(None, None, 16 * (8192 + 4))
    assert predict_memory([plain("UNIDIRECTIONAL_SEQUENCE_LSTM", [], tensor((1, 20)))]) == Memory()


def test_large_layer_on_a_flattened_image_is_not_predicted() -> None:
    """The compiler may store such a layer in every tile, 16 times: no figure, where LeNet's 5 x 5 x 16 has one."""
    for side, channels, known in ((5, 16, True), (8, 64, False)):
        image, flat = tensor((1, side, side, channels)), tensor((1, side * side * channels))
        head = layer("FULLY_CONNECTED", flat, (10, side * side * channels), (1, 10))
        memory = predict_memory([plain("RESHAPE", [image], flat), head])
        assert memory == (Memory(16 * (400 + 4), 0, 16 * (400 + 4)) if known else Memory())


def test_large_model_streams_what_does_not_fit() -> None:
    """25 MB of parameters: about 7.4 MiB stay, the rest is sent; both add up to all."""
    layers = [dense(2048, 2048) for _ in range(6)]
    memory = predict_memory(layers)
    assert memory.packed_bytes == 6 * 2048 * 2052
    assert memory.cached_bytes is not None
    assert memory.streamed_bytes is not None
    assert memory.cached_bytes + memory.streamed_bytes == memory.packed_bytes
    assert 6.9 * MIB <= memory.cached_bytes <= 7.9 * MIB


def test_model_at_the_edge_of_the_memory_is_not_predicted() -> None:
    """Where the executable's size decides what stays, no figure is given."""
    filling = [dense(2048, 1856) for _ in range(2)]
    assert 6.9 * MIB < 2 * packed_bytes(filling[0]) < 7.9 * MIB
    assert predict_memory(filling) == Memory(packed_bytes=2 * 1856 * 2052)


def test_memory_of_a_smaller_chip() -> None:
    """The chip's memory is the caller's: on 16 MiB the model above stays whole."""
    layers = [dense(2048, 2048) for _ in range(3)]
    assert predict_memory(layers, 2 * PARAMETER_MEMORY_BYTES) == Memory(3 * 2048 * 2052, 0, 3 * 2048 * 2052)


@pytest.mark.parametrize("kernel", [(), (0, 3, 3, 8), (8, -3, 3, 8), (8, 8)])
def test_shapes_that_are_no_convolution_take_nothing(kernel: tuple[int, ...]) -> None:
    """A damaged kernel is no negative number of bytes."""
    image = tensor((1, 4, 4, 8))
    op = Operator(0, "CONV_2D", 1, False, (image, tensor(kernel, constant=True)), (tensor((1, 4, 4, 8)),))
    assert packed_bytes(op) == 0


def test_no_operators_take_nothing() -> None:
    """A model with nothing on the Edge TPU has nothing there."""
    assert predict_memory([]) == Memory(0, 0, 0)
