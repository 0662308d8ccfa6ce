"""What a line says of the outputs: classes, boxes and suppression, against the runtime's own operators."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgekit_device import DataError, InputError, Model, TensorSpec
from edgekit_device.stream.answer import Answer, read_labels
from edgekit_device.stream.detection import decode_raw, find_postprocessed, from_postprocessed, suppress, uncrop
from flatbuffers import flexbuffers

from tests.tflite_builder import Graph, Op, Tensor, build

GRID = 8


def _spec(shape: tuple[int, ...], name: str = "output", dtype: str = "float32", scale: float = 0.0) -> TensorSpec:
    return TensorSpec(name, 0, shape, np.dtype(dtype), scale, 0)


def _answer(*specs: TensorSpec, **options: Any) -> Answer:
    return Answer(specs, (100, 200), **options)


# -- classes ----------------------------------------------------------------------------------------------------


def test_the_best_classes_come_first_with_their_names() -> None:
    """Scores are real values of the quantized output, ties in the order of the classes."""
    answer = _answer(_spec((1, 4), dtype="int8", scale=0.5), labels=("a", "b", "c"), top=3)
    result = answer([np.array([[1, 4, 4, 2]], np.int8)], None)

    assert answer.task == "classify"
    assert result == {
        "classes": [
            {"index": 1, "score": 2.0, "label": "b"},
            {"index": 2, "score": 2.0, "label": "c"},
            {"index": 3, "score": 1.0},
        ]
    }


def test_classes_below_the_threshold_and_nan_are_left_to_the_end_or_out() -> None:
    """A NaN is last; with a threshold it is out, as are lower scores."""
    scores = [np.array([[0.1, np.nan, 0.9]], np.float32)]

    assert [each["index"] for each in _answer(_spec((1, 3)))(scores, None)["classes"]] == [2, 0, 1]
    assert [each["index"] for each in _answer(_spec((1, 3)), threshold=0.5)(scores, None)["classes"]] == [2]


@pytest.mark.parametrize(("score", "index"), [(0.6, 1), (0.4, 0)])
def test_a_single_score_is_a_yes_or_a_no(score: float, index: int) -> None:
    """As in edgekit_device.tasks.answers."""
    result = _answer(_spec((1, 1)))([np.array([[score]], np.float32)], None)

    assert [each["index"] for each in result["classes"]] == [index]


@pytest.mark.parametrize(
    ("shapes", "task"),
    [
        ([(1, 10)], "classify"),
        ([(1, 1, 1, 10)], "classify"),
        ([(1, 5, 10)], "raw"),
        ([(1, 2), (1, 3)], "raw"),
        ([(1, 5, 4), (1, 5), (1, 5), (1,)], "detect"),
    ],
)
def test_the_task_is_seen_in_the_outputs(shapes: list[tuple[int, ...]], task: str) -> None:
    """One row of scores is a classifier's, four outputs that fit are a detector's, all else is raw."""
    assert _answer(*(_spec(shape) for shape in shapes)).task == task


@pytest.mark.parametrize(
    ("task", "shapes"), [("classify", [(1, 5, 10)]), ("audio", [(1, 2)] * 2), ("detect", [(1, 2)] * 2)]
)
def test_a_task_the_outputs_do_not_fit_is_refused(task: str, shapes: list[tuple[int, ...]]) -> None:
    """It says what the outputs are, and what would work."""
    with pytest.raises(InputError, match="try --task raw"):
        _answer(*(_spec(shape) for shape in shapes), task=task)


def test_raw_outputs_are_whole() -> None:
    """Every value of every output, as real values."""
    answer = _answer(_spec((1, 2, 2)), _spec((1,), dtype="int8", scale=0.5))
    result = answer([np.arange(4, dtype=np.float32).reshape(1, 2, 2), np.array([3], np.int8)], None)

    assert result == {"outputs": [[[[0.0, 1.0], [2.0, 3.0]]], [1.5]]}


# -- labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b"cat\ndog\n\n", ("cat", "dog")),
        (b"0  person\n2  car\n", ("person", "", "car")),
        (b"7 up\nwater\n", ("7 up", "water")),
        (b"\xff\x1b[31mred\r\n", ("\N{REPLACEMENT CHARACTER} [31mred",)),
    ],
)
def test_labels_are_lines_or_numbered(content: bytes, labels: tuple[str, ...], tmp_path: Path) -> None:
    """Coral's files number them; what does not print is gone."""
    (tmp_path / "labels.txt").write_bytes(content)

    assert read_labels(str(tmp_path / "labels.txt")) == labels


@pytest.mark.parametrize("content", [b"", b"\n\n", b"x" * (2 << 20)])
def test_a_file_without_labels_or_too_large_is_refused(content: bytes, tmp_path: Path) -> None:
    """So is one that is not there."""
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match="expected labels"):
        read_labels(str(tmp_path / "labels.txt"))
    with pytest.raises(DataError, match="cannot read"):
        read_labels(str(tmp_path / "absent.txt"))


# -- suppression ------------------------------------------------------------------------------------------------


def _nms_model(count: int, iou: float) -> bytes:
    """The runtime's own NON_MAX_SUPPRESSION_V4 over boxes (N, 4); scores are constant and fall."""
    tensors = [
        Tensor("boxes", "float32", (count, 4)),
        Tensor("scores", "float32", (count,), np.linspace(1, 0.5, count, dtype=np.float32)),
        Tensor("most", "int32", (), np.array(count, np.int32)),
        Tensor("iou", "float32", (), np.array(iou, np.float32)),
        Tensor("threshold", "float32", (), np.array(0, np.float32)),
        Tensor("kept", "int32", (count,)),
        Tensor("count", "int32", ()),
    ]
    op = Op("NON_MAX_SUPPRESSION_V4", (0, 1, 2, 3, 4), (5, 6), schema.NonMaxSuppressionV4OptionsT())
    return build(Graph(tensors, [op], (0,), (5, 6), "serving_default"))


@pytest.mark.parametrize("iou", [0.2, 0.45, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_suppression_keeps_what_the_runtime_s_operator_keeps(iou: float, seed: int) -> None:
    """150 random boxes of one class against NON_MAX_SUPPRESSION_V4; of three classes, class by class."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.7, (150, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.05, 0.3, (150, 2))], axis=1).astype(np.float32)
    classes = rng.integers(0, 3, 150)

    def reference(places: Any) -> list[int]:
        with Model(_nms_model(len(places), iou), probe=False) as model:
            kept, count = model.predict(boxes[places])
        return [int(place) for place in places[kept[: int(count)]]]

    assert suppress(boxes, np.zeros(150, int), iou).tolist() == reference(np.arange(150))
    one_by_one = sorted(place for each in range(3) for place in reference(np.flatnonzero(classes == each)))
    assert suppress(boxes, classes, iou).tolist() == one_by_one


def test_nothing_is_left_of_nothing() -> None:
    """No boxes are no error."""
    assert suppress(np.zeros((0, 4)), np.zeros(0, int), 0.5).tolist() == []


# -- raw detectors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("in_pixels", [False, True])
def test_raw_boxes_are_corners_in_parts_of_the_picture(transposed: bool, in_pixels: bool) -> None:
    """Centre and size, in parts or pixels, rows or columns: the same corners; the weaker of two overlapping boxes is gone."""
    rows = np.zeros((12, 4 + 3), np.float32)
    rows[0] = [0.5, 0.5, 0.2, 0.4, 0.1, 0.9, 0.0]
    rows[1] = [0.51, 0.5, 0.2, 0.4, 0.1, 0.8, 0.0]
    rows[2] = [0.51, 0.5, 0.2, 0.4, 0.7, 0.1, 0.0]
    rows[3] = [np.nan, 0.5, 0.2, 0.4, 1.0, 0.0, 0.0]
    if in_pixels:
        rows[:, :4] *= np.array([200, 100, 200, 100], np.float32)
    output = rows.T[None] if transposed else rows[None]

    found = decode_raw(output, (100, 200), 0.5, 0.5)

    assert found.classes.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert found.boxes == pytest.approx(np.array([[0.3, 0.4, 0.7, 0.6], [0.3, 0.41, 0.7, 0.61]]), abs=1e-6)


def test_an_objectness_counts_where_the_labels_tell_it() -> None:
    """A row of 5 + classes has one; without the number of classes it would be a class."""
    rows = np.zeros((9, 5 + 2), np.float32)
    rows[0] = [0.5, 0.5, 0.2, 0.2, 0.8, 0.9, 0.1]

    found = decode_raw(rows[None], (10, 10), 0.5, 0.5, classes=2)

    assert (found.classes.tolist(), found.scores.tolist()) == ([0], pytest.approx([0.72]))


@pytest.mark.parametrize("shape", [(1, 10), (2, 10, 6), (1, 10, 4)])
def test_an_output_that_is_no_detector_s_is_refused(shape: tuple[int, ...]) -> None:
    """It says what is expected."""
    with pytest.raises(DataError, match="expected one output"):
        decode_raw(np.zeros(shape, np.float32), (1, 1), 0.5, 0.5)


# -- detectors with the operator --------------------------------------------------------------------------------


def _detector() -> bytes:
    """A picture 8 x 8 x 3 whose channels 1 and 2 are the scores of two classes in the cells of a grid, through the operator."""
    centres = (np.arange(GRID) + 0.5) / GRID
    y, x = np.meshgrid(centres, centres, indexing="ij")
    anchors = np.stack([y, x, np.full_like(y, 1 / GRID), np.full_like(y, 1 / GRID)], axis=-1).reshape(-1, 4)
    tensors = [
        Tensor("picture", "float32", (1, GRID, GRID, 3)),
        Tensor("shape", "int32", (3,), np.array([1, GRID**2, 3], np.int32)),
        Tensor("scores", "float32", (1, GRID**2, 3)),
        Tensor("encodings", "float32", (1, GRID**2, 4), np.zeros((1, GRID**2, 4), np.float32)),
        Tensor("anchors", "float32", (GRID**2, 4), anchors.astype(np.float32)),
        *(Tensor(f"TFLite_Detection_PostProcess{tail}", "float32", shape) for tail, shape in
          (("", (1, 10, 4)), (":1", (1, 10)), (":2", (1, 10)), (":3", (1,)))),
    ]  # fmt: skip
    ops = [
        Op("RESHAPE", (0, 1), (2,), schema.ReshapeOptionsT()),
        Op("TFLite_Detection_PostProcess", (3, 2, 4), (5, 6, 7, 8), custom=True),
    ]
    graph = Graph(tensors, ops, (0,), (5, 6, 7, 8), "serving_default")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(build(graph)))
    settings = {"max_detections": 10, "max_classes_per_detection": 1, "detections_per_class": 100, "num_classes": 2}
    floats = {"nms_score_threshold": 0.0, "nms_iou_threshold": 0.5, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0}
    options = flexbuffers.Dumps({**settings, **floats, "w_scale": 5.0, "use_regular_nms": False})
    model.subgraphs[0].operators[1].customOptions = np.frombuffer(bytes(options), np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_boxes_of_the_real_operator() -> None:
    """A model with TFLite_Detection_PostProcess finds the brightest cells, in their order, with class and corners."""
    picture = np.random.default_rng(5).uniform(0, 1, (1, GRID, GRID, 3)).astype(np.float32)
    with Model(_detector(), probe=False) as model:
        answer = Answer(model.outputs, (GRID, GRID), labels=("one", "two"), threshold=0.9)
        outputs = model.predict(picture)
    result = answer(outputs, None)

    best = picture[0, :, :, 1:].max(axis=-1)
    order = [place for place in np.argsort(-best.reshape(-1)) if best.reshape(-1)[place] >= 0.9][:10]
    rows, columns = np.unravel_index(order, best.shape)
    assert answer.task == "detect"
    assert [each["score"] for each in result["boxes"]] == pytest.approx(
        [float(best[r, c]) for r, c in zip(rows, columns, strict=True)]
    )
    for each, row, column in zip(result["boxes"], rows, columns, strict=True):
        expected = np.array([row, column, row + 1, column + 1]) / GRID
        assert each["box"] == pytest.approx(expected, abs=1e-6)
        assert each["label"] == ("one", "two")[int(picture[0, row, column, 1:].argmax())]


def test_outputs_are_told_apart_by_name_and_shape() -> None:
    """The operator's order by name, wherever they stand; TensorFlow 2's order by shape; others are no detector's."""
    shapes = {"": (1, 5, 4), ":1": (1, 5), ":2": (1, 5), ":3": (1,)}
    names = [":2", "", ":3", ":1"]
    mixed = find_postprocessed(
        [f"TFLite_Detection_PostProcess{tail}" for tail in names], [shapes[tail] for tail in names]
    )

    assert mixed == (1, 3, 0, 2)
    assert find_postprocessed(["a", "b", "c", "d"], [(1, 5), (1, 5, 4), (1,), (1, 5)]) == (1, 3, 0, 2)
    assert find_postprocessed(["a", "b", "c", "d"], [(1, 5, 4), (1, 5), (1, 5), (1,)]) == (0, 1, 2, 3)
    assert find_postprocessed(["a", "b", "c", "d"], [(1, 5, 4), (1, 6), (1, 5), (1,)]) is None
    assert find_postprocessed(["a"], [(1, 5)]) is None


@pytest.mark.parametrize(("count", "rows"), [(2.0, 2), (99.0, 3), (-1.0, 0), (math.nan, 0), (math.inf, 0)])
def test_a_count_that_makes_no_sense_does_no_harm(count: float, rows: int) -> None:
    """Only rows that are there and are numbers are taken."""
    boxes, classes = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4), np.float32)
    boxes[0, 3] = np.nan
    scores = np.full((1, 4), 0.9, np.float32)

    assert len(from_postprocessed(boxes, classes, scores, np.array([count], np.float32), 0.5).scores) == rows


def test_outputs_that_change_their_shape_are_one_message() -> None:
    """What the model declares is not always what it gives."""
    answer = _answer(*(_spec(shape) for shape in [(1, 5, 4), (1, 5), (1, 5), (1,)]))
    odd = [np.zeros((1, 2, 4), np.float32), np.zeros((1, 3)), np.ones((1, 5)), np.array([5.0])]

    with pytest.raises(DataError, match=r"got \[\(1, 2, 4\), \(1, 3\)"):
        answer(odd, None)


def test_a_class_beyond_every_integer_has_no_name() -> None:
    """It is cut, without a warning."""
    boxes, ones = np.zeros((1, 2, 4), np.float32), np.ones((1, 2), np.float32)
    found = from_postprocessed(boxes, np.array([[1e30, -1e30]], np.float32), ones, np.array([2.0]), 0.5)

    assert found.classes.tolist() == [1_000_000, -1]


def test_boxes_of_a_letterboxed_picture_are_parts_of_the_picture() -> None:
    """A box that fills the picture's place in the tensor fills the picture."""
    inner = (0.25, 0.0, 0.5, 1.0)
    boxes = np.array([[0.25, 0.0, 0.75, 1.0], [0.5, 0.5, 0.75, 1.0]], np.float32)

    assert uncrop(boxes, inner).tolist() == [[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 1.0, 1.0]]
    assert uncrop(boxes, None) is boxes
