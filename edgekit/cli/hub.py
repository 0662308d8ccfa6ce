"""``edgekit hub``: the inbox that boards post to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import emit_json, json_option

if TYPE_CHECKING:
    from ..hub.storage import Storage

__all__ = ["command"]

db_option = click.option(
    "--db", metavar="URL", default="", help="The hub's database. [default: SQLite in EDGEKIT_HOME/hub]"
)


@click.group("hub")
def command() -> None:
    """An inbox on the network for the reports of boards.

    \b
    Example:
      edgekit hub token add pi4 > token && edgekit hub serve
      edgekit-device push --url https://hub.example --token-file token     (on the board)
      edgekit hub collect
    """


@command.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes a free one.")
@db_option
def serve(host: str, port: int, db: str) -> None:
    """Take reports until SIGTERM or Ctrl-C. Speaks plain HTTP: put a proxy with TLS before it for anything but this machine.

    \b
    Example:
      edgekit hub serve --port 8765
    """
    storage = _storage(db)
    from ..hub.serving import serve as serve_hub

    if not storage.tokens():
        click.echo("edgekit: no board may post yet. Make a token: edgekit hub token add NAME", err=True)
    if host not in ("127.0.0.1", "::1", "localhost"):
        click.echo(
            f"edgekit: plain HTTP on {host}: reports and tokens can be read on the way. See docs/hub.md for TLS",
            err=True,
        )
    try:
        serve_hub(storage, host, port, ready=lambda url: click.echo(f"hub at {url}", err=True))
    finally:
        storage.close()


@command.group("token")
def token_group() -> None:
    """Who may post (scope device), and who may collect (scope read)."""


@token_group.command("add")
@click.argument("name")
@click.option("--scope", default="device", show_default=True, help="device: may post reports; read: may collect them.")
@db_option
@json_option
def add(name: str, scope: str, db: str, as_json: bool) -> None:
    """Make a token and print it on standard output, this once: only its hash is kept.

    \b
    Example:
      (umask 077 && edgekit hub token add pi4 > pi4.token)
    """
    token = _storage(db).add_token(name, scope)
    if as_json:
        emit_json({"name": name, "scope": scope, "token": token})
        return
    click.echo(token)
    click.echo(f"edgekit: this is the only time that the token of {name} is shown", err=True)


@token_group.command("list")
@db_option
@json_option
def list_tokens(db: str, as_json: bool) -> None:
    """List the tokens by name; what they are is not known here.

    \b
    Example:
      edgekit hub token list
    """
    tokens = _storage(db).tokens()
    if as_json:
        emit_json({"tokens": [vars(token) for token in tokens]})
        return
    for token in tokens:
        click.echo(
            f"{token.name:24} {token.scope:8} {token.created}  {'revoked ' + token.revoked if token.revoked else ''}".rstrip()
        )
    if not tokens:
        click.echo("no tokens. Make one: edgekit hub token add NAME")


@token_group.command("revoke")
@click.argument("name")
@db_option
def revoke(name: str, db: str) -> None:
    """Take a token back, from the next request on.

    \b
    Example:
      edgekit hub token revoke pi4
    """
    _storage(db).revoke(name)
    click.echo(f"{name} is revoked")


@command.command("collect")
@db_option
@click.option("--url", help="A hub somewhere else, such as https://hub.example.")
@click.option("--token-file", type=click.Path(), help="A file of mode 600 with a token of scope read, for --url.")
@click.option("--insecure-http", is_flag=True, help="Send the token over plain http to another machine.")
@click.option("--run", type=click.Path(), help="The run for reports that name none, where it holds their model.")
@json_option
def collect(
    db: str, url: str | None, token_file: str | None, insecure_http: bool, run: str | None, as_json: bool
) -> None:
    """Put what boards have posted since the last time into the runs it belongs to.

    \b
    Example:
      edgekit hub collect
      edgekit hub collect --url https://hub.example --token-file read.token
    """
    from pathlib import Path

    from ..errors import UsageError
    from ..hub.fetching import collect_from_database, collect_from_hub
    from ..store import RunStore
    from .landing import show_landed

    store = None if run is None else RunStore.open(run)
    if url is None:
        if token_file or insecure_http:
            raise UsageError("--token-file and --insecure-http belong to --url: give it too")
        landed = collect_from_database(db, run=store)
    elif db or not token_file:
        raise UsageError("expected --url with --token-file, or --db, or neither")
    else:
        landed = collect_from_hub(url, Path(token_file), insecure_http=insecure_http, run=store)
    show_landed(landed, as_json)


def _storage(db: str) -> Storage:
    from ..hub import require_hub

    require_hub()
    from ..hub.storage import Storage

    return Storage(db)
