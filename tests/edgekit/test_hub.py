"""The hub: a real one in a process of its own, over real HTTP and a real database."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.client import Hub
from edgekit_device.delivery import Delivered, deliver
from edgekit_device.outbox import Outbox
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.cli import main
from edgekit.errors import MissingExtraError, StoreError, UsageError
from edgekit.hub import require_hub
from edgekit.hub.app import MOST_BODY_BYTES
from edgekit.hub.intake import MOST_AT_ONCE, Incoming, Posted, Refusal, read_posted
from edgekit.hub.storage import Storage
from tests.hubs import RealHub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    """One for all tests that do no harm to it."""
    made = RealHub(tmp_path_factory.mktemp("hub"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def device(hub: RealHub) -> str:
    """A token that may post."""
    return hub.token("board")


@pytest.fixture(scope="module")
def reader(hub: RealHub) -> str:
    """A token that may collect."""
    return hub.token("host", "read")


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    """A database without a hub before it."""
    made = Storage(f"sqlite:///{tmp_path / 'hub.db'}")
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB with a file of 256 KB on it that can be removed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a disk that is small enough to be filled")
    (folder / "ballast").write_bytes(bytes(256 * 1024))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fresh(**facts: Any) -> dict[str, Any]:
    """A report that no hub knows."""
    return {**json.loads(BenchmarkReport(id=os.urandom(16).hex()).to_json()), **facts}


def post(hub: RealHub, token: str, value: object) -> tuple[int, dict[str, Any]]:
    """Status and answer."""
    return hub.ask("POST", "/v1/reports", value if isinstance(value, bytes) else json.dumps(value).encode(), token)[:2]


def collected(hub: RealHub, token: str, query: str = "") -> dict[str, Any]:
    """A page of what is there."""
    status, page, _ = hub.ask("GET", f"/v1/reports{query}", token=token)
    assert status == 200, page
    return page


def test_a_report_comes_out_as_it_went_in(hub: RealHub, device: str, reader: str) -> None:
    """To the value, with who sent it; fields that no schema knows are kept whole."""
    before = collected(hub, reader, "?most=200")["next"]
    raw = fresh(colour="rød 😀 \x00 \ud800", notes=["\x1b[31m"], run="0a")
    status, answer = post(hub, device, raw)
    page = collected(hub, reader, f"?after={before}")

    assert (status, answer) == (201, {"id": raw["id"], "status": "stored", "duplicate": False})
    assert [(item["sender"], item["report"]) for item in page["reports"]] == [("board", raw)]
    assert page["next"] == page["reports"][0]["arrival"] > before
    assert collected(hub, reader, f"?after={page['next']}")["reports"] == []


def test_the_same_report_twice_is_there_once(hub: RealHub, device: str, reader: str) -> None:
    """The second time is fine too, and says so; the order of keys is no difference, another content is."""
    raw = fresh()
    post(hub, device, raw)

    assert post(hub, device, dict(reversed(raw.items()))) == (
        200,
        {"id": raw["id"], "status": "duplicate", "duplicate": True},
    )
    status, answer = post(hub, device, {**raw, "created": "later"})
    assert (status, answer["status"]) == (409, "conflict")
    assert "stays" in answer["detail"]
    found = [
        item["report"] for item in collected(hub, reader, "?most=200")["reports"] if item["report"]["id"] == raw["id"]
    ]
    assert found == [raw]


def test_a_list_gets_a_verdict_for_each(hub: RealHub, device: str) -> None:
    """Stored, known, another's id, the same twice in one list, and what is no report at all."""
    known, new = fresh(), fresh()
    post(hub, device, known)
    items = [new, known, {**known, "created": "x"}, new, {"schema": 0, "id": "a"}, 7, {**fresh(), "id": "../x"}]
    status, answer = post(hub, device, items)
    verdicts = [(result["id"], result["status"]) for result in answer["results"]]

    assert status == 200
    assert verdicts == [
        (new["id"], "stored"), (known["id"], "duplicate"), (known["id"], "conflict"), (new["id"], "duplicate"), ("a", "refused"),
        ("", "refused"), ("", "refused"),
    ]  # fmt: skip
    assert post(hub, device, []) == (200, {"results": []})


def test_a_newer_schema_is_taken_and_noted(hub: RealHub, device: str) -> None:
    """A board that was upgraded first is not turned away."""
    status, answer = post(hub, device, fresh(schema=99))

    assert (status, answer["status"]) == (201, "stored")
    assert "schema 99 is newer" in answer["note"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"7", b'"x"', b"{}", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b'{"schema":1}',
        b'{"schema":1,"id":"a","x":NaN}', b'{"schema":1,"id":"a","x":1e999}', b'{"schema":1,"id":7}', b'{"schema":true,"id":"a"}',
        b'{"schema":1,"id":"' + b"a" * 65 + b'"}', json.dumps([{}] * (MOST_AT_ONCE + 1)).encode(),
    ],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
def test_what_is_no_report_is_refused_with_a_reason(hub: RealHub, device: str, body: bytes) -> None:
    """422, in words fit to print."""
    status, answer = post(hub, device, body)

    assert status == 422
    assert answer["detail"]
    assert answer["detail"].isprintable()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    st.sampled_from(["/v1/reports", "/v1/health", "/v1", "/", "/v1/reports/", "/v1/reports/a", "/docs", "/openapi.json"]),
    st.dictionaries(st.sampled_from(["after", "run", "most", "x"]), st.text(st.characters(codec="ascii"), max_size=12)),
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["schema", "id", "run", "x"]), inner),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["device", "read", "none"]),
)  # fmt: skip
def test_nothing_that_is_sent_breaks_it(
    hub: RealHub, device: str, reader: str, method: str, path: str, query: dict[str, str], body: bytes, who: str
) -> None:
    """Any method, path, query, body and token: an answer below 500, and JSON where there is a body."""
    import http.client
    from urllib.parse import urlencode

    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=30)
    headers = {} if who == "none" else {"Authorization": f"Bearer {device if who == 'device' else reader}"}
    connection.request(method, f"{path}?{urlencode(query)}" if query else path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()

    assert answer.status < 500
    assert not content or isinstance(json.loads(content), dict)
    assert hub.process.poll() is None


# -- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic {}", "Bearer x", "{}", "Bearer {}x", "bearer\t{}"])
def test_without_a_good_token_nothing_is_taken_or_given(hub: RealHub, device: str, reader: str, header: str) -> None:
    """401, and the word that says how to be let in."""
    for method, token in (("POST", device), ("GET", reader)):
        given = {"Authorization": header.format(token)} if header else {}
        status, answer, headers = hub.ask(method, "/v1/reports", b"[]", **given)

        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "edgekit hub token add" in answer["detail"]


def test_a_token_is_good_for_its_scope_alone(hub: RealHub, device: str, reader: str) -> None:
    """A board cannot read what others posted, a reader cannot post."""
    assert hub.ask("GET", "/v1/reports", token=device)[0] == 403
    assert post(hub, reader, fresh())[0] == 403


def test_a_revoked_token_is_worth_nothing_at_once(hub: RealHub) -> None:
    """Without a restart; and its name is not given out again."""
    token = hub.token("short-lived")
    assert post(hub, token, fresh())[0] == 201
    hub.storage.revoke("short-lived")

    assert post(hub, token, fresh())[0] == 401
    with pytest.raises(UsageError, match="there is a token 'short-lived' already"):
        hub.token("short-lived")


def test_tokens_are_not_kept_and_not_told(hub: RealHub, device: str) -> None:
    """The database holds their SHA-256 alone, and the log of a hub that saw them nothing."""
    files = b"".join(path.read_bytes() for path in hub.folder.glob("hub.db*"))

    assert device.encode() not in files
    assert hashlib.sha256(device.encode()).hexdigest().encode() in files
    assert len(device) > 40


def test_health_is_for_everybody(hub: RealHub) -> None:
    """It says which hub this is, and no more than that it works."""
    status, answer, headers = hub.ask("GET", "/v1/health")

    assert (status, answer["status"], answer["hub"]) == (200, "ok", hub.storage.hub_id)
    assert headers["Server"] is None


@pytest.mark.parametrize(
    "query", ["?after=-1", "?after=x", "?most=0", "?most=999", f"?after={2**63}", "?run=" + "x" * 300]
)
def test_a_query_that_makes_no_sense_is_refused(hub: RealHub, reader: str, query: str) -> None:
    """422."""
    assert hub.ask("GET", f"/v1/reports{query}", token=reader)[0] == 422


def test_reports_of_one_run_can_be_asked_for(hub: RealHub, device: str, reader: str) -> None:
    """In pages."""
    wanted = [fresh(run="wanted") for _ in range(3)]
    post(hub, device, [wanted[0], fresh(run="other"), *wanted[1:]])
    first = collected(hub, reader, "?run=wanted&most=2")
    rest = collected(hub, reader, f"?run=wanted&after={first['next']}")

    assert [item["report"] for item in (*first["reports"], *rest["reports"])] == wanted


# -- bodies that are too large, too slow, or not there ------------------------------------------------------------------


def raw_request(hub: RealHub, head: str, pieces: Iterable[bytes] = ()) -> tuple[bytes, int]:
    """Send a request by hand until it is answered; what came back, and how many bytes of the body were taken."""
    sent, answer = 0, b""
    with socket.create_connection(("127.0.0.1", hub.port), timeout=20) as connection:
        connection.sendall(head.encode())
        with contextlib.suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
                sent += len(piece)
        with contextlib.suppress(OSError):
            while got := connection.recv(65536):
                answer += got
    return answer, sent


def test_a_body_that_is_announced_far_too_large_is_refused_unread(hub: RealHub, device: str) -> None:
    """413 before a byte of it was sent."""
    head = f"POST /v1/reports HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {device}\r\n"
    for length in (2 * MOST_BODY_BYTES + 1, 10**30):
        answer, _ = raw_request(hub, f"{head}Content-Length: {length}\r\n\r\n")

        assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))  # 400: h11 takes lengths of 20 digits at most


def test_a_body_that_streams_on_is_cut_off(hub: RealHub, device: str) -> None:
    """Chunks without an end: refused at the limit, long before they end, in a process that has not grown by them."""
    import psutil

    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = (
        f"POST /v1/reports HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {device}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    before = psutil.Process(hub.process.pid).memory_info().rss
    _, sent = raw_request(hub, head, (piece for _ in range(3000)))
    after = psutil.Process(hub.process.pid).memory_info().rss

    assert sent < 100 * 1024 * 1024  # of 187 MiB: the rest lies in the buffers of the system, or was not sent
    assert after - before < 64 * 1024 * 1024
    assert hub.ask("GET", "/v1/health")[0] == 200


def test_the_largest_body_is_taken(hub: RealHub, device: str) -> None:
    """To the byte; one more is 413."""
    raw = fresh()
    spaces = MOST_BODY_BYTES - len(json.dumps(raw))

    assert post(hub, device, json.dumps(raw).encode() + b" " * (spaces + 1))[0] == 413
    assert post(hub, device, json.dumps(raw).encode() + b" " * spaces)[0] == 201


def test_a_board_that_vanishes_in_the_middle_is_no_event(hub: RealHub, device: str) -> None:
    """The hub goes on, and says nothing of it."""
    for _ in range(3):
        head = f"POST /v1/reports HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {device}\r\nContent-Length: 1000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", hub.port)) as connection:
            connection.sendall(head.encode() + b"{")

    assert hub.ask("GET", "/v1/health")[0] == 200


def served_in_a_thread(storage: Storage, **limits: Any) -> contextlib.AbstractContextManager[int]:
    """The same application with other limits, over real HTTP; gives the port."""

    @contextlib.contextmanager
    def running() -> Iterator[int]:
        import uvicorn

        from edgekit.hub.app import create_app

        config = uvicorn.Config(create_app(storage, **limits), log_level="critical", lifespan="off")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                yield int(listener.getsockname()[1])
            finally:
                server.should_exit = True
                thread.join()

    return running()


def test_a_body_that_drips_is_given_up(storage: Storage) -> None:
    """408 after the deadline, with or without a good token: a connection is not held for ever."""
    token = storage.add_token("board")
    with served_in_a_thread(storage, read_deadline_s=0.2) as port:
        for given in (token, "wrong"):
            head = f"POST /v1/reports HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {given}\r\nContent-Length: 100\r\n\r\n{{"
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(head.encode())
                assert connection.recv(65536).startswith(b"HTTP/1.1 408")


def test_a_database_on_a_full_disk_says_so_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    """Nothing that was confirmed is lost, and nothing that was not is there by half."""
    storage = Storage(f"sqlite:///{small_disk / 'hub.db'}")
    stored: list[str] = []

    def fill() -> None:
        for number in range(1000):
            storage.add([Incoming(f"r{number}", "", "0" * 64, "x" * 5000)], "board")
            stored.append(f"r{number}")

    with pytest.raises(StoreError, match="full"):
        fill()
    (small_disk / "ballast").unlink()
    storage.add([Incoming("later", "", "0" * 64, "x")], "board")
    found = storage.reports(most=1000)
    storage.close()

    assert len(found) == len(stored) + 1 > 2
    assert {item.body for item in found} == {"x" * 5000, "x"}


# -- the process ------------------------------------------------------------------------------------------------------


def test_it_ends_in_peace_and_says_nothing(tmp_path: Path) -> None:
    """SIGTERM: exit 0, the database checked in; neither tokens nor requests on standard error; files for their owner alone,
    also where the database was there with other rights."""
    hub = RealHub(tmp_path / "hub")
    try:
        post(hub, hub.token("board"), fresh())
        post(hub, "wrong", fresh())
        files = {path.name: path.stat().st_mode & 0o777 for path in hub.folder.glob("hub.db*")}
        ended = hub.stop()
    finally:
        hub.close()

    assert ended == (0, "")
    assert files == {"hub.db": 0o600, "hub.db-wal": 0o600, "hub.db-shm": 0o600}
    (hub.folder / "hub.db").chmod(0o644)
    again = Storage(hub.db)
    assert again.count() == 1
    again.close()
    assert (hub.folder / "hub.db").stat().st_mode & 0o777 == 0o600


def test_a_database_that_is_locked_or_full_is_503_and_the_board_keeps_its_report(
    hub: RealHub, device: str, tmp_path: Path
) -> None:
    """With the seconds after which to come again; when the lock is gone it is delivered."""
    outbox = Outbox(tmp_path / "outbox")
    outbox.put(BenchmarkReport(id=os.urandom(16).hex()))
    other = sqlite3.connect(hub.folder / "hub.db", isolation_level=None)
    with contextlib.closing(other):
        other.execute("BEGIN IMMEDIATE")
        status, answer, headers = hub.ask("POST", "/v1/reports", json.dumps(fresh()).encode(), device)

        assert (status, headers["Retry-After"]) == (503, "5")
        assert "database is locked" in answer["detail"]
    assert deliver(outbox, Hub(hub.url, device)) == Delivered(1, 0)


def test_a_killed_hub_has_everything_it_has_confirmed(tmp_path: Path) -> None:
    """kill -9 at random moments while a board posts: what left the board is there once; the rest is delivered later."""
    outbox, draw = Outbox(tmp_path / "outbox"), random.Random(3)
    hub = RealHub(tmp_path / "hub")
    try:
        target, port = Hub(hub.url, hub.token("board")), hub.port
        for number in range(150):
            outbox.put(BenchmarkReport(id=f"r{number}"))
        stopped = threading.Event()

        def murder() -> None:
            for _ in range(2):
                time.sleep(draw.uniform(0.05, 0.3))
                hub.stop(signal.SIGKILL)
                hub.start(port)
            stopped.set()

        murderer = threading.Thread(target=murder)
        murderer.start()
        while not stopped.is_set():  # also when all is delivered: the last kill is to find a hub at rest, too
            deliver(outbox, target, attempts=1000, sleep=lambda _: time.sleep(0.02))
            if not outbox.waiting():
                outbox.put(BenchmarkReport(id=f"later{time.monotonic_ns()}"))
        murderer.join()
        deliver(outbox, target)
        found = [
            json.loads(item.body)["id"] for after in (0, 200, 400) for item in hub.storage.reports(after, most=200)
        ]
    finally:
        hub.close()

    assert len(found) == len(set(found))
    assert {f"r{number}" for number in range(150)} <= set(found)
    assert outbox.waiting() == []


def test_two_hubs_on_one_database_take_each_report_once(hub: RealHub, device: str) -> None:
    """The same reports posted to both at once: one of them stores each, the other knows it."""
    second, before = RealHub(hub.folder), hub.storage.count()
    try:
        batches = [[fresh() for _ in range(20)] for _ in range(5)]
        answers: list[dict[str, Any]] = []

        def send(to: RealHub) -> None:
            for batch in batches:
                answers.append(post(to, device, batch)[1])

        threads = [threading.Thread(target=send, args=(each,)) for each in (hub, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        second.close()
    statuses = [result["status"] for answer in answers for result in answer["results"]]

    assert sorted(statuses) == ["duplicate"] * 100 + ["stored"] * 100
    assert hub.storage.count() == before + 100


# -- storage and command line -------------------------------------------------------------------------------------------


def test_pages_are_bounded_by_bytes(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """But always hold one."""
    monkeypatch.setattr("edgekit.hub.storage.PAGE_BYTES", 100)
    items = [Incoming(f"r{number}", "", "0" * 64, "x" * size) for number, size in enumerate((500, 40, 40, 40))]
    storage.add(items, "board")

    pages = [[len(item.body) for item in storage.reports(after)] for after in (0, 1, 3)]
    assert pages == [[500], [40, 40], [40]]


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("nonsense", UsageError, "expected --db as a URL"),
        ("sqlite://", UsageError, "expected a file for the database"),
        ("sqlite:///:memory:", UsageError, "expected a file for the database"),
        ("nodb://host/name", UsageError, "expected --db as a URL"),
        ("postgresql+psycopg://user:secret@host/name", MissingExtraError, "pip install psycopg"),
        ("sqlite:////proc/none/hub.db", StoreError, "cannot make the hub's database"),
    ],
)
def test_a_database_that_cannot_be_is_told(url: str, error: type[Exception], said: str) -> None:
    """Without the password in it."""
    with pytest.raises(error, match=said) as caught:
        Storage(url)

    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    """And stays as it is."""
    (tmp_path / "hub.db").write_text("a letter to somebody" * 100)

    with pytest.raises(StoreError, match="file is not a database"):
        Storage(f"sqlite:///{tmp_path / 'hub.db'}")
    assert (tmp_path / "hub.db").read_text().startswith("a letter")


def test_a_database_of_a_newer_hub_is_left_alone(tmp_path: Path) -> None:
    """It may hold what this one would not understand."""
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    Storage(url).close()
    with sqlite3.connect(tmp_path / "hub.db") as other:
        other.execute("UPDATE facts SET value = '2' WHERE name = 'schema'")
    other.close()

    with pytest.raises(StoreError, match="is of schema 2, this edgekit knows 1: upgrade"):
        Storage(url)


@pytest.mark.parametrize(
    ("name", "scope"), [("", "device"), ("a b", "device"), ("-a", "device"), ("a" * 65, "read"), ("a", "all")]
)
def test_names_and_scopes_are_checked(storage: Storage, name: str, scope: str) -> None:
    """Before a token is made."""
    with pytest.raises(UsageError, match=r"expected a name|unknown scope"):
        storage.add_token(name, scope)
    assert storage.tokens() == []


def test_the_command_line_makes_lists_and_revokes_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The token alone on standard output, so that it can go into a file; a list has none."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "home"))
    assert main(["hub", "token", "add", "pi4"]) == 0
    token = capfd.readouterr().out
    assert main(["hub", "token", "add", "pi4"]) == 2
    assert main(["hub", "token", "revoke", "pi5"]) == 2
    assert "did you mean 'pi4'" in capfd.readouterr().err
    assert main(["hub", "token", "revoke", "pi4"]) == 0
    capfd.readouterr()
    assert main(["hub", "token", "list", "--json"]) == 0
    listed = capfd.readouterr().out
    known = json.loads(listed)["tokens"][0]

    assert token.startswith("edgekit-hub-")
    assert len(token.split()) == 1
    assert token.strip() not in listed
    assert (known["name"], known["scope"], bool(known["revoked"])) == ("pi4", "device", True)


def test_an_address_that_is_taken_is_told(hub: RealHub, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 2, with what to change."""
    assert main(["hub", "serve", "--port", str(hub.port), "--db", f"sqlite:///{tmp_path / 'hub.db'}"]) == 2

    error = capfd.readouterr().err
    assert f"cannot listen on 127.0.0.1 port {hub.port}: Address already in use" in error
    assert "no board may post yet" in error


def test_a_missing_extra_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the rest of edgekit never asks for it."""
    import importlib.util

    code = "import sys, edgekit.cli.hub, edgekit.hub\nprint({'fastapi', 'sqlalchemy', 'uvicorn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'fastapi, sqlalchemy, uvicorn: pip install "edgekit\[hub\]"'):
        require_hub()


def test_only_the_hub_s_room_imports_its_packages(root: Path) -> None:
    """FastAPI, SQLAlchemy and uvicorn stay behind one door."""
    import re

    pattern = re.compile(r"^\s*(?:from|import) (?:fastapi|sqlalchemy|uvicorn|starlette)\b", re.MULTILINE)
    folders = ("edgekit", "converters", "device")
    users = {path for folder in folders for path in (root / folder).rglob("*.py") if pattern.search(path.read_text())}

    assert {path.parent for path in users} == {root / "edgekit" / "hub"}


@given(st.binary(max_size=200))
def test_reading_what_was_posted_never_raises(body: bytes) -> None:
    """Whatever the bytes are."""
    assert isinstance(read_posted(body), (Posted, Refusal))
