"""Writes line protocol to InfluxDB through ``influxdb-client``; never gives up, never drops.

A batch has three ends: written, refused line by line (the bad lines come back with the server's words,
the good ones are written), or put off (`RetryLater`: the server is away, busy, refuses the token or has no
such database). Writing a batch again changes nothing: same series and timestamp overwrite.

Bucket names are ``database`` or ``database/policy``: InfluxDB 2.x takes them as bucket names, 3 as databases,
and 1.x behind the rewrite of `connectors.influx_server` as database and retention policy.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, NamedTuple

import urllib3
from influxdb_client import InfluxDBClient, WritePrecision  # type: ignore[attr-defined]  # no __all__ there
from influxdb_client.client.write_api import SYNCHRONOUS, WriteApi
from influxdb_client.rest import ApiException

from models.errors import ConfigError, RetryLater
from models.secret import Secret

#: Longest wait that a server's Retry-After may ask for.
MAX_RETRY_AFTER_S: Final = 3600.0
_BUCKET: Final = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?")
_MARKUP: Final = re.compile(r"<head>.*?</head>|<[^>]*>", re.DOTALL)
_DROPPED: Final = re.compile(r"\bdropped=(\d+)")
# Statuses that speak of the lines themselves: 1.x and 3 answer 400, 2.x also 422; 413 is too much at once.
_ABOUT_LINES: Final = frozenset({400, 413, 422})


@dataclass(frozen=True, slots=True)
class InfluxSettings:
    """How to reach an InfluxDB.

    Attributes
    ----------
    url : str
        Base address.
    bucket : str
        ``database`` or ``database/policy``.
    token : Secret
        API token. One from a file is read again when it is refused, so it can be exchanged while we run.
    org : str
        Organisation; InfluxDB 3 and 1.x ignore it.
    batch_points : int
        Most lines of one write.
    gzip : bool
        Compress what is sent.
    timeout_s : float
        Longest wait for an answer.
    blocked_retry_s : float
        Pause before the next try after an answer that only a person can change (token, database).
    """

    url: str
    bucket: str
    token: Secret = field(default_factory=Secret)
    org: str = ""
    batch_points: int = 5_000
    gzip: bool = False
    timeout_s: float = 10.0
    blocked_retry_s: float = 15.0

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            raise ConfigError(
                f"influx.bucket = {self.bucket!r}: expected database or database/policy, "
                "of letters, digits and _ . - only"
            )


class RefusedLine(NamedTuple):
    """A line that the server will never take, and what it said."""

    line: bytes
    reason: str


def cut_lines(lines: bytes, most: int) -> Iterator[bytes]:
    """Yield `lines` in pieces of at most `most` lines, cut at line ends."""
    at = 0
    while at < len(lines):
        end = at
        for _ in range(most):
            end = lines.find(b"\n", end) + 1
            if not end:
                end = len(lines)
                break
        yield lines[at:end]
        at = end


class InfluxWriter:
    """One connection to an InfluxDB. Not thread-safe: one thread, one writer."""

    def __init__(self, settings: InfluxSettings) -> None:
        self.settings = settings
        self.requests = 0
        self._token = settings.token
        self._client: InfluxDBClient | None = None
        self._api: WriteApi | None = None

    def __repr__(self) -> str:
        return f"InfluxWriter({self.settings.url}, bucket {self.settings.bucket}, token {self._token!r})"

    def write(self, lines: bytes) -> list[RefusedLine]:
        """Write `lines` in batches and return those that the server refused for good.

        Raises
        ------
        RetryLater
            If the server is away, busy, refuses the token, or has no such database. Some of the lines
            may be written: write all of them again.
        """
        refused: list[RefusedLine] = []
        for batch in cut_lines(lines, self.settings.batch_points):
            refused += self._write_batch(batch)
        return refused

    def close(self) -> None:
        """Close the connection."""
        if self._api is not None:
            self._api.close()  # type: ignore[no-untyped-call]  # the client's close has no annotations
        if self._client is not None:
            self._client.close()  # type: ignore[no-untyped-call]
        self._client = self._api = None

    def _write_batch(self, batch: bytes) -> list[RefusedLine]:
        """Write one batch; when lines are refused, halve it until each bad line stands alone."""
        said = self._post(batch)
        if said is None:
            return []
        lines = [line for line in batch.splitlines() if line.strip()]
        dropped = _DROPPED.search(said)
        if len(lines) <= 1 or (dropped and int(dropped[1]) == len(lines)):
            return [RefusedLine(line, said) for line in lines]
        middle = len(lines) // 2
        halves = (lines[:middle], lines[middle:])
        return [bad for half in halves for bad in self._write_batch(b"\n".join(half) + b"\n")]

    def _post(self, batch: bytes) -> str | None:
        """Send one write; return None when it was taken, else what the server said against the lines."""
        self.requests += 1
        try:
            self._writer().write(
                self.settings.bucket,
                self.settings.org or "-",
                batch,
                write_precision=WritePrecision.NS,  # type: ignore[arg-type]  # an enum by hand there
            )
        except ApiException as error:
            words = _words(error)
            if error.status in _ABOUT_LINES:
                return f"{error.status}: {words}"
            raise self._put_off(error, words) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise RetryLater(
                f"InfluxDB at {self.settings.url} cannot be reached ({_brief(error)}): check influx.url and "
                "that it runs. Points wait in the outbox"
            ) from error
        except UnicodeDecodeError as error:
            raise RetryLater(
                f"{self.settings.url} answered with bytes that are no text: check that influx.url is right",
                self.settings.blocked_retry_s,
            ) from error
        return None

    def _put_off(self, error: ApiException, words: str) -> RetryLater:
        url, bucket, status = self.settings.url, self.settings.bucket, error.status
        slowly = self.settings.blocked_retry_s
        if status in {401, 403}:
            source = self._token.source or ("the configuration" if self._token else "")
            sent = f"the token from {source}" if source else "our request, which carries no token"
            self._read_token_again()
            return RetryLater(
                f"InfluxDB at {url} refused {sent} ({status}: {words}): set influx.token to one that may "
                f"write to bucket {bucket}. Points wait in the outbox, none is lost",
                slowly,
            )
        if status == 404:
            return RetryLater(
                f"InfluxDB at {url} has no bucket or database {bucket} ({status}: {words}): create it, or "
                "correct influx.bucket, influx.org or influx.url. Points wait in the outbox, none is lost",
                slowly,
            )
        if status == 429 or (status is not None and status >= 500):
            return RetryLater(
                f"InfluxDB at {url} cannot take points now ({status}: {words}). Points wait in the outbox",
                _retry_after_s(error),
            )
        return RetryLater(
            f"{url} gave an answer to a write that is not expected of an InfluxDB ({status}: {words}): check "
            "influx.url. Points wait in the outbox, none is lost",
            slowly,
        )

    def _writer(self) -> WriteApi:
        if self._api is None:
            self._client = InfluxDBClient(
                self.settings.url,
                self._token.reveal(),
                timeout=round(self.settings.timeout_s * 1000),
                enable_gzip=self.settings.gzip,
                org=self.settings.org or "-",
            )
            self._api = self._client.write_api(write_options=SYNCHRONOUS)
        return self._api

    def _read_token_again(self) -> None:
        source = self._token.source
        if not source.startswith("file:"):
            return
        try:
            fresh = Path(source.removeprefix("file:")).read_text().strip()
        except OSError:
            return
        if fresh and fresh != self._token.reveal():
            self._token = Secret(fresh, source)
            self.close()


def _words(error: ApiException) -> str:
    """Return what the server said, on one line."""
    body = error.body if isinstance(error.body, str) else ""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if isinstance(found, dict):
        body = str(found.get("message") or found.get("error") or body)
        if found.get("data"):  # InfluxDB 3 tells line by line
            body += f" {json.dumps(found['data'])}"
    # a proxy in front of the server answers in HTML
    text = _MARKUP.sub(" ", body) if body.lstrip().startswith("<") else body
    return " ".join((text or str(error.reason or "no words")).split())[:2000]


def _retry_after_s(error: ApiException) -> float | None:
    headers: Mapping[str, str] = error.headers or {}
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        wait_s = float(value)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rpartition(">: ")[2] or text
