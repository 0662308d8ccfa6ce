"""``edgekit-device push``: this board posts what it has measured to a hub."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..durable import make_folder, write_durably
from ..errors import HubError, InputError
from ..outbox import Outbox
from .options import Verbs, add_json
from .outbox import open_outbox
from .printing import print_json

if TYPE_CHECKING:
    from ..client import Hub
    from ..delivery import Delivered

__all__ = ["add"]

CONFIG = "hub.json"
HOW = "Say where it is: edgekit-device push --url https://hub.example --token-file FILE (and --save, once)"


def add(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = verbs.add_parser("push", help="post the reports that wait on this board to a hub")
    parser.add_argument("--url", help="the hub's address, such as https://hub.example (default: the saved one)")
    parser.add_argument("--token-file", metavar="F", help="a file of mode 600 with the token of edgekit hub token add")
    parser.add_argument(
        "--insecure-http", action="store_true", help="send the token over plain http to another machine"
    )
    parser.add_argument("--save", action="store_true", help="remember address and token in the board's own folder")
    parser.add_argument("--watch", type=float, metavar="S", help="go on, and look for new reports every S seconds")
    parser.add_argument("--attempts", type=int, default=5, metavar="N", help="in a row before it gives up (default 5)")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="of one request (default 30)")
    add_json(parser)
    parser.set_defaults(verb=_push)


def _push(arguments: argparse.Namespace) -> None:
    from ..delivery import Delivered, deliver  # http and TLS are loaded by who needs them

    _check(arguments)
    outbox = open_outbox()
    hub = _hub(arguments, outbox.folder.parent)
    if arguments.save:
        _save(hub, outbox.folder.parent)
    if arguments.watch is not None:
        _watch(outbox, hub, arguments)
    done: list[Delivered] = []
    try:
        deliver(outbox, hub, attempts=arguments.attempts, timeout_s=arguments.timeout, progress=done.append)
    except HubError as error:
        total = sum(done, Delivered())
        raise HubError(
            f"{error}. {total.delivered} report(s) delivered, {len(outbox.waiting())} wait on this board"
        ) from error
    total = sum(done, Delivered())
    if arguments.json:
        print_json({**vars(total), "waiting": len(outbox.waiting())})
    else:
        print(f"{total.delivered} delivered, {total.rejected} rejected, {len(outbox.waiting())} waiting")
    _warn_of_rejected(total)


def _watch(outbox: Outbox, hub: Hub, arguments: argparse.Namespace) -> None:
    """Deliver for ever; what may pass is said once and tried again, what does not pass ends it."""
    from ..delivery import deliver, waits_s

    pauses, said = waits_s(), ""
    while True:
        try:
            done = deliver(outbox, hub, attempts=1, timeout_s=arguments.timeout)
        except HubError as error:
            if not error.passes:
                raise
            if str(error) != said:
                said = str(error)
                print(f"edgekit-device: {said}: trying again", file=sys.stderr, flush=True)
            time.sleep(max(error.wait_s, next(pauses)))
            continue
        if done.delivered:
            print(f"{done.delivered} delivered", flush=True)
        _warn_of_rejected(done)
        pauses, said = waits_s(), ""
        time.sleep(arguments.watch)


def _warn_of_rejected(done: Delivered) -> None:
    if done.rejected:
        print(
            f"edgekit-device: warning: the hub refused {done.rejected}: see edgekit-device outbox list", file=sys.stderr
        )


def _check(arguments: argparse.Namespace) -> None:
    for name, least in (("watch", 0.1), ("timeout", 0.1), ("attempts", 1)):
        value = getattr(arguments, name)
        if value is not None and not least <= value <= 1e6:
            raise InputError(f"expected --{name} from {least:g} to 1000000, got {value:g}")


def _hub(arguments: argparse.Namespace, home: Path) -> Hub:
    """The hub that the options name, the rest as it was saved."""
    from ..client import Hub, read_token

    saved = {} if arguments.url and arguments.token_file else _saved(home)
    url = arguments.url or saved.get("url")
    if not isinstance(url, str):
        raise InputError(f"this board knows no hub. {HOW}")
    same = url == saved.get("url")  # a saved token is for the address it was saved with
    token = read_token(Path(arguments.token_file)) if arguments.token_file else saved.get("token") if same else None
    if not isinstance(token, str):
        raise InputError(f"this board has no token for {url[:200]}. {HOW}")
    return Hub(url, token, arguments.insecure_http or (same and saved.get("insecure_http") is True))


def _saved(home: Path) -> dict[str, object]:
    from ..client import read_private

    path = home / CONFIG
    if not path.exists():
        return {}
    try:
        raw = json.loads(read_private(path))
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        raise InputError(f"{path} is damaged: remove it. {HOW}")
    return raw


def _save(hub: Hub, home: Path) -> None:
    make_folder(home)
    (home / f".{CONFIG}.part").unlink(missing_ok=True)
    facts = {"url": hub.url, "token": hub.token, "insecure_http": hub.insecure_http}
    write_durably(home / CONFIG, (json.dumps(facts) + "\n").encode())
