"""Run the hub: a socket, uvicorn over it, and an end without loose ends."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import uvicorn

from ..errors import UsageError
from .app import create_app
from .storage import Storage

__all__ = ["serve"]

MOST_CONNECTIONS = 200
GRACE_S = 10
KEEP_ALIVE_S = 15


def serve(storage: Storage, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; requests that are under way are answered (at most GRACE_S seconds).

    ``ready`` is told the address as soon as connections are taken; port 0 takes a free one. Requests are not logged: their
    headers hold tokens. Raises UsageError when the address cannot be had.
    """
    with contextlib.closing(_listen(host, port)) as listener:
        bound = listener.getsockname()[1]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{bound}")
        config = uvicorn.Config(
            create_app(storage),
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has stopped by itself, and raises the signal once more
            uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host} port {port}: {reason}. Choose another --host or --port") from error
