"""Text from a model file or another machine, made fit to print."""

from __future__ import annotations

__all__ = ["TEXT_CAP", "clean_text", "first_line"]

TEXT_CAP = 200


def clean_text(value: object, cap: int = TEXT_CAP) -> str:
    """``value`` as printable text of at most ``cap`` characters: whatever does not print becomes a space, runs of
    spaces become one. Empty for anything but a string.
    """
    text = value if isinstance(value, str) else ""
    printable = "".join(character if character.isprintable() else " " for character in text[: 4 * cap])
    return " ".join(printable.split())[:cap].rstrip()


def first_line(error: BaseException) -> str:
    """The first telling line of an exception's message, or its class's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return clean_text(lines[0], 300) if lines else type(error).__name__
