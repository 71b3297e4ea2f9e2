"""The rows of ``up/meter`` to columns: exact registers, missing values, times in nanoseconds.

This is the always-right twin of `models.meter_reader`: both give equal columns on every message
that the reader reads.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.channels import CHANNEL_ID, REGISTER_CHANNEL
from models.errors import DecodeError
from models.meter_reader import count_name
from models.units import MAX_REGISTER_MWH, MAX_STATION_TIME_MS, NO_REGISTER, NS_PER_MS, mwh_from_wh

from . import Sink
from ._native_wire import Series

#: Analog values beyond this are garbage whatever the unit, and missing.
MAX_ANALOG: Final = 1e9


def registers_mwh(wh: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return registers in Wh as integer mWh, shape (n,); NaN, infinite and absurd ones are missing.

    ``rint(x * 1000)`` is exact for every decimal with up to three places below 2**50 mWh; values with
    more places are rounded by their shortest text, half to even, as `models.units.mwh_from_wh` does.
    """
    out = np.full(len(wh), NO_REGISTER, np.int64)
    good = np.abs(wh) <= MAX_REGISTER_MWH / 1000  # NaN compares false
    mwh = np.rint(wh[good] * 1000)
    exact = mwh / 1000 == wh[good]
    whole = mwh.astype(np.int64)
    for i in np.flatnonzero(~exact).tolist():
        whole[i] = mwh_from_wh(float(wh[good][i]))
    out[good] = whole
    return out


def put_series(series: Series, out: Sink, unknown: dict[str, int]) -> None:
    """Put the readings of one series into `out`; names of unknown channels are counted in `unknown`.

    Raises
    ------
    DecodeError
        If rows have another width than the channels promise, or a time is no epoch in ms.
    """
    names = series.ch
    if len(set(names)) != len(names):
        raise DecodeError("schema", f"EVSE {series.evse}: ch names a channel twice: {names!r:.200}")
    width = len(names) + 1
    for k, row in enumerate(series.rows):
        if len(row) != width:
            raise DecodeError(
                "schema",
                f"EVSE {series.evse}: row {k} has {len(row)} values, expected dt and {width - 1} channels",
            )
    table = np.array(series.rows, np.float64).reshape(-1, width).T
    channels, columns = [], []
    register = None
    for column, name in enumerate(names, 1):
        channel = CHANNEL_ID.get(name)
        if channel is None:
            count_name(unknown, name)
        elif channel == REGISTER_CHANNEL:
            register = registers_mwh(table[column])
        else:
            channels.append(channel)
            columns.append(column)
    values = table[columns]
    values[~(np.abs(values) <= MAX_ANALOG)] = np.nan
    out.rows(series.st, series.evse, _times_ns(series, table[0]), channels, values, register)


def _times_ns(series: Series, dt_ms: NDArray[np.float64]) -> NDArray[np.int64]:
    # NaN fails every comparison, so one test refuses missing, fractional and absurd offsets
    good = (np.abs(dt_ms) < MAX_STATION_TIME_MS) & (np.rint(dt_ms) == dt_ms)
    if good.all():
        time_ms = series.t0 + dt_ms.astype(np.int64)
        good = (time_ms >= 0) & (time_ms < MAX_STATION_TIME_MS)
        if good.all():
            return time_ms * NS_PER_MS
    bad = int(np.flatnonzero(~good)[0])
    raise DecodeError(
        "time",
        f"EVSE {series.evse}: row {bad} has dt {dt_ms[bad]} with t0 {series.t0}; expected whole ms that make"
        " an epoch between 1970 and 2100",
    )
