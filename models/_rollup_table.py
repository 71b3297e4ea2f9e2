"""State of the roll-ups: what is kept of a window, and the columns that kernels read and write."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from .batch import F64, I16, I32, I64, U8
from .channels import CHANNEL_ID

MINUTE_NS: Final = 60_000_000_000
MINUTES: Final = 15

_PHASED: Final = ("", "@L1", "@L2", "@L3")

#: Channels whose mean is kept, by lane.
SUMMED: Final = (
    CHANNEL_ID["Power.Active.Import"],
    *(CHANNEL_ID[f"Voltage{p}-N" if p else "Voltage"] for p in _PHASED),
    *(CHANNEL_ID[f"Current.Import{p}"] for p in _PHASED),
    CHANNEL_ID["Frequency"],
)
FIRST_CURRENT: Final = 5  # first lane of a current
FREQUENCY: Final = 9
#: Channels of which only the greatest, then only the last value is kept.
PEAKS: Final = tuple(CHANNEL_ID[f"Temperature/{place}"] for place in ("Cable", "Outlet", "Body"))
LASTS: Final = (CHANNEL_ID["Current.Offered"], CHANNEL_ID["SoC"])
LANES: Final = SUMMED + PEAKS + LASTS

#: Single precision holds what a field keeps (3 decimals below 8 kV and 8 kA, 2 of a temperature); power and
#: sums need double.
WINDOW_DTYPE: Final = np.dtype(
    [
        ("sums", "f8", (len(SUMMED),)),
        ("power_min", "f8"),
        ("power_max", "f8"),
        ("register", "i8"),
        ("low", "f4", (4,)),  # voltages
        ("high", "f4", (8,)),  # voltages, currents
        ("peaks", "f4", (len(PEAKS),)),
        ("lasts", "f4", (len(LASTS),)),
        ("n", "u2", (len(SUMMED),)),
        ("index", "i4"),  # window, counted from the epoch; -1 = none yet
        ("count", "i4"),  # readings; 0 = put out already
    ]
)

#: Statistics of a window by column: (channel, statistic).
STATISTICS: Final[tuple[tuple[int, str], ...]] = (
    *((channel, "mean") for channel in SUMMED),
    (SUMMED[0], "min"),
    (SUMMED[0], "max"),
    *((channel, "min") for channel in SUMMED[1:5]),
    *((channel, "max") for channel in SUMMED[1:9]),
    *((channel, "max") for channel in PEAKS),
    *((channel, "last") for channel in LASTS),
)

# Where the kernel stopped (`Work.cursor`)
EVSE: Final = 0  # the EVSE being worked on, -1 = none
ROW: Final = 1
ORDER: Final = 2  # what this EVSE took in last
SCAN: Final = 3  # next EVSE to visit, -1 = only those with readings
BOUND: Final = 4  # no EVSE's deadline lies before this
CURSOR_SIZE: Final = 5

#: Room that one step may need.
ROOM: Final = 4


class Rows(NamedTuple):
    """Columns of a `ReadingBatch`, and where the channels `LANES` lie in `values` (-1 = absent)."""

    evse: I32
    time_ns: I64
    order: I64
    effect_ns: I64
    reg_mwh: I64
    values: F64
    lanes: I16


class State(NamedTuple):
    """One row an EVSE."""

    windows: Any  # (n, 2) records of WINDOW_DTYPE: one minute, 15 minutes
    effect_ns: I64  # journaled time of the last reading


class Windows(NamedTuple):
    """Windows put out."""

    used: I64  # (1,)
    order: I64
    period: U8  # 0: one minute, 1: 15 minutes
    evse: I32
    start_ns: I64
    readings: I64
    register: I64
    values: F64  # (n, statistics)


class Ticks(NamedTuple):
    """Ticks by order."""

    order: I64
    effect_ns: I64


def window_arrays(n: int) -> Windows:
    """Return room for n windows."""
    return Windows(
        np.zeros(1, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.uint8),
        np.empty(n, np.int32),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty((n, len(STATISTICS))),
    )
