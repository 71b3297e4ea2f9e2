"""Sends messages about findings: through ``apprise`` (mail, chat, webhooks, SMS gateways) and MQTT.

A message has three ends: taken, refused for good (`Refused`), or put off (`RetryLater`: the server is away or
busy, or only a person can change its mind). Addresses are secrets: none appears in an error.
"""

from __future__ import annotations

import contextvars
import datetime
import importlib
import logging
import re
import warnings
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlsplit

from models import notice_text
from models.errors import ConfigError, Refused, RetryLater
from models.notices import Notice
from models.outputs import Publish
from models.secret import MASK, Secret

from .mqtt import Publisher

#: Statuses that speak of the message itself; others of the address, the login or the moment.
_ABOUT_MESSAGE: Final = frozenset({400, 406, 413, 415, 422})
#: SMTP replies that speak of the login.
_ABOUT_LOGIN: Final = frozenset({530, 534, 535, 538})
_HTTP_ERROR: Final = re.compile(r"\berror=(\d{3})\b")
_SMTP_REPLY: Final = re.compile(r"\((\d{3}), b?['\"]")
_HTTP_STATUS: Final = re.compile(r'HTTP/[0-9.]+" (\d{3})\b')
_LOGGERS: Final = ("apprise", "urllib3.connectionpool")
_LINE_MAX: Final = 300


class Channel(Protocol):
    """Where the messages of one route go. Used by one thread."""

    def send(self, notice: Notice) -> str:
        """Send a message and return what the server said; raises Refused or RetryLater."""

    def close(self) -> None:
        """Close connections."""


class MqttChannel:
    """JSON to a topic of the broker, QoS 1, not retained."""

    def __init__(self, publisher: Publisher, topic: str) -> None:
        self._publisher, self._topic = publisher, topic

    def send(self, notice: Notice) -> str:
        """Publish a message and wait for the broker's acknowledgement."""
        refused = self._publisher.publish([Publish(topic=self._topic, payload=notice_text.payload(notice))])
        if refused:
            raise Refused(f"the broker did not take it: {refused[0].reason}")
        return f"acknowledged by the broker, topic {self._topic}"

    def close(self) -> None:
        """Disconnect."""
        self._publisher.close()


#: What the libraries log while a message is sent; its context goes along into their threads.
_WORDS: Final[contextvars.ContextVar[list[str] | None]] = contextvars.ContextVar("words", default=None)


class _Listener(logging.Handler):
    """Collects what the libraries log, which is all that they say of a server's answer."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line for the message that is being sent in this context."""
        words = _WORDS.get()
        if words is not None:
            words.append(record.getMessage())


_LISTENER: Final = _Listener(logging.DEBUG)


def _listen() -> None:
    for name in _LOGGERS:
        log = logging.getLogger(name)
        # They log addresses and payloads: only we read them, and mask what is secret.
        log.setLevel(logging.DEBUG)
        log.propagate = False
        log.addHandler(_LISTENER)  # once, however often it is added


class AppriseChannel:
    """One address of ``apprise``.

    Parameters
    ----------
    url : Secret
        As apprise has it: ``mailtos://…``, ``slack://…``, ``jsons://…``.
    zone : tzinfo
        Zone of the times in the text.
    page_url : str
        Address of the live page, for links; empty: none.
    as_json : bool
        The body is the JSON that MQTT has, for programs.

    Raises
    ------
    ConfigError
        If apprise is not installed or does not understand the address.
    """

    def __init__(
        self, url: Secret, zone: datetime.tzinfo, page_url: str = "", *, as_json: bool = False
    ) -> None:
        try:
            self._apprise: Any = importlib.import_module("apprise")
        except ImportError as error:
            raise ConfigError(
                "notifications need the package apprise: install the extra chargestream[notify]"
            ) from error
        self._zone, self._page_url, self._as_json = zone, page_url, as_json
        self._url = url
        _listen()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it asks for modules that Python drops
            self._server: Any = self._apprise.Apprise.instantiate(url.reveal(), suppress_exceptions=True)
        if self._server is None:
            kind = url.reveal().partition("://")[0][:20] if "://" in url.reveal() else ""
            raise ConfigError(
                f"apprise does not understand the address {url.shown()} ({kind or 'no'} scheme): expected "
                "one as mailtos://user:password@host?to=name, slack://…, jsons://host/path"
            )

    def send(self, notice: Notice) -> str:
        """Send a message; return apprise's words, and the status where the server speaks HTTP."""
        body = (
            notice_text.payload(notice).decode()
            if self._as_json
            else notice_text.text(notice, self._zone, self._page_url)
        )
        kinds = {"critical": "failure", "warning": "warning"}
        words: list[str] = []
        token = _WORDS.set(words)
        caller = self._apprise.Apprise()
        caller.add(self._server)
        try:
            taken = caller.notify(
                body=body,
                title=notice_text.subject(notice),
                notify_type=kinds.get(notice_text.severity(notice), "info"),
                body_format="text",
            )
        finally:
            _WORDS.reset(token)
        if taken:
            said = [line for line in words if line.startswith("Sent ")][-1:]
            said += [f"HTTP {found[1]}" for line in words if (found := _HTTP_STATUS.search(line))][-1:]
            return self._masked("; ".join(said) or "taken")
        raise self._failure([line for line in words if not line.startswith("Sent ")])

    def _failure(self, words: list[str]) -> Refused | RetryLater:
        told = " ".join(" ".join(_cut(line).split()) for line in words if _says_why(line))
        text = self._masked(told or "not taken, and apprise does not say why")
        http = [int(code) for line in words for code in _HTTP_ERROR.findall(line)]
        smtp = [int(code) for line in words for code in _SMTP_REPLY.findall(line)]
        about_message = any(code in _ABOUT_MESSAGE for code in http)
        for_good = bool(smtp) and all(500 <= code < 600 and code not in _ABOUT_LOGIN for code in smtp)
        return Refused(text) if about_message or for_good else RetryLater(text)

    def _masked(self, text: str) -> str:
        """Return `text` without what is secret of the address."""
        address = urlsplit(self._url.reveal())
        secrets = [address.password or "", *address.path.split("/")]
        secrets += [value for _, value in parse_qsl(address.query)]
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= 6 and "@" not in secret:
                text = text.replace(secret, MASK)
        return re.sub(r"(with url: )\S+", rf"\1{MASK}", text)

    def close(self) -> None:
        """Nothing: each message has its own connection."""


def _says_why(line: str) -> bool:
    return any(mark in line for mark in ("error", "rror occurred", "Exception", "Response Details", "ailed"))


def _cut(line: str) -> str:
    return line if len(line) <= _LINE_MAX else line[: _LINE_MAX - 3] + "..."
