"""Data from a function of the user."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgekit.data import load_function
from edgekit.errors import DataError

HEAD = "import numpy as np\nfrom edgekit.data import Dataset, Split\nx = np.zeros((4, 2))\ny = np.array([0, 1, 0, 1])\n"


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """Write a module into the current folder, and forget it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(name, body):
        (tmp_path / f"{name}.py").write_text(HEAD + body)

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("user_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    "body",
    [
        "return Dataset('mine', Split({'x': x}, y), Split({'x': x}, y))",
        "return {'x_train': x, 'y_train': y, 'x_test': x, 'y_test': y}",
        "return (x, y), (x, y)",
        "return [[x, np.eye(2)[y]], [x.tolist(), y.tolist()]]",
    ],
    ids=["dataset", "mapping", "pairs", "lists"],
)
def test_every_documented_return_value_is_taken(write_module, body):
    """A Dataset, a mapping and pairs give the same data."""
    write_module("user_data", f"def load():\n    {body}\n")
    dataset = load_function("user_data:load")
    for split in (dataset.train, dataset.test):
        assert np.array_equal(split.inputs["x"], np.zeros((4, 2)))
        assert split.labels.tolist() == [0, 1, 0, 1]


def test_pairs_may_hold_named_inputs_and_none(write_module):
    """A mapping as x gives several inputs, None stands for what is missing."""
    write_module("user_data", "def load():\n    return ({'a': x, 'b': x[:, :1]}, None), (None, None)\n")
    dataset = load_function("user_data:load")
    assert dataset.name == "user_data:load"
    assert set(dataset.train.inputs) == {"a", "b"}
    assert dataset.train.labels is None
    assert dataset.test is None


def test_the_current_folder_is_first_and_the_path_restored(write_module):
    """A module of a package is found here, and sys.path is afterwards as before."""
    write_module(
        "user_data",
        "import sys\nfirst = sys.path[0]\ndef load():\n    sys.path.append('x')\n    return (x, y), (x, y)\n",
    )
    before = list(sys.path)
    load_function("user_data:load")
    assert sys.modules["user_data"].first == str(sys.modules["user_data"].__file__).rsplit("/", 1)[0]
    assert sys.path == before


def test_the_path_is_restored_after_a_failure(write_module):
    """An exception leaves sys.path as it was."""
    before = list(sys.path)
    with pytest.raises(DataError):
        load_function("user_missing:load")
    assert sys.path == before


@pytest.mark.parametrize("spec", ["user_missing:load", "user_missing.deeper:load"])
def test_a_missing_module_says_where_it_was_looked_for(write_module, tmp_path, spec):
    """The current folder is in the message."""
    with pytest.raises(DataError, match=f"in {tmp_path} or installed, got none named 'user_missing'"):
        load_function(spec)


def test_a_missing_import_inside_the_module_is_another_error(write_module):
    """The module is there; what it imports is not."""
    write_module("user_data", "import user_not_there\n")
    with pytest.raises(
        DataError, match=r"importing user_data .* No module named 'user_not_there' .*user_data\.py, line 5"
    ):
        load_function("user_data:load")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1 / 0\n", r"importing user_data .*ZeroDivisionError: division by zero \(.*user_data\.py, line 5\)"),
        ("def load(:\n", r"importing user_data .*SyntaxError: .*user_data\.py, line 5\)"),
        ("raise SystemExit(3)\n", "importing user_data .*SystemExit: 3"),
        ("def load():\n    return 1 / 0\n", r"calling 'user_data:load' .*ZeroDivisionError: .*user_data\.py, line 6\)"),
        ("def load():\n    np.stack([])\n", r"ValueError: .*user_data\.py, line 6; raised in .*, line \d+\)"),
        (
            "def load(path):\n    return path\n",
            r"TypeError: load\(\) missing 1 required positional argument: 'path'; run",
        ),
        ("def load():\n    exit(1)\n", "calling 'user_data:load' .*SystemExit"),
    ],
    ids=["import", "syntax", "exit-import", "call", "deep", "argument", "exit"],
)
def test_what_the_user_raises_is_chained_with_its_line(write_module, body, message):
    """The message names exception, file and line, and keeps the cause."""
    write_module("user_data", body)
    with pytest.raises(DataError, match=message) as caught:
        load_function("user_data:load")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("body", ["raise DataError('ours')\n", "def load():\n    raise DataError('ours')\n"])
def test_our_own_errors_pass_as_they_are(write_module, body):
    """A DataError out of the user's function is not wrapped in another."""
    write_module("user_data", "from edgekit.errors import DataError\n" + body)
    with pytest.raises(DataError, match=r"^ours$"):
        load_function("user_data:load")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def load_data():\n    pass\n", "got nothing of that name; did you mean 'load_data'"),
        ("load = 3\ndef other():\n    pass\n", "got a value of type int"),
        ("del Dataset, Split\n", "got nothing of that name; write one"),
    ],
)
def test_a_missing_function_suggests_close_names(write_module, body, message):
    """A misspelling, a value and an empty module each have their message."""
    write_module("user_data", body)
    with pytest.raises(DataError, match=message):
        load_function("user_data:load")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("None", "got a value of type NoneType"),
        ("x", "got a value of type ndarray"),
        ("(x, y)", "got a tuple of length 2"),
        ("(x, y, x)", "got a tuple of length 3"),
        ("((x, y, y), (x, y))", "got a tuple of length 2"),
        ("{'x': x}", "expected the keys"),
        ("([[1], [1, 2]], y), (x, y)", "expected x_train as one array, got a list of length 2 that numpy refuses"),
        ("((x, y), (x, y[:2]))", "expected 4, one for each sample, got 2"),
        ("Dataset('mine', x, None)", "expected a Split"),
    ],
)
def test_other_return_values_are_refused(write_module, value, message):
    """The message lists what may be returned and says what was."""
    write_module("user_data", f"def load():\n    return {value}\n")
    with pytest.raises(DataError, match=message):
        load_function("user_data:load")


@pytest.mark.parametrize("spec", ["load", ":load", "user_data:", "user-data:load", "a:b:c", "a..b:c", "1a:b"])
def test_other_specs_are_refused(spec):
    """Only module:function is one."""
    with pytest.raises(DataError, match="expected module:function"):
        load_function(spec)
