"""The note inside a model."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from edgekit_device import Model
from edgekit_device.embedded import CAP_BYTES, NAME, append_note, read_note

from tests.device.models import NOTE
from tests.tflite_builder import dense_model


def test_a_note_comes_back_and_leaves_the_model_alone() -> None:
    """The model's own bytes are a prefix, and it computes what it computed."""
    model = dense_model()
    noted = append_note(model, NOTE)
    x = np.ones((1, 64), np.float32)

    assert noted.startswith(model)
    assert read_note(noted) == NOTE
    assert np.array_equal(Model(noted).predict(x), Model(model).predict(x))


def test_the_same_note_gives_the_same_bytes() -> None:
    """No clock and no order of keys gets into the file, so that its hash says what it is."""
    assert append_note(dense_model(), {"a": 1, "b": 2}) == append_note(dense_model(), {"b": 2, "a": 1})


def test_any_unzip_reads_it(tmp_path: Path) -> None:
    """The note is a plain ZIP entry, as TFLite Metadata keeps its files."""
    path = tmp_path / "noted.tflite"
    path.write_bytes(append_note(dense_model(), NOTE))

    assert json.loads(zipfile.ZipFile(path).read(NAME)) == NOTE


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", dense_model(), b"PK\x05\x06", b"x" * 100 + b"PK\x05\x06" + b"y" * 18]
)
def test_no_note_is_an_empty_one(content: bytes) -> None:
    """Neither a bare model nor rubbish has a note, and neither is an error."""
    assert read_note(content) == {}


def test_a_damaged_note_is_an_empty_one() -> None:
    """500 mutants of the ZIP: a note is either a dict or absent."""
    noted, rng = append_note(dense_model(), NOTE), random.Random(0)
    start = len(dense_model())
    for _ in range(500):
        mutant = bytearray(noted)
        for _ in range(rng.choice((1, 4))):
            mutant[rng.randrange(start, len(mutant))] = rng.randrange(256)
        assert isinstance(read_note(bytes(mutant)), dict)


@pytest.mark.parametrize("content", [b"[1]", b"7", b"not json", b"\xff", b"[" * 100_000])
def test_a_note_that_is_no_object_is_an_empty_one(content: bytes) -> None:
    """Only a JSON object is a note."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(NAME, content)

    assert read_note(buffer.getvalue()) == {}


def test_a_bomb_is_not_unpacked() -> None:
    """A note above the cap is not read, whatever it would have said."""
    assert read_note(append_note(b"", {"x": "y" * (CAP_BYTES - 20)})) != {}
    assert read_note(append_note(b"", {"x": "y" * CAP_BYTES})) == {}
