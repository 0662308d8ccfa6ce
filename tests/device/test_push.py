"""A board posts its outbox: every report once, whatever the hub answers, and the token to nobody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from edgekit_device import BenchmarkReport
from edgekit_device.cli import main
from edgekit_device.client import Hub, ask_hub, read_token
from edgekit_device.delivery import FIRST_WAIT_S, LONGEST_WAIT_S, Delivered, deliver, waits_s
from edgekit_device.errors import HubError, InputError
from edgekit_device.outbox import Outbox

from tests.hubs import Handler, RogueHub, answer, closed_port, cut, take

TOKEN = "edgekit-hub-" + "x" * 43


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine says of proxies is none of these tests' business."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """This machine's, with three reports."""
    monkeypatch.setenv("EDGEKIT_DEVICE_HOME", str(tmp_path / "board"))
    outbox = Outbox(tmp_path / "board" / "outbox")
    for name in ("a", "b", "c"):
        outbox.put(BenchmarkReport(id=name))
    return outbox


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A token that nobody else can read."""
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(TOKEN + "\n")
    return path


def waiting(outbox: Outbox) -> list[str]:
    """Ids."""
    return [entry.id for entry in outbox.waiting()]


def deliver_to(outbox: Outbox, url: str, **options: Any) -> Delivered:
    """Without the pauses."""
    return deliver(outbox, Hub(url, TOKEN), **{"sleep": lambda _: None, "timeout_s": 10.0, **options})


def test_what_the_hub_has_is_gone_from_the_board(outbox: Outbox) -> None:
    """One request, with the token, and the reports as they were written."""
    written = [json.loads(line) for _, line in outbox.drain()]
    with RogueHub(take).running() as hub:
        assert deliver_to(outbox, hub.url) == Delivered(3, 0)

    assert hub.requests == [("/v1/reports", f"Bearer {TOKEN}", written)]
    assert waiting(outbox) == []


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_hub_that_fails_gets_everything_later(outbox: Outbox, status: int) -> None:
    """Nothing leaves the board before the hub has taken it, and it is asked again."""
    answers = iter([status, status, 200])

    def script(handler: Handler, reports: list[dict[str, Any]]) -> None:
        assert waiting(outbox) == ["a", "b", "c"]
        code = next(answers)
        take(handler, reports) if code == 200 else answer(handler, code, b"no")

    with RogueHub(script).running() as hub:
        assert deliver_to(outbox, hub.url) == Delivered(3, 0)
    assert len(hub.requests) == 3


@pytest.mark.parametrize(
    "script",
    [
        lambda handler, _: answer(handler, 500),
        lambda handler, _: answer(handler, 200, b"<html>Log in to this airport"),
        lambda handler, _: answer(handler, 200, []),
        lambda handler, _: answer(handler, 200, {"results": "all"}),
        lambda handler, _: answer(handler, 200, {"results": [{"id": ["a"], "status": "stored"}, {"id": "a", "status": {}}, 7]}),
        lambda handler, _: answer(handler, 200, {"results": [{"id": "z", "status": "stored"}]}),
        lambda handler, _: answer(handler, 200, b"[" * 100_000),
        lambda handler, _: answer(handler, 204, b""),
        lambda handler, _: answer(handler, 200, b'{"results":"' + b"x" * 17_000_000 + b'"}'),
        lambda handler, _: handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n"),
        lambda handler, _: handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        lambda handler, _: None,
        cut,
    ],
    ids=["500", "portal", "list", "text", "rubbish", "unknown", "deep", "empty", "huge", "ssh", "chunks", "silence", "cut"],
)  # fmt: skip
def test_an_answer_that_is_no_receipt_takes_nothing_away(outbox: Outbox, script: Any) -> None:
    """Asked twice, it gives up: everything waits on."""
    with RogueHub(script).running() as hub, pytest.raises(HubError) as caught:
        deliver_to(outbox, hub.url, attempts=2)

    assert caught.value.passes
    assert str(caught.value).isprintable()
    assert len(hub.requests) == 2
    assert waiting(outbox) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not take this token"),
        (403, "does not take this token"),
        (404, "there is no hub of edgekit"),
        (400, "there is no hub of edgekit"),
        (405, "there is no hub of edgekit"),
        (422, "there is no hub of edgekit"),
    ],
)
def test_what_will_not_pass_ends_it_at_once(outbox: Outbox, status: int, said: str) -> None:
    """A token that is refused, an address that is wrong: no second try, and no report is given up for it."""
    with RogueHub(lambda handler, _: answer(handler, status)).running() as hub, pytest.raises(HubError, match=said):
        deliver_to(outbox, hub.url)

    assert len(hub.requests) == 1
    assert waiting(outbox) == ["a", "b", "c"]
    assert outbox.rejected() == []


def test_a_redirect_is_not_followed_with_the_token(outbox: Outbox) -> None:
    """Whoever it names gets nothing."""
    with RogueHub(take).running() as thief:
        script = lambda handler, _: answer(handler, 307, Location=f"{thief.url}/v1/reports\x1b[31m")  # noqa: E731
        with RogueHub(script).running() as hub, pytest.raises(HubError, match="redirects to") as caught:
            deliver_to(outbox, hub.url)

    assert thief.requests == []
    assert str(caught.value).isprintable()


def test_a_report_the_hub_refuses_stands_in_nobody_s_way(outbox: Outbox) -> None:
    """It alone is set aside, with the hub's reason; also one whose id the hub knows with another content."""

    def script(handler: Handler, reports: list[dict[str, Any]]) -> None:
        verdicts = {"a": ("refused", "no\x1b[31m schema"), "b": ("stored", ""), "c": ("conflict", "another")}
        results = [
            {"id": raw["id"], "status": verdicts[raw["id"]][0], "detail": verdicts[raw["id"]][1]} for raw in reports
        ]
        answer(handler, 200, {"results": results})

    with RogueHub(script).running() as hub:
        assert deliver_to(outbox, hub.url) == Delivered(1, 2)
    rejected = [(entry.id, entry.rejected) for entry in outbox.rejected()]
    assert rejected == [("a", "refused: no [31m schema"), ("c", "conflict: another")]
    assert waiting(outbox) == []


def test_one_report_too_large_is_found_and_set_aside(outbox: Outbox) -> None:
    """A proxy that answers 413 to a list gets its reports one by one."""
    outbox.put(BenchmarkReport(id="big", notes=("n" * 5000,)))
    outbox.put(BenchmarkReport(id="last"))

    def script(handler: Handler, reports: list[dict[str, Any]]) -> None:
        large = len(json.dumps(reports)) > 6000
        answer(handler, 413, b"<html>413") if large else take(handler, reports)

    with RogueHub(script).running() as hub:
        assert deliver_to(outbox, hub.url) == Delivered(4, 1)
    assert [(entry.id, entry.rejected) for entry in outbox.rejected()] == [("big", "too large:")]


def test_a_damaged_report_does_not_stop_the_others(outbox: Outbox) -> None:
    """What a power cut tore is set aside on the way."""
    outbox.find("b").path.write_bytes(b'{"schema":1,"id":"b"')
    with RogueHub(take).running() as hub:
        assert deliver_to(outbox, hub.url) == Delivered(2, 0)

    assert outbox.damaged() == 1
    assert [raw["id"] for _, _, batch in hub.requests for raw in batch] == ["a", "c"]


def test_a_hub_that_takes_only_some_gets_the_others_again(outbox: Outbox) -> None:
    """What its receipt does not name is not delivered."""
    with RogueHub(lambda handler, reports: take(handler, reports[:1])).running() as hub:
        assert deliver_to(outbox, hub.url) == Delivered(3, 0)

    assert [len(raw) for _, _, raw in hub.requests] == [3, 2, 1]


def test_many_reports_go_in_requests_of_bounded_size(outbox: Outbox) -> None:
    """At most 50 reports and half a mebibyte at once."""
    for number in range(60):
        outbox.put(BenchmarkReport(id=f"r{number}"))
    for number in range(3):
        outbox.put(BenchmarkReport(id=f"big{number}", notes=("n" * 300_000,)))
    with RogueHub(take).running() as hub:
        assert deliver_to(outbox, hub.url) == Delivered(66, 0)

    assert [len(raw) for _, _, raw in hub.requests] == [50, 14, 1, 1]


def test_a_hub_that_is_not_there_is_told(outbox: Outbox) -> None:
    """With the address, and how often it was tried shows in the pauses."""
    pauses: list[float] = []
    with pytest.raises(HubError, match=r"127\.0\.0\.1.* cannot be reached: Connection refused"):
        deliver_to(outbox, f"http://127.0.0.1:{closed_port()}", attempts=4, sleep=pauses.append)

    assert len(pauses) == 3
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, (1, 2, 4)))  # noqa: B905 - Python 3.9


def test_pauses_double_up_to_a_minute_and_are_drawn() -> None:
    """Between half and all of 1, 2, 4 … 60 seconds."""
    pauses = waits_s()
    limits = [min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**n) for n in range(9)]

    drawn = [next(pauses) for _ in limits]
    assert all(limit / 2 <= pause <= limit for limit, pause in zip(limits, drawn))  # noqa: B905
    assert len({pause / limit for limit, pause in zip(limits, drawn)}) > 1  # noqa: B905


@pytest.mark.parametrize(
    ("header", "expected"), [("7", 7.0), ("99999", 300.0), ("soon", 0.0), ("-3", 0.0), ("9" * 50, 0.0)]
)
def test_a_hub_says_when_to_come_again(outbox: Outbox, header: str, expected: float) -> None:
    """Retry-After in seconds, at most five minutes; anything else counts as nothing."""
    script = lambda handler, _: answer(handler, 503, Retry_After=header)  # noqa: E731
    with RogueHub(script).running() as hub, pytest.raises(HubError) as caught:
        ask_hub(Hub(hub.url, TOKEN), "/v1/reports", b"[]")

    assert caught.value.wait_s == expected


def test_an_answer_that_drips_is_given_up(outbox: Outbox) -> None:
    """A byte now and then keeps a socket's own timeout from ending it; the deadline of the whole does."""

    def script(handler: Handler, _: list[dict[str, Any]]) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    with RogueHub(script).running() as hub, pytest.raises(HubError, match="drips"):
        ask_hub(Hub(hub.url, TOKEN), "/v1/reports", b"[]", timeout_s=0.3)


@pytest.mark.parametrize(
    "url",
    ["", "hub.example", "ftp://hub.example", "https://", "https://user:secret@hub.example", "https://h/?a=1", "https://h/#x",
     "http://hub.example", "http://192.168.1.9:8765", "https://h:99999", "https://[::1", "file:///etc/passwd", "http://a\x1b[31m"],
)  # fmt: skip
def test_an_address_that_would_show_the_token_is_refused(url: str) -> None:
    """And so is one that is none."""
    with pytest.raises(InputError) as caught:
        Hub(url, TOKEN)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://hub.example/edge", "http://127.0.0.1:1", "http://localhost", "http://[::1]:8765"]
)
def test_https_and_this_machine_are_fine(url: str) -> None:
    """The token does not show in the record's text."""
    assert TOKEN not in repr(Hub(url, TOKEN))
    assert Hub("http://hub.example", TOKEN, insecure_http=True).url == "http://hub.example"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666, 0o610])
def test_a_token_that_others_can_read_is_refused(token_file: Path, mode: int) -> None:
    """With the line that changes it."""
    token_file.chmod(mode)

    with pytest.raises(InputError, match=f"chmod 600 {token_file}"):
        read_token(token_file)
    token_file.chmod(0o400)
    assert read_token(token_file) == TOKEN


@pytest.mark.parametrize("content", ["", "short", "two words of a token", "x" * 600, "\x00" * 40, "é" * 20])
def test_a_file_without_a_token_is_told(outbox: Outbox, token_file: Path, content: str, capfd: Any) -> None:
    """Its content is not."""
    token_file.write_text(content)

    assert main(["push", "--url", "https://hub.example", "--token-file", str(token_file)]) == 2
    error = capfd.readouterr().err
    assert "expected a token as edgekit hub token add prints it" in error
    assert not content or content not in error


# -- the command line -------------------------------------------------------------------------------------------------


def test_push_remembers_the_hub_when_told_to(outbox: Outbox, token_file: Path, capfd: Any) -> None:
    """In a file for its owner alone; another address does not get the saved token."""
    with RogueHub(take).running() as hub:
        assert main(["push", "--url", hub.url, "--token-file", str(token_file), "--save"]) == 0
        assert capfd.readouterr().out == "3 delivered, 0 rejected, 0 waiting\n"
        outbox.put(BenchmarkReport(id="d"))
        assert main(["push", "--json"]) == 0
        assert json.loads(capfd.readouterr().out) == {"delivered": 1, "rejected": 0, "waiting": 0}
        assert main(["push", "--url", f"{hub.url}/other"]) == 2
        assert "this board has no token for" in capfd.readouterr().err

    assert (outbox.folder.parent / "hub.json").stat().st_mode & 0o777 == 0o600
    assert len(hub.requests) == 2


def test_push_says_what_is_missing(
    outbox: Outbox, token_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """No hub, a damaged note of one, no board, options nobody can mean."""
    assert main(["push"]) == 2
    (outbox.folder.parent / "hub.json").touch(0o600)
    assert main(["push"]) == 2
    assert main(["push", "--attempts", "0"]) == 2
    assert main(["push", "--timeout", "nan"]) == 2
    assert main(["push", "--url", "https://h", "--token-file", "/nowhere"]) == 2
    monkeypatch.setenv("EDGEKIT_DEVICE_HOME", "")
    assert main(["push"]) == 2
    errors = capfd.readouterr().err.splitlines()
    expected = ["knows no hub", "is damaged: remove it", "expected --attempts", "expected --timeout", "cannot read /nowhere",
                "keeps no reports"]  # fmt: skip
    assert [text in error for text, error in zip(expected, errors)] == [True] * 6, errors  # noqa: B905


def test_push_that_fails_says_how_much_waits(outbox: Outbox, token_file: Path, capfd: Any) -> None:
    """Exit 3, and a hub's control characters do not reach the terminal."""
    script = lambda handler, _: answer(handler, 503, {"detail": "busy\x1b[31m\nnow"})  # noqa: E731
    with RogueHub(script).running() as hub:
        assert main(["push", "--url", hub.url, "--token-file", str(token_file), "--attempts", "1"]) == 3

    error = capfd.readouterr().err
    assert "answered 503: busy [31m now. 0 report(s) delivered, 3 wait on this board" in error
    assert TOKEN not in error


def test_a_watching_board_goes_on_through_a_hub_s_failures(outbox: Outbox, token_file: Path) -> None:
    """It says once that the hub fails, delivers when it does no more, takes what comes later, and ends when asked to."""
    answers = [500, 200]

    def script(handler: Handler, reports: list[dict[str, Any]]) -> None:
        code = answers.pop(0) if answers else 200
        take(handler, reports) if code == 200 else answer(handler, code)

    with RogueHub(script).running() as hub:
        command = [sys.executable, "-m", "edgekit_device", "push", "--watch", "0.1", "--url", hub.url]
        with subprocess.Popen(
            [*command, "--token-file", str(token_file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "3 delivered\n"
            outbox.put(BenchmarkReport(id="d"))
            assert process.stdout.readline() == "1 delivered\n"
            process.terminate()
            assert process.stderr is not None
            assert process.stderr.read() == f"edgekit-device: {hub.url} answered 500: trying again\n"
    assert process.returncode == 130
    assert waiting(outbox) == []


def test_two_pushers_at_once_lose_nothing(outbox: Outbox, token_file: Path) -> None:
    """The hub may see a report twice, and says so; each is gone from the board once."""
    for number in range(100):
        outbox.put(BenchmarkReport(id=f"r{number}"))
    with RogueHub(take).running() as hub:
        command = [sys.executable, "-m", "edgekit_device", "push", "--url", hub.url, "--token-file", str(token_file)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
        for process in processes:
            process.communicate()
    sent = {raw["id"] for _, _, batch in hub.requests for raw in batch}

    assert [process.returncode for process in processes] == [0, 0]
    assert sent == {"a", "b", "c", *(f"r{number}" for number in range(100))}
    assert waiting(outbox) == []


def test_it_works_on_the_oldest_python(
    outbox: Outbox, token_file: Path, tflite_python: Path, clean_environment: dict[str, str]
) -> None:
    """The built wheel on Python 3.9 lists, drains, posts to the same outbox, and acknowledges."""
    environment = {**clean_environment, "EDGEKIT_DEVICE_HOME": str(outbox.folder.parent)}

    def run(*arguments: str) -> str:
        command = [str(tflite_python), "-m", "edgekit_device", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd="/").stdout

    assert len(run("outbox", "drain", "--json").splitlines()) == 3
    assert run("outbox", "ack", "a").startswith("1 removed")
    with RogueHub(take).running() as hub:
        assert run("push", "--url", hub.url, "--token-file", str(token_file)).startswith("2 delivered")
    assert waiting(outbox) == []


def test_a_proxy_is_asked_for_other_machines_and_never_for_this_one(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the environment says; a token for this machine does not go through a proxy."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    with RogueHub(take).running() as hub:
        assert deliver_to(outbox, hub.url) == Delivered(3, 0)
    outbox.put(BenchmarkReport(id="d"))
    with RogueHub(take).running() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        hub_away = Hub("http://hub.example", TOKEN, insecure_http=True)
        assert deliver(outbox, hub_away, attempts=1) == Delivered(1, 0)

    assert proxy.requests[0][0] == "http://hub.example/v1/reports"
