"""Compile variants for a target: the Python side of ``edgekit compile``, and what ``edgekit convert --target`` ends with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit_converters import ConverterError
from edgekit_converters.targets.compiling import DEADLINE_S, OPTIONS, check_compilable
from edgekit_converters.targets.compiling import compile_for as compile_models
from edgekit_converters.targets.preflight import preflight
from edgekit_converters.targets.records import CompiledFiles, TargetReport
from edgekit_converters.targets.target import EDGETPU, Target, find_target
from edgekit_device.embedded import append_note, read_note

from .boundary import translated
from .errors import EdgekitError, StoreError, UsageError
from .progress import Progress, Silent
from .records import Variant, file_facts
from .results import Results
from .store import RunStore, is_run, write_atomically
from .subject import check_tflite

__all__ = ["Compiled", "compile_for", "compile_run"]

MOST_SAMPLES = 100  # of the test split: what parity on a microcontroller is checked with


@dataclass(frozen=True)
class Compiled:
    """What compiling one model made: where its files lie, the model itself first, and what the tool said of it.

    ``variant`` is the new variant of the run, where a board can run it (an Edge TPU); None elsewhere. ``log`` is what the tool
    printed, capped.
    """

    name: str
    report: TargetReport
    paths: tuple[Path, ...]
    variant: Variant | None = None
    log: str = field(default="", repr=False)
    compile_s: float = 0.0


def compile_for(
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    target: str,
    *,
    out: str | os.PathLike[str] | None = None,
    variants: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    together: bool = False,
    data: Any = None,
    data_folder: str | os.PathLike[str] | None = None,
    deadline_s: float = DEADLINE_S,
    force: bool = False,
    progress: Progress | None = None,
) -> Results[Compiled]:
    """Compile the variants of a run folder, or .tflite files, for ``target`` with its own tool.

    Those of a run (the ones in ``variants``, else all of a precision the target runs) are kept in it; for files ``out`` is the
    folder, where nothing else's content is replaced without ``force``. ``options`` are those of the target's tool
    (``edgekit_converters.targets.compiling.OPTIONS``). ``together`` compiles several for one Edge TPU, sharing its memory.
    ``data`` (anything ``load_data`` takes) gives the samples that a microcontroller's outputs are held against LiteRT's with.

    A model that fails is in ``failures``; its error is raised when all fail. Raises UsageError for what no target compiles.
    """
    with translated():
        found = find_target(target)
        check_compilable(found)
    asked = _checked(found, dict(options or {}), together)
    if force and found.kind == EDGETPU:  # its pre-flight, that nothing would map, is overruled too
        asked["force"] = True
    job = _Job(found, asked, deadline_s, together, progress or Silent())
    given = [models] if isinstance(models, (str, os.PathLike)) else list(models)
    if len(given) == 1 and is_run(given[0]):
        if out is not None:
            raise UsageError("what is compiled of a run is kept in the run: leave --out out")
        store = RunStore.open(given[0])
        with store.locked():
            chosen = _runnable(store, found, variants)
            samples = _samples(data, data_folder, Path(chosen[0].path))
            return job.run_store(store, chosen, samples).or_raise()
    if variants:
        raise UsageError("--variant chooses among the variants of a run folder, got single models")
    paths = _paths(given)
    samples = _samples(data, data_folder, next(iter(paths.values())))
    return job.run_files(paths, samples, Path(out or "."), force=force).or_raise()


def compile_run(store: RunStore, variants: Sequence[Variant], target: Target, progress: Progress) -> Results[Compiled]:
    """Compile ``variants`` of a run whose lock is held, with the tool's own defaults."""
    return _Job(target, {}, DEADLINE_S, False, progress).run_store(store, variants, ())


class _Job:
    """One target and its tool, and what is asked of it."""

    def __init__(
        self,
        target: Target,
        options: Mapping[str, Any],
        deadline_s: float,
        together: bool,
        progress: Progress,
    ) -> None:
        self.target, self.options, self.deadline_s = target, options, deadline_s
        self.together, self.progress = together, progress

    def run_store(self, store: RunStore, variants: Sequence[Variant], samples: Sequence[Any]) -> Results[Compiled]:
        """Variants of a run, kept in it."""
        by_name = {item.name: item for item in variants}
        models = {name: Path(item.path).read_bytes() for name, item in by_name.items()}
        done = self._each(models, samples, lambda name, made: self._keep(store, by_name[name], models[name], made))
        for name in done.failures:
            self._keep_refusal(store, name, models[name])
        return done

    def run_files(
        self, paths: Mapping[str, Path], samples: Sequence[Any], out: Path, *, force: bool
    ) -> Results[Compiled]:
        """Files of any folder, compiled into ``out``; several get a folder each."""
        models = {name: path.read_bytes() for name, path in paths.items()}

        def keep(name: str, made: CompiledFiles) -> Compiled:
            written = _write(made.files, out if len(models) == 1 else out / name, force=force)
            return Compiled(name, made.report, written, None, made.log, made.compile_s)

        return self._each(models, samples, keep)

    def _each(
        self, models: Mapping[str, bytes], samples: Sequence[Any], keep: Callable[[str, CompiledFiles], Compiled]
    ) -> Results[Compiled]:
        done: dict[str, Compiled] = {}
        failures: dict[str, EdgekitError] = {}
        groups = [dict(models)] if self.together else [{name: tflite} for name, tflite in models.items()]
        for group in groups:
            self.progress.step(f"compiling {', '.join(group)} for {self.target.name}")
            try:
                with translated():
                    made = compile_models(
                        group,
                        self.target,
                        options=self.options,
                        labels={name: _labels(tflite) for name, tflite in group.items()},
                        samples=samples,
                        deadline_s=self.deadline_s,
                    )
                done.update({name: keep(name, files) for name, files in made.items()})
            except StoreError:
                raise
            except EdgekitError as error:
                failures.update(dict.fromkeys(group, error))
        return Results(done, failures)

    def _keep(self, store: RunStore, variant: Variant, tflite: bytes, made: CompiledFiles) -> Compiled:
        folder = store.target_folder(self.target.name) / variant.name
        written = _write(made.files, folder, force=True)
        store.save_target_report(variant.name, made.report)
        compiled = None
        if self.target.kind == EDGETPU and len([name for name in made.files if name.endswith(".tflite")]) == 1:
            compiled = store.save_variant(*self._variant(variant, tflite, made))
        return Compiled(variant.name, made.report, written, compiled, made.log, made.compile_s)

    def _keep_refusal(self, store: RunStore, name: str, tflite: bytes) -> None:
        """What is known of a variant that was not compiled: the comparison shows why it is not there."""
        with contextlib.suppress(ConverterError):
            store.save_target_report(name, preflight(tflite, self.target))

    def _variant(self, variant: Variant, tflite: bytes, made: CompiledFiles) -> tuple[Variant, bytes]:
        """A compiled file as a variant that a board with an Edge TPU can be sent; it still knows how to be fed."""
        content = next(iter(made.files.values()))
        note = read_note(tflite)
        whole = append_note(content, note) if note and not read_note(content) else content
        record = replace(
            variant,
            name=f"{variant.name}-{self.target.name}",
            target=self.target.name,
            compiled_from=variant.name,
            **file_facts(whole),
            convert_s=round(made.compile_s, 4),
            achieved={},
            key=variant.sha256,
            reused=False,
            run_with={},
        )
        return record, whole


def _checked(target: Target, options: dict[str, Any], together: bool) -> dict[str, Any]:
    """The options that were said; raises UsageError for those of another target's tool."""
    said = {name: value for name, value in options.items() if value not in (None, False, ())}
    own = OPTIONS[target.kind]
    for name in said:
        if name not in own:
            kind = next((kind for kind, names in OPTIONS.items() if name in names), "no target")
            raise UsageError(
                f"--{name.replace('_', '-')} belongs to {kind} targets, and {target.name} is {target.kind}"
            )
    if together and target.kind != EDGETPU:
        raise UsageError(f"only models for an Edge TPU are compiled together, and {target.name} is {target.kind}")
    return said


def _runnable(store: RunStore, target: Target, names: Sequence[str]) -> list[Variant]:
    """The variants asked for, or all that the target can be given; raises UsageError when there is none."""
    found = [item for item in store.variants(names) if not item.target]
    chosen = found if names else [item for item in found if item.precision in target.precisions]
    if not chosen:
        raise UsageError(
            f"{store.folder} has no variant that {target.name} runs ({', '.join(target.precisions)}). Make one: edgekit convert "
            f"MODEL --data D --target {target.name} --out {store.folder}"
        )
    return chosen


def _paths(given: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """Models by their file's name; raises UsageError for two of one name, ModelInputError for no .tflite."""
    if not given:
        raise UsageError("expected at least one model to compile: edgekit compile int8.tflite --target coral")
    found: dict[str, Path] = {}
    for item in given:
        if is_run(item):
            raise UsageError(f"expected one run folder, or .tflite files; got the run {item} among others")
        path = check_tflite(Path(item))
        if path.stem in found:
            raise UsageError(
                f"expected models of different names, got two called {path.stem!r}: {found[path.stem]}, {path}"
            )
        found[path.stem] = path
    return found


def _write(files: Mapping[str, bytes], folder: Path, *, force: bool) -> tuple[Path, ...]:
    """Write ``files`` into ``folder``. Raises UsageError before any is written where one would replace another content."""
    paths = tuple(folder / name for name in files)
    if not force:
        for path, content in zip(paths, files.values(), strict=True):
            if path.exists() and (not path.is_file() or path.read_bytes() != content):
                raise UsageError(f"{path} is there and differs: choose another --out, or replace it with --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {folder}: {error.strerror or error}. Choose another --out") from error
    return tuple(write_atomically(path, content) for path, content in zip(paths, files.values(), strict=True))


def _labels(tflite: bytes) -> tuple[str, ...]:
    raw = read_note(tflite).get("labels")
    return tuple(str(label) for label in raw) if isinstance(raw, list) else ()


def _samples(data: Any, data_folder: str | os.PathLike[str] | None, model: Path) -> list[Any]:
    """The first samples of the test split as ``model`` is fed: arrays, by name where there are several; none without data."""
    if data is None:
        return []
    from .data import load_data, resize
    from .evaluation import noted_preprocessing

    wanted = noted_preprocessing(model)
    dataset = load_data(data, size=wanted.size, folder=data_folder)
    split = dataset.test or dataset.train
    if split is None:
        raise UsageError("the data has neither test nor training samples")
    taken = resize(split.take(list(range(min(split.count, MOST_SAMPLES)))), wanted.size)
    inputs = {name: wanted.apply(values) for name, values in taken.inputs.items()}
    if len(inputs) == 1:  # whatever the data calls it, it is the model's only input
        return list(next(iter(inputs.values())))
    return [{name: values[row] for name, values in inputs.items()} for row in range(taken.count)]
