"""Evaluations through the device's Model, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit import Preprocessing, convert, evaluate
from edgekit.data import Split
from edgekit.errors import DataError, ModelInputError, UsageError
from edgekit.evaluation import evaluate_outputs
from edgekit.records import Evaluation
from tests.edgekit.conftest import dense_scores
from tests.tflite_builder import Graph, Op, Tensor, build, conv_model

Arrays = dict[str, np.ndarray]


def classified(scores: object, labels: object, **more: object) -> Evaluation:
    """An evaluation of these scores against these labels."""
    outputs = np.asarray(scores, "float32")
    truth = None if labels is None else np.asarray(labels)
    return evaluate_outputs("m", (outputs,), Split({"x": outputs}, truth), **more)  # type: ignore[arg-type]


def test_a_model_is_evaluated_as_numpy_would(float_model: Path, arrays: Arrays) -> None:
    """Accuracy, top-5 and the confusion matrix of a dense layer, on labels it gets wrong in part."""
    labels = arrays["y_test"].copy()
    labels[:25] = (labels[:25] + 1) % 32
    [found] = evaluate(float_model, {"x_test": arrays["x_test"], "y_test": labels})
    scores = dense_scores(arrays["x_test"])
    top5 = np.mean([label in row for row, label in zip(np.argsort(-scores, axis=1)[:, :5], labels, strict=True)])

    assert found.accuracy == 0.75
    assert found.top5 == pytest.approx(top5)
    assert (np.array(found.confusion).sum(), np.trace(found.confusion)) == (100, 75)
    assert found.count == 100
    assert found.runtime.startswith("litert ")


def test_agreement_is_with_the_reference(float_model: Path, run_folder: Path, arrays: Arrays) -> None:
    """The share of samples answered alike, whatever the labels say."""
    labelled = {"x_test": arrays["x_test"], "y_test": np.zeros(100, int)}
    [found] = evaluate(run_folder / "variants" / "int8.tflite", labelled, reference=float_model)
    quantized = evaluate(
        run_folder / "variants" / "int8.tflite", {"x_test": arrays["x_test"], "y_test": arrays["y_test"]}
    )

    assert found.agreement == quantized[0].accuracy  # the labels of the data are the float model's answers
    assert quantized[0].agreement is None


def test_a_run_is_evaluated_against_its_own_float_model(run_folder: Path, data: Path) -> None:
    """Every variant, largest first, and a second call keeps what is known."""
    first = evaluate(run_folder, data)
    notes: list[str] = []

    class Notes:
        step = update = staticmethod(lambda *_: None)
        note = staticmethod(notes.append)

    second = evaluate(run_folder, data, progress=Notes())

    assert set(first.by_variant) == {"float32", "float16", "dynamic-int8", "int8"}
    assert first.by_variant["float32"].agreement == 1.0
    assert all(item.agreement == item.accuracy for item in first)
    assert list(second) == list(first)
    assert notes == [f"{name}: evaluated before, kept" for name in first.by_variant]


def test_other_data_is_evaluated_afresh(run_folder: Path, arrays: Arrays) -> None:
    """An evaluation belongs to the data it was made on."""
    before = evaluate(run_folder, arrays, variants=["int8"])[0]
    after = evaluate(run_folder, {**arrays, "y_test": (arrays["y_test"] + 1) % 32}, variants=["int8"])[0]

    assert before.accuracy is not None
    assert before.accuracy > 0.9
    assert after.accuracy is not None
    assert after.accuracy < 0.1


def test_one_score_is_a_decision_at_one_half() -> None:
    """A sigmoid: two classes, no top-5, and per-class figures for both."""
    found = classified([[0.2], [0.5], [0.51], [0.9]], [0, 0, 1, 0])

    assert (found.accuracy, found.top5) == (0.75, None)
    assert found.confusion == ((2, 1), (0, 1))
    assert [(score.label, score.support) for score in found.per_class] == [("0", 3), ("1", 1)]


@pytest.mark.parametrize(("classes", "measured"), [(5, False), (6, True)])
def test_top_5_of_five_classes_is_no_figure(classes: int, measured: bool) -> None:
    """It could not be wrong."""
    found = classified(np.eye(classes), range(classes))

    assert (found.top5 is not None) == measured


def test_a_regression_has_a_mean_absolute_error_and_no_accuracy() -> None:
    """Nor an agreement, which is about answers of classes."""
    scores = np.array([[1.0], [2.0]], "float32")
    found = classified(scores, [[1.5], [4.0]], reference=(scores,))

    assert (found.mean_absolute_error, found.accuracy, found.agreement) == (1.25, None, None)
    with pytest.raises(DataError, match="expected targets of shape"):
        classified(scores, [[1.5, 2.0], [4.0, 1.0]])


def test_unlabelled_data_gives_agreement_alone() -> None:
    """There is nothing to be right about."""
    found = classified(np.eye(3), None, reference=(np.eye(3, dtype="float32")[::-1],))

    assert (found.accuracy, found.agreement) == (None, pytest.approx(1 / 3))
    assert classified(np.eye(3), None, reference=(np.full((3, 3), np.nan),)).agreement is None


@pytest.mark.parametrize(
    ("scores", "labels", "more", "message"),
    [
        ([[0.0, np.nan]], [0], {}, "answers NaN or infinity"),
        ([[0.0, np.inf]], [0], {}, "answers NaN or infinity"),
        ([[0.0, 1.0]], [2], {}, r"expected labels from 0 to 1 \(m has 2 classes\), got 2 to 2"),
        ([[0.0, 1.0]], [-1], {}, "expected labels from 0 to 1"),
        (np.zeros((1, 4, 3)), [0], {}, "no classifier"),
        ([[0.0, 1.0]], [1], {"reference": (np.zeros((1, 3)),)}, "expected a reference with outputs of shape"),
    ],
)
def test_what_cannot_be_scored_is_a_data_error(
    scores: object, labels: object, more: dict[str, object], message: str
) -> None:
    """With what was expected and what came."""
    with pytest.raises(DataError, match=message):
        classified(scores, labels, **more)


def test_a_model_that_answers_nan_does_not_stop_the_others(run_folder: Path, data: Path) -> None:
    """Float16 may overflow where float32 does not: its error is kept apart, and every other variant is evaluated."""
    from edgekit.records import Variant
    from edgekit.store import RunStore, file_sha256
    from tests.tflite_builder import DENSE_INPUTS

    tensors = [Tensor("input", "float32", (1, DENSE_INPUTS)), Tensor("output", "float32", (1, DENSE_INPUTS))]
    path = run_folder / "nan.tflite"
    path.write_bytes(build(Graph(tensors, [Op("LOG", (0,), (1,))], (0,), (1,))))
    variant = Variant("nan", "nan", sha256=file_sha256(path), size_bytes=path.stat().st_size)
    RunStore.open(run_folder).save_variant(variant, path.read_bytes())

    found = evaluate(run_folder, data)

    assert "answers NaN" in str(found.failures["nan"])
    assert len(found) == 4
    with pytest.raises(DataError, match="answers NaN"):
        evaluate(run_folder, data, variants=["nan"])


def test_the_model_s_own_preprocessing_is_used_and_may_be_overridden(float_model: Path, arrays: Arrays) -> None:
    """What was recorded travels inside the file; raw data a hundred times larger is then right."""
    raw = {name: values * 100 if name.startswith("x") else values for name, values in arrays.items()}
    made = convert(float_model, data=raw, recipes=["int8"], preprocessing=Preprocessing(scale=0.01))[0]

    assert made.variant.preprocessing == {"scale": 0.01, "offset": 0.0, "size": None}
    assert evaluate(made.tflite, raw)[0].accuracy == pytest.approx(1.0, abs=0.05)
    spoilt = evaluate(made.tflite, raw, preprocessing=Preprocessing(scale=-0.01))[0].accuracy
    assert spoilt is not None
    assert spoilt < 0.1


def test_images_of_any_size_are_read_at_the_model_s(tmp_path: Path) -> None:
    """A folder of pictures needs no --size once a variant has recorded it."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 3)):
        for label in ("cat", "dog"):
            (tmp_path / "images" / part / label).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (9 + number, 14, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / label / f"{number}.png")
    (tmp_path / "m.tflite").write_bytes(conv_model())
    convert(
        tmp_path / "m.tflite",
        data=tmp_path / "images",
        recipes=["float32", "int8"],
        out=tmp_path / "run",
        preprocessing=Preprocessing(1 / 255, 0.0, (8, 8)),
    )
    with pytest.raises(DataError, match="no classifier"):  # it answers pictures: the images fitted, at least
        evaluate(tmp_path / "run", tmp_path / "images")
    with pytest.raises(DataError, match="no classifier"):
        evaluate(tmp_path / "run" / "variants" / "int8.tflite", tmp_path / "images")


def test_a_model_with_several_inputs_takes_them_by_name(tmp_path: Path) -> None:
    """x_test.NAME reaches the input of that name, in conversion, evaluation and measurement."""
    from edgekit import bench

    tensors = [Tensor(name, "float32", (1, 8)) for name in ("a", "b", "sum")]
    from ai_edge_litert import schema_py_generated as schema

    op = Op("SUB", (0, 1), (2,), schema.SubOptionsT())
    path = tmp_path / "two.tflite"
    path.write_bytes(build(Graph(tensors, [op], (0, 1), (2,), signature_key="serving_default")))
    draw = np.random.default_rng(0)
    values = {
        f"x_{part}.input_{i}": draw.normal(size=(40, 8)).astype("float32") for part in ("train", "test") for i in (0, 1)
    }
    values["y_test"] = (values["x_test.input_0"] - values["x_test.input_1"]).argmax(axis=1)
    values["y_train"] = np.zeros(40, int)
    made = convert(path, data=values, recipes=["float32", "int8"], out=tmp_path / "run")

    assert not made.failures
    found = evaluate(tmp_path / "run", values).by_variant
    assert found["float32"].accuracy == 1.0
    assert (found["int8"].accuracy or 0) > 0.9
    reports = bench(tmp_path / "run", data=values, runs=20).by_variant
    assert reports["float32"].accuracy.accuracy == 1.0


@pytest.mark.parametrize("option", ["preprocessing", "reference"])
def test_a_run_knows_its_preprocessing_and_reference(run_folder: Path, data: Path, option: str) -> None:
    """Giving them would make figures that belong to nothing."""
    value = Preprocessing(2.0) if option == "preprocessing" else "x.tflite"
    with pytest.raises(UsageError, match="leave --scale"):
        evaluate(run_folder, data, **{option: value})  # type: ignore[arg-type]


def test_a_single_model_has_no_variants(float_model: Path, data: Path) -> None:
    """--variant is for runs."""
    with pytest.raises(UsageError, match="--variant"):
        evaluate(float_model, data, variants=["int8"])


def test_data_without_a_test_split_is_refused(float_model: Path, arrays: Arrays) -> None:
    """Never the training data instead."""
    with pytest.raises(DataError, match="no test samples"):
        evaluate(float_model, {"x_train": arrays["x_train"]})


def test_a_broken_model_is_an_error_and_no_crash(float_model: Path, data: Path) -> None:
    """A file that would kill the process is tried in another one first."""
    content = bytearray(float_model.read_bytes())
    content[40:400] = bytes(360)
    with pytest.raises(ModelInputError):
        evaluate(bytes(content), data)
