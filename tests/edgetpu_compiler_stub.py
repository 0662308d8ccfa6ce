"""A stand-in for Coral's edgetpu_compiler: a real process with its options, its words and its files, and its ways to fail.

Not the compiler, and no fake of what it decides: which operators map is what the mode says. ``EDGETPU_STUB`` is the mode, a
name and perhaps a value behind a colon (``MODES`` below); ``EDGETPU_STUB_VERSION`` another version. What it can show is that
edgekit runs a process as it should and believes only what is there. ``install_stub`` writes an executable that runs it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.converters import edgetpu_texts as texts  # noqa: E402 - run as a file, from any folder

MAPPED = "Mapped to Edge TPU"
LIMITED = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
LATER = "More than one subgraph is not supported"
DTYPE = "Operation is working on an unsupported data type"
MODES = """
succeed           everything maps
partial:K         operators from K on stay on the processor
nothing           exit 0 with every operator on the processor, as for a float model
fail:KIND         one of the failure texts, exit 1; leave:KIND leaves a stub of 1 KB as well
bare              exit 1 without a word
crash:N           ended by signal N; shell:N says so as a shell does, 128 and more; exit:N without a word
late:N            says it succeeded and something odd, exit N
hang              ignores SIGTERM, has a child that does too; EDGETPU_STUB_PIDS names a file for their numbers
heir              succeeds and leaves a child that holds the output open
orphan            succeeds and leaves a child, in a session of its own, that holds the output open
missing           says it succeeded, and made no file; link makes a symbolic link to another file of the machine
stub              says it succeeded, and left 1 KB of nothing; hollow leaves a model without operators
deaf              does not heed -m; apart compiles several as if each were alone
placeholder       an edgetpu-custom-op with the placeholder of the package `edgecompiler`; noise has one with noise
half              of segments, all but the first have nothing for an Edge TPU
liar              says everything maps, and leaves the model as it was
search:K          with -d: fails on the whole, succeeds with the first K operators
flood             100 MB of output, then succeeds
"""


def install_stub(folder: Path, mode: str = "succeed", version: str = "16.0.384591198", **environment: str) -> Path:
    """An executable ``edgetpu_compiler`` in ``folder`` that behaves as ``mode`` says."""
    said = {"EDGETPU_STUB": mode, "EDGETPU_STUB_VERSION": version, **environment}
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in said.items())
    program = folder / "edgetpu_compiler"
    folder.mkdir(parents=True, exist_ok=True)
    command = f"exec {shlex.quote(sys.executable)} {shlex.quote(__file__)}"
    program.write_text(f'#!/bin/sh\n{exports}\n{command} "$@"\n')
    program.chmod(0o755)
    return program


class _Options(argparse.ArgumentParser):
    """The options of compiler 16; another one is refused as it would be, and not by argparse."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self.add_argument("-s", "--show_operations", action="store_true")
        self.add_argument("-o", "--out_dir", default=".")
        self.add_argument("-m", "--min_runtime_version", type=int)
        self.add_argument("-i", "--intermediate_tensors")
        self.add_argument("-n", "--num_segments", type=int, default=1)
        self.add_argument("-d", "--search_delegate", action="store_true")
        self.add_argument("-k", "--delegate_search_step", type=int, default=1)
        self.add_argument("-a", "--enable_multiple_subgraphs", action="store_true")
        if os.environ["EDGETPU_STUB_VERSION"].startswith("16"):
            self.add_argument("-t", "--timeout_sec", type=int, default=180)
        self.add_argument("models", nargs="+")

    def error(self, message: str) -> NoReturn:
        print(f"unrecognized option: {message}")
        raise SystemExit(1)


class Stub:
    """One run."""

    def __init__(self, mode: str, version: str, options: argparse.Namespace) -> None:
        self.mode, _, self.value = mode.partition(":")
        self.version, self.options = version, options
        self.out = Path(options.out_dir)

    def run(self) -> int:
        """What ``main`` of a compiler does."""
        print(f"Edge TPU Compiler version {self.version}", flush=True)
        if self.mode in ("hang", "heir", "orphan"):
            self._with_child()
        if self.mode == "flood":
            _flood()
        if self.mode in ("crash", "shell", "bare", "exit"):
            return self._die()
        if self.mode in ("fail", "leave"):
            return self._fail()
        if self.mode == "search":
            return self._search()
        if self.options.num_segments > 1:
            return self._segments()
        self._succeed([(Path(model).stem, Path(model).read_bytes()) for model in self.options.models])
        if self.mode == "late":
            print("something odd")
        return int(self.value) if self.mode == "late" else 0

    def _with_child(self) -> None:
        """A child that lives as long as it is let; with ``hang`` so does this process."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", script], start_new_session=self.mode == "orphan")
        Path(os.environ["EDGETPU_STUB_PIDS"]).write_text(f"{os.getpid()} {child.pid}")
        if self.mode == "hang":
            print(texts.TIMER, flush=True)
            time.sleep(600)

    def _die(self) -> int:
        if self.mode == "crash":
            os.kill(os.getpid(), int(self.value))
        if self.mode == "shell":
            print("/usr/bin/edgetpu_compiler: line 3: 77 Segmentation fault ${d}/edgetpu_compiler_bin/edgetpu_compiler")
            return 128 + int(self.value)
        return int(self.value or 1)

    def _fail(self) -> int:
        stem = Path(self.options.models[0]).stem
        text = texts.failure(self.value, stem)
        if not self.version.startswith("16"):  # no timer, no verdict, and one sentence for what is inside
            lines = [line for line in text.splitlines() if line not in (texts.TIMER, texts.IN_TIME, texts.FAILED)]
            text = "\n".join(lines) or "\nInternal compiler error. Aborting! "
        print(text)
        if self.mode == "leave":
            (self.out / f"{stem}_edgetpu.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(1016))
        return 1

    def _search(self) -> int:
        (model,) = self.options.models
        content, kept = Path(model).read_bytes(), int(self.value)
        total = _operators(content)
        print(f"Searching for valid delegate with step {self.options.delegate_search_step}")
        print(f"Try to compile segment with {total} ops")
        print(texts.failure("large-activations"), end="")
        if not kept:
            return 1
        print(f"Try to compile segment with {kept} ops\nIntermediate tensors: here;there")
        self._succeed([(Path(model).stem, content)], range(kept))
        return 0

    def _segments(self) -> int:
        (model,) = self.options.models
        content, stem, count = Path(model).read_bytes(), Path(model).stem, self.options.num_segments
        for number in range(count):
            self._succeed([(f"{stem}_segment_{number}_of_{count}", _segment(content, number, count))])
        return 0

    def _succeed(self, models: list[tuple[str, bytes]], piece: range | None = None) -> None:
        blocks = []
        for stem, content in models:
            rows, made = self._compile(stem, content, piece)
            if made is not None:
                (self.out / f"{stem}_edgetpu.tflite").write_bytes(made)
                (self.out / f"{stem}_edgetpu.log").write_text(
                    texts.log_file(stem, rows, f"Edge TPU Compiler version {self.version}")
                )
            if self.mode == "link":
                (self.out / f"{stem}_edgetpu.tflite").symlink_to("/etc/passwd")
            mapped = sum(count for _, count, status in rows if status == MAPPED)
            memory = {} if mapped else {"cached": "0.00B", "remaining": "0.00B"}
            shown = self.options.show_operations
            blocks.append(
                texts.block(stem, rows, shown=shown, subgraphs=int(mapped > 0), folder=f"{self.out}/", **memory)
            )
        text = texts.success(*blocks)
        if not self.version.startswith("16"):
            text = text.replace(texts.TIMER + "\n", "").replace(texts.IN_TIME + "\n", "").replace(texts.SUCCEEDED, "")
        print(text, end="")

    def _compile(self, stem: str, content: bytes, piece: range | None) -> tuple[Any, bytes | None]:
        """The operator table, and the file; None for none."""
        from tests.edgetpu_builder import BuiltExecutable, BuiltPackage, compiled_model, placeholder_options

        types = _types(content)
        whole = range(len(types)) if piece is None else piece
        if self.mode == "partial":
            whole = range(min(int(self.value), len(types)))
        if self.mode in ("missing", "link"):
            return _rows(types, whole), None
        if self.mode == "nothing" or (self.mode == "half" and "_segment_0_" not in stem):
            return _rows(types, range(0), DTYPE), content
        if self.mode == "liar":
            return _rows(types, whole), content
        if self.mode == "stub":
            return _rows(types, whole), b"\x1c\0\0\0TFL3" + bytes(1016)
        if self.mode == "hollow":
            return _rows(types, whole), _hollow(content)
        if self.mode in ("placeholder", "noise"):
            options = placeholder_options() if self.mode == "placeholder" else bytes(range(64))
            return _rows(types, whole), compiled_model(content, packages=[options])
        runtime = (self.options.min_runtime_version if self.mode != "deaf" else None) or 14
        token = len(content) if self.mode == "apart" else 7
        executables = (BuiltExecutable(token=token), BuiltExecutable(1, 4096, "Unknown", token=token))
        packages = [BuiltPackage(executables, min_runtime=runtime)] if len(whole) else []
        return _rows(types, whole), compiled_model(content, pieces=[whole] if len(whole) else [], packages=packages)


def _flood() -> None:
    piece = (("x" * 99 + "\n") * 10_000).encode()
    for _ in range(100):
        os.write(1, piece)


def _rows(types: list[str], mapped: range, first: str = LIMITED) -> tuple[tuple[str, int, str], ...]:
    counts: dict[tuple[str, str], int] = {}
    for index, type_ in enumerate(types):
        status = MAPPED if index in mapped else first if index == len(mapped) or first == DTYPE else LATER
        counts[(type_, status)] = counts.get((type_, status), 0) + 1
    return tuple((type_, count, status) for (type_, status), count in sorted(counts.items()))


def _model(content: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def _types(content: bytes) -> list[str]:
    """The types of the operators, by the schema's names; CUSTOM for custom ones, as in the compiler's table."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name[0] != "_"}
    model = _model(content)
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return [names[codes[op.opcodeIndex]] for op in model.subgraphs[0].operators]


def _operators(content: bytes) -> int:
    return len(_model(content).subgraphs[0].operators)


def _segment(content: bytes, number: int, count: int) -> bytes:
    """The operators of one of ``count`` pieces of a chain as a model of their own."""
    model = _model(content)
    graph = model.subgraphs[0]
    total = len(graph.operators)
    begin, end = number * total // count, (number + 1) * total // count
    kept = graph.operators[begin:end]
    graph.inputs = graph.inputs if number == 0 else [int(graph.operators[begin - 1].outputs[0])]
    graph.outputs = graph.outputs if end == total else [int(kept[-1].outputs[0])]
    graph.operators, model.signatureDefs = kept, []
    return _packed(model)


def _hollow(content: bytes) -> bytes:
    model = _model(content)
    model.subgraphs[0].operators, model.signatureDefs = [], []
    return _packed(model)


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def main(arguments: list[str]) -> int:
    """Run as the mode in the environment says."""
    version = os.environ["EDGETPU_STUB_VERSION"]
    if arguments in (["--version"], ["-v"]):
        print(f"Edge TPU Compiler version {version}")
        return 0
    return Stub(os.environ["EDGETPU_STUB"], version, _Options().parse_args(arguments)).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
