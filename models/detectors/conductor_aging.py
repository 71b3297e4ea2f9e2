"""Conductors of a DC cable age: their loop resistance reaches 1.5 times its own baseline, by a drift test.

The loop resistance is (voltage at the station - voltage at the car) / current, related to 20 °C by copper's
temperature coefficient where the plug's temperature is known. Only currents of at least 20 A count. Within
a block of five minutes readings count by the square of their current, which makes the block's mean the
least-squares slope of the drop over the current.

The two voltmeters differ by an offset that is another one for each car: 0.5 V at 200 A is 2.5 mohm, nearly
as much as a healthy cable has. The test therefore judges against the EVSE's own scatter between blocks, of
which the warm-up sees several cars, and a drift must outlast one car. Where cars' voltmeters scatter by more
than about 0.3 V, several high ones in a row can still look like a drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.batch import ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import WARNING, DetectorSpec, EmissionArrays
from models.devices import DeviceTable

from ._base import RowDetector, ns, require
from ._slim import UNKNOWN, lasting
from ._trend import Trend, TrendDetector, Trending

_AT_CAR, _AT_STATION, _CURRENT, _PLUG = (
    CHANNEL_ID[name] for name in ("Voltage/EV", "Voltage", "Current.Import", "Temperature/Cable")
)

#: Temperature coefficient of copper's resistance at 20 °C, 1/K (IEC 60228).
_COPPER: Final = 0.00393

SPEC = DetectorSpec(
    "conductor_aging",
    "evse",
    "statistical",
    (_AT_CAR, _AT_STATION, _CURRENT, _PLUG),
    ("loop_mohm", "limit_mohm", "level_mohm", "baseline_mohm", "cusum", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `conductor_aging`.

    Attributes
    ----------
    factor : float
        Resistance that raises, in baselines. Unit: 1. Default 1.5. Source: CONVENTIONS.
    least_a : float
        Least current of a reading that counts. Unit: A. Default 20. Source: below, the drop is less than
        the resolution of the voltmeters.
    block_s : float
        Length of a block. Unit: s. Default 300. Source: a DC session is 20 to 40 min long.
    warm_up : int
        Blocks of the first baseline. Unit: blocks. Default 12. Source: an hour of charging, two or more cars.
    memory : int
        Blocks after which the baseline has forgotten. Unit: blocks. Default 2016. Source: a week of
        charging.
    cusum : float
        Limit of the CUSUM. Unit: standard deviations. Default 12. Source: average run length, see
        `models.detectors._trend`.
    least_share : float
        Least standard deviation, as a share of the baseline. Unit: 1. Default 0.1. Source: contact
        pressure and temperature along the cable.
    drift_s : float
        Least time since it began. Unit: s. Default 1800. Source: as long as the session of one car.
    hold_s : float
        Clear after this long without it. Unit: s. Default 60. Source: CONVENTIONS.
    """

    factor: float = 1.5
    least_a: float = 20.0
    block_s: float = 300.0
    warm_up: int = 12
    memory: int = 2016
    cusum: float = 12.0
    least_share: float = 0.1
    drift_s: float = 1800.0
    hold_s: float = 60.0

    def __post_init__(self) -> None:
        require(
            self,
            factor=(1.01, 100.0),
            least_a=(0.1, 1000.0),
            block_s=(10.0, 86_400.0),
            warm_up=(2, 10_000),
            memory=(2, 60_000),
            cusum=(1.0, 1000.0),
            least_share=(0.0001, 1.0),
            drift_s=(0.0, 365 * 86_400.0),
            hold_s=(1.0, 86_400.0),
        )


class _Detector(TrendDetector):
    spec = SPEC
    _severities = (WARNING, WARNING)

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._least_a = float(config.least_a)
        self._rule = lasting(0.0, 1, config.hold_s, 1.0)
        self._trend = Trend(
            ns(config.block_s),
            int(config.warm_up),
            int(max(config.memory, config.warm_up)),
            float(config.cusum),
            0.0,
            float(config.least_share),
            float(config.factor),
            0.0,
            int(np.ceil(config.drift_s / config.block_s)),
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        if not (rows.has(_AT_CAR) and rows.has(_AT_STATION) and rows.has(_CURRENT)):
            return len(rows)
        amps, plug_c = rows.column(_CURRENT), rows.column(_PLUG)
        drop_v = rows.column(_AT_STATION) - rows.column(_AT_CAR)
        plausible = (plug_c > -40.0) & (plug_c < 150.0)
        warmer = np.where(plausible, 1.0 + _COPPER * (plug_c - 20.0), 1.0)
        loop = np.where(amps >= self._least_a, 1000.0 * drop_v / np.maximum(amps, 1.0) / warmer, np.nan)
        n = len(rows)
        seen = Trending(np.full(n, UNKNOWN, np.int8), loop, amps * amps, loop, np.full(n, np.nan), np.ones(n))
        return self._watch(start, rows, seen, out)


def build(config: Config, resume_state: dict[str, Any] | None = None) -> RowDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
