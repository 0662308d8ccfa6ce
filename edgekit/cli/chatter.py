"""The TFLite runtimes announce themselves on file descriptor 2, past Python: what they say is held back while one runs."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["chatter_held"]

ROUTINE = b"INFO:"


@contextmanager
def chatter_held() -> Iterator[None]:
    """Collect what native code writes to descriptor 2; at the end everything but its INFO lines is let out.

    Python's own ``sys.stderr`` keeps going where it went. For a program of its own, not for a library: descriptors
    belong to the whole process.
    """
    try:
        sys.stderr.flush()
        real = os.dup(2)
    except OSError:  # standard error is closed: nobody listens anyway
        yield
        return
    shown, sys.stderr = sys.stderr, os.fdopen(os.dup(real), "w", buffering=1, errors="backslashreplace")
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            sys.stderr.close()
            sys.stderr = shown
            chatter.seek(0)
            for line in chatter:
                if line.strip() and not line.startswith(ROUTINE):
                    os.write(2, line)
