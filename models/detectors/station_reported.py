"""What stations report themselves, raised under the code it means here.

Events (``up/event`` and their like) are read by the event map of `models.faults`: a CX code, an OCPP 1.6
error code, an EVerest error or the OCPP 2.x trigger EVCommunicationLost becomes its finding code; what
only the station can know stays `station_reported`, one finding per station code. The scope is the EVSE
where the event names one and the code is about EVSEs, else the station. Cable-check and precharge
failures (CX011, CX012) are failed starts and no findings of their own.

An event raises at its first occurrence. It clears on ``cleared``, on the next normal state of its EVSE
(of any EVSE for a station's event), or 24 h after the last occurrence. An event older than 15 minutes
when it arrives is backlog; if it still stands after the time in which a backlog drains, it is raised
live. Severity is the station's own (OCPP 0 to 3 critical, 4 to 6 warning, 7 to 9 info), else that of the
code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from models import faults
from models.detecting import (
    CLEAR,
    CRITICAL,
    INFO,
    RAISE,
    SEVERITIES,
    UPDATE,
    WARNING,
    DetectorSpec,
    Emissions,
    Observed,
    Scope,
)
from models.records import StationEvent, Status, Transaction

from ._base import check_version, ns, require
from ._nodes import NEVER, NodeDetector

SPEC = DetectorSpec(
    "station_reported",
    "evse",
    "station",
    evidence=("code", "component", "variable", "value", "cause", "tech_info"),
)

VERSION: Final = 1

#: Connector states (2.x and 1.6 names) that are not normal.
_NOT_NORMAL: Final = frozenset({"Faulted", "Unavailable"})

#: OCPP 1.6's word for "all is well", sent in the same field as errors.
_NO_ERROR: Final = ("ocpp16", "NoError")


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `station_reported`.

    Attributes
    ----------
    longest_s : float
        An event clears this long after its last occurrence. Unit: s. Default 86400. Source: CONVENTIONS,
        clear.
    live_max_age_s : float
        An event older than this at arrival is backlog. Unit: s. Default 900. Source: CONVENTIONS,
        live_max_age_s.
    settle_s : float
        Time after which an event from backlog that still stands is raised live. Unit: s. Default 600.
        Source: CONVENTIONS, a gap is final after 600 s while a backlog drains.
    open_max : int
        Conditions remembered; beyond, the oldest is cleared. Unit: conditions. Default 100000. Source:
        bound of memory.
    """

    longest_s: float = 86_400.0
    live_max_age_s: float = 900.0
    settle_s: float = 600.0
    open_max: int = 100_000

    def __post_init__(self) -> None:
        require(
            self,
            longest_s=(60.0, 30 * 86_400.0),
            live_max_age_s=(1.0, 86_400.0),
            settle_s=(1.0, 86_400.0),
            open_max=(1, 10_000_000),
        )


@dataclass(slots=True)
class _Open:
    """One condition a station reported and has not taken back."""

    code: str
    scope: Scope
    subject: int
    station: int
    evse: int  # -1: the station
    connector: int | None
    word: str  # taxonomy and the station's own code
    severity: int
    live: bool
    start_ns: int
    last_ns: int
    order: int  # of its last occurrence
    settle_ns: int  # when it is raised live, NEVER if it is


class Detector(NodeDetector):
    """The detector behind `station_reported`."""

    spec = SPEC
    wanted = (StationEvent, Status, Transaction)

    def __init__(self, config: Config, resume_state: dict[str, Any] | None = None) -> None:
        self._longest_ns = ns(config.longest_s)
        self._live_max_age_ns = ns(config.live_max_age_s)
        self._settle_ns = ns(config.settle_s)
        self._open_max = config.open_max
        self._open: dict[tuple[int, int, str], _Open] = {}  # by station, EVSE, word
        self._of_station: dict[int, set[tuple[int, int, str]]] = {}
        self.due_ns = NEVER
        if resume_state is not None:
            check_version(SPEC, VERSION, resume_state)
            for fields in resume_state["open"]:
                self._remember(_Open(*fields))
            self._set_due()

    def _remember(self, item: _Open) -> None:
        key = (item.station, item.evse, item.word)
        self._open[key] = item
        self._of_station.setdefault(item.station, set()).add(key)

    def _set_due(self) -> None:
        self.due_ns = min((self._deadline(item) for item in self._open.values()), default=NEVER)

    def _deadline(self, item: _Open) -> int:
        return min(item.last_ns + self._longest_ns, item.settle_ns)

    def _record(self, record: Any, seen: Observed, out: Emissions) -> None:
        if isinstance(record, StationEvent):
            self._event(record, out)
        elif isinstance(record, Status):
            if (record.status16 or record.status) not in _NOT_NORMAL:
                self._normal(record, out)
        elif record.trigger == "EVCommunicationLost":
            code = faults.code_of("ocpp2", record.trigger)
            if code is not None and record.evse_row >= 0:
                self._occurred(
                    record,
                    code,
                    f"ocpp2:{record.trigger}",
                    None,
                    {"code": record.trigger, "cause": record.stopped_reason},
                    out,
                )
        elif record.charging_state == "Charging":
            self._normal(record, out, taxonomy="ocpp2")

    def _event(self, event: StationEvent, out: Emissions) -> None:
        if (event.taxonomy, event.code) == _NO_ERROR:
            for key in self._keys(event.station_row, event.evse_row):
                if self._open[key].word.startswith("ocpp16:"):
                    self._clear(key, event, out)
            return
        code = faults.code_of(event.taxonomy, event.code)
        word = f"{event.taxonomy}:{event.code}"
        if event.cleared:
            for key in self._keys(event.station_row, event.evse_row):
                if key[2] == word:
                    self._clear(key, event, out)
        elif code is not None:
            words = {name: getattr(event, name) for name in SPEC.evidence if getattr(event, name) != ""}
            self._occurred(event, code, word, event.severity, words, out)

    def _keys(self, station: int, evse: int) -> list[tuple[int, int, str]]:
        """Return what is open of an EVSE, or of the whole station for -1, oldest first."""
        keys = self._of_station.get(station, set())
        return sorted(
            (k for k in keys if evse < 0 or k[1] in {evse, -1}),
            key=lambda k: (self._open[k].start_ns, k[1], k[2]),
        )

    def _occurred(
        self,
        record: StationEvent | Transaction,
        code: str,
        word: str,
        own_severity: int | None,
        words: dict[str, Any],
        out: Emissions,
    ) -> None:
        fault = faults.FAULTS[code]
        evse = record.evse_row if "evse" in fault.scopes else -1
        severity = SEVERITIES.index(fault.severity) if own_severity is None else _severity(own_severity)
        live = record.at.live and record.at.recv_ns - record.time_ns <= self._live_max_age_ns
        key = (record.station_row, evse, word)
        item = self._open.get(key)
        if item is None:
            item = _Open(
                code,
                "evse" if evse >= 0 else "station",
                evse if evse >= 0 else record.station_row,
                record.station_row,
                evse,
                record.conn,
                word,
                severity,
                live,
                record.time_ns,
                record.time_ns,
                record.at.order,
                NEVER if live else record.at.effect_ns + self._settle_ns,
            )
            self._remember(item)
            self._emit(item, RAISE, record.at.order, record.at.effect_ns, out, words)
            if len(self._open) > self._open_max:
                self._forget(next(iter(self._open)), record.at.order, record.at.effect_ns, out)
        else:
            item.last_ns = max(item.last_ns, record.time_ns)
            item.order = record.at.order
            higher = severity > item.severity
            item.severity = max(severity, item.severity)
            if live and not item.live:
                item.live, item.settle_ns = True, NEVER
                self._emit(item, RAISE, record.at.order, record.at.effect_ns, out, words)
            elif higher:
                self._emit(item, UPDATE, record.at.order, record.at.effect_ns, out, words)
        self.due_ns = min(self.due_ns, self._deadline(item))

    def _normal(self, record: Status | Transaction, out: Emissions, taxonomy: str = "") -> None:
        """Clear what is open and older than a normal state; with `taxonomy` only its words."""
        for key in self._keys(record.station_row, record.evse_row):
            item = self._open[key]
            older = item.order < record.at.order and item.last_ns <= record.time_ns
            if older and item.word.startswith(taxonomy):
                self._clear(key, record, out)

    def _clear(
        self, key: tuple[int, int, str], record: StationEvent | Status | Transaction, out: Emissions
    ) -> None:
        item = self._open[key]
        item.last_ns = max(item.last_ns, record.time_ns)
        self._forget(key, record.at.order, record.at.effect_ns, out)

    def _forget(self, key: tuple[int, int, str], order: int, effect_ns: int, out: Emissions) -> None:
        item = self._open.pop(key)
        keys = self._of_station[item.station]
        keys.discard(key)
        if not keys:
            del self._of_station[item.station]
        self._emit(item, CLEAR, order, effect_ns, out, {})

    def _due(self, now_ns: int, order: int, seen: Observed, out: Emissions) -> None:
        for key, item in list(self._open.items()):
            if item.last_ns + self._longest_ns <= now_ns:
                self._forget(key, order, now_ns, out)
            elif item.settle_ns <= now_ns:
                item.live, item.settle_ns = True, NEVER
                self._emit(item, RAISE, order, now_ns, out, {})
        self._set_due()

    def _emit(
        self, item: _Open, kind: int, order: int, effect_ns: int, out: Emissions, words: dict[str, Any]
    ) -> None:
        out.add(
            SPEC,
            code=item.code,
            scope=item.scope,
            order=order,
            effect_ns=effect_ns,
            subject=item.subject,
            kind=kind,
            severity=item.severity,
            start_ns=item.start_ns,
            time_ns=item.last_ns,
            live=item.live,
            evidence=words,
            connector=item.connector,
            taxonomy=item.word,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        names = _Open.__slots__
        items = [[getattr(item, name) for name in names] for item in self._open.values()]
        return {"code": SPEC.code, "version": VERSION, "open": items}

    def nbytes(self) -> int:
        """Return the bytes of state held (an estimate: 300 a condition)."""
        return 300 * len(self._open)


def _severity(ocpp: int) -> int:
    """Return our severity for OCPP's 0 (danger) to 9 (debug)."""
    if ocpp <= 3:
        return CRITICAL
    return WARNING if ocpp <= 6 else INFO


def build(config: Config, resume_state: dict[str, Any] | None = None) -> Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return Detector(config, resume_state)
