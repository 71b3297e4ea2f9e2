"""OCPP-J 1.6 and 2.0.1 (and settlements of 2.1) that a gateway carries over MQTT; no station is answered.

Two forms: ``raw`` (topics ``<csId>/in`` and ``<csId>/out``, OCPP-J arrays) and ``wrapped`` (topics
``<prefix>/in/<version>/<csId>`` and ``<prefix>/out/...``, objects with type, id, action, request and
response). ``in`` comes from the station, ``out`` from its central system. The route gives the station
as the node; the version shows in the payload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from models import batch as b
from models.errors import ConfigError, DecodeError
from models.meter_reader import count_name
from models.units import NS_PER_S

from . import Dialect, Message, Sink, _ocpp2, _ocpp16, _ocpp_calls
from . import _ocpp_types as t
from ._decoding import BAD_BYTES, read
from ._ocpp_answers import is_command_id, put_answer, put_error
from ._ocpp_calls import Call
from ._ocpp_state import MAX_WAITING, State, Waiting

CALL, RESULT, ERROR = 2, 3, 4
#: Message types of OCPP 2.1 that carry nothing we read: CALLRESULTERROR and SEND.
_LATER_TYPES: Final = (5, 6)

_HANDLERS: Final[dict[str, Callable[[Call], None]]] = {
    "Heartbeat": _ocpp_calls.heartbeat,
    "StatusNotification": _ocpp_calls.status_notification,
    "FirmwareStatusNotification": _ocpp_calls.firmware_status,
    "SignedFirmwareStatusNotification": _ocpp_calls.firmware_status,
    "SecurityEventNotification": _ocpp_calls.security_event,
    "MeterValues": _ocpp16.meter_values,
    "StopTransaction": _ocpp16.stop_transaction,
    "TransactionEvent": _ocpp2.transaction_event,
    "NotifyEvent": _ocpp2.notify_event,
    "NotifySettlement": _ocpp2.notify_settlement,
}
#: Calls whose record needs something from the answer.
_ANSWERED: Final[dict[str, tuple[str, Callable[[Call], dict[str, Any]]]]] = {
    "BootNotification": ("boot", _ocpp_calls.boot_fields),
    "StartTransaction": ("start", _ocpp16.start_fields),
}

_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_WRAPPED: Final = msgspec.json.Decoder(t.Wrapped)
_BOOT_ANSWER: Final = msgspec.json.Decoder(t.BootAnswer)
_START_ANSWER: Final = msgspec.json.Decoder(t.StartTransactionAnswer)


@dataclass(frozen=True, slots=True)
class Config:
    """Options of the dialect.

    Attributes
    ----------
    form : str
        ``raw`` or ``wrapped``.
    answers : bool
        Whether the routes cover the ``out`` topics; without them nothing waits for an answer, and 1.6
        transactions get an id derived from their start.
    answer_timeout_s : float
        How long a call waits for its answer (OCPP leaves it open; 30 to 60 s is usual).
    repeat_s : float
        How long a message id is remembered: the same call with the same content again within it is a
        repetition (redelivery by the broker, one retry of the station). Stations with simple id
        generators use an id again for a new call; 180 s later was the soonest seen in a log.
    token_salt : str
        Put before a token when it is hashed.
    commands : bool
        Whether we send commands too (`pipeline.wayback.ocpp_j`) and read their answers; else we only listen.
    """

    form: str = "raw"
    answers: bool = True
    answer_timeout_s: float = 60.0
    repeat_s: float = 120.0
    token_salt: str = ""
    commands: bool = False

    def __post_init__(self) -> None:
        wrong = []
        if self.form not in ("raw", "wrapped"):
            wrong.append(f"form is {self.form!r}, expected raw or wrapped")
        for name in ("answer_timeout_s", "repeat_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86_400:
                wrong.append(f"{name} is {value!r}, expected seconds above 0 and up to 86400")
        wrong += [
            f"{name} is {getattr(self, name)!r}, expected true or false"
            for name in ("answers", "commands")
            if not isinstance(getattr(self, name), bool)
        ]
        if not isinstance(self.token_salt, str):
            wrong.append("token_salt is no text")
        if wrong:
            raise ConfigError("dialect ocpp_j: " + "; ".join(wrong))

    def __repr__(self) -> str:
        shown = f"form={self.form!r}, answers={self.answers}, commands={self.commands}"
        return f"Config({shown}, token_salt=***)"


def build(options: dict[str, Any], resume_state: dict[str, Any] | None = None) -> Dialect:
    """Return the dialect with `options` as in `Config`.

    Raises
    ------
    ConfigError
        If an option is unknown or out of range.
    SnapshotError
        If `resume_state` is of another version.
    """
    known = Config.__dataclass_fields__
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(
            f"dialect ocpp_j: unknown option {', '.join(unknown)}; there are {', '.join(known)}"
        )
    return OcppJ(Config(**options), State.restore(resume_state) if resume_state else State())


@dataclass(frozen=True, slots=True)
class _Frame:
    """A message of either form."""

    type: int
    id: str
    action: str
    request: bytes | None
    response: bytes | None
    error: tuple[str, str] = ("", "")  # code and description of a CALLERROR


class OcppJ:
    """Decoder of OCPP-J over MQTT.

    Attributes
    ----------
    ignored : dict of str to int
        What was heard and not used, by a bounded number of names: calls without a handler, channels and
        units that are not known, repetitions.
    """

    def __init__(self, config: Config, state: State) -> None:
        self.ignored: dict[str, int] = {}
        self._config = config
        self._state = state

    def decode(self, message: Message, out: Sink) -> None:
        """Put what `message` holds into `out`.

        Raises
        ------
        DecodeError
            If it is no OCPP-J message, or one that breaks the rules money depends on.
        """
        from_station = _from_station(message)
        frame = (_read_raw if self._config.form == "raw" else _read_wrapped)(message.payload)
        name = f"{message.topic.site}/{message.topic.node}"
        call = Call(
            frame.action,
            frame.id,
            frame.request or b"{}",
            message.recv_ns,
            self._state.node(name),
            name,
            out,
            self.ignored,
            self._config.token_salt,
        )
        try:
            self._state.forget_seen(message.recv_ns - int(self._config.repeat_s * NS_PER_S))
            if from_station and frame.type == CALL:
                self._take_call(call)
            elif not from_station and frame.type in (RESULT, ERROR):
                self._take_answer(call, frame)
            elif self._config.commands and frame.type in (RESULT, ERROR) and is_command_id(frame.id):
                if frame.type == RESULT:
                    put_answer(frame.id, frame.response, message.recv_ns, out)
                else:
                    put_error(frame.id, *frame.error, message.recv_ns, out)
            else:
                out.head(b.OTHER)
                who = "station" if from_station else "central system"
                self._count(f"message type {frame.type} of the {who}")
            self._put_expired(call)
        finally:
            self._state.tidy(name)

    def snapshot(self) -> dict[str, Any]:
        """Return calls waiting and seen, open transactions and raised errors as plain data."""
        return self._state.snapshot()

    def _count(self, what: str) -> None:
        count_name(self.ignored, what)

    def _take_call(self, call: Call) -> None:
        if self._state.was_seen(call.name, call.id, call.action, call.content):
            call.out.head(b.OTHER)
            self._count(f"repeated {call.action}")
            return
        if call.action in _ANSWERED:
            self._take_answered(call)
        elif call.action in _HANDLERS:
            _HANDLERS[call.action](call)
        else:
            call.out.head(b.OTHER)
            self._count(f"call {call.action}")
        self._state.note_seen(call.name, call.id, call.action, call.content, call.recv_ns)

    def _take_answered(self, call: Call) -> None:
        kind, read_fields = _ANSWERED[call.action]
        waiting = Waiting(kind, call.recv_ns, read_fields(call))
        call.out.head(b.CONN if kind == "boot" else b.TX)
        if not self._config.answers:
            self._put(call, waiting, None)
            return
        while len(call.node.waiting) >= MAX_WAITING:
            self._put(call, call.node.waiting.pop(next(iter(call.node.waiting))), None)
        call.node.waiting[call.id] = waiting

    def _take_answer(self, call: Call, frame: _Frame) -> None:
        waiting = call.node.waiting.get(call.id)
        if (
            waiting is None
            and frame.request is not None  # the wrapped form repeats the call in the answer
            and call.action in _ANSWERED
            and not self._state.was_seen(call.name, call.id, call.action, None)
        ):
            kind, read_fields = _ANSWERED[call.action]
            waiting = Waiting(kind, call.recv_ns, read_fields(call))
            self._state.note_seen(call.name, call.id, call.action, call.content, call.recv_ns)
        if waiting is None:
            call.out.head(b.OTHER)
            return
        call.out.head(b.CONN if waiting.kind == "boot" else b.TX)
        call.node.waiting.pop(call.id, None)
        self._put(call, waiting, frame.response if frame.type == RESULT else None)

    def _put_expired(self, call: Call) -> None:
        """Put what waited for an answer too long, without it."""
        limit = call.recv_ns - int(self._config.answer_timeout_s * NS_PER_S)
        for call_id in [i for i, w in call.node.waiting.items() if w.since_ns < limit]:
            self._put(call, call.node.waiting.pop(call_id), None)

    def _put(self, call: Call, waiting: Waiting, answer: bytes | None) -> None:
        """Put the record of a call that waited; an answer that cannot be read counts as none."""
        if waiting.kind == "start":
            found = self._read_answer(_START_ANSWER, answer)
            _ocpp16.put_started(call, waiting.fields, None if found is None else str(found.transaction_id))
            return
        found = self._read_answer(_BOOT_ANSWER, answer)
        accepted = found is not None and found.status == "Accepted" and found.interval > 0
        call.out.birth(online=True, hb_s=found.interval if accepted else None, **waiting.fields)

    def _read_answer(self, decoder: msgspec.json.Decoder[Any], answer: bytes | None) -> Any:
        if answer is None:
            return None
        try:
            return decoder.decode(answer)
        except BAD_BYTES:
            self._count("answer that cannot be read")
            return None


def _from_station(message: Message) -> bool:
    """Return whether the topic is one of the station (``in``).

    Raises
    ------
    DecodeError
        If no level of the topic says so.
    """
    levels = message.topic.text.split("/")
    for level in (levels[-1], *levels[-3:-2]):
        if level in ("in", "out"):
            return level == "in"
    raise DecodeError(
        "topic",
        f"{message.topic.text!r:.300} names no direction: expected <csId>/in, <csId>/out,"
        " <prefix>/in/<version>/<csId> or <prefix>/out/<version>/<csId>",
    )


def _read_raw(payload: bytes) -> _Frame:
    parts = read(_ARRAY, payload, "json", "OCPP-J")
    kind = _scalar(parts, 0)
    needs = {CALL: 4, RESULT: 3, ERROR: 3}.get(kind, 2) if isinstance(kind, int) else 2
    if isinstance(kind, bool) or not isinstance(kind, int) or len(parts) < needs:
        raise DecodeError(
            "schema",
            f"OCPP-J array of {len(parts)} elements and type {kind!r:.40}; expected [2, id, action, {{}}]",
        )
    call_id = _scalar(parts, 1)
    if kind not in (CALL, RESULT, ERROR, *_LATER_TYPES):
        raise DecodeError("schema", f"OCPP-J message type {kind} is not one of 2 to 6")
    action = _scalar(parts, 2) if kind == CALL else ""
    if not isinstance(action, str) or len(action) > 255:
        raise DecodeError("schema", "OCPP-J action is no name")
    request = bytes(parts[3]) if kind == CALL else None
    error = (str(_scalar(parts, 2)), str(_scalar(parts, 3) or "")) if kind == ERROR else ("", "")
    response = bytes(parts[2]) if kind == RESULT else None
    return _Frame(kind, str(call_id)[:255], action, request, response, error)


def _scalar(parts: list[msgspec.Raw], at: int) -> Any:
    if at >= len(parts):
        return None
    return read(_SCALAR, parts[at], "json", f"OCPP-J element {at}")


_SCALAR: Final = msgspec.json.Decoder(str | int | float | bool | None)


def _read_wrapped(payload: bytes) -> _Frame:
    body: t.Wrapped = read(_WRAPPED, payload, "json", "wrapped OCPP")
    if body.type not in (CALL, RESULT, ERROR, *_LATER_TYPES):
        raise DecodeError("schema", f"wrapped OCPP message type {body.type} is not one of 2 to 6")
    error = (str(body.error_code or ""), str(body.error_description or ""))
    return _Frame(body.type, body.id, body.action or "", _raw(body.request), _raw(body.response), error)


def _raw(value: msgspec.Raw) -> bytes | None:
    return None if bytes(value) == b"null" else bytes(value)
