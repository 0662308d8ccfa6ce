"""What kind of model a file is, which files are refused, and with which words."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit_converters._tf import import_keras
from edgekit_converters.errors import ConverterError, ModelFileError, UnsupportedModelError
from edgekit_converters.load import (
    CONFIG_CAP_BYTES,
    _keras_config,
    _refuse_code,
    detect_kind,
    ensure_movable,
    is_keras_model,
    load_model,
)

from tests.converters.conftest import Zoo
from tests.converters.keras_zoo import edit_h5, edit_keras, subclassed
from tests.tflite_builder import dense_model

needs_keras = pytest.mark.keras
MINIMAL = {"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense", "config": {"units": 2}}]}}
FUZZED_ARCHIVES, FUZZED_HDF5 = 2000, 300


def archive(path: Path, config: object = MINIMAL, version: str = "3.15.1") -> Path:
    """A .keras archive as small as it gets; nothing that Keras could load."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", config if isinstance(config, (str, bytes)) else json.dumps(config))
        file.writestr("metadata.json", json.dumps({"keras_version": version}))
    return path


def layered(layer: dict) -> dict:
    """A configuration with one layer, wrapped once."""
    wrapper = {"class_name": "TimeDistributed", "config": {"name": "outer", "layer": layer}}
    return {"class_name": "Functional", "config": {"layers": [wrapper]}}


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"\x89HDF\r\n\x1a\n" + bytes(8), "h5"), (dense_model(), "tflite")],
    ids=["h5", "tflite"],
)
def test_kind_is_told_by_the_content(tmp_path, content, kind):
    """A file is what its first bytes say, whatever it is called."""
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    assert detect_kind(path) == kind


def test_kind_of_archive_and_folder(tmp_path):
    """A .keras is a ZIP with a configuration, a SavedModel a folder with saved_model.pb."""
    assert detect_kind(archive(tmp_path / "model.bin")) == "keras"
    (tmp_path / "saved_model.pb").touch()
    assert detect_kind(tmp_path) == "saved_model"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ".* got .*starting with nothing: it is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), ".* got .*starting 89504e470d0a1a0a"),
        (b"PK\x03\x04" + bytes(40), " .keras archive, got a damaged ZIP"),
        (b"model: sequential", ".* got .*starting 6d6f64656c3a2073"),
    ],
    ids=["empty", "png", "zip", "text"],
)
def test_file_of_another_type_is_named_by_its_first_bytes(tmp_path, content, message):
    """What is no model is refused with the forms that are and with what came."""
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"^expected a{message}"):
        detect_kind(path)


def test_paths_that_hold_no_model(tmp_path):
    """A missing path, a folder without saved_model.pb and a pipe are each refused at once."""
    with pytest.raises(ModelFileError, match=r"cannot read the model .*: No such file"):
        detect_kind(tmp_path / "nowhere.keras")
    with pytest.raises(ModelFileError, match=r"got a folder without saved_model\.pb"):
        detect_kind(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="neither a file nor a folder"):
        detect_kind(tmp_path / "pipe")


def test_zip_without_a_configuration_is_no_keras_file(tmp_path):
    """Any other ZIP is not taken for a .keras."""
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(ModelFileError, match="starting 504b0304"):
        detect_kind(tmp_path / "other.zip")


def test_tflite_is_not_loaded_as_keras(tmp_path):
    """A .tflite says that it can be quantized only."""
    (tmp_path / "model.tflite").write_bytes(dense_model())
    with pytest.raises(UnsupportedModelError, match=r"is a \.tflite already: it can be quantized"):
        load_model(tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        ({"class_name": "Lambda", "config": {"name": "trick"}}, r"a Lambda layer \(trick\)"),
        ({"class_name": "Lambda"}, r"a Lambda layer \(\?\)"),
        ({"class_name": "keras>Lambda", "config": {"name": "trick"}}, "a Lambda layer"),
        ({"class_name": "__lambda__", "config": {"value": "4wEAAA"}}, "a Lambda layer"),
        (
            {"class_name": "TFOpLambda", "config": {"name": "w", "function": "io.write_file"}},
            r"a call of tf\.io\.write",
        ),
    ],
)
def test_code_inside_a_file_is_refused_unless_trusted(tmp_path, layer, what):
    """Layers that are code, wherever they hide in the configuration, are refused before Keras sees the file."""
    path = archive(tmp_path / "model.keras", layered(layer))
    with pytest.raises(UnsupportedModelError, match=rf"has {what}.*pass trust=True"):
        load_model(path)


def test_plain_operators_of_keras_2_are_no_code():
    """An addition that Keras 2 recorded as an operator layer is fine."""
    layer = {"class_name": "TFOpLambda", "config": {"name": "add", "function": "__operators__.add"}}
    _refuse_code(Path("x"), layered(layer))


@pytest.mark.parametrize("config", [b"{", b"[" * 100_000, b"\xff\xfe", b"NaN,"], ids=["half", "deep", "bytes", "nan"])
def test_damaged_configuration_is_a_damaged_file(tmp_path, config):
    """A configuration that is no JSON is a damaged file, in one line."""
    with pytest.raises(ModelFileError, match=r"model\.keras is damaged: .*\. Save the model again$"):
        load_model(archive(tmp_path / "model.keras", config))


def test_configuration_has_a_size_limit(tmp_path):
    """A configuration that would unpack to more than the limit is refused before it is read."""
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("config.json", "w") as member:
        for _ in range(CONFIG_CAP_BYTES // 2**20 + 1):
            member.write(bytes(2**20))
    with pytest.raises(ModelFileError, match="expected a configuration under"):
        load_model(path)


def test_only_models_are_keras_models():
    """Anything that is no model of a Keras is told without importing either."""
    program = (
        "import sys; from edgekit_converters import is_keras_model, detect_kind\n"
        "class Model: pass\n"
        "assert is_keras_model(Model()) is None and is_keras_model(3) is None and is_keras_model(None) is None\n"
        "assert not {'tensorflow', 'keras', 'tf_keras', 'h5py', 'ai_edge_litert'} & set(sys.modules)\n"
    )
    package = Path(sys.modules[detect_kind.__module__].__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@needs_keras
def test_models_of_both_kerases_are_known(zoo: Zoo):
    """A model in memory belongs to Keras 3 or to tf_keras, subclassed ones too."""
    found = {name: is_keras_model(case.model) for name, case in zoo.cases.items()}
    assert found == {name: case.framework for name, case in zoo.cases.items()}


@needs_keras
@pytest.mark.parametrize("name", ["only.weights.h5", "only-weights.h5"])
def test_weights_alone_are_refused_with_the_way_out(zoo: Zoo, name: str):
    """A file of weights says what is missing and how to save the whole model."""
    with pytest.raises(UnsupportedModelError, match=r"weights without an architecture: build the model.*model\.save\("):
        load_model(zoo.folder / name)


@needs_keras
@pytest.mark.parametrize("framework", ["keras", "tf_keras"])
def test_lambda_of_a_real_file_is_refused_and_loads_when_trusted(zoo: Zoo, tmp_path, framework: str):
    """A Lambda layer as each Keras saves it is refused by name, and loads with trust."""
    module = __import__(framework)
    layers = [module.layers.Input((4,)), module.layers.Lambda(lambda x: x * 2.0, name="double")]
    module.Sequential(layers).save(str(tmp_path / "model.keras"))
    with pytest.raises(UnsupportedModelError, match=r"Lambda layer \(double\).*--trust"):
        load_model(tmp_path / "model.keras")
    row = np.ones((1, 4), np.float32)
    assert np.asarray(load_model(tmp_path / "model.keras", trust=True).model(row)).tolist() == [[2.0] * 4]


@needs_keras
@pytest.mark.parametrize("name", ["keras3.keras", "keras2.keras", "keras2.h5"])
def test_unknown_layer_is_named_with_the_way_out(zoo: Zoo, tmp_path, name: str):
    """A layer that no Keras knows is named, with the advice to hand the model over in memory."""
    path = tmp_path / name
    source = zoo.folder / name
    if name.endswith(".h5"):
        edit_h5(source, path, lambda config: json.loads(json.dumps(config).replace('"Dense"', '"MyDense"')))
    else:
        edit_keras(source, path, "config.json", lambda raw: raw.replace(b'"Dense"', b'"MyDense"'))
    with pytest.raises(
        UnsupportedModelError, match=r"has the layer '.*MyDense', which this Keras does not know: .*in memory"
    ):
        load_model(path)


@needs_keras
def test_custom_layer_that_was_registered_elsewhere_is_unknown_here(zoo: Zoo, tmp_path):
    """A file with a layer of somebody's own package says that its class is not here."""
    import keras

    class Own(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    keras.Sequential([keras.layers.Input((4,)), Own()]).save(tmp_path / "own.keras")
    with pytest.raises(UnsupportedModelError, match=r"has the layer 'Own', which this Keras"):
        load_model(tmp_path / "own.keras")


@needs_keras
def test_half_a_file_is_damaged(zoo: Zoo, tmp_path):
    """A download that stopped half way is a damaged file, of every kind."""
    for name in ("keras3.keras", "keras2.h5"):
        content = (zoo.folder / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ModelFileError, match=r"damaged|cannot be loaded"):
            load_model(tmp_path / name)
    (tmp_path / "saved_model.pb").write_bytes((zoo.folder / "exported" / "saved_model.pb").read_bytes()[:500])
    with pytest.raises(ModelFileError, match=r"cannot be loaded: .*Save the model again"):
        load_model(tmp_path)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One damaged copy: cut, bits flipped, a piece moved, or bytes put in."""
    mutant, place = bytearray(content), rng.randrange(len(content))
    kind = rng.randrange(4)
    if kind == 0:
        return content[:place]
    if kind == 1:
        for _ in range(rng.randint(1, 12)):
            mutant[rng.randrange(len(mutant))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        other = rng.randrange(len(content))
        mutant[place : place + 32] = content[other : other + 32]
    else:
        mutant[place:place] = rng.randbytes(rng.randint(1, 16))
    return bytes(mutant)


@needs_keras
def test_damaged_archives_give_a_model_file_error_or_a_configuration(zoo: Zoo, tmp_path):
    """However a .keras is damaged, outside or in its configuration, reading it ends in ConverterError or well."""
    rng = random.Random(3)
    source, path = zoo.folder / "keras3.keras", tmp_path / "m.keras"
    content = source.read_bytes()
    outcomes = set()
    for turn in range(FUZZED_ARCHIVES):
        if turn % 2:
            path.write_bytes(mutate(content, rng))
        else:
            edit_keras(source, path, rng.choice(["config.json", "metadata.json"]), lambda raw: mutate(raw, rng))
        outcomes.add(_outcome(path, "keras"))
    assert outcomes == {"read", "refused"}


@needs_keras
def test_damaged_hdf5_gives_a_model_file_error_or_a_configuration(zoo: Zoo, tmp_path):
    """However an .h5 is damaged, reading its configuration ends in ConverterError or well, as far as it is our code.

    The HDF5 library is C: it reads some damaged files for ever, and may end the process. Conversions run it in a process
    with a deadline, and so does this, one for each file.
    """
    package, root = Path(sys.modules[detect_kind.__module__].__file__).parents[1], Path(__file__).parents[2]
    program = f"from tests.converters.test_load import fuzz_hdf5; fuzz_hdf5({str(zoo.folder / 'keras2.h5')!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(root)]), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    outcomes = json.loads(done.stdout)
    assert set(outcomes) <= {"read", "refused", "ended by SIGALRM", "ended by SIGSEGV", "ended by SIGABRT"}
    assert outcomes["read"] > 0
    assert outcomes["refused"] > 0
    assert outcomes["read"] + outcomes["refused"] > 0.9 * FUZZED_HDF5


def fuzz_hdf5(source: str) -> None:
    """Read many damaged copies of an .h5, each in a child with a second to do so, and print how many ended how."""
    import h5py  # noqa: F401 - once, for all children

    names = {0: "read", 1: "refused", 2: "traceback"}
    rng, content, path = random.Random(4), Path(source).read_bytes(), Path("m.h5")
    outcomes: dict[str, int] = {}
    for _ in range(FUZZED_HDF5):
        path.write_bytes(mutate(content, rng))
        child = os.fork()
        if child == 0:
            signal.alarm(1)
            ended = _outcome(path, "h5")
            os._exit(next(code for code, name in names.items() if name == ended))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        name = names[code] if code >= 0 else f"ended by {signal.Signals(-code).name}"
        outcomes[name] = outcomes.get(name, 0) + 1
    print(json.dumps(outcomes))


def _outcome(path: Path, kind: str) -> str:
    try:
        if detect_kind(path) == kind:
            config, _ = _keras_config(path, kind)
            _refuse_code(path, config)
    except ConverterError as error:
        return "traceback" if "\n" in str(error) else "refused"
    return "read"


@pytest.mark.keras
def test_a_model_that_no_other_process_can_change_is_told() -> None:
    """A subclassed model cannot be walked, and a layer of the user's own is known here alone; everything else may go."""
    keras = import_keras()

    class Own(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs * 2

    image = keras.Input((4,))
    plain = keras.Model(image, keras.layers.Dense(2)(image))
    own = keras.Model(image, Own(name="mine")(image))

    ensure_movable(plain)
    ensure_movable(keras.Sequential([image, plain]))
    with pytest.raises(UnsupportedModelError, match="'mine' of the class Own, which only this program knows"):
        ensure_movable(own)
    with pytest.raises(UnsupportedModelError, match=r"the subclassed \w+, whose layers cannot be walked"):
        ensure_movable(subclassed(keras, "tensor"))
