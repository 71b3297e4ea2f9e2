"""Residual current half-way to the trip level: 3 mA DC or 15 mA AC for 10 min, or on its way there.

The drift is judged on the share of that limit (of the kind nearer to it). A car's filters leak as well, and
come and go with it: a drift must be half-way from the baseline to the limit and last a day, longer than
one car stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.batch import ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import WARNING, DetectorSpec, EmissionArrays
from models.devices import DeviceTable

from ._base import RowDetector, ns, require
from ._residual import condition
from ._slim import MOST_SAMPLES, lasting
from ._trend import Trend, TrendDetector, Trending

SPEC = DetectorSpec(
    "residual_current_rising",
    "evse",
    "statistical",
    (CHANNEL_ID["x.Residual.DC"], CHANNEL_ID["x.Residual.AC"]),
    ("residual_ma", "limit_ma", "level", "baseline", "cusum", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `residual_current_rising`.

    Attributes
    ----------
    dc_ma : float
        Smooth DC residual current. Unit: mA. Default 3. Source: half of the 6 mA of IEC 62955
        (CONVENTIONS).
    ac_ma : float
        AC residual current. Unit: mA. Default 15. Source: half of the 30 mA of IEC 61851-1.
    least_s : float
        Time that it must last. Unit: s. Default 600. Source: CONVENTIONS.
    least_samples : int
        Samples that it must last. Unit: samples. Default 2. Source: a time needs two samples.
    hold_s : float
        Clear after this long below. Unit: s. Default 600. Source: CONVENTIONS, max(raise duration, 60 s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    block_s : float
        Drift: length of a block. Unit: s. Default 600. Source: the ten-minute means of CONVENTIONS.
    warm_up : int
        Drift: blocks of the first baseline. Unit: blocks. Default 24. Source: four hours.
    memory : int
        Drift: blocks after which the baseline has forgotten. Unit: blocks. Default 1008. Source: a week.
    cusum : float
        Drift: limit of the CUSUM. Unit: standard deviations. Default 12. Source: average run length, see
        `models.detectors._trend`.
    least_share : float
        Drift: least standard deviation, as a share of the limit. Unit: 1. Default 0.02. Source: 0.06 mA,
        the noise of a residual-current sensor.
    drift_s : float
        Drift: least time since it began. Unit: s. Default 86400. Source: longer than one car stays.
    """

    dc_ma: float = 3.0
    ac_ma: float = 15.0
    least_s: float = 600.0
    least_samples: int = 2
    hold_s: float = 600.0
    gap_s: float = 1800.0
    block_s: float = 600.0
    warm_up: int = 24
    memory: int = 1008
    cusum: float = 12.0
    least_share: float = 0.02
    drift_s: float = 86_400.0

    def __post_init__(self) -> None:
        require(
            self,
            dc_ma=(0.1, 1000.0),
            ac_ma=(0.1, 1000.0),
            least_s=(0.0, 86_400.0),
            least_samples=(1, MOST_SAMPLES),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
            block_s=(10.0, 86_400.0),
            warm_up=(2, 10_000),
            memory=(2, 60_000),
            cusum=(1.0, 1000.0),
            least_share=(0.0001, 1.0),
            drift_s=(0.0, 365 * 86_400.0),
        )


class _Detector(TrendDetector):
    spec = SPEC
    _severities = (WARNING, WARNING)

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits_ma = float(config.dc_ma), float(config.ac_ma)
        self._rule = lasting(config.least_s, config.least_samples, config.hold_s, config.gap_s)
        self._trend = Trend(
            ns(config.block_s),
            int(config.warm_up),
            int(max(config.memory, config.warm_up)),
            float(config.cusum),
            float(config.least_share),
            0.0,
            0.5,
            0.5,
            int(np.ceil(config.drift_s / config.block_s)),
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        found = condition(rows, *self._limits_ma)
        seen = Trending(
            found.level,
            np.minimum(found.score, 10.0),
            np.ones(len(rows)),
            found.value,
            found.limit,
            found.score,
        )
        return self._watch(start, rows, seen, out)


def build(config: Config, resume_state: dict[str, Any] | None = None) -> RowDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
