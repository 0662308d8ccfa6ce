"""What the hub keeps: reports and tokens, in a database that SQLAlchemy reaches. SQLite (write-ahead log) by default.

A report is on the disk when ``add`` returns (SQLite: synchronous FULL, as the board deletes its own after that). The SQL is
what every database has, so that another is a URL away.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from edgekit_device.text import first_line

from ..errors import MissingExtraError, StoreError, UsageError, suggest
from ..recipe import edgekit_home
from ..store import now
from .intake import Incoming
from .tokens import check_name, check_scope, hash_token, make_token, same

__all__ = ["Receipt", "Storage", "Stored", "Token", "default_url"]

SCHEMA = "1"
BUSY_TIMEOUT_S = 5.0
RACES = 5
PAGE_BYTES = 8 * 1024 * 1024

_tables = sa.MetaData()
# SQLite has one writer at a time, so that arrivals become visible in the order of their numbers, and a host that goes on after
# the last number it saw misses none. A database with several writers needs a lock around _add before it may be used here.
_reports = sa.Table(
    "reports",
    _tables,
    sa.Column("arrival", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("run", sa.String(200), nullable=False, index=True),
    sa.Column("sender", sa.String(64), nullable=False),
    sa.Column("received", sa.String(20), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_autoincrement=True,  # an arrival number is never given twice
)
_tokens = sa.Table(
    "tokens",
    _tables,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("scope", sa.String(16), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("created", sa.String(20), nullable=False),
    sa.Column("revoked", sa.String(20), nullable=False),
)
_facts = sa.Table(
    "facts",
    _tables,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.String(64), nullable=False),
)


@dataclass(frozen=True)
class Receipt:
    """What became of one report: ``stored``, ``duplicate`` (it was there) or ``conflict`` (another was, under its id)."""

    id: str
    status: str


@dataclass(frozen=True)
class Stored:
    """A report as it lies here: its number of arrival, who sent it, when it was received, and its JSON text."""

    arrival: int
    sender: str
    received: str
    body: str


@dataclass(frozen=True)
class Token:
    """What is known of a token; ``revoked`` is when, or empty."""

    name: str
    scope: str
    created: str
    revoked: str = ""


class Storage:
    """The database at ``url``. Raises UsageError for a URL that is none, MissingExtraError for a missing driver, StoreError
    when it cannot be read or written."""

    def __init__(self, url: str = "") -> None:
        self._engine = _engine(url or default_url())
        with self._translated():
            _tables.create_all(self._engine)
        self.hub_id = self._identify()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def check(self) -> None:
        """Raise StoreError when the database does not answer."""
        with self._translated(), self._engine.connect() as connection:
            connection.execute(sa.select(_facts.c.value).limit(1)).all()

    # -- reports ------------------------------------------------------------------------------------------------

    def add(self, items: Sequence[Incoming], sender: str) -> list[Receipt]:
        """Keep reports, all in one transaction, and say what became of each."""
        with self._translated():
            for attempt in range(RACES):
                try:
                    with self._engine.begin() as connection:
                        return _add(connection, items, sender)
                except sa.exc.IntegrityError:  # another request brought one of them since we looked
                    if attempt == RACES - 1:
                        raise
        raise AssertionError("unreachable")

    def reports(self, after: int = 0, run: str = "", most: int = 100) -> list[Stored]:
        """Reports that arrived after number ``after``, in the order they came; at most ``most`` and about PAGE_BYTES."""
        query = sa.select(_reports.c.arrival, _reports.c.sender, _reports.c.received, _reports.c.body)
        query = query.where(_reports.c.arrival > after).order_by(_reports.c.arrival).limit(most)
        if run:
            query = query.where(_reports.c.run == run)
        found: list[Stored] = []
        used = 0
        with self._translated(), self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=10).execute(query):
                used += len(row.body)
                if found and used > PAGE_BYTES:
                    break
                found.append(Stored(row.arrival, row.sender, row.received, row.body))
        return found

    def count(self) -> int:
        """How many reports there are."""
        with self._translated(), self._engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(_reports)).scalar_one())

    # -- tokens -------------------------------------------------------------------------------------------------

    def add_token(self, name: str, scope: str = "device") -> str:
        """Make a token and return it: this is the only time it can be seen. Raises UsageError for a name that is taken."""
        token = make_token()
        row = {"name": check_name(name), "scope": check_scope(scope), "sha256": hash_token(token), "created": now()}
        with self._translated():
            try:
                with self._engine.begin() as connection:
                    connection.execute(_tokens.insert().values(**row, revoked=""))
            except sa.exc.IntegrityError as error:
                raise UsageError(
                    f"there is a token {name!r} already, also if it is revoked: choose another name"
                ) from error
        return token

    def tokens(self) -> list[Token]:
        """All tokens, the revoked ones too, by name."""
        with self._translated(), self._engine.connect() as connection:
            rows = connection.execute(sa.select(_tokens).order_by(_tokens.c.name)).all()
        return [Token(row.name, row.scope, row.created, row.revoked) for row in rows]

    def revoke(self, name: str) -> None:
        """A token is worth nothing from now on. Raises UsageError for an unknown name."""
        with self._translated(), self._engine.begin() as connection:
            changed = connection.execute(_tokens.update().where(_tokens.c.name == name).values(revoked=now()))
            found = changed.rowcount
        if not found:
            names = [token.name for token in self.tokens()]
            raise UsageError(f"unknown token {name[:80]!r}{suggest(name, names) if names else ': there are none'}")

    def find_token(self, token: str) -> Token | None:
        """The token with this text, when it was given out and is not revoked."""
        digest = hash_token(token)
        with self._translated(), self._engine.connect() as connection:
            row = connection.execute(sa.select(_tokens).where(_tokens.c.sha256 == digest)).first()
        if row is None or not same(row.sha256, digest) or row.revoked:
            return None
        return Token(row.name, row.scope, row.created)

    # -- inside -------------------------------------------------------------------------------------------------

    def _identify(self) -> str:
        """This database's own id: a host that collects tells two hubs, or a new one at an old address, apart."""
        with self._translated():
            with contextlib.suppress(sa.exc.IntegrityError), self._engine.begin() as connection:
                rows = [{"name": "schema", "value": SCHEMA}, {"name": "id", "value": secrets.token_hex(16)}]
                connection.execute(_facts.insert(), rows)
            with self._engine.connect() as connection:
                facts = {row.name: row.value for row in connection.execute(sa.select(_facts))}
        if facts.get("schema") != SCHEMA:
            raise StoreError(
                f"the hub's database is of schema {facts.get('schema')}, this edgekit knows {SCHEMA}: upgrade edgekit"
            )
        return str(facts.get("id", ""))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            shown = self._engine.url.render_as_string(hide_password=True)
            cause = first_line(getattr(error, "orig", None) or error)
            raise StoreError(f"the hub's database {shown} does not take this now: {cause}") from error


def default_url() -> str:
    """SQLite in edgekit's own folder."""
    return f"sqlite:///{edgekit_home() / 'hub' / 'hub.db'}"


def _add(connection: sa.Connection, items: Sequence[Incoming], sender: str) -> list[Receipt]:
    ids = [item.id for item in items]
    query = sa.select(_reports.c.id, _reports.c.sha256).where(_reports.c.id.in_(ids))
    known: dict[str, str] = {row.id: row.sha256 for row in connection.execute(query)}
    receipts, rows = [], []
    for item in items:
        there = known.setdefault(item.id, "")
        if not there:
            known[item.id] = item.sha256
            facts = {"id": item.id, "run": item.run, "sha256": item.sha256, "body": item.body}
            rows.append({**facts, "sender": sender, "received": now()})
        receipts.append(
            Receipt(item.id, "stored" if not there else "duplicate" if there == item.sha256 else "conflict")
        )
    if rows:
        connection.execute(_reports.insert(), rows)
    return receipts


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return sa.create_engine(parsed, pool_pre_ping=True)
    except sa.exc.ArgumentError as error:
        raise UsageError(f"expected --db as a URL such as sqlite:///hub.db, got {url[:80]!r}") from error
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"this database needs a driver that is not installed: pip install {error.name}"
        ) from error
    if not parsed.database or parsed.database == ":memory:":
        raise UsageError("expected a file for the database (sqlite:///hub.db): one in memory would lose every report")
    _make_private(Path(parsed.database))
    engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _make_private(path: Path) -> None:
    """The file for its owner alone, before anything is in it; SQLite makes its log like the file."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise StoreError(
            f"cannot make the hub's database {path}: {error.strerror or error}. Choose another --db"
        ) from error


def _set_up_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
