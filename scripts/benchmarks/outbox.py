"""Nothing is lost: a board that writes reports and posts them, and a hub that takes them, all killed -9 at random moments.

The board's writer puts N reports into the outbox, its pusher posts them, both are killed and started again, and so is the hub,
which also answers 500 to every tenth request: half of those before it does anything, half after it has stored everything. At
the end every id must be at the hub exactly once, with the content that was written.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgekit_device import BenchmarkReport
from edgekit_device.outbox import Outbox
from edgekit_device.report import LatencyFacts
from measuring import heading, row

WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, {scripts!r})
from edgekit_device.outbox import Outbox
from outbox import make_report
outbox = Outbox(Path(sys.argv[1]) / "outbox")
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    outbox.put(make_report(number))
    print(number, flush=True)
"""
SERVE = """
import random, sys
from edgekit.hub import serving
from edgekit.hub.app import create_app
from edgekit.hub.storage import Storage

def failing(storage):
    app = create_app(storage)
    async def refuse(send):
        await send({{"type": "http.response.start", "status": 500, "headers": []}})
        await send({{"type": "http.response.body", "body": b"oops"}})
    async def wrapped(scope, receive, send):
        draw = random.random() if scope["type"] == "http" else 1.0
        if draw < 0.05:
            return await refuse(send)
        if draw < 0.10:
            async def swallow(message): pass
            await app(scope, receive, swallow)
            return await refuse(send)
        await app(scope, receive, send)
    return wrapped

class Counting(Storage):
    def add(self, items, sender):
        receipts = super().add(items, sender)
        with open({tally!r}, "a") as file:
            file.write("".join(receipt.status + "\\n" for receipt in receipts))
        return receipts

serving.create_app = failing
serving.serve(Counting({db!r}), "127.0.0.1", int(sys.argv[1]), ready=lambda url: None)
"""


def make_report(number: int) -> BenchmarkReport:
    """Report ``number``: the same content whenever it is made."""
    draw = random.Random(number)
    samples = tuple(draw.uniform(1, 2) for _ in range(50))
    name = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    return BenchmarkReport(id=name, created="1970-01-01T00:00:00Z", latency=LatencyFacts(count=50, samples_ms=samples))


class Mortal:
    """A process that is killed with SIGKILL at random moments and started again, until it is spared."""

    def __init__(
        self, start: Callable[[], subprocess.Popen[str]], shortest_s: float, longest_s: float, seed: int
    ) -> None:
        self.kills = 0
        self._start, self._between = start, (shortest_s, longest_s)
        self._draw, self._spared = random.Random(seed), threading.Event()
        self.process = start()
        self._thread = threading.Thread(target=self._haunt, daemon=True)
        self._thread.start()

    def _haunt(self) -> None:
        while not self._spared.wait(self._draw.uniform(*self._between)):
            if self.process.poll() is None:
                kill(self.process)
                self.kills += 1
            self.process = self._start()

    def spare(self) -> None:
        """Kill it no more; one that has just died is started again."""
        self._spared.set()
        self._thread.join()
        if self.process.poll() is not None:
            self.process = self._start()


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to it and its children; nobody gets to clean up."""
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def spawn(arguments: list[str], **options: object) -> subprocess.Popen[str]:
    """A process that leads its own group."""
    return subprocess.Popen(arguments, start_new_session=True, text=True, **options)  # type: ignore[call-overload]


def main() -> int:
    """Run, count and print; 1 when a report is lost, doubled or changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    heading(f"Nothing is lost: {arguments.reports} reports through kill -9 of writer, pusher and hub")
    with tempfile.TemporaryDirectory() as folder:
        facts = run(Path(folder), arguments.reports, arguments.seed)
    row("delivered exactly once", f"{facts['once']} of {arguments.reports}", "all", facts["once"] == arguments.reports)
    row(
        "lost, doubled, changed",
        f"{facts['lost']}, {facts['doubled']}, {facts['changed']}",
        "0, 0, 0",
        not facts["wrong"],
    )
    row(
        "left in the outbox, damaged",
        f"{facts['left']}, {facts['damaged']}",
        "0, 0",
        not facts["left"] + facts["damaged"],
    )
    row("killed: writer, pusher, hub", f"{facts['kills']}", "", True)
    row("offered again and recognised", f"{facts['duplicates']}", "", True)
    row("seconds", f"{facts['seconds']:.0f}", "", True)
    return 0 if facts["once"] == arguments.reports and not facts["wrong"] else 1


def run(folder: Path, reports: int, seed: int) -> dict[str, object]:
    """The whole drama; returns what was counted at the end."""
    from edgekit.hub.storage import (
        Storage,
    )  # not at the top: the writer's child imports this file, and is to start fast

    started = time.monotonic()
    db, tally, home = f"sqlite:///{folder / 'hub.db'}", folder / "tally", folder / "board"
    with contextlib.closing(Storage(db)) as storage:
        (folder / "token").write_text(storage.add_token("board"))
    (folder / "token").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "EDGEKIT_DEVICE_HOME": str(home)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    serve = SERVE.format(db=db, tally=str(tally))
    push = ["-m", "edgekit_device", "push", "--url", f"http://127.0.0.1:{port}", "--token-file", str(folder / "token")]
    hub = Mortal(lambda: spawn([sys.executable, "-c", serve, str(port)], **quiet), 2.0, 6.0, seed)
    pusher = Mortal(
        lambda: spawn([sys.executable, *push, "--watch", "0.1"], env=environment, **quiet), 0.3, 3.0, seed + 1
    )
    try:
        kills = write_all(home, reports, random.Random(seed + 2))
        for mortal in (hub, pusher):
            mortal.spare()
        outbox, until = Outbox(home / "outbox"), time.monotonic() + 600
        while outbox.waiting() and time.monotonic() < until:
            time.sleep(0.2)
    finally:
        for mortal in (pusher, hub):
            mortal.spare()
            kill(mortal.process)
    facts = count(db, reports)
    facts |= {
        "left": len(outbox.waiting()),
        "damaged": outbox.damaged(),
        "kills": f"{kills}, {pusher.kills}, {hub.kills}",
    }
    facts |= {"duplicates": tally.read_text().split().count("duplicate"), "seconds": time.monotonic() - started}
    return facts


def write_all(home: Path, reports: int, draw: random.Random) -> int:
    """Put every report, the writer killed again and again; a report whose put was cut off is put again. Returns the kills."""
    done, kills = 0, 0
    code = WRITE.format(scripts=str(Path(__file__).parent))
    while done < reports:
        writer = spawn([sys.executable, "-c", code, str(home), str(done), str(reports)], stdout=subprocess.PIPE)
        fuse = threading.Timer(draw.uniform(0.3, 1.5), kill, [writer])
        fuse.start()
        assert writer.stdout is not None
        for line in writer.stdout:
            if line.endswith("\n"):
                done = int(line) + 1
        fuse.cancel()
        kills += writer.wait() == -signal.SIGKILL
    return kills


def count(db: str, reports: int) -> dict[str, object]:
    """Hold what is at the hub against what was written."""
    from edgekit.hub.storage import Storage

    expected = {report.id: json.loads(report.to_json()) for report in map(make_report, range(reports))}
    found: dict[str, int] = {}
    changed = after = 0
    with contextlib.closing(Storage(db)) as storage:
        while page := storage.reports(after, most=200):
            for item in page:
                raw = json.loads(item.body)
                found[raw["id"]] = found.get(raw["id"], 0) + 1
                changed += raw != expected.get(raw["id"])
            after = page[-1].arrival
    lost = sum(name not in found for name in expected)
    doubled = sum(times > 1 for times in found.values())
    once = sum(found.get(name) == 1 for name in expected)
    return {"once": once, "lost": lost, "doubled": doubled, "changed": changed, "wrong": lost + doubled + changed}


if __name__ == "__main__":
    sys.exit(main())
