"""One thing that is wrong with an accelerator, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ERROR", "WARNING", "Finding"]

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Finding:
    """``code`` names the kind for programs; ``severity`` is ``error`` (cannot work) or ``warning`` (works, but slower or
    perhaps). ``found`` is what is, ``expected`` what should be, ``advice`` what to type."""

    code: str
    severity: str
    found: str
    expected: str
    advice: str

    @property
    def sentence(self) -> str:
        """All three parts on one line."""
        return f"{self.found} (expected {self.expected}). {self.advice}"
