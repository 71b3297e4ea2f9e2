"""Faults that only the station itself can know and report."""

from __future__ import annotations

from typing import Any, ClassVar

from .fault_base import SEVERITIES, Fault


class Reported(Fault):
    """An event at the begin, cleared at the end; one (code, taxonomy, further fields) per severity."""

    events: ClassVar[tuple[tuple[str, str, dict[str, Any]], ...]] = ()

    def on_begin(self, now_ms: int) -> None:
        self._report(now_ms, cleared=False)

    def on_end(self, now_ms: int) -> None:
        self._report(now_ms, cleared=True)

    def _report(self, now_ms: int, *, cleared: bool) -> None:
        code, taxonomy, fields = self.events[SEVERITIES.index(self.severity)]
        self.report(now_ms, code, taxonomy, **fields, cleared=cleared)


class StationReported(Reported):
    """An emergency stop, an internal error, or a vendor's own code."""

    code = "station_reported"
    events = (
        (
            "CX008",
            "mrec",
            {"component": "EmergencyStop", "variable": "Active", "value": "true", "severity": 1},
        ),
        ("InternalError", "ocpp16", {"severity": 4, "techInfo": "watchdog of the power board"}),
        ("E-7731", "vendor", {"component": "Display", "variable": "Problem", "value": "true", "severity": 6}),
    )


class EvCommunication(Reported):
    """The car's communication is lost."""

    code = "ev_communication"
    events = (("EVCommunicationError", "ocpp16", {"severity": 4}),) * 3


class SubDevice(Reported):
    """The meter or the card reader does not answer."""

    code = "sub_device"
    scope = "station"
    events = (
        (
            "PowerMeterFailure",
            "ocpp16",
            {"component": "FiscalMetering", "variable": "Problem", "severity": 3},
        ),
        ("ReaderFailure", "ocpp16", {"severity": 5}),
        ("powermeter/CommunicationFault", "everest", {"severity": 5}),
    )


class LockFailure(Reported):
    """The plug's lock fails."""

    code = "lock_failure"
    events = (
        ("CX001", "mrec", {"component": "ConnectorPlugRetentionLock", "variable": "Problem", "severity": 3}),
        ("ConnectorLockFailure", "ocpp16", {"severity": 3}),
        ("connector_lock/ConnectorLockFailedUnlock", "everest", {"severity": 4}),
    )


class BrokenLatch(Reported):
    """The latch of the plug is broken."""

    code = "broken_latch"
    events = (("CX025", "mrec", {"severity": 3}),) * 3


class CableCut(Reported):
    """The cable is cut: the station's event, and the charge ends at once."""

    code = "cable_cut"
    events = (
        ("CX026", "mrec", {"component": "CableBreakawaySensor", "variable": "Tripped", "severity": 1}),
    ) * 3

    def on_begin(self, now_ms: int) -> None:
        self.parts.sessions.block(self.evse, now_ms)
        super().on_begin(now_ms)

    def on_end(self, now_ms: int) -> None:
        super().on_end(now_ms)
        self.parts.sessions.unblock(self.evse, now_ms)
