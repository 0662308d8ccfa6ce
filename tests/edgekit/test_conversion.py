"""Converting a float .tflite by recipes: what is kept, what is made again, and what is refused. No TensorFlow."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_device import Model
from edgekit_device.embedded import read_note

from edgekit import Results, convert
from edgekit.conversion import Conversion
from edgekit.data import draw_calibration, load_data
from edgekit.errors import ConversionError, DataError, ModelInputError, StoreError, UsageError
from edgekit.store import RunStore
from tests.tflite_builder import Graph, Op, Tensor, build, dense_model

Arrays = dict[str, np.ndarray]


def kept(results: Results[Conversion]) -> dict[str, bool]:
    """Which variants were kept from before."""
    return {name: item.variant.reused for name, item in results.by_variant.items()}


def test_variants_say_what_they_are(run_folder: Path, float_model: Path, data: Path) -> None:
    """Every fact of the record against the file itself and against the data."""
    calibration = draw_calibration(load_data(data))
    for variant in RunStore.open(run_folder).variants():
        content = Path(variant.path).read_bytes()
        assert variant.sha256 == hashlib.sha256(content).hexdigest()
        assert variant.size_bytes == len(content)
        assert variant.zipped_bytes == len(zlib.compress(content, 9))
        assert variant.source["sha256"] == hashlib.sha256(float_model.read_bytes()).hexdigest()
        assert variant.source["kind"] == "tflite"
        assert {"edgekit", "ai-edge-litert", "numpy"} <= set(variant.versions)
        expected = None
        if variant.name == "int8":
            expected = {"count": 200, "seed": 0, "sha256": calibration.sha256, "excluded": 0}
        assert variant.calibration == expected
        assert read_note(content)["recipe"] == variant.name


def test_bytes_come_back_without_a_folder(float_model: Path, data: Path) -> None:
    """Values in, values out."""
    made = convert(float_model, data=data, recipes=["int8", "float32", "int8"])

    assert list(made.by_variant) == ["int8", "float32"]
    assert made[0] is made.by_variant["int8"]
    assert made[0:2] == tuple(made)
    with Model(made[0].tflite) as model:
        assert model.outputs[0].shape == (1, 32)


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_integer_ends_are_made_by_choice(float_model: Path, data: Path, kind: str) -> None:
    """And recorded, for the int8 recipe alone."""
    made = convert(float_model, data=data, recipes=["int8", "float32"], input_type=kind, output_type=kind)

    with Model(made[0].tflite) as model:
        assert [str(spec.dtype) for spec in (*model.inputs, *model.outputs)] == [kind, kind]
    assert [item.variant.input_type for item in made] == [kind, "float32"]


def test_what_is_done_and_right_is_kept(run_folder: Path, float_model: Path, data: Path) -> None:
    """And everything that decides a variant makes it again: seed, preprocessing, data, types, model."""
    from edgekit import Preprocessing

    def again(**change: Any) -> dict[str, bool]:
        how = {"data": data, "recipes": ["float32", "int8"], "out": run_folder, **change}
        return kept(convert(change.pop("model", float_model), **{k: v for k, v in how.items() if k != "model"}))

    arrays = dict(np.load(data))
    other = float_model.with_name("other.tflite")
    other.write_bytes(dense_model() + b"\0")
    assert again() == {"float32": True, "int8": True}
    assert again(seed=1) == {"float32": True, "int8": False}
    assert again(seed=1, calibration_count=50) == {"float32": True, "int8": False}
    assert again(input_type="int8") == {"float32": True, "int8": False}
    assert again(data={**arrays, "x_train": arrays["x_train"] / 2}) == {"float32": True, "int8": False}
    assert again(preprocessing=Preprocessing(0.5)) == {"float32": False, "int8": False}
    assert again(model=other) == {"float32": False, "int8": False}
    assert again(model=other) == {"float32": True, "int8": True}


@pytest.mark.parametrize(
    "file", ["variants/int8.tflite", "variants/int8.json", "float.tflite", "float.json", "run.json"]
)
def test_a_flipped_byte_is_made_good(run_folder: Path, float_model: Path, data: Path, file: str) -> None:
    """A damaged variant is made again, the others are kept, and the bytes are those of before."""
    path = run_folder / file
    before = path.read_bytes()
    path.write_bytes(bytes([before[0] ^ 0xFF]) + before[1:])
    if file == "run.json":
        with pytest.raises(UsageError, match="no edgekit run"):
            convert(float_model, data=data, recipes=["int8"], out=run_folder)
        return
    found = kept(convert(float_model, data=data, recipes=["float32", "int8"], out=run_folder))

    assert found == {"float32": True, "int8": not file.startswith("variants")}
    assert RunStore.open(run_folder).damaged() == []
    if file.endswith("tflite") and file.startswith("variants"):
        assert path.read_bytes() == before


def test_calibration_is_seeded_counted_and_never_of_the_test_split(float_model: Path, arrays: Arrays) -> None:
    """Rows that are in both splits are left out; the same seed gives the same bytes."""
    shared = {**arrays, "x_train": np.concatenate([arrays["x_train"], arrays["x_test"][:30]])}
    shared["y_train"] = np.concatenate([arrays["y_train"], arrays["y_test"][:30]])
    one, two = (convert(float_model, data=shared, recipes=["int8"], calibration_count=60, seed=3)[0] for _ in range(2))

    assert one.tflite == two.tflite
    assert one.variant.calibration is not None
    assert {k: one.variant.calibration[k] for k in ("count", "seed", "excluded")} == {
        "count": 60,
        "seed": 3,
        "excluded": 30,
    }
    with pytest.raises(DataError, match="x_train holds the same samples as x_test"):
        convert(float_model, data={"x_train": arrays["x_test"], "x_test": arrays["x_test"]}, recipes=["int8"])


def test_recipes_that_need_no_data_take_none(float_model: Path) -> None:
    """And one that does says so before anything is done."""
    assert len(convert(float_model, recipes=["float32", "float16", "dynamic-int8"])) == 3
    with pytest.raises(UsageError, match="int8 needs calibration samples"):
        convert(float_model, recipes=["float32", "int8"])


def test_one_recipe_that_fails_does_not_stop_the_others(float_model: Path, arrays: Arrays, tmp_path: Path) -> None:
    """Samples of the wrong shape stop int8 alone."""
    wrong = {"x_train": arrays["x_train"][:, :10], "x_test": arrays["x_test"][:, :10]}
    made = convert(float_model, data=wrong, recipes=["int8", "float32"], out=tmp_path / "run")

    assert list(made.by_variant) == ["float32"]
    assert isinstance(made.failures["int8"], DataError)
    assert "shape" in str(made.failures["int8"])
    with pytest.raises(DataError, match="shape"):
        convert(float_model, data=wrong, recipes=["int8"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipes": ["itn8"]}, "unknown recipe 'itn8'; did you mean 'int8'"),
        ({"recipes": []}, "expected at least one recipe"),
        ({"input_type": "int4"}, "expected an input or output type"),
        ({"batch": 0}, "expected a batch from 1 to 4096, or -1"),
    ],
)
def test_what_no_converter_can_do_is_refused(
    float_model: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """Before a folder is made."""
    with pytest.raises(UsageError, match=message):
        convert(float_model, out=tmp_path / "run", **{"recipes": ["float32"], **change})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (bytes(range(256)) * 10, "expected a Keras 3"),
        (b"PK\x03\x04rubbish", "damaged ZIP"),
        (b"\x1c\0\0\0TFL3" + bytes(range(256)) * 10, "m.tflite|model"),
        (dense_model()[:1000], "m.tflite|model"),
        (dense_model("int8"), "expected a float"),
    ],
)
def test_a_model_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Empty, random, truncated, or quantized already."""
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelInputError, match=message):
        convert(path, recipes=["float32", "float16"])


def test_an_unknown_custom_operator_is_named(tmp_path: Path) -> None:
    """No variant is made that no runtime can run."""
    tensors = [Tensor(name, "float32", (1, 4)) for name in ("input", "output")]
    path = tmp_path / "custom.tflite"
    path.write_bytes(build(Graph(tensors, [Op("MyOp", (0,), (1,), custom=True)], (0,), (1,))))
    with pytest.raises((ConversionError, ModelInputError), match="MyOp"):
        convert(path, recipes=["float32"], out=tmp_path / "run")
    assert list((tmp_path / "run" / "variants").iterdir()) == []


@pytest.mark.parametrize("model", [b"bytes", 3, {"layers": []}])
def test_what_is_no_model_is_refused(model: object) -> None:
    """With what was expected."""
    with pytest.raises(UsageError, match=r"expected a (model in memory|Keras model)"):
        convert(model, recipes=["float32"])


def test_two_conversions_into_one_folder_do_not_meet(run_folder: Path, float_model: Path) -> None:
    """The second is told."""
    with RunStore.open(run_folder).locked(), pytest.raises(StoreError, match="another edgekit"):
        convert(float_model, recipes=["float32"], out=run_folder)


def test_damaged_records_beside_the_variants_do_not_matter(run_folder: Path, float_model: Path, data: Path) -> None:
    """JSON of another kind is as good as none."""
    for name in ("float.json", "model.json", "evaluations/int8.json", "reports/int8.json", "parity/int8.json"):
        (run_folder / name).write_text(json.dumps([1, 2]))

    assert kept(convert(float_model, data=data, recipes=["int8"], out=run_folder)) == {"int8": True}
