"""Capacitance between the DC output and earth above 5 µF, as the isolation monitor measures it.

Two readings, because one may be taken while the monitor settles after the contactors close.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from models.batch import ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import WARNING, DetectorSpec, EmissionArrays, timeline
from models.devices import DeviceTable

from ._base import require
from ._slim import MOST_SAMPLES, SLIM_BLANK, SLIM_FIELDS, Columns, lasting, levels
from ._sparse import SparseDetector, sparse_kernel

_CAPACITANCE = CHANNEL_ID["x.Isolation.C"]

SPEC = DetectorSpec(
    "capacitance_high",
    "evse",
    "rule",
    (_CAPACITANCE,),
    ("isolation_uf", "limit_uf", "over_uf", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `capacitance_high`.

    Attributes
    ----------
    limit_uf : float
        Above it the condition holds. Unit: uF. Default 5. Source: EVgo MREC F007 (ChargeX CX021);
        IEC 61851-23 bounds the energy stored against earth.
    least_samples : int
        Samples that it must last. Unit: samples. Default 2. Source: isolation monitors need a reading to
        settle.
    hold_s : float
        Clear after this long without it. Unit: s. Default 60. Source: CONVENTIONS, max(raise duration, 60
        s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    """

    limit_uf: float = 5.0
    least_samples: int = 2
    hold_s: float = 60.0
    gap_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            limit_uf=(0.01, 1000.0),
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
        self._limit_uf = float(config.limit_uf)
        self._rule = lasting(0.0, config.least_samples, config.hold_s, config.gap_s)
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        value, limit = rows.column(_CAPACITANCE), self._limit_uf
        condition = Columns(
            levels(value == value, value > limit),
            value,
            np.full(len(rows), limit),
            value - limit,
            value / limit,
        )
        return int(
            sparse_kernel(start, timeline(rows), condition, self.sparse.arrays, WARNING, self._rule, out)
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
