"""Faults that only the station itself can know and report."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import numpy as np

from .fault_base import SEVERITIES, Fault
from .sampling import Sample

_CUT_AFTER_MS: Final = 120_000  # of charging
_NOTICED_AFTER_MS: Final = 60_000  # the station ends the transaction
_FULL_SCALE_C: Final = 199.9  # what an open platinum sensor reads


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


class CableCut(Fault):
    """The cable is cut under load, with the station's event; moderate: without, both plug sensors fail;
    subtle: only the pilot opens and the current is gone. The car is away then, and nobody stopped the charge.
    """

    code = "cable_cut"
    load = True

    def on_begin(self, now_ms: int) -> None:
        self._cut_ms = now_ms + _CUT_AFTER_MS
        self._gone_ms = self._cut_ms + _NOTICED_AFTER_MS
        self.truth.start = min(self._cut_ms, self.until_ms - 1)
        self._cut = False

    def step(self, now_ms: int) -> None:
        parts = self.parts
        if not self._cut and now_ms >= self._cut_ms:
            self._cut = True
            parts.plant.faulty.stuck_open[self.evses] = True
            if self.severity == "clear":
                self._report(now_ms, cleared=False)
        if 0 <= self._gone_ms <= now_ms:
            self._gone_ms = -1
            parts.sessions.tear_off(self.evse, now_ms)

    def measure(self, sample: Sample) -> None:
        if not self._cut:
            return
        falsified = {"x.CP.V": 12.0, "x.CP.Low.V": np.nan}
        if self.severity != "subtle":
            falsified |= {"Temperature/Cable": _FULL_SCALE_C, "Temperature/Outlet": _FULL_SCALE_C}
        for name, value in falsified.items():
            found = sample.at(name, self.evses)
            if found:
                column, mask = found
                column[mask] = value

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.stuck_open[self.evses] = False
        if self._cut and self.severity == "clear":
            self._report(now_ms, cleared=True)
        self.parts.sessions.unblock(self.evse, now_ms)

    def _report(self, now_ms: int, *, cleared: bool) -> None:
        sensor = {"component": "CableBreakawaySensor", "variable": "Tripped", "severity": 1}
        self.report(now_ms, "CX026", "mrec", **sensor, cleared=cleared)
