"""The contract of ``edgekit_device.Model``, checked over whichever runtime the Python that runs this file has.

A plain program, since a device's environment has no pytest and may be Python 3.9:

    python model_contract.py FOLDER RUNTIME DELEGATES [DELEGATE]

FOLDER holds the models of tests/device/models.py as NAME.tflite; DELEGATES is what takes over a float32 and an int8
model, as ``xnnpack,none``; DELEGATE is what is asked for, ``auto`` unless given. Prints one JSON object: for every check null, or
how it failed.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import edgekit_device
import numpy as np
from edgekit_device import ClosedError, InputError, Model, ModelError, RuntimeMissingError

# The dense models of tests/tflite_builder.py.
KERNEL = np.random.default_rng(7).normal(size=(32, 64)).astype(np.float32)
KERNEL_INT8 = np.random.default_rng(7).integers(-127, 128, size=(32, 64), dtype=np.int8)
SCALE, ZERO = 0.5, 3


@dataclass(frozen=True)
class Bench:
    """Where the models are and what runs them."""

    folder: pathlib.Path
    runtime: str
    delegates: tuple[str, str]
    asked: str

    def path(self, name: str) -> pathlib.Path:
        """The file of a model."""
        return self.folder / (name + ".tflite")

    def model(self, name: str, **options: Any) -> Model:
        """The model, over the runtime under test."""
        return Model(self.path(name), runtime=self.runtime, delegate=self.asked, **options)


CHECKS: dict[str, Callable[[Bench], None]] = {}


def check(function: Callable[[Bench], None]) -> Callable[[Bench], None]:
    CHECKS[function.__name__] = function
    return function


def floats(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def refuses(kind: type, expected: str, received: str, call: Callable[[], object]) -> None:
    """``call`` raises ``kind``, and its message holds what was expected and what came."""
    message = None
    try:
        call()
    except kind as error:
        message = str(error)
    assert message is not None, f"expected {kind.__name__} about {expected!r}, got no error"
    assert expected in message, (expected, message)
    assert received in message, (received, message)


def dense_int8(steps: np.ndarray) -> np.ndarray:
    """The integer arithmetic of the quantized layer (Jacob et al., 2018, equation 7), rounded at the end."""
    accumulator = (steps.astype(np.int64) - ZERO) @ KERNEL_INT8.T.astype(np.int64) + 1
    return np.clip(np.rint(accumulator * (SCALE * 0.25) / SCALE) + ZERO, -128, 127)


def sparse_steps(rows: int) -> np.ndarray:
    """Steps so near zero that the layer's outputs fill its range without saturating it."""
    rng = np.random.default_rng(3)
    steps = np.full((rows, 64), ZERO, np.int8)
    for row in steps:
        row[rng.choice(64, 4, replace=False)] += rng.choice([-1, 1], 4).astype(np.int8)
    return steps


# -- numbers ----------------------------------------------------------------------------------------------------


@check
def float_model_equals_numpy(bench: Bench) -> None:
    """A float32 layer gives what numpy gives, within the rounding of sums of 64 products."""
    x = floats(1, 64)
    expected = x @ KERNEL.T + 1
    bound = 64 * np.finfo(np.float32).eps * (np.abs(x) @ np.abs(KERNEL).T + 1).max()
    with bench.model("dense") as model:
        assert np.abs(model.predict(x) - expected).max() <= bound


@check
def native_integers_equal_numpy(bench: Bench) -> None:
    """Native steps come back as native steps, within the one step that a fixed-point multiplier may round off."""
    steps = sparse_steps(1)
    with bench.model("dense_int8") as model:
        result = model.predict(steps)
    assert result.dtype == np.int8
    assert np.unique(result).size > 10
    assert np.abs(result - dense_int8(steps)).max() <= 1


@check
def real_values_equal_numpy(bench: Bench) -> None:
    """Real-world floats are quantized by the tensor's own scale, and the steps come back as real-world float32."""
    steps = sparse_steps(1)
    real = (steps.astype(np.float32) - ZERO) * SCALE
    with bench.model("dense_int8") as model:
        assert (model.inputs[0].scale, model.inputs[0].zero_point) == (SCALE, ZERO)
        result, native = model.predict(real), model.predict(steps)
        in_double = model.predict(real.astype(np.float64))
    assert result.dtype == np.float32
    assert np.abs(result - (dense_int8(steps) - ZERO) * SCALE).max() <= SCALE
    assert np.array_equal(result, (native.astype(np.float32) - ZERO) * SCALE)
    assert np.array_equal(result, in_double)


@check
def real_values_round_and_saturate(bench: Bench) -> None:
    """Between two steps the nearer counts; beyond the range, even infinity, the end of the range does."""
    with bench.model("quantized_sum") as model:
        steps = [np.array([[3, 4, 127, -128]], np.int8), np.full((1, 4), -1, np.int8)]
        real = [np.array([[0.2, 0.3, 1e30, -np.inf]]), np.zeros((1, 4))]
        assert np.array_equal(model.predict(real), (model.predict(steps).astype(np.float32) - 2) * 0.75)


@check
def float_input_and_quantized_output(bench: Bench) -> None:
    """Real-world values in means real-world values out, also where only the output is quantized."""
    with bench.model("quantized_output") as model:
        result = model.predict(np.array([[0.0, 1.0, -2.0, 0.5]], np.float32))
    assert result.dtype == np.float32
    assert result.tolist() == [[0.0, 1.0, -2.0, 0.5]]


@check
def float_ends_of_a_quantized_model_are_plain_floats(bench: Bench) -> None:
    """With QUANTIZE and DEQUANTIZE inside, the same layer takes and gives floats, within one step."""
    steps = sparse_steps(1)
    with bench.model("dense_int8_float_io") as model:
        result = model.predict((steps.astype(np.float32) - ZERO) * SCALE)
        assert not model.inputs[0].quantized
    assert np.abs(result - (dense_int8(steps) - ZERO) * SCALE).max() <= SCALE


@check
def tokens_are_integers(bench: Bench) -> None:
    """Indices go in as integers of any width that holds them, and are never scaled."""
    table = np.arange(40, dtype=np.float32).reshape(10, 4)
    ids = np.array([[9, 0, 4], [1, 1, 2]])
    with bench.model("tokens") as model:
        assert np.array_equal(model.predict(ids[:1].astype(np.int32)), table[ids[:1]])
        assert np.array_equal(model.predict(ids.astype(np.int64)), table[ids])
        assert np.array_equal(model.predict(ids.astype(np.uint8)), table[ids])
        refuses(InputError, "int32", "2199023255552", lambda: model.predict(np.full((1, 3), 2**41)))
        refuses(InputError, "int32", "float32", lambda: model.predict(ids.astype(np.float32)))


@check
def an_index_out_of_range_is_an_error(bench: Bench) -> None:
    """What the runtime refuses while running is an InferenceError, and the model runs on afterwards."""
    with bench.model("tokens") as model:
        refuses(
            edgekit_device.InferenceError, bench.runtime, "", lambda: model.predict(np.array([[99, 0, 0]], np.int32))
        )
        assert model.predict(np.array([[1, 0, 0]], np.int32))[0, 0].tolist() == [4, 5, 6, 7]


@check
def odd_arrays_are_taken_as_their_values(bench: Bench) -> None:
    """A view with strides, another byte order, and lists give what the plain array gives."""
    x = floats(1, 64)
    with bench.model("dense") as model:
        expected = model.predict(x)
        wide = np.zeros((1, 128), np.float32)
        wide[:, ::2] = x
        assert np.array_equal(model.predict(wide[:, ::2]), expected)
        assert np.array_equal(model.predict(x.astype(">f4")), expected)
        assert np.array_equal(model.predict([x.tolist()]), expected)


@check
def results_do_not_change_later(bench: Bench) -> None:
    """What predict returned is the caller's: the next call leaves it alone."""
    with bench.model("dense") as model:
        first = model.predict(floats(1, 64))
        kept = first.copy()
        model.predict(floats(1, 64, seed=2))
    assert np.array_equal(first, kept)


# -- several inputs and outputs ---------------------------------------------------------------------------------


@check
def several_by_position(bench: Bench) -> None:
    """A sequence follows the graph's order of inputs, and a tuple of outputs its order of outputs."""
    a, b = floats(1, 4), floats(1, 4, seed=2)
    with bench.model("difference_and_product") as model:
        assert [spec.name for spec in model.inputs] == ["b", "a"]
        product, difference = model.predict([b, a])
    assert np.array_equal(product, a * b)
    assert np.array_equal(difference, a - b)


@check
def several_by_name(bench: Bench) -> None:
    """A mapping follows the signature's names, in whatever order, and so do the outputs."""
    a, b = floats(5, 4), floats(5, 4, seed=2)
    with bench.model("difference_and_product") as model:
        result = model.predict({"input_1": a, "input_0": b})
        assert set(result) == {"output_0", "output_1"}
        assert np.array_equal(result["output_0"], a * b)
        assert np.array_equal(result["output_1"], a - b)
        again = model.predict({"input_0": b, "input_1": a}, signature="serving_default")
        assert np.array_equal(again["output_1"], a - b)


@check
def names_without_a_signature(bench: Bench) -> None:
    """Where the file has no signature the tensors' own names count."""
    with bench.model("unnamed") as model:
        result = model.predict({"b": np.ones((1, 4), np.float32), "a": np.zeros((1, 4), np.float32)})
    assert list(result) == ["sum"]
    assert result["sum"].tolist() == [[1, 1, 1, 1]]


@check
def wrong_names_are_refused(bench: Bench) -> None:
    """A missing, misspelt or superfluous name, and an unknown signature, each say what there is."""
    x = floats(1, 4)
    with bench.model("difference_and_product") as model:
        refuses(InputError, "['input_0', 'input_1']", "['input_0']", lambda: model.predict({"input_0": x}))
        refuses(InputError, "['input_0', 'input_1']", "'inptu_1'", lambda: model.predict({"input_0": x, "inptu_1": x}))
        refuses(InputError, "serving_default", "'main'", lambda: model.predict({"input_0": x}, signature="main"))
        refuses(InputError, "mapping", "position", lambda: model.predict([x, x], signature="serving_default"))
    with bench.model("dense") as model:
        refuses(InputError, "mapping", "position", lambda: model.predict(floats(1, 64), signature="serving_default"))


@check
def several_signatures_need_a_choice(bench: Bench) -> None:
    """With two signatures the main graph's runs by its name; no name, or the other's, is refused."""
    x = floats(1, 4)
    with bench.model("two_signatures") as model:
        assert np.array_equal(model.predict({"input_0": x}, signature="plus")["output_0"], x + x)
        assert np.array_equal(model.predict(x), x + x)
        refuses(InputError, "signature=", "plus", lambda: model.predict({"input_0": x}))


@check
def mixing_native_and_real_is_refused(bench: Bench) -> None:
    """Floats for one quantized input and steps for the other would leave the outputs' meaning open."""
    with bench.model("quantized_sum") as model:
        native, real = np.zeros((1, 4), np.int8), np.zeros((1, 4), np.float32)
        refuses(InputError, "every quantized input", "native integers", lambda: model.predict([native, real]))
        assert model.predict([native, native]).dtype == np.int8
        assert model.predict([real, real]).dtype == np.float32


# -- rows -------------------------------------------------------------------------------------------------------


@check
def many_rows_equal_row_by_row(bench: Bench) -> None:
    """Any number of rows, below and above the largest batch and back to one, equals each row by itself."""
    x = floats(150, 64)
    bound = 64 * np.finfo(np.float32).eps * (np.abs(x) @ np.abs(KERNEL).T + 1).max()
    with bench.model("dense") as model:
        single = np.concatenate([model.predict(row[None]) for row in x])
        for rows in (150, 1, 64, 65, 3, 1):
            assert np.abs(model.predict(x[:rows]) - single[:rows]).max() <= bound
    with bench.model("conv_int8") as model:
        image = np.random.default_rng(5).integers(-128, 128, (7, 8, 8, 3), dtype=np.int8)
        assert np.array_equal(model.predict(image), np.concatenate([model.predict(row[None]) for row in image]))


@check
def resize_allocates_for_a_batch(bench: Bench) -> None:
    """After resize(4) the model has four rows, and other numbers of rows still come out right."""
    x = floats(6, 8, 8, 3)
    with bench.model("conv") as model:
        one = model.predict(x[:1])
        model.resize(4)
        assert model.batch == 4
        assert model.inputs[0].shape == (4, 8, 8, 3)
        assert np.allclose(model.predict(x)[:1], one, atol=1e-5)
        model.resize(1)
        assert np.allclose(model.predict(x[:1]), one, atol=1e-5)
        refuses(InputError, "at least 1", "0", lambda: model.resize(0))
        refuses(InputError, "at least 1", "2.5", lambda: model.resize(2.5))  # type: ignore[arg-type]


@check
def a_fixed_batch_runs_row_by_row(bench: Bench) -> None:
    """A graph with a constant batch inside refuses resize(), and predict still gives every row its own result."""
    x = floats(5, 2, 6)
    for probe in (True, False):
        with bench.model("fixed_batch", probe=probe) as model:
            assert np.array_equal(model.predict(x), 2 * x.reshape(5, 12))
            refuses(InputError, "resized", "got 4", lambda model=model: model.resize(4))
            assert model.batch == 1
            assert np.array_equal(model.predict(x[2:3]), 2 * x[2:3].reshape(1, 12))


@check
def inputs_without_a_common_batch_take_their_exact_shapes(bench: Bench) -> None:
    """Inputs of one and three rows run as declared; other rows are refused, not broadcast."""
    row, rows = floats(1, 4), floats(3, 4, seed=2)
    with bench.model("unequal_rows") as model:
        assert np.array_equal(model.predict([row, rows]), row + rows)
        refuses(InputError, "(1, 4)", "(3, 4)", lambda: model.predict([rows, rows]))
        refuses(InputError, "resized", "got 2", lambda: model.resize(2))


@check
def outputs_that_are_no_rows_are_refused_in_turn(bench: Bench) -> None:
    """A graph that turns rows into columns runs for its own batch; more rows would be put together wrongly."""
    x = floats(2, 4)
    with bench.model("transposed") as model:
        assert np.array_equal(model.predict(x[:1]), x[:1].T)
        refuses(InputError, "1 row(s)", "(4, 1)", lambda: model.predict(x))


@check
def wrong_inputs_are_refused(bench: Bench) -> None:
    """Number, rank, shape, rows, dtype and NaN: each message holds what was expected and what came."""
    with bench.model("dense") as model:
        refuses(InputError, "(N, 64)", "(1, 63)", lambda: model.predict(floats(1, 63)))
        refuses(InputError, "x[None]", "(64,)", lambda: model.predict(floats(64)))
        refuses(InputError, "(N, 64)", "(0, 64)", lambda: model.predict(floats(0, 64)))
        refuses(InputError, "1 input(s)", "got 2", lambda: model.predict([floats(1, 64), floats(1, 64)]))
        refuses(InputError, "float32", "complex64", lambda: model.predict(floats(1, 64).astype(np.complex64)))
        refuses(InputError, "float32", "<U", lambda: model.predict(np.full((1, 64), "1")))
        refuses(InputError, "array", "list", lambda: model.predict([[[1.0], [1.0, 2.0]]]))
    with bench.model("dense_int8") as model:
        refuses(InputError, "int8 (native steps)", "uint8", lambda: model.predict(np.zeros((1, 64), np.uint8)))
        refuses(InputError, "numbers", "NaN", lambda: model.predict(np.full((1, 64), np.nan)))
    with bench.model("difference_and_product") as model:
        refuses(InputError, "same number of rows", "[1, 2]", lambda: model.predict([floats(1, 4), floats(2, 4)]))


@check
def set_inputs_takes_exact_arrays(bench: Bench) -> None:
    """What a benchmark fills in has the tensor's own shape and dtype, or is refused."""
    with bench.model("dense") as model:
        model.set_inputs([floats(1, 64)])
        model.invoke()
        refuses(InputError, "float32[1, 64]", "float64[1, 64]", lambda: model.set_inputs([np.zeros((1, 64))]))
        refuses(InputError, "1 input(s)", "got 0", lambda: model.set_inputs([]))


# -- life -------------------------------------------------------------------------------------------------------


@check
def path_bytes_and_pathlike(bench: Bench) -> None:
    """A str path, a PathLike and the bytes are the same model."""
    path, x = bench.path("dense"), floats(1, 64)
    results = []
    for source in (str(path), path, path.read_bytes(), bytearray(path.read_bytes())):
        with Model(source, runtime=bench.runtime) as model:
            results.append(model.predict(x))
            assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            assert model.size_bytes == path.stat().st_size
    assert all(np.array_equal(results[0], result) for result in results)


@check
def no_model_is_refused(bench: Bench) -> None:
    """A missing file, a folder, no flatbuffer, a cut one and no path at all are messages, not tracebacks."""
    runtime, good = bench.runtime, bench.path("dense").read_bytes()
    refuses(ModelError, "cannot read", "absent.tflite", lambda: Model(bench.folder / "absent.tflite", runtime=runtime))
    refuses(ModelError, "cannot read", "irectory", lambda: Model(bench.folder, runtime=runtime))
    refuses(ModelError, "cannot read", "null", lambda: Model("a\0b", runtime=runtime))
    refuses(ModelError, "TFL3", "12 bytes", lambda: Model(b"not a model.", runtime=runtime))
    refuses(ModelError, "TFL3", "0 bytes", lambda: Model(b"", runtime=runtime))
    refuses(ModelError, "cannot load", "the model", lambda: Model(good[:16] + bytes(64), runtime=runtime))
    refuses(InputError, "path or bytes", "NoneType", lambda: Model(None, runtime=runtime))  # type: ignore[arg-type]


@check
def wrong_threads_are_refused(bench: Bench) -> None:
    """Threads is a whole number from 1."""
    for wrong in (0, -1, 257, True, 1.5, "2"):
        refuses(InputError, "from 1 to 256", repr(wrong), lambda wrong=wrong: bench.model("dense", threads=wrong))
    with bench.model("dense", threads=2) as model:
        assert model.runtime.threads == 2


@check
def a_closed_model_says_so(bench: Bench) -> None:
    """After close(), and after the with block, every use is a ClosedError; closing twice is fine."""
    x = floats(1, 64)
    with bench.model("dense") as model:
        model.predict(x)
    model.close()
    for use in (
        lambda: model.predict(x),
        lambda: model.predict({"input_0": x}),
        lambda: model.resize(2),
        lambda: model.set_inputs([x]),
        model.invoke,
    ):
        refuses(ClosedError, "closed", "dense.tflite", use)
    assert model.size_bytes > 0


@check
def the_runtime_is_named(bench: Bench) -> None:
    """Name, version and delegate are the ones in use; the delegate differs between float32 and int8 where it does."""
    with bench.model("dense") as model:
        facts, text = model.runtime, repr(model)
    with bench.model("dense_int8") as model:
        quantized = model.runtime
    assert facts.name == bench.runtime
    assert facts.version[0].isdigit()
    assert facts.version in text
    assert bench.runtime in text
    assert (facts.delegate, quantized.delegate) == bench.delegates


@check
def auto_takes_the_first_installed(bench: Bench) -> None:
    """``auto`` is a runtime that is installed, and the model says which."""
    from edgekit_device._runtime import RUNTIMES, installed_runtimes

    with Model(bench.path("dense")) as model:
        assert model.runtime.name == next(name for name in RUNTIMES if name in installed_runtimes())
        assert model.runtime.version == installed_runtimes()[model.runtime.name]


@check
def other_runtimes_are_refused_by_name(bench: Bench) -> None:
    """A misspelt runtime lists the choices; one that is not installed gives the line that installs it."""
    from edgekit_device._runtime import RUNTIMES, installed_runtimes

    refuses(RuntimeMissingError, "litert, tflite, tf", "'lite'", lambda: Model(bench.path("dense"), runtime="lite"))
    for name in set(RUNTIMES) - set(installed_runtimes()):
        refuses(RuntimeMissingError, "pip install", name, lambda name=name: Model(bench.path("dense"), runtime=name))


@check
def the_note_travels(bench: Bench) -> None:
    """A model with a note behind it still loads, and gives the note back; one without gives an empty one."""
    x = floats(1, 64)
    with bench.model("noted") as noted, bench.model("dense") as plain:
        assert noted.note == {"preprocessing": {"scale": 0.5, "offset": -1.0}, "recipe": "int8"}
        assert plain.note == {}
        assert np.array_equal(noted.predict(x), plain.predict(x))


@check
def several_threads_get_their_own_answers(bench: Bench) -> None:
    """Threads that predict, resize and read at once each get the result of their own input."""
    x = floats(6, 64)
    failures: list[str] = []
    with bench.model("dense") as model:
        expected = model.predict(x)

        def work(number: int) -> None:
            rows = slice(number, number + 1) if number < 4 else slice(0, number)
            try:
                for _ in range(100):
                    if not np.allclose(model.predict(x[rows]), expected[rows], atol=1e-4):
                        failures.append(f"thread {number} got another's answer")
                        return
            except Exception as error:
                failures.append(f"thread {number}: {error!r}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def main() -> None:
    bench = Bench(pathlib.Path(sys.argv[1]), sys.argv[2], tuple(sys.argv[3].split(",")), (sys.argv[4:] or ["auto"])[0])
    results = {}
    for name, function in CHECKS.items():
        try:
            function(bench)
            results[name] = None
        except Exception:
            results[name] = traceback.format_exc()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
