"""Opens the ledger's database, and says in our own errors what went wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from models.errors import ConfigError, Refused, RetryLater

BUSY_S: Final = 10.0
_SUPPORTED: Final = ("sqlite", "postgresql")
# What no repetition will change: a value that the database cannot hold.
_ABOUT_VALUES: Final = ("IntegrityError", "DataError")


def parse_url(url: str) -> URL:
    """Return the address as SQLAlchemy reads it; PostgreSQL goes through psycopg.

    Raises
    ------
    ConfigError
        If it is no address, or of a database that the ledger does not know.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "ledger.url is not a database address: expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        ) from None
    if parsed.get_backend_name() not in _SUPPORTED:
        name = parsed.get_backend_name()
        raise ConfigError(f"ledger.url: {name} is not supported; use {' or '.join(_SUPPORTED)}")
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def shown(url: URL) -> str:
    """Return the address without its password."""
    return url.render_as_string(hide_password=True)


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite ledger, None for another database."""
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def open_engine(url: URL, *, write: bool) -> Engine:
    """Return an engine; opens no connection yet.

    SQLite runs in WAL mode, so readers never wait, with ``synchronous=FULL``: the outbox forgets what
    the ledger has taken, so that must survive a power cut.

    Raises
    ------
    ConfigError
        If the driver of the database is not installed.
    """
    if sqlite_file(url) is None:
        try:
            return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": int(BUSY_S)})
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"ledger.url {shown(url)} needs the Python package {error.name}: "
                "pip install 'chargestream[postgresql]'"
            ) from error
    arguments: dict[str, Any] = {"timeout": BUSY_S, "check_same_thread": False}
    if write:
        arguments["isolation_level"] = "IMMEDIATE"  # take the write lock at once: no upgrade, no deadlock
    engine = create_engine(url, connect_args=arguments)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        if write:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
        else:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    return engine


@contextmanager
def translated(url: URL, doing: str) -> Iterator[None]:
    """Raise `Refused` for a value that the database cannot hold, `RetryLater` for all else it says."""
    try:
        yield
    except OverflowError as error:
        raise Refused(f"ledger {shown(url)}: cannot {doing}: {error}") from error
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        words = " ".join(str(cause).split())
        if type(error).__name__ in _ABOUT_VALUES:
            raise Refused(f"ledger {shown(url)}: cannot {doing}: {words}") from error
        raise RetryLater(
            f"ledger {shown(url)}: cannot {doing}: {words}. Check ledger.url, that the database runs and its "
            "disk has room. Records wait in the outbox, none is lost"
        ) from error
