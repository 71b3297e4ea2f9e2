"""No diode at the other end of the pilot: its negative half wave above -10 V for 5 s while the PWM runs.

The PWM certainly runs while energy flows (a current of 1 A, or the station's word in a reading without
currents), and while the pilot is in state B or C (5 to 10.5 V), a transaction runs, the station does not
pause it and the reading offers at least 6 A. In every other reading the pilot may be steady, without a
negative half wave, and says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.batch import IN_TRANSACTION, SUSPENDED_EVSE, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import WARNING, DetectorSpec, EmissionArrays, timeline
from models.devices import DeviceTable

from ._base import require
from ._slim import (
    CURRENTS,
    MOST_SAMPLES,
    SLIM_BLANK,
    SLIM_FIELDS,
    Columns,
    in_state_c,
    lasting,
    levels,
)
from ._sparse import SparseDetector, sparse_kernel

_LOW, _PILOT, _OFFERED = (CHANNEL_ID[name] for name in ("x.CP.Low.V", "x.CP.V", "Current.Offered"))

SPEC = DetectorSpec(
    "diode_fault",
    "evse",
    "rule",
    (_LOW, _PILOT, _OFFERED, *CURRENTS),
    ("pilot_low_v", "limit_v", "pilot_v", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `diode_fault`.

    Attributes
    ----------
    limit_v : float
        The negative half wave must reach it. Unit: V. Default -10. Source: IEC 61851-1 states -12 V; the
        rest is tolerance (CONVENTIONS).
    least_s : float
        Time that the condition must last. Unit: s. Default 5. Source: CONVENTIONS.
    least_samples : int
        Samples that it must last. Unit: samples. Default 2. Source: a time needs two samples.
    least_a : float
        Current that shows that energy flows. Unit: A. Default 1. Source: idle readings of meters are
        below.
    offered_a : float
        Least offer of a running PWM. Unit: A. Default 6. Source: IEC 61851-1, duty of 10 %.
    hold_s : float
        Clear after this long without it. Unit: s. Default 60. Source: CONVENTIONS, max(raise duration, 60
        s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    """

    limit_v: float = -10.0
    least_s: float = 5.0
    least_samples: int = 2
    least_a: float = 1.0
    offered_a: float = 6.0
    hold_s: float = 60.0
    gap_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            limit_v=(-12.0, 0.0),
            least_s=(0.0, 3600.0),
            least_samples=(1, MOST_SAMPLES),
            least_a=(0.0, 100.0),
            offered_a=(0.1, 100.0),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
        )


class _Detector(SparseDetector):
    spec = SPEC
    version = 2
    sparse_dtype: ClassVar[list[Any]] = SLIM_FIELDS
    sparse_blank = SLIM_BLANK

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._config = config
        self._rule = lasting(config.least_s, config.least_samples, config.hold_s, config.gap_s)
        super().__init__(resume_state)

    def _pulses(self, rows: ReadingBatch) -> NDArray[np.bool_]:
        """Return in which readings the PWM certainly runs."""
        pilot = rows.column(_PILOT)
        waits: NDArray[np.bool_] = (
            (rows.state & (IN_TRANSACTION | SUSPENDED_EVSE) == IN_TRANSACTION)
            & (rows.column(_OFFERED) >= self._config.offered_a)
            & (pilot > 5.0)
            & (pilot < 10.5)
        )
        pulses: NDArray[np.bool_] = in_state_c(rows, self._config.least_a) | waits
        return pulses

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        if not rows.has(_LOW):
            return len(rows)
        low, limit = rows.column(_LOW), self._config.limit_v
        condition = Columns(
            levels((low == low) & self._pulses(rows), low > limit),
            low,
            np.full(len(rows), limit),
            rows.column(_PILOT),
            low - limit,
        )
        return int(
            sparse_kernel(start, timeline(rows), condition, self.sparse.arrays, WARNING, self._rule, out)
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
