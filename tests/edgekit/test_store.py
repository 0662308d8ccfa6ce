"""The run folder: whole or absent, whoever kills it and however full the disk is."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.report import ModelFacts

from edgekit.errors import StoreError, UsageError
from edgekit.records import Evaluation, Parity, Variant
from edgekit.store import RunStore, file_sha256, is_run, write_atomically


def variant(name: str = "int8", content: bytes = b"model") -> Variant:
    """A record that speaks of ``content``."""
    return Variant(name, name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """An empty run."""
    return RunStore.create(tmp_path / "run")


def child(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    """A Python process that runs ``code``."""
    command = [sys.executable, "-c", textwrap.dedent(code), *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """Eight kills at random moments: the file is never half of anything, and leftovers are hidden and swept."""
    store = RunStore.create(tmp_path / "run")
    target = store.folder / "variants" / "x.tflite"
    contents = [bytes([letter]) * 3_000_000 for letter in b"ab"]
    write_atomically(target, contents[0])
    code = """
        import sys
        from pathlib import Path
        from edgekit.store import write_atomically
        print("ready", flush=True)
        while True:
            for letter in b"ab":
                write_atomically(Path(sys.argv[1]), bytes([letter]) * 3_000_000)
    """
    for seed in range(8):
        with child(code, target) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(random.Random(seed).uniform(0.0, 0.05))
            writer.kill()
        assert target.read_bytes() in contents
    assert not [path for path in target.parent.iterdir() if path != target and not path.name.startswith(".")]
    assert store.damaged() == ["x"]  # a file without its record is not a variant
    with store.locked():
        assert list(target.parent.iterdir()) == [target]


def test_writing_leaves_nothing_aside(tmp_path: Path) -> None:
    """After a write there is the file, with the rights the umask gives, and nothing else."""
    before = os.umask(0o027)
    try:
        path = write_atomically(tmp_path / "x.json", b"{}")
    finally:
        os.umask(before)

    assert [item.name for item in tmp_path.iterdir()] == ["x.json"]
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["notes.txt", "variants.txt", ".hidden"])
def test_a_foreign_folder_is_refused_untouched(tmp_path: Path, name: str) -> None:
    """Nothing is written among files that are not ours."""
    (tmp_path / name).write_text("mine")

    with pytest.raises(UsageError, match="no edgekit run"):
        RunStore.create(tmp_path)

    assert [item.name for item in tmp_path.iterdir()] == [name]


def test_a_run_killed_while_it_was_made_can_be_made_again(tmp_path: Path) -> None:
    """Empty folders and a half-written record of ours do not make a folder foreign."""
    (tmp_path / "variants").mkdir()
    (tmp_path / ".run.json.0a1b2c3d.part").write_text("{")

    assert is_run(RunStore.create(tmp_path).folder)


def test_a_file_in_the_place_of_the_run_is_refused(tmp_path: Path) -> None:
    """And so is a folder below a file."""
    (tmp_path / "file").write_text("mine")

    with pytest.raises(UsageError, match="got a file"):
        RunStore.create(tmp_path / "file")
    with pytest.raises(StoreError, match="choose another folder"):
        RunStore.create(tmp_path / "file" / "run")


@pytest.mark.parametrize("folder", ["/proc/edgekit-run", "/sys/edgekit-run", "/" + "x" * 5000])
def test_a_place_nobody_can_write_to_is_one_message(folder: str) -> None:
    """The system's refusal becomes a StoreError that names the folder."""
    with pytest.raises(StoreError, match="cannot make the run folder /"):
        RunStore.create(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "other"}', "\x00", "[" * 100_000])
def test_a_folder_is_a_run_by_its_record_alone(tmp_path: Path, content: str) -> None:
    """Whatever else run.json holds is no run."""
    (tmp_path / "run.json").write_text(content)

    assert not is_run(tmp_path)
    with pytest.raises(UsageError, match=r"expected a run folder \(one with run.json\)"):
        RunStore.open(tmp_path)


def test_variants_come_back_with_their_place(store: RunStore) -> None:
    """What was saved is found again, by name and in the list, largest first."""
    small, large = (store.save_variant(variant(name, name.encode()), name.encode()) for name in ("a", "bbb"))

    assert store.variants() == [large, small]
    assert store.variants(["a"]) == [small]
    assert Path(small.path).read_bytes() == b"a"


def test_an_unknown_variant_is_an_error_with_a_suggestion(store: RunStore) -> None:
    """A misspelt --variant does not quietly leave one out."""
    with pytest.raises(UsageError, match="has no variants"):
        store.variants()
    store.save_variant(variant(), b"model")

    with pytest.raises(UsageError, match="did you mean 'int8'"):
        store.variants(["int8", "itn8"])


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("int8.tflite", lambda raw: bytes([raw[0] ^ 1]) + raw[1:]),
        ("int8.tflite", lambda raw: raw[:-1]),
        ("int8.tflite", lambda raw: b""),
        ("int8.json", lambda raw: raw[: len(raw) // 2]),
        ("int8.json", lambda raw: raw.replace(b'"size_bytes": 5', b'"size_bytes": 6')),
        ("int8.json", lambda raw: raw.replace(b'"name": "int8"', b'"name": "int9"')),
        ("int8.json", lambda raw: raw.replace(b'"size_bytes": 5', b'"size_bytes": "5"')),
        ("int8.json", lambda raw: b"\xff\xfe"),
    ],
)
def test_a_damaged_variant_is_none(store: RunStore, file: str, change: object) -> None:
    """A flipped bit, a cut file, a record that says something else: not the variant that was saved."""
    store.save_variant(variant(), b"model")
    path = store.folder / "variants" / file
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]

    assert store.variant("int8") is None
    assert store.damaged() == ["int8"]


def test_knowledge_belongs_to_one_file(store: RunStore) -> None:
    """Evaluation, report and parity of another file of the same name are not handed out."""
    old, new = variant(content=b"old"), variant(content=b"new")
    report = BenchmarkReport(model=ModelFacts(old.sha256))
    store.save_evaluation(Evaluation("int8", 3, data_sha256="d", model_sha256=old.sha256))
    store.save_report("int8", report, {"threads": 1})
    store.save_parity(Parity("int8", 3, 1.0, 0.0, model_sha256=old.sha256))

    assert store.evaluation(old) is not None
    assert store.evaluation(old, "d") is not None
    assert store.evaluation(old, "other data") is None
    assert store.report(old) == report
    assert store.report(old, {"threads": 1}) == report
    assert store.report(old, {"threads": 2}) is None
    assert store.parity(old) is not None
    assert (store.evaluation(new), store.report(new), store.parity(new)) == (None, None, None)


def test_a_damaged_report_is_none(store: RunStore) -> None:
    """Records are read as if they came from a stranger."""
    for content in ("", "[]", '{"report": 1}', '{"report": {"schema": 1}}'):
        (store.folder / "reports" / "int8.json").write_text(content)
        assert store.report(variant()) is None


def test_numbers_that_are_none_are_written_as_null(store: RunStore) -> None:
    """NaN is no JSON, and no reason to lose the rest."""
    path = store.write_json("x.json", {"diff": float("nan")})

    assert json.loads(path.read_text()) == {"diff": None}
    assert store.read_facts("x.json") == {"diff": None}
    assert store.read_facts("none.json") == {}


def test_two_writers_do_not_meet(store: RunStore) -> None:
    """The second is told; when the first is gone, even killed, the folder is free."""
    code = """
        import sys, time
        from edgekit.store import RunStore
        with RunStore.open(sys.argv[1]).locked():
            print("held", flush=True)
            time.sleep(60)
    """
    with child(code, store.folder) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="another edgekit is writing"), store.locked():
            pass
        other.send_signal(signal.SIGKILL)
    with store.locked():
        pass


FILL = """
    import sys, pathlib, hashlib, resource
    from edgekit.errors import StoreError
    from edgekit.records import Variant
    from edgekit.store import RunStore
    store = RunStore.create(sys.argv[1])
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    for number in range(100):
        content = bytes([number]) * 300_000 * (number + 1)
        try:
            digest = hashlib.sha256(content).hexdigest()
            store.save_variant(Variant(f"v{number}", "int8", sha256=digest, size_bytes=len(content)), content)
        except StoreError as error:
            print(error.exit_code, error)
            break
"""


def _check_filled(folder: Path, said: str, why: str) -> None:
    store = RunStore.open(folder)
    kept = store.variants()
    assert said.startswith("3 cannot write ")
    assert why in said
    assert len(kept) >= 1
    assert store.damaged() == []
    assert not list(folder.rglob(".*.part"))


def test_a_file_size_limit_is_one_message(tmp_path: Path) -> None:
    """What was finished before stays whole, and nothing half-written is left."""
    with child(FILL, tmp_path / "run", 1_000_000) as writer:
        said = writer.communicate()[0]

    _check_filled(tmp_path / "run", said, "ulimit -f")


def test_a_full_disk_is_one_message(tmp_path: Path) -> None:
    """The same on a file system of two megabytes, where this process may mount one."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs rights")
    try:
        with child(FILL, tmp_path / "run") as writer:
            said = writer.communicate()[0]
        _check_filled(tmp_path / "run", said, "the disk is full")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        with pytest.raises(StoreError, match="read-only"):
            RunStore.create(tmp_path / "other")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_s_hash_is_of_names_and_contents(tmp_path: Path) -> None:
    """For a SavedModel: any file renamed or changed gives another hash."""
    seen = set()
    for names in (("a", "b"), ("a", "c")):
        for content in (b"1", b"2"):
            folder = tmp_path / f"{names[1]}{content.decode()}"
            (folder / "sub").mkdir(parents=True)
            (folder / names[0]).write_bytes(b"0")
            (folder / "sub" / names[1]).write_bytes(content)
            seen.add(file_sha256(folder))
    assert len(seen) == 4
