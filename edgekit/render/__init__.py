"""A comparison for people: in the terminal, in a pull request, on a page. Nothing else formats a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from ..records import Comparison

__all__ = ["render_html", "render_markdown", "render_text"]


def render_text(comparison: Comparison, console: Console) -> None:
    """Print the comparison on a rich console, at the console's own width."""
    from . import text

    text.render_text(comparison, console)


def render_markdown(comparison: Comparison) -> str:
    """The comparison as GitHub-flavoured Markdown."""
    from . import markdown

    return markdown.render_markdown(comparison)


def render_html(comparison: Comparison) -> str:
    """The comparison as one self-contained HTML page; raises MissingExtraError when jinja2 is not installed."""
    from . import html

    return html.render_html(comparison)
