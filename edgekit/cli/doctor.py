"""``edgekit doctor``."""

from __future__ import annotations

import click

from .options import emit_json, json_option

__all__ = ["command"]


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Say what is installed, what is missing, and the line that installs it; exit 3 when the core does not work.

    \b
    Example:
      edgekit doctor
    """
    from ..doctor import examine

    checks = examine()
    healthy = all(check.ok for check in checks if check.required)
    if as_json:
        emit_json({"ok": healthy, "checks": [vars(check) for check in checks]})
    else:
        for check in checks:
            mark = "ok     " if check.ok else "MISSING" if check.required else "absent "
            click.echo(f"{mark} {check.name:32} {check.found}")
            if not check.ok:
                click.echo(f"        {check.purpose}: {check.fix}")
    raise click.exceptions.Exit(0 if healthy else 3)
