"""Twin of `station_reported`: keeps what stations said as a list and looks through it each time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .plain import Expected, S, Story

_MREC = {
    1: "lock_failure",
    2: "residual_current_trip",
    3: "cabinet_over_temperature",
    4: "over_current",
    5: "over_voltage",
    6: "under_voltage",
    7: "weak_signal",
    14: "pilot_out_of_band",
    17: "contactor_welded",
    18: "connector_over_temperature",
    19: "connector_over_temperature",
    20: "proximity_out_of_range",
    21: "capacitance_high",
    22: "isolation_low",
    23: "proximity_out_of_range",
    24: "contactor_welded",
    25: "broken_latch",
    26: "cable_cut",
}
_OCPP16 = {
    "ConnectorLockFailure": "lock_failure",
    "EVCommunicationError": "ev_communication",
    "GroundFailure": "residual_current_trip",
    "HighTemperature": "cabinet_over_temperature",
    "OverCurrentFailure": "over_current",
    "OverVoltage": "over_voltage",
    "UnderVoltage": "under_voltage",
    "WeakSignal": "weak_signal",
    "PowerMeterFailure": "sub_device",
    "ReaderFailure": "sub_device",
    "PowerSwitchFailure": "contactor_welded",
}
_CRITICAL = {"residual_current_trip", "contactor_welded", "isolation_low", "cable_cut"}
_STATION_CODES = {"cabinet_over_temperature", "weak_signal"}


def _code(taxonomy: str, code: str) -> str | None:
    number = None
    if taxonomy == "mrec" and re.fullmatch(r"CX\d+", code):
        number = int(code[2:])
    if taxonomy == "everest" and (found := re.search(r"/.*MREC(\d+)", code)):
        number = int(found[1])
    if number in {11, 12}:
        return None
    if number in _MREC:
        return _MREC[number]
    if taxonomy == "ocpp16":
        return _OCPP16.get(code, "station_reported")
    if taxonomy == "everest":
        interface, _, error = code.partition("/")
        by_interface = {"connector_lock": "lock_failure", "ac_rcd": "residual_current_trip"}
        by_error = {
            "DiodeFault": "diode_fault",
            "CommunicationFault": "sub_device",
            "DeviceFault": "sub_device",
        }
        return by_interface.get(interface) or by_error.get(error) or "station_reported"
    return "station_reported"


@dataclass
class _Said:
    code: str
    word: str
    station: int
    evse: int
    severity: str
    live: bool
    start_ns: int
    last_ns: int
    order: int
    since_ns: int  # journaled time of its first occurrence
    settled: bool


_RANK = ("info", "warning", "critical")


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    out: list[Expected] = []
    said: list[_Said] = []
    records = list(story.records)
    for message in sorted(story.messages, key=lambda m: m.order):
        while records and records[0].at.order <= message.order:
            _take(records.pop(0), said, out)
        now = message.effect_ns
        for item in list(said):
            if item.last_ns + 86_400 * S <= now:
                said.remove(item)
                out.append(_emit(item, "clear", message.order, {}))
            elif not item.live and not item.settled and item.since_ns + 600 * S <= now:
                item.live = item.settled = True
                out.append(_emit(item, "raise", message.order, {}))
    for record in records:
        _take(record, said, out)
    return out


def _emit(item: _Said, kind: str, order: int, evidence: dict[str, Any]) -> Expected:
    scope, subject = ("evse", item.evse) if item.evse >= 0 else ("station", item.station)
    return Expected(
        order, item.code, scope, subject, kind, item.severity, item.live, item.start_ns, item.last_ns,
        evidence, False, item.word,
    )  # fmt: skip


def _take(record: Any, said: list[_Said], out: list[Expected]) -> None:
    name = type(record).__name__
    if name == "StationEvent":
        if record.taxonomy == "ocpp16" and record.code == "NoError":
            _clear(record, said, out, lambda item: item.word.startswith("ocpp16:"))
        elif record.cleared:
            _clear(record, said, out, lambda item: item.word == f"{record.taxonomy}:{record.code}")
        else:
            _occur(record, said, out)
    elif name == "Status":
        if (record.status16 or record.status) not in {"Faulted", "Unavailable"}:
            _clear(
                record,
                said,
                out,
                lambda item: item.order < record.at.order and item.last_ns <= record.time_ns,
            )
    elif name == "Transaction":
        if record.trigger == "EVCommunicationLost" and record.evse_row >= 0:
            words = {"code": record.trigger, "cause": record.stopped_reason}
            _said(record, "ev_communication", "ocpp2:EVCommunicationLost", None, words, said, out)
        elif record.trigger != "EVCommunicationLost" and record.charging_state == "Charging":
            _clear(
                record,
                said,
                out,
                lambda item: (
                    item.word.startswith("ocpp2:")
                    and item.order < record.at.order
                    and item.last_ns <= record.time_ns
                ),
            )


def _occur(event: Any, said: list[_Said], out: list[Expected]) -> None:
    code = _code(event.taxonomy, event.code)
    if code is None:
        return
    names = ("code", "component", "variable", "value", "cause", "tech_info")
    words = {n: getattr(event, n) for n in names if getattr(event, n) != ""}
    own = None
    if event.severity is not None:
        own = "critical" if event.severity <= 3 else "warning" if event.severity <= 6 else "info"
    _said(event, code, f"{event.taxonomy}:{event.code}", own, words, said, out)


def _said(
    record: Any,
    code: str,
    word: str,
    own: str | None,
    words: dict[str, Any],
    said: list[_Said],
    out: list[Expected],
) -> None:
    evse = -1 if code in _STATION_CODES else record.evse_row
    default = "critical" if code in _CRITICAL else "info" if code == "weak_signal" else "warning"
    severity = own or default
    live = record.at.recv_ns - record.time_ns <= 900 * S
    for item in said:
        if (item.station, item.evse, item.word) == (record.station_row, evse, word):
            item.last_ns = max(item.last_ns, record.time_ns)
            item.order = record.at.order
            higher = _RANK.index(severity) > _RANK.index(item.severity)
            item.severity = severity if higher else item.severity
            if live and not item.live:
                item.live = True
                out.append(_emit(item, "raise", record.at.order, words))
            elif higher:
                out.append(_emit(item, "update", record.at.order, words))
            return
    t = record.time_ns
    item = _Said(
        code, word, record.station_row, evse, severity, live, t, t, record.at.order, record.at.effect_ns, live
    )
    said.append(item)
    out.append(_emit(item, "raise", record.at.order, words))


def _clear(record: Any, said: list[_Said], out: list[Expected], concerned: Any) -> None:
    for item in list(said):
        here = item.station == record.station_row and (
            record.evse_row < 0 or item.evse in {record.evse_row, -1}
        )
        if here and concerned(item):
            item.last_ns = max(item.last_ns, record.time_ns)
            said.remove(item)
            out.append(_emit(item, "clear", record.at.order, {}))
