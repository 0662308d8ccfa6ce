"""Compiled Edge TPU files opened without the compiler: read whole, told from what only looks compiled, and damaged."""

from __future__ import annotations

import contextlib
import json
import random
import struct
from collections.abc import Callable

import pytest
from edgekit_converters.errors import ModelFileError
from edgekit_converters.targets.edgetpu.compiled_model import has_package, is_compiled, read_compiled, read_packages
from edgekit_converters.targets.edgetpu.container import (
    EXECUTION_ONLY,
    PARAMETER_CACHING,
    PLACEHOLDERS,
    STAND_ALONE,
    Executable,
    Layer,
    PlaceholderError,
    Transfers,
    read_package,
)
from edgekit_converters.targets.edgetpu.flat import MOST_FLEX_ENTRIES
from edgekit_converters.targets.operators import EDGETPU_OPERATOR
from edgekit_converters.targets.records import COMPILED
from edgekit_converters.targets.target import find_target
from flatbuffers import flexbuffers

from tests import edgetpu_builder as built
from tests.converters.edgetpu_models import chain
from tests.edgetpu_builder import (
    BuiltExecutable,
    BuiltLayer,
    BuiltPackage,
    compiled_model,
    custom_options,
    package_bytes,
)
from tests.tflite_builder import Graph, Op, Tensor, build, conv_model, dense_model

TARGET = find_target("coral")
RUNNING = BuiltExecutable(
    type=built.EXECUTION_ONLY,
    parameter_bytes=320,
    name="model",
    scratch_bytes=64,
    instructions=(1600, 800),
    estimated_cycles=7,
    estimated_cycles_64=2**40,
    narrow_bytes_per_tile=4096,
    token=2**63 + 5,
    inputs=(BuiltLayer("in/image", 3072, 32, 32, 3),),
    outputs=(BuiltLayer("out", 16, 1, 1, 10, data_type=9, runs=2),),
    transfers=(
        (built.INPUT, 3072),
        (built.PARAMETER, 320),
        (built.OUTPUT, 16),
        (built.SCRATCH, 64),
        (built.SCRATCH, 64),
    ),
    fences=1,
    complete=False,
)
CACHING = BuiltExecutable(
    built.PARAMETER_CACHING, 8192, "Unknown", token=2**63 + 5, transfers=((built.PARAMETER, 8192),)
)
PACKAGE = BuiltPackage((RUNNING, CACHING), min_runtime=13, model_identifier="mine")


def _options(package: BuiltPackage = PACKAGE) -> bytes:
    return custom_options(package_bytes(package))


def test_every_field_of_a_package_is_read() -> None:
    """What an independent writer put into a package comes out, field by field."""
    package = read_package(_options())
    assert (package.min_runtime, package.compiler_version, package.model_identifier) == (13, "cl/384591198", "mine")
    assert (package.virtual_chip, package.chips, package.size_bytes) == (0, 1, len(package_bytes(PACKAGE)))
    assert package.executables[0] == Executable(
        name="model",
        type=EXECUTION_ONLY,
        batch=1,
        scratch_bytes=64,
        parameter_bytes=320,
        instruction_bytes=2400,
        instruction_chunks=2,
        chip="beagle",
        estimated_cycles=2**40,
        narrow_bytes_per_tile=4096,
        caching_token=2**63 + 5,
        parameters_in_dram=False,
        inputs=(Layer("in/image", 3072, 32, 32, 3, 0),),
        outputs=(Layer("out", 16, 1, 1, 10, 9, runs=2),),
        transfers=Transfers(
            instructions=2,
            inputs=1,
            input_bytes=3072,
            outputs=1,
            output_bytes=16,
            parameters=1,
            parameter_bytes=320,
            scratches=2,
            scratch_bytes=128,
            fences=1,
            interrupts=1,
        ),
    )
    assert (package.executables[1].type, package.executables[1].parameter_bytes) == (PARAMETER_CACHING, 8192)
    assert package.executables[1].transfers.complete


def test_parameters_are_cached_or_streamed_by_what_carries_them() -> None:
    """Parameters of a caching executable stay on the chip; those of what executes are sent every time."""
    assert (read_package(_options()).cached_bytes, read_package(_options()).streamed_bytes) == (8192, 320)
    alone = BuiltPackage((BuiltExecutable(built.STAND_ALONE, 512, estimated_cycles=99),))
    package = read_package(_options(alone))
    assert (package.cached_bytes, package.streamed_bytes) == (0, 512)
    assert (package.executables[0].type, package.executables[0].estimated_cycles) == (STAND_ALONE, 99)


def test_executable_of_a_newer_kind_is_named() -> None:
    """A type the schema has not is told by its number, and counts as streamed."""
    package = read_package(_options(BuiltPackage((BuiltExecutable(7, 512),))))
    assert (package.executables[0].type, package.streamed_bytes) == ("type_7", 512)


def test_names_from_a_package_are_cleaned() -> None:
    """A name with an escape sequence, and one without an end, come out printable and short."""
    running = BuiltExecutable(name="\x1b[31mmodel\n", inputs=(BuiltLayer("x" * 5000, 4),))
    (executable,) = read_package(_options(BuiltPackage((running,)))).executables
    assert executable.name == "[31mmodel"
    assert executable.inputs[0].name == "x" * 200


def test_compiled_model_is_reported() -> None:
    """inspect's record of a compiled file: its operators by index, runtime, bytes, and a line for every executable."""
    data = compiled_model(chain("QUANTIZE", "CONV", "RELU", "DEQUANTIZE"), pieces=[[1, 2]], packages=[PACKAGE])
    report = read_compiled(data, TARGET)
    assert (report.basis, report.name, report.min_runtime) == (COMPILED, "coral", 13)
    assert [(op.index, op.type, op.placement) for op in report.ops] == [
        (0, "QUANTIZE", "cpu"),
        (1, EDGETPU_OPERATOR, "edgetpu"),
        (2, "DEQUANTIZE", "cpu"),
    ]
    assert (report.on_target, report.on_cpu, report.subgraphs, report.first_off_target) == (1, 2, 1, 2)
    assert (report.cached_bytes, report.streamed_bytes) == (8192, 320)
    assert [(line.type, line.figures["parameter_bytes"]) for line in report.layers] == [
        (EXECUTION_ONLY, 320),
        (PARAMETER_CACHING, 8192),
    ]
    assert (report.memory["narrow_per_tile"], report.memory["scratch"]) == (4096, 64)
    assert (report.figures["input_bytes"], report.figures["compiler_cycles"]) == (3072, 2**40)
    assert "384591198" in report.said_by
    assert (report.refusal, report.estimate, report.warnings) == ("", None, ())
    json.dumps(report.to_dict(), allow_nan=False)


def test_several_pieces_add_up() -> None:
    """Two packages: bytes are summed, the runtime is the higher one, and caches that displace each other are warned of."""
    other = BuiltPackage((BuiltExecutable(built.PARAMETER_CACHING, 1024, token=3), BuiltExecutable()), min_runtime=14)
    data = compiled_model(chain("CONV", "RELU", "CONV"), pieces=[[0], [2]], packages=[PACKAGE, other])
    report = read_compiled(data, TARGET)
    assert (report.subgraphs, report.on_target, report.on_cpu, report.min_runtime) == (2, 2, 1, 14)
    assert (report.cached_bytes, report.streamed_bytes) == (8192 + 1024, 320)
    assert "pushes the other's parameters off the chip" in report.warnings[0]


def test_compiled_for_another_chip_is_warned_of() -> None:
    """A package of another chip than the Edge TPU's is no silent success."""
    report = read_compiled(
        compiled_model(dense_model("int8"), packages=[BuiltPackage((BuiltExecutable(chip="abrolhos"),))]), TARGET
    )
    assert "abrolhos" in report.warnings[0]


def test_version_the_package_does_not_tell_is_not_made_up() -> None:
    """Most packages say no more than cl/: then the report says that, no number."""
    report = read_compiled(compiled_model(dense_model("int8"), packages=[BuiltPackage(compiler_version="cl/")]), TARGET)
    assert report.said_by == "edgetpu_compiler (version not in the file)"


def test_placeholder_is_told_from_a_package() -> None:
    """A file of the Python package edgecompiler looks compiled; edgekit names it, and no Edge TPU is said to run it."""
    data = compiled_model(dense_model("int8"), packages=[built.placeholder_options()])
    assert (is_compiled(data), has_package(data)) == (True, False)
    report = read_compiled(data, TARGET)
    assert "placeholder" in report.refusal
    assert (report.on_target, report.ops[0].placement) == (0, "unsupported")
    assert not report.fully_on_target
    for magic in PLACEHOLDERS:
        for options in (magic + bytes(60), custom_options(magic + bytes(60))):
            with pytest.raises(PlaceholderError, match="edgecompiler"):
                read_package(options)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0", id="a-byte"),
        pytest.param(bytes(1024), id="zeros"),
        pytest.param(custom_options(b"no flatbuffer"), id="no-flatbuffer"),
        pytest.param(custom_options(b""), id="empty-package"),
        pytest.param(custom_options(package_bytes(BuiltPackage(()))), id="no-executables"),
        pytest.param(custom_options(package_bytes(PACKAGE), key="9"), id="no-package-key"),
        pytest.param(bytes(flexbuffers.Dumps([1, 2, 3])), id="no-map"),
        pytest.param(bytes(flexbuffers.Dumps({"4": 17})), id="package-is-a-number"),
        pytest.param(bytes(flexbuffers.Dumps({str(i): i for i in range(MOST_FLEX_ENTRIES + 1)})), id="too-many-keys"),
        pytest.param(
            custom_options(package_bytes(BuiltPackage((BuiltExecutable(),) * 300))), id="too-many-executables"
        ),
        pytest.param(
            custom_options(package_bytes(BuiltPackage((BuiltExecutable(scratch_bytes=-1),)))), id="negative-size"
        ),
    ],
)
def test_what_holds_no_package_is_refused(options: bytes) -> None:
    """A stub, and whatever else has no whole package, is compiled by name alone: nothing to run, and an error that says so."""
    with pytest.raises(ModelFileError, match="expected"):
        read_package(options)
    data = compiled_model(dense_model("int8"), packages=[options])
    assert (is_compiled(data), has_package(data)) == (True, False)
    with pytest.raises(ModelFileError, match=r"expected|as a compiler that failed leaves it"):
        read_compiled(data, TARGET)


def test_model_that_is_not_compiled_is_none() -> None:
    """A plain model is not compiled, also where its name says so; other bytes are none either."""
    name = Tensor(EDGETPU_OPERATOR, "int8", (1, 4), None, (0.5,), (0,))
    named = build(Graph([name, Tensor("y", "int8", (1, 4), None, (0.5,), (0,))], [Op("RELU", (0,), (1,))], (0,), (1,)))
    for data in (dense_model("int8"), conv_model(), named):
        assert (is_compiled(data), has_package(data), read_packages(data)) == (False, False, {})
    with pytest.raises(ModelFileError, match="compile it first"):
        read_compiled(dense_model("int8"), TARGET)
    assert (is_compiled(b"no model"), has_package(b"no model")) == (False, False)


def test_large_options_behind_the_flatbuffer_are_followed() -> None:
    """Options of models near 2 GB are behind the flatbuffer; their place is checked like any other."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(compiled_model(dense_model("int8"), packages=[PACKAGE]), 0)
    op = model.subgraphs[0].operators[0]
    options = _options()
    for offset, size, whole in ((0, 0, False), (1, len(options), True), (1, 2**40, False)):
        op.customOptions = None
        op.largeCustomOptionsOffset, op.largeCustomOptionsSize = 1, 1
        start = len(_pack(model))
        op.largeCustomOptionsOffset, op.largeCustomOptionsSize = offset * start, size
        assert has_package(_pack(model) + options) is whole


def test_operators_that_share_their_options_are_refused() -> None:
    """A thousand operators that point at the same package would be read a thousand times: an honest file has room for each."""
    raw = bytearray(compiled_model(chain(*["RELU"] * 40), pieces=[[i] for i in range(40)], packages=[PACKAGE] * 40))
    assert has_package(bytes(raw))
    shared = _share_options(bytes(raw))
    with pytest.raises(ModelFileError, match="fit into"):
        read_packages(shared)


def test_vector_longer_than_the_package_is_refused() -> None:
    """A vector that says it has a quarter of a billion hints is refused before any is read."""
    package = package_bytes(BuiltPackage((BuiltExecutable(transfers=((built.INPUT, 4),) * 500),)))
    count = struct.pack("<I", 502)  # an instruction, the transfers, an interrupt
    (place,) = [i for i in range(len(package) - 4) if package[i : i + 4] == count]
    broken = package[:place] + struct.pack("<I", 2**28) + package[place + 4 :]
    with pytest.raises(ModelFileError, match="used about once"):
        read_package(custom_options(broken))


def test_every_cut_is_refused() -> None:
    """Options cut anywhere are an error of ours, never another one."""
    options = _options(BuiltPackage((BuiltExecutable(instructions=(16,)),)))
    for end in range(len(options)):
        with pytest.raises(ModelFileError):
            read_package(options[:end])


@pytest.mark.parametrize("seed", range(6))
def test_damaged_bytes_are_read_or_refused(seed: int) -> None:
    """Whatever a few changed bytes do to options or to a compiled file, the answer is a package or a ModelFileError."""
    chance = random.Random(seed)
    small = BuiltPackage((BuiltExecutable(instructions=(16,), transfers=((built.INPUT, 4),)), BuiltExecutable(1, 32)))
    options = _options(small)
    compiled = compiled_model(dense_model("int8"), packages=[small])
    for _ in range(120):
        _read_or_refuse(_damage(options, chance), read_package)
        _read_or_refuse(_damage(compiled, chance), lambda data: read_compiled(data, TARGET))


def _read_or_refuse(data: bytes, read: Callable[[bytes], object]) -> None:
    with contextlib.suppress(ModelFileError):
        read(data)


def _damage(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, at the ends more often: there the offsets are."""
    broken = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        edge = min(len(broken), 200)
        place = chance.choice(
            [chance.randrange(len(broken)), chance.randrange(edge), len(broken) - 1 - chance.randrange(edge)]
        )
        broken[place] = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])
    return bytes(broken)


def _share_options(data: bytes) -> bytes:
    """All custom options vectors replaced by references to the first one."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    class Sharing(flatbuffers.Builder):  # type: ignore[misc]
        seen: dict[bytes, int]

        def CreateNumpyVector(self, values: object) -> int:
            key = bytes(values)  # type: ignore[call-overload]
            if key not in self.seen:
                self.seen[key] = super().CreateNumpyVector(values)
            return self.seen[key]

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    builder = Sharing(1024)
    builder.seen = {}
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _pack(model: object) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")  # type: ignore[attr-defined]
    return bytes(builder.Output())
