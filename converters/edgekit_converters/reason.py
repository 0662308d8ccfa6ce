"""Why a foreign library failed, in one line: its own message may be hundreds of lines of MLIR or a Python traceback."""

from __future__ import annotations

import re
from itertools import dropwhile

__all__ = ["conversion_reason", "crash_reason", "first_line", "short"]

TEXT_CAP = 300
OPERATORS_SHOWN = 5
_LACKING = re.compile(
    r"'tf\.(\w+)' op is neither|^\s*tf\.(\w+)\(tensor<|error: failed to legalize operation 'tf\.(\w+)'", re.M
)
_LISTED = re.compile(r"^(?:Flex|Custom) ops: (.+)$", re.M)
# Frames of a traceback, and the raise lines that Keras and TensorFlow quote inside their messages.
_QUOTED = re.compile(r'^(File ".*", line \d+|raise \w+|in user code:|Traceback )')
_STYLE = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0e-\x1f\x7f]")
_RAISED = re.compile(r"^\w*(Error|Exception|Exit|Interrupt): ")
_WHERE = re.compile(r"Exception encountered when calling .*\.$")
_CHATTER = ("INFO", "I0000", "W0000", "WARNING")
_FATAL = ("error:", "Error", "Check failed", "Assertion", "F0000", "LLVM ERROR", "terminate called")


def short(text: str) -> str:
    """``text`` on one line, at most TEXT_CAP characters of it."""
    line = " ".join(_STYLE.sub("", text).split())
    return line if len(line) <= TEXT_CAP else line[: TEXT_CAP - 1] + "…"


def first_line(error: BaseException) -> str:
    """The first line of ``error``'s message that says something, or its type's name."""
    text = str(error)
    lines = [line for line in _lines(text) if not _QUOTED.match(line)]
    if text.startswith("in user code:"):  # TensorFlow's tracer quotes the source before it comes to the point
        lines = list(dropwhile(lambda line: not _RAISED.match(line), lines)) or lines[-1:]
    # Keras 3 says where before it says what, with the reason in bold two lines below.
    if len(lines) > 1 and _WHERE.search(lines[0]):
        lines = [f"{lines[0]} {lines[1]}"]
    return short(lines[0]) if lines else type(error).__name__


def conversion_reason(error: BaseException) -> str:
    """Why TensorFlow's converter refused: the operators that TFLite lacks where it names them, else its first line."""
    text = str(error)
    lacking = {name for groups in _LACKING.findall(text) for name in groups if name}
    lacking |= {name.strip() for names in _LISTED.findall(text) for name in names.split(",")}
    if not lacking:
        return _first_error(text) or first_line(error)
    shown = sorted(lacking)[:OPERATORS_SHOWN]
    more = f" and {len(lacking) - len(shown)} more" if len(lacking) > len(shown) else ""
    halves = " in float16" if re.search(r"tensor<[^>]*f16>", text) else ""
    return f"TFLite has no operator for {', '.join(shown)}{more}{halves}: replace the layers that use them" + (
        ", or hand over the Keras model, whose precision can be changed to float32" if halves else ""
    )


def crash_reason(text: str) -> str:
    """The last line of a dead process's output that tells why it died; empty when there is none."""
    lines = [line for line in _lines(text) if "Warning: " not in line and not line.startswith("warnings.warn(")]
    telling = [line for line in lines if any(word in line for word in _FATAL)]
    chosen = telling or [line for line in lines if not line.startswith(_CHATTER)]
    return short(chosen[-1]) if chosen else ""


def _first_error(text: str) -> str:
    return next((short(line) for line in _lines(text) if "error:" in line), "")


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
