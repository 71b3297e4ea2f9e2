"""Roll-ups of what each EVSE measured, over clock-aligned (UTC) minutes and quarter hours.

From readings in order only: late ones bill, they do not change dashboards. A window is put out once: when
the EVSE's first reading after it comes, or by a tick `grace_ns` and the node's declared `batch_s` after its
end and after the last reading. What comes for it later is left out. A quarter is made of its minutes.

Kept are: power mean, least and greatest; voltage the same, per phase and plain; current mean and greatest,
per phase and plain; frequency mean; greatest temperatures of cable, outlet and cabinet; the last offered
current, state of charge and import register; and the number of readings. A value that no reading
carried is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ._energy_kernels import NEVER
from ._grace import Graces
from ._rollup_kernels import flush_kernel, rollup_kernel
from ._rollup_table import (
    BOUND,
    CURSOR_SIZE,
    EVSE,
    LANES,
    SCAN,
    STATISTICS,
    WINDOW_DTYPE,
    Rows,
    State,
    Ticks,
    window_arrays,
)
from .batch import TICK, MessageColumns, ReadingBatch
from .channels import CHANNELS
from .devices import DeviceTable
from .errors import ConfigError, SnapshotError
from .outputs import RollupRows
from .schema import split_unit
from .units import NS_PER_S

VERSION: Final = 1
PERIODS_S: Final = (60, 900)
_ROOM: Final = 1024


def _field(channel: int, statistic: str) -> str:
    quantity, unit = split_unit(CHANNELS[channel].field)
    return f"{quantity}_{statistic}{unit}"


#: Every field a roll-up may have, as `models.schema` names them.
FIELDS: Final[tuple[str, ...]] = tuple(_field(channel, statistic) for channel, statistic in STATISTICS)


@dataclass(frozen=True, slots=True)
class RollupConfig:
    """Settings of the roll-ups.

    Attributes
    ----------
    grace_ns : int
        Journaled time after its end, and after the last reading, at which a window is put out even if no
        later reading came; the node's declared `batch_s` (up to an hour) is added.

    Raises
    ------
    ConfigError
        If it is out of bounds.
    """

    grace_ns: int = 120 * NS_PER_S

    def __post_init__(self) -> None:
        if not 0 <= self.grace_ns <= 86_400 * NS_PER_S:
            raise ConfigError(f"rollups grace_ns = {self.grace_ns!r}: expected 0 to {86_400 * NS_PER_S}")


class Rollups:
    """Roll-ups of one shard's EVSEs.

    Parameters
    ----------
    config : RollupConfig
    resume_state : dict, optional
        What `snapshot` returned.

    Raises
    ------
    SnapshotError
        If `resume_state` is of another version or shape.
    """

    def __init__(self, config: RollupConfig, resume_state: dict[str, Any] | None = None) -> None:
        self.config = config
        self._graces = Graces(config.grace_ns)
        self._n = 0
        self._state = _blank(16)
        self._out = window_arrays(_ROOM)
        self._bound = NEVER
        self._order = 0
        if resume_state is not None:
            self._load(resume_state)
        # compiled (or read from the cache) here, not at the first reading of a live stream
        self._run(DeviceTable(), ReadingBatch.empty(), Ticks(np.zeros(0, np.int64), np.zeros(0, np.int64)))

    def process(self, rows: ReadingBatch, messages: MessageColumns, devices: DeviceTable) -> list[RollupRows]:
        """Take in one batch; return the windows put out, one entry a period, by what caused them."""
        self._reserve(devices.n_evses)
        ticks = messages.kind == TICK
        self._run(devices, rows, Ticks(messages.order[ticks], messages.effect_ns[ticks]))
        for order in (messages.order, rows.order):
            if len(order):
                self._order = max(self._order, int(order.max()) + 1)
        return self._drain()

    def flush(self) -> list[RollupRows]:
        """Put out the open windows: the end of a log."""
        if len(self._out.order) < 2 * self._n:
            self._out = window_arrays(2 * self._n)
        flush_kernel(self._state, self._n, self._order, self._out)
        return self._drain()

    def nbytes(self) -> int:
        """Return the bytes of state held for the EVSEs known."""
        return self._n * (len(PERIODS_S) * WINDOW_DTYPE.itemsize + 8)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        windows = self._state.windows
        return {
            "version": VERSION,
            "order": self._order,
            "windows": {name: windows[name][: self._n].copy() for name in WINDOW_DTYPE.names or ()},
            "effect_ns": self._state.effect_ns[: self._n].copy(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        if state.get("version") != VERSION:
            raise SnapshotError(
                f"roll-ups have version {state.get('version')!r}, this program reads {VERSION}"
            )
        if set(state["windows"]) != set(WINDOW_DTYPE.names or ()):
            raise SnapshotError(
                f"roll-ups: saved fields {sorted(state['windows'])} are not "
                f"{sorted(WINDOW_DTYPE.names or ())}; start without saved state"
            )
        n = len(state["effect_ns"])
        self._reserve(n)
        for name, values in state["windows"].items():
            self._state.windows[name][:n] = values
        self._state.effect_ns[:n] = state["effect_ns"]
        self._order = int(state["order"])
        # unknown: the first tick looks at every EVSE
        self._bound = 0

    def _reserve(self, n: int) -> None:
        self._n = max(self._n, n)
        room = len(self._state.effect_ns)
        if self._n > room:
            more = _blank(max(self._n, 2 * room) - room)
            self._state = State(
                np.concatenate([self._state.windows, more.windows]),
                np.concatenate([self._state.effect_ns, more.effect_ns]),
            )

    def _run(self, devices: DeviceTable, batch: ReadingBatch, ticks: Ticks) -> None:
        graces, changed = self._graces.of(devices)
        if changed:
            self._bound = 0  # deadlines may have come nearer
        cursor = np.zeros(CURSOR_SIZE, np.int64)
        cursor[EVSE] = -1
        due = len(ticks.order) > 0 and ticks.effect_ns[-1] >= self._bound
        cursor[SCAN] = 0 if due else -1
        cursor[BOUND] = NEVER if due else self._bound
        rows = Rows(
            np.ascontiguousarray(batch.evse),
            np.ascontiguousarray(batch.time_ns),
            np.ascontiguousarray(batch.order),
            np.ascontiguousarray(batch.effect_ns),
            np.ascontiguousarray(batch.reg_mwh),
            np.ascontiguousarray(batch.values),
            batch.slot_of[list(LANES)],
        )
        while not rollup_kernel(self._state, self._n, rows, ticks, graces, self._out, cursor):
            self._grow()
        self._bound = int(cursor[BOUND])

    def _grow(self) -> None:
        used = int(self._out.used[0])
        bigger = window_arrays(2 * len(self._out.order))
        bigger.used[0] = used
        columns: list[NDArray[Any]] = list(self._out[1:])
        wider: list[NDArray[Any]] = list(bigger[1:])
        for old, new in zip(columns, wider, strict=True):
            new[:used] = old[:used]
        self._out = bigger

    def _drain(self) -> list[RollupRows]:
        out, n = self._out, int(self._out.used[0])
        if n == 0:
            return []
        out.used[0] = 0
        at = np.lexsort((out.start_ns[:n], out.evse[:n], out.order[:n]))
        rows = []
        for period, period_s in enumerate(PERIODS_S):
            chosen = at[out.period[at] == period]
            if len(chosen) == 0:
                continue
            values = out.values[chosen].T
            present = np.flatnonzero(~np.isnan(values).all(axis=1))
            rows.append(
                RollupRows(
                    period_s=period_s,
                    evse=out.evse[chosen],
                    start_ns=out.start_ns[chosen],
                    count=out.readings[chosen],
                    energy_mwh=out.register[chosen],
                    fields=tuple(FIELDS[i] for i in present),
                    values=np.ascontiguousarray(values[present]),
                )
            )
        return rows


def _blank(n: int) -> State:
    windows = np.zeros((n, len(PERIODS_S)), WINDOW_DTYPE)
    windows["index"] = -1
    return State(windows, np.zeros(n, np.int64))
