"""Cabinet too hot: ``Temperature/Body`` of a station at 70 °C for two samples and 60 s.

Each EVSE of the station may report the temperature of its own compartment: the station is too hot while any
of them is. A sensor at 150 °C and above, or at -40 °C and below, has failed and says nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from models.channels import CHANNEL_ID
from models.detecting import DetectorSpec

from ._base import require
from ._stations import StationDetector
from ._temperature import EVIDENCE, Limits, TemperatureDetector, lasting

SPEC = DetectorSpec(
    "cabinet_over_temperature",
    "station",
    "rule",
    (CHANNEL_ID["Temperature/Body"],),
    (*EVIDENCE, "evse"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `cabinet_over_temperature`.

    Attributes
    ----------
    limit_c : float
        Limit of the cabinet. Unit: Celsius. Default 70. Source: CONVENTIONS; upper end of the extended
        temperature range of industrial electronics, at which power stages already reduce.
    least_samples : int
        Samples that the condition must last. Unit: samples. Default 2. Source: CONVENTIONS.
    least_s : float
        Time that it must last. Unit: s. Default 60. Source: CONVENTIONS.
    hold_s : float
        Clear after this long below the limit. Unit: s. Default 60. Source: CONVENTIONS, max(raise
        duration, 60 s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    failed_high_c, failed_low_c : float
        A sensor at or beyond these has failed. Unit: Celsius. Default 150 and -40. Source: CONVENTIONS,
        channels.
    """

    limit_c: float = 70.0
    least_samples: int = 2
    least_s: float = 60.0
    hold_s: float = 60.0
    gap_s: float = 1800.0
    failed_high_c: float = 150.0
    failed_low_c: float = -40.0

    def __post_init__(self) -> None:
        require(
            self,
            limit_c=(30.0, 149.0),
            least_samples=(1, 1000),
            least_s=(0.0, 3600.0),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
            failed_high_c=(100.0, 1000.0),
            failed_low_c=(-273.0, 0.0),
        )


class _Detector(StationDetector, TemperatureDetector):
    spec = SPEC

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._rule = lasting(config)
        limit, never = float(config.limit_c), math.inf
        failed = float(config.failed_high_c), float(config.failed_low_c)
        self._limits = Limits(limit, never, limit, never, *failed)
        super().__init__(resume_state)


def build(config: Config, resume_state: dict[str, Any] | None = None) -> StationDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
