"""A sensor repeats one value although the load moves.

Looked at are measured analog channels: grid voltages, currents, active power and the temperatures of plug
and cabinet. A value that is not 0 and equal for 30 minutes and at least 20 samples is frozen if meanwhile
the load moved by more than 20 % of its larger value. The load is the greatest phase current (without phases
the current of the EVSE), for currents the active power. Temperatures need 60 minutes, and their load is the
square of the current behind a first-order lag of 300 s, since a plug needs minutes to follow: it must move
by more than half and by an amount that a sensor of 1 K can show: (0.4 `max_a`)², for the cabinet four
times that.

Not looked at: set-points, counters, SoC, and the output voltage of DC stations, which a battery holds
constant while its current tapers. Zero is what an unused phase shows. A stretch without any reading ends all
runs. Clears after the channel moved for as long as it takes to raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from models.batch import ReadingBatch
from models.channels import CHANNEL_ID, CHANNELS
from models.detecting import (
    RAISE,
    DetectorSpec,
    EmissionArrays,
    Emissions,
    Observed,
    timeline,
)
from models.devices import DeviceTable

from ._base import RowDetector, require, slots
from ._frozen import FROZEN_BLANK, FROZEN_FIELDS, MOST_TAKEN, RUN_FIELDS, Inventory, Limits, frozen_kernel
from ._pool import NONE, Pool

_VOLTS: Final = ("Voltage@L1-N", "Voltage@L2-N", "Voltage@L3-N")
_AMPS: Final = ("Current.Import@L1", "Current.Import@L2", "Current.Import@L3", "Current.Import")
_REST: Final = ("Power.Active.Import", "Temperature/Cable", "Temperature/Outlet", "Temperature/Body")
#: Channels by role: AC and DC differ in where the grid's voltages are.
_AC: Final = (*_VOLTS, "Voltage", *_AMPS, *_REST)
_DC: Final = (*(f"{name}/Inlet" for name in _VOLTS), "Voltage/Inlet", *_AMPS, *_REST)

SPEC = DetectorSpec(
    "value_frozen",
    "evse",
    "rule",
    tuple(CHANNEL_ID[name] for name in dict.fromkeys(_AC + _DC)),
    ("channel", "value", "frozen_s", "samples", "load_min", "load_max"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `value_frozen`.

    Attributes
    ----------
    least_s, temperature_s : float
        Time for which a value (a temperature) must repeat. Unit: s. Default 1800 and 3600. Source:
        CONVENTIONS.
    least_samples : int
        Samples for which it must. Unit: samples. Default 20. Source: CONVENTIONS.
    moved, temperature_moved : float
        Change of the load (for temperatures: of the lagged square of the current) relative to its larger
        value. Unit: 1. Default 0.20 and 0.50. Source: CONVENTIONS.
    lag_s : float
        Lag of the squared current. Unit: s. Default 300. Source: plugs follow within 6 to 10 minutes.
    least_share : float
        The change must reach the square of this share of `max_a`, for the cabinet of twice this share. Unit:
        1. Default 0.4. Source: a plug that rises by 15 K at rated current then rises by 2.4 K, more than the
        1 K that coarse sensors resolve.
    ac_undeclared_a, dc_undeclared_a : float
        `max_a` where none is declared. Unit: A. Default 32 and 200. Source: usual plugs.
    gap_s : float
        A longer stretch without readings ends all runs. Unit: s. Default 1800. Source: twice the slowest
        usual meter interval (OCPP aligned data, 900 s).
    """

    least_s: float = 1800.0
    temperature_s: float = 3600.0
    least_samples: int = 20
    moved: float = 0.20
    temperature_moved: float = 0.50
    lag_s: float = 300.0
    least_share: float = 0.4
    ac_undeclared_a: float = 32.0
    dc_undeclared_a: float = 200.0
    gap_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            least_s=(1.0, 86_400.0),
            temperature_s=(1.0, 86_400.0),
            least_samples=(2, 10_000),
            moved=(0.01, 1.0),
            temperature_moved=(0.01, 1.0),
            lag_s=(1.0, 86_400.0),
            least_share=(0.0, 1.0),
            ac_undeclared_a=(1.0, 1000.0),
            dc_undeclared_a=(1.0, 1000.0),
            gap_s=(1.0, 86_400.0),
        )


class _Detector(RowDetector):
    spec = SPEC
    version = 2
    dtype = FROZEN_FIELDS
    blank: ClassVar[dict[str, Any]] = FROZEN_BLANK

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = Limits(
            round(config.least_s),
            round(config.temperature_s),
            int(config.least_samples),
            float(config.moved),
            float(config.temperature_moved),
            float(config.lag_s),
            float(config.least_share),
            float(config.ac_undeclared_a),
            float(config.dc_undeclared_a),
            round(config.gap_s),
        )
        self._ac = tuple(CHANNEL_ID[name] for name in _AC)
        self._dc = tuple(CHANNEL_ID[name] for name in _DC)
        self._found = Emissions()
        self._runs = Pool(RUN_FIELDS)
        super().__init__(resume_state)

    def _load(self, state: dict[str, Any]) -> None:
        super()._load(state)
        self._runs.load(state["runs"], self.table.rows["runs"], SPEC.code)

    def _make_room(self) -> bool:
        return self._runs.have(MOST_TAKEN) or super()._make_room()

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed, with channels by name."""
        super().process(seen, self._found)
        for e in self._found.drain():
            evidence = dict(e.evidence)
            if e.kind == RAISE:
                roles = self._dc if seen.devices.dc[e.subject] else self._ac
                evidence["channel"] = CHANNELS[roles[int(evidence["channel"])]].name
            out.add(
                SPEC,
                order=e.order,
                effect_ns=e.effect_ns,
                subject=e.subject,
                kind=e.kind,
                severity=e.severity,
                start_ns=e.start_ns,
                time_ns=e.time_ns,
                live=e.live,
                score=e.score,
                evidence=evidence,
            )

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        stream, values = timeline(rows), np.ascontiguousarray(rows.values)
        ac, dc = slots(rows, self._ac), slots(rows, self._dc)
        inv = Inventory(devices.dc, devices.phases, devices.max_a)
        return int(
            frozen_kernel(
                start, stream, values, ac, dc, inv, self.table.rows, self._limits, self._runs.chains, out
            )
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        saved = super().snapshot()
        runs = self._runs.columns(saved["evses"]["runs"])
        saved["evses"]["runs"][:] = NONE
        return saved | {"runs": runs}

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return super().nbytes() + self._runs.nbytes


def build(config: Config, resume_state: dict[str, Any] | None = None) -> RowDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
