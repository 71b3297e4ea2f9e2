"""Residual current at the level at which protection must act: 6 mA DC or 30 mA AC, one reading.

The sign of a DC residual current is the direction of the leak and does not matter. What the station itself
reports under this code (CX002, GroundFailure, ac_rcd errors) comes from `station_reported`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from models.batch import ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CRITICAL, DetectorSpec, EmissionArrays, timeline
from models.devices import DeviceTable

from ._base import require
from ._residual import condition
from ._slim import MOST_SAMPLES, SLIM_BLANK, SLIM_FIELDS, lasting
from ._sparse import SparseDetector, sparse_kernel

SPEC = DetectorSpec(
    "residual_current_trip",
    "evse",
    "rule",
    (CHANNEL_ID["x.Residual.DC"], CHANNEL_ID["x.Residual.AC"]),
    ("residual_ma", "limit_ma", "kind", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `residual_current_trip`.

    Attributes
    ----------
    dc_ma : float
        Smooth DC residual current. Unit: mA. Default 6. Source: IEC 62955, an RDC-DD acts at 6 mA.
    ac_ma : float
        AC residual current. Unit: mA. Default 30. Source: IEC 61851-1 and IEC 60364-7-722, RCD of 30 mA.
    least_samples : int
        Samples at the limit. Unit: samples. Default 1. Source: CONVENTIONS.
    hold_s : float
        Clear after this long below. Unit: s. Default 60. Source: CONVENTIONS, max(raise duration, 60 s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    """

    dc_ma: float = 6.0
    ac_ma: float = 30.0
    least_samples: int = 1
    hold_s: float = 60.0
    gap_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            dc_ma=(0.1, 1000.0),
            ac_ma=(0.1, 1000.0),
            least_samples=(1, MOST_SAMPLES),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
        )


class _Detector(SparseDetector):
    spec = SPEC
    version = 2
    sparse_dtype: ClassVar[list[Any]] = SLIM_FIELDS
    sparse_blank = SLIM_BLANK

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits_ma = float(config.dc_ma), float(config.ac_ma)
        self._rule = lasting(0.0, config.least_samples, config.hold_s, config.gap_s)
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        found = condition(rows, *self._limits_ma)
        return int(sparse_kernel(start, timeline(rows), found, self.sparse.arrays, CRITICAL, self._rule, out))


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
