"""Isolation of the DC output below 100 ohm per volt for two samples, or on its way there.

The output voltage is the greater of `x.Output.V` and `Voltage` in the same reading: without one nothing is
known of the limit, and a dead output needs no isolation. The drift is judged on the share limit /
resistance, which is proportional to the leakage current: 1 at the limit, 0.5 half-way. A drift is a
warning, the limit itself critical. A car has an isolation of its own, which lies in parallel and comes and
goes with it: a drift must therefore last a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.batch import ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CRITICAL, WARNING, DetectorSpec, EmissionArrays
from models.devices import DeviceTable

from ._base import RowDetector, ns, require
from ._slim import MOST_SAMPLES, lasting, levels
from ._trend import Trend, TrendDetector, Trending

_ISOLATION, _OUTPUT, _VOLTAGE = (CHANNEL_ID[n] for n in ("x.Isolation.R", "x.Output.V", "Voltage"))

SPEC = DetectorSpec(
    "isolation_low",
    "evse",
    "rule",
    (_ISOLATION, _OUTPUT, _VOLTAGE),
    ("isolation_kohm", "limit_kohm", "level", "baseline", "cusum", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `isolation_low`.

    Attributes
    ----------
    ohm_per_v : float
        Least isolation. Unit: ohm per volt of output. Default 100. Source: EVgo MREC F006 (ChargeX
        CX022); IEC 61851-23 asks for a stop below it.
    least_output_v : float
        Below it the output counts as dead. Unit: V. Default 60. Source: limit of safe DC voltage, as for
        contactor_welded (EVgo MREC F008).
    least_samples : int
        Samples below the limit. Unit: samples. Default 2. Source: CONVENTIONS.
    hold_s : float
        Clear after this long above it. Unit: s. Default 60. Source: CONVENTIONS, max(raise duration, 60
        s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    block_s : float
        Drift: length of a block. Unit: s. Default 600. Source: the ten-minute means of CONVENTIONS.
    warm_up : int
        Drift: blocks of the first baseline. Unit: blocks. Default 24. Source: four hours of charging, a
        handful of cars.
    memory : int
        Drift: blocks after which the baseline has forgotten. Unit: blocks. Default 1008. Source: a week
        of charging.
    cusum : float
        Drift: limit of the CUSUM. Unit: standard deviations. Default 12. Source: average run length, see
        `models.detectors._trend`.
    least_share : float
        Drift: least standard deviation, as a share of the limit. Unit: 1. Default 0.02. Source: resolution
        of isolation monitors.
    drift_s : float
        Drift: least time since it began. Unit: s. Default 86400. Source: longer than one car stays.
    """

    ohm_per_v: float = 100.0
    least_output_v: float = 60.0
    least_samples: int = 2
    hold_s: float = 60.0
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
            ohm_per_v=(1.0, 10_000.0),
            least_output_v=(1.0, 1000.0),
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
    _severities = (WARNING, CRITICAL)

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._config = config
        self._rule = lasting(0.0, config.least_samples, config.hold_s, config.gap_s)
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
        if not rows.has(_ISOLATION):
            return len(rows)
        kohm = rows.column(_ISOLATION)
        volts = np.fmax(rows.column(_OUTPUT), rows.column(_VOLTAGE))
        limit = volts * (self._config.ohm_per_v / 1000.0)
        known = (kohm == kohm) & (volts >= self._config.least_output_v)
        share = np.where(known, limit / np.maximum(kohm, 1e-3), np.nan)
        seen = Trending(
            levels(known, kohm < limit), np.minimum(share, 10.0), np.ones(len(rows)), kohm, limit, share
        )
        return self._watch(start, rows, seen, out)


def build(config: Config, resume_state: dict[str, Any] | None = None) -> RowDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
