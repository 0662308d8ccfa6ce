"""The Python API: the same names as on the command line, in a dozen lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.errors import DataError, UsageError


def test_the_public_names_are_pinned() -> None:
    """A change here is a change of the interface."""
    assert edgekit.__all__ == [
        "BenchmarkReport",
        "Comparison",
        "Conversion",
        "DiagnosisReport",
        "EdgekitError",
        "Evaluation",
        "Limits",
        "Model",
        "Preprocessing",
        "Results",
        "SearchResult",
        "Variant",
        "__version__",
        "bench",
        "compare",
        "convert",
        "diagnose",
        "evaluate",
        "load_data",
        "run",
        "search",
    ]
    assert all(getattr(edgekit, name) is not None for name in edgekit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'benhc'"):
        _ = edgekit.benhc


@pytest.fixture(scope="module")
def keras_model() -> Any:
    """A small classifier in memory."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Input((8, 8, 1)), keras.layers.Conv2D(8, 3), keras.layers.Flatten(), keras.layers.Dense(6)]
    return keras.Sequential(layers)


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_dozen_lines(keras_model: Any, tmp_path: Path) -> None:
    """From a model in memory to a verdict, against Keras' own answers."""
    draw = np.random.default_rng(0)
    x = {part: draw.uniform(size=(60, 8, 8, 1)).astype("float32") for part in ("train", "test")}
    y = {part: np.asarray(keras_model(values)).argmax(axis=1) for part, values in x.items()}
    data = ((x["train"], y["train"]), (x["test"], y["test"]))
    runs = tmp_path / "mine"

    made = edgekit.convert(keras_model, data=data, recipes=["float32", "int8"], out=runs)
    evaluations = edgekit.evaluate(runs, data)
    reports = edgekit.bench(runs, runs=10)
    comparison = edgekit.compare(runs, limits=edgekit.Limits(max_drop=0.2))

    assert [item.variant.name for item in made] == ["float32", "int8"]
    assert evaluations.by_variant["float32"].accuracy == 1.0
    assert evaluations.by_variant["int8"].agreement == evaluations.by_variant["int8"].accuracy
    assert [report.latency.count for report in reports] == [10, 10]
    assert comparison.choice in ("float32", "int8")
    with edgekit.Model(made[0].tflite) as model:
        np.testing.assert_allclose(model.predict(x["test"][:1]), keras_model(x["test"][:1]), atol=1e-5)
    again = edgekit.convert(keras_model, data=data, recipes=["float32", "int8"], out=runs)
    assert all(item.variant.reused for item in again)


def test_one_model_or_a_run_give_the_same_kind_of_results(run_folder: Path, data: Path) -> None:
    """A sequence, and by name."""
    alone = edgekit.evaluate(run_folder / "variants" / "int8.tflite", data)
    whole = edgekit.evaluate(run_folder, data)

    assert isinstance(alone, edgekit.Results)
    assert alone[0].accuracy == whole.by_variant["int8"].accuracy
    assert (len(alone), len(whole), list(alone.by_variant)) == (1, 4, ["int8"])
    assert alone.failures == whole.failures == {}


@pytest.mark.parametrize("verb", ["evaluate", "bench", "compare"])
def test_what_is_not_there_is_a_usage_error(verb: str, tmp_path: Path, data: Path) -> None:
    """One family of errors, whatever was asked."""
    arguments = (data,) if verb == "evaluate" else ()
    with pytest.raises(edgekit.EdgekitError) as caught:
        getattr(edgekit, verb)(tmp_path / "none", *arguments)
    assert isinstance(caught.value, UsageError)
    assert "none" in str(caught.value)


def test_every_error_of_the_other_packages_has_a_place_in_ours() -> None:
    """The translation is total: no class of theirs is left to chance."""
    import edgekit_converters
    import edgekit_device

    from edgekit import boundary

    for package, base in (
        (edgekit_converters, edgekit_converters.ConverterError),
        (edgekit_device, edgekit_device.DeviceRuntimeError),
    ):
        for name in package.__all__:
            kind = getattr(package, name)
            if isinstance(kind, type) and issubclass(kind, base):
                with pytest.raises(edgekit.EdgekitError) as caught, boundary.translated():
                    raise kind("why")
                assert str(caught.value) == "why"
                assert caught.value.exit_code == kind.exit_code, name
                assert isinstance(caught.value.__cause__, kind)


def test_training_data_must_be_labelled(tmp_path: Path) -> None:
    """``run`` says so before it makes a folder's worth of anything."""
    (tmp_path / "edgekit.toml").write_text('[data]\nsource = "d.npz"\n[model]\narchitecture = "classic-cnn"\n')
    np.savez(tmp_path / "d.npz", x_train=np.zeros((20, 4)), x_test=np.zeros((4, 4)), y_test=np.zeros(4, int))
    with pytest.raises(DataError, match="no labelled training samples"):
        edgekit.run(tmp_path / "edgekit.toml", out=tmp_path / "run")
