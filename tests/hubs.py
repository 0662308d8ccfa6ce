"""Hubs for tests: the real one in a process of its own, and one that answers whatever it is told to."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Handler = http.server.BaseHTTPRequestHandler
Script = Callable[[Handler, list[dict[str, Any]]], None]


class RealHub:
    """``edgekit hub serve`` in a process; its tokens are made over the same database."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        from edgekit.hub.storage import Storage

        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.db = folder, f"sqlite:///{folder / 'hub.db'}"
        self.storage = Storage(self.db)
        self.url = ""
        self.start(port)

    def start(self, port: int = 0) -> None:
        """Start it, and wait until it takes connections."""
        command = [sys.executable, "-m", "edgekit", "hub", "serve", "--port", str(port), "--db", self.db]
        environment = {**os.environ, "EDGEKIT_HOME": str(self.folder / "home"), "PYTHONWARNINGS": "error"}
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
        )
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if line.startswith("hub at "):
                self.url = line.split()[-1]
                return
        raise AssertionError("".join(said))

    @property
    def port(self) -> int:
        """The one it listens on."""
        return urlsplit(self.url).port or 0

    def token(self, name: str, scope: str = "device") -> str:
        """A new token."""
        return self.storage.add_token(name, scope)

    def token_file(self, name: str, scope: str = "device") -> Path:
        """A new token in a file of mode 600."""
        path = self.folder / f"{name}.token"
        path.touch(0o600)
        path.write_text(self.token(name, scope) + "\n")
        return path

    def ask(
        self, method: str, path: str, body: bytes | None = None, token: str = "", **headers: str
    ) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
        """One request by hand: status, JSON object and headers of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            given = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, body, {**given, **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}"), answer.headers

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it with a signal; its exit code and what it said."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=30)[1]
        return self.process.returncode, said

    def close(self) -> None:
        """End it in any case."""
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        self.storage.close()


@dataclass
class RogueHub:
    """An HTTP server that runs ``script(handler, reports)`` for every POST, and remembers what it was sent."""

    script: Script
    requests: list[tuple[str, str, list[dict[str, Any]]]] = field(default_factory=list)
    url: str = ""

    @contextlib.contextmanager
    def running(self) -> Iterator[RogueHub]:
        """While it answers."""
        rogue = self

        class Answering(Handler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                rogue.requests.append((self.path, self.headers.get("Authorization", ""), raw))
                rogue.script(self, raw)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Nothing."""

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that has gone is no news."""

        with Quiet(("127.0.0.1", 0), Answering) as server:
            self.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


def answer(handler: Handler, status: int, body: object = None, **headers: str) -> None:
    """An answer; ``body`` as JSON, or as it is when it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def take(handler: Handler, reports: list[dict[str, Any]]) -> None:
    """Answer as a hub that stores everything."""
    answer(handler, 200, {"results": [{"id": raw["id"], "status": "stored"} for raw in reports]})


def cut(handler: Handler, _: list[dict[str, Any]]) -> None:
    """Cut the connection in the middle of an answer."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def closed_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
