"""What native code says on descriptor 2 while a runtime runs."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, sys
from edgekit.cli.chatter import chatter_held
try:
    with chatter_held():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
        print("python", file=sys.stderr)
        os.write(2, b"WARNING: something worth reading\\n")
        os.close(2) if "close" in sys.argv else None
        if "fail" in sys.argv:
            raise ValueError("failed")
except ValueError as error:
    print(error, file=sys.stderr)
print("after", file=sys.stderr)
"""


def said(*arguments: str, stderr: int = subprocess.PIPE) -> list[str]:
    """The lines of standard error."""
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], stderr=stderr, text=True, check=True)
    return (done.stderr or "").splitlines()


def test_only_info_lines_are_lost() -> None:
    """Python's own words go out at once, native warnings at the end, announcements not at all."""
    assert said() == ["python", "WARNING: something worth reading", "after"]


def test_a_failure_loses_nothing_either() -> None:
    """What was held is let out when the block fails, too."""
    assert said("fail") == ["python", "WARNING: something worth reading", "failed", "after"]


def test_a_closed_standard_error_is_no_failure() -> None:
    """As with ``2>&-``."""
    command = f"{sys.executable} -m edgekit evaluate none.tflite --data digits --json 2>&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stdout == ""
