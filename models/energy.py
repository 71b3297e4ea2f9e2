"""Energy of every EVSE by the quarter hour (UTC), from its import register: integer mWh, quality, revision.

How a quarter is made
---------------------
The register at a border is the reading within the tolerance of it (the nearest), else the linear
interpolation between the last reading before and the first after it, rounded down. The energy of a quarter
is the difference of its two borders, so quarters add up to the difference of the registers, exactly.

- Before an EVSE's first reading and after its last one the register is taken to be that reading's: the
  first and the open quarter hold what was read in them (``interpolated``).
- ``measured``: read at both borders. ``interpolated``: readings in it, but not at both borders.
  ``estimated``: no readings, but registers before and after. ``missing``: no register after; energy None.
- A quarter is put out when a reading at or after its end comes, or by a tick `close_grace_ns` and the node's
  declared `batch_s` after its end and after the last reading: then as far as it is known. What changes it
  later raises the revision.
- A reading without register says nothing about energy: it is not zero energy.

What a register does besides counting up
----------------------------------------
- Falls of up to two resolutions are ignored.
- Another meter serial opens a segment: the energy between the two registers is unknown and counts 0.
- A fall that a known modulus explains is a rollover, if the implied power is plausible.
- Any other fall: the low readings wait. If the old register comes back they were no readings of it. If
  they count up they open a segment beginning with the first of them: at the first rise near 0 (a reset),
  else at the third value. Of values that waited the first and last time count.
- A rise of more than 1.5 times the EVSE's maximum power (and 1 kWh) is counted, and taken, except from a
  register of 0, which stood for "not read", and back to the line from which the register fell.

Late readings
-------------
Per quarter the first and last register are kept, by time: the order in which readings come and how often
does not matter. The newest quarters are in arrays, older ones in the archive for `late_quarters`. A late
reading that contradicts its neighbours is counted and ignored. Late readings take effect at the next tick
(or the end of the log), so that those of a second make one revision. At the edge of what can be revised the
border value stays, so sums stay exact.

Registers of transactions
-------------------------
Where readings carry registers, those of begin and end messages count as late readings do, with one
difference: they are read at moments of their own, or from another zero, so one that contradicts the readings
around it (lower than the last, an implausible rise) is counted and ignored. They give what flowed before an
EVSE's first reading and after its last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ._energy_archive import COLUMNS, Archive, MemoryArchive, Quarters, Retention
from ._energy_kernels import COUNTERS, NEVER, counter_values, flush_kernel
from ._energy_late import behind, join, no_readings, readings_of, release, release_all, take, with_register
from ._energy_revise import revise
from ._energy_run import (
    ARCHIVE,
    BOUND,
    CURSOR_SIZE,
    DONE,
    EVSE,
    LATE,
    NEED,
    SCAN,
    Ticks,
    Work,
    run_kernel,
)
from ._energy_table import (
    EVSE_BLANK,
    EVSE_DTYPE,
    HOT_QUARTERS,
    MISSING,
    QUARTER_MS,
    SLOT_DTYPE,
    Hot,
    Inventory,
    Readings,
    Rules,
    evicted_arrays,
    out_arrays,
)
from ._grace import Graces
from .batch import TICK, MessageColumns, ReadingBatch
from .devices import DeviceTable
from .errors import ConfigError, SnapshotError
from .outputs import IntervalRow
from .units import NO_TIME, NS_PER_MS, NS_PER_S

__all__ = ["Archive", "EnergyConfig", "EnergyMeter", "MemoryArchive", "Quarters", "Retention"]

VERSION: Final = 2
_QUALITIES: Final = ("measured", "interpolated", "estimated", "missing")
_ROOM: Final = 1024
_NO_TICKS: Final = Ticks(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class EnergyConfig:
    """Settings of the energy meter.

    Attributes
    ----------
    boundary_tolerance_ns : int
        A register this near to a border counts as read on it; below half a quarter.
    close_grace_ns : int
        Journaled time after its end, and after the last reading, at which a quarter is put out even if no
        later reading came; the node's declared `batch_s` (up to an hour) is added.
    late_quarters : int
        Quarters before the newest one that late readings may still revise.

    Raises
    ------
    ConfigError
        If a value is out of bounds.
    """

    boundary_tolerance_ns: int = NS_PER_S
    close_grace_ns: int = 120 * NS_PER_S
    late_quarters: int = 96

    def __post_init__(self) -> None:
        for name, low, high in (
            ("boundary_tolerance_ns", 0, 60 * NS_PER_S),
            ("close_grace_ns", 0, 86_400 * NS_PER_S),
            ("late_quarters", 1, 100_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"energy {name} = {value!r}: expected {low} to {high}")


class EnergyMeter:
    """Quarter-hour energy of one shard's EVSEs.

    Parameters
    ----------
    config : EnergyConfig
    archive : Archive
        Rolled back to where `resume_state` was saved; without one it is emptied.
    resume_state : dict, optional
        What `snapshot` returned.

    Raises
    ------
    SnapshotError
        If `resume_state` is of another version or shape.
    """

    def __init__(
        self, config: EnergyConfig, archive: Archive, resume_state: dict[str, Any] | None = None
    ) -> None:
        self.config = config
        self._archive = archive
        self._rules = Rules(
            config.boundary_tolerance_ns // NS_PER_MS,
            config.late_quarters,
        )
        self._graces = Graces(config.close_grace_ns, NS_PER_MS)
        self._n = 0
        self._hot = _blank(16)
        self._out, self._evicted = out_arrays(_ROOM), evicted_arrays(_ROOM)
        self._counters = np.zeros(len(COUNTERS), np.int64)
        self._bound = NEVER
        self._order = 0  # the next one
        self._waiting = no_readings()  # late ones, for the next tick
        self._beside_ns = np.full(16, NO_TIME, np.int64)  # newest register of a transaction taken, by EVSE
        self._with_beside = False  # whether there is any
        self._names: list[tuple[str, str, int]] = []
        if resume_state is not None:
            self._load(resume_state)
        archive.rollback(self._order)
        # compiled (or read from the cache) here, not at the first reading of a live stream
        self._run(no_readings(), no_readings(), _NO_TICKS, DeviceTable())

    def process(
        self,
        rows: ReadingBatch,
        late: ReadingBatch,
        messages: MessageColumns,
        devices: DeviceTable,
        beside: ReadingBatch | None = None,
    ) -> list[IntervalRow]:
        """Take in one batch; return the intervals put out, sorted by what caused them, EVSE and start.

        `rows`, `late` and `beside` (registers of transactions) are grouped by EVSE and non-decreasing in
        `order` within each; `messages` tells the ticks.
        """
        self._reserve(devices.n_evses)
        chosen = messages.kind == TICK
        ticks = Ticks(messages.order[chosen], messages.effect_ns[chosen] // NS_PER_MS)
        if len(late):
            self._waiting = join(self._waiting, with_register(readings_of(late)))
        if beside is not None and len(beside):
            self._waiting = join(self._waiting, with_register(readings_of(beside, 1)))
        taken = self._in_front(readings_of(rows), ticks)
        due = no_readings()
        if len(self._waiting.evse) and len(ticks.order):
            due, self._waiting = release(self._waiting, ticks)
        self._run(taken, due, ticks, devices)
        extra = late if beside is None else beside
        for order in (messages.order, rows.order, late.order, extra.order):
            if len(order):
                self._order = max(self._order, int(order.max()) + 1)
        return self._drain(devices)

    def _in_front(self, rows: Readings, ticks: Ticks) -> Readings:
        """Let readings behind a register of a transaction that was taken before them wait as late ones."""
        due = no_readings()
        if len(self._waiting.evse) and len(ticks.order) and self._waiting.beside.any():
            due, _ = release(self._waiting, ticks)
            due = take(due, due.beside != 0)
            self._with_beside = True
        if not self._with_beside:
            return rows
        late = behind(rows, self._beside_ns, due)
        np.maximum.at(self._beside_ns, due.evse, due.time_ns)
        if not late.any():
            return rows
        self._waiting = join(self._waiting, with_register(take(rows, late)))
        return take(rows, ~late)

    def flush(self, devices: DeviceTable) -> list[IntervalRow]:
        """Put out the open quarters up to their last register: the end of a log."""
        self._reserve(devices.n_evses)
        if len(self._waiting.evse):
            due, self._waiting = release_all(self._waiting, self._order), no_readings()
            self._run(no_readings(), due, _NO_TICKS, devices)
        self._grow(self._n)
        flush_kernel(self._hot, self._n, self._order, self._rules, self._out)
        return self._drain(devices)

    def counters(self) -> dict[str, int]:
        """Return how often registers did something else than count up, by name."""
        return counter_values(self._counters)

    def nbytes(self) -> int:
        """Return the bytes of state held for the EVSEs known; the archive is not counted."""
        per_evse = self._hot.evse.itemsize + HOT_QUARTERS * (SLOT_DTYPE.itemsize + 4) + 8
        return int(self._n * per_evse)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data; what went to the archive is made durable first."""
        self._archive.flush(self._order)
        hot = self._hot
        state: dict[str, Any] = {"version": VERSION, "order": self._order, "counters": self._counters.copy()}
        state["evses"] = {name: hot.evse[name][: self._n].copy() for name in hot.evse.dtype.names}
        state["slots"] = {name: hot.slots[name][: self._n].copy() for name in SLOT_DTYPE.names or ()}
        state["waiting"] = {name: column.copy() for name, column in self._waiting._asdict().items()}
        state["beside_ns"] = self._beside_ns[: self._n].copy()
        state["revision"] = hot.revision[: self._n].copy()
        return state

    def _load(self, state: dict[str, Any]) -> None:
        if state.get("version") != VERSION:
            raise SnapshotError(
                f"energy meter has version {state.get('version')!r}, this program reads {VERSION}"
            )
        n, width = state["revision"].shape
        names = set(self._hot.evse.dtype.names)
        if width != HOT_QUARTERS or set(state["evses"]) != names:
            raise SnapshotError(
                f"energy meter: saved state has {width} quarters and fields {sorted(state['evses'])},"
                f" expected {HOT_QUARTERS} and {sorted(names)}; start without saved state"
            )
        self._reserve(n)
        for name, values in state["evses"].items():
            self._hot.evse[name][:n] = values
        for name, values in state["slots"].items():
            self._hot.slots[name][:n] = values
        self._hot.revision[:n] = state["revision"]
        self._beside_ns[:n] = state["beside_ns"]
        self._with_beside = bool((state["beside_ns"] != NO_TIME).any())
        self._counters[:] = state["counters"]
        self._order = int(state["order"])
        self._waiting = Readings(**{name: column.copy() for name, column in state["waiting"].items()})
        # unknown: the first tick looks at every EVSE
        self._bound = 0

    def _reserve(self, n: int) -> None:
        self._n = max(self._n, n)
        room = len(self._hot.revision)
        if self._n > room:
            more = _blank(max(self._n, 2 * room) - room)
            self._beside_ns = np.append(self._beside_ns, np.full(len(more.revision), NO_TIME, np.int64))
            self._hot = Hot(*(np.concatenate([a, b]) for a, b in zip(self._hot, more, strict=True)))

    def _run(self, rows: Readings, late: Readings, ticks: Ticks, devices: DeviceTable) -> None:
        graces, changed = self._graces.of(devices)
        if changed:
            self._bound = 0  # deadlines may have come nearer
        cursor = np.zeros(CURSOR_SIZE, np.int64)
        cursor[EVSE] = -1
        due = len(ticks.order) > 0 and ticks.effect_ms[-1] >= self._bound
        cursor[SCAN] = 0 if due else -1
        cursor[BOUND] = NEVER if due else self._bound
        inventory = Inventory(
            devices.meter_generation, devices.resolution_mwh, devices.modulus_mwh, devices.p_max_w, graces
        )
        before = np.zeros(HOT_QUARTERS, np.int64), np.zeros(HOT_QUARTERS, np.uint8)
        while True:
            work = Work(self._out, self._evicted, cursor, self._counters, *before)
            code = run_kernel(self._hot, self._n, rows, late, ticks, inventory, self._rules, work)
            self._archive_evicted()
            if code == DONE:
                break
            if code == ARCHIVE:
                self._grow(self._rules.late_quarters + HOT_QUARTERS + _ROOM)
                work = Work(self._out, self._evicted, cursor, self._counters, *before)
                revise(self._hot, int(cursor[EVSE]), late, int(cursor[LATE]), inventory, self._rules, work,
                       self._archive)  # fmt: skip
            else:
                self._grow(int(cursor[NEED]))
        self._bound = int(cursor[BOUND])

    def _grow(self, need: int) -> None:
        """Have room for `need` more intervals and for `need` quarters leaving."""
        used = int(self._out.used[0])
        if used + need > len(self._out.order):
            bigger = out_arrays(max(used + need, 2 * len(self._out.order)))
            bigger.used[0] = used
            columns: list[NDArray[Any]] = list(self._out[1:])
            wider: list[NDArray[Any]] = list(bigger[1:])
            for old, new in zip(columns, wider, strict=True):
                new[:used] = old[:used]
            self._out = bigger
        if need > len(self._evicted.evse):
            self._evicted = evicted_arrays(2 * need)

    def _archive_evicted(self) -> None:
        evicted = self._evicted
        n = int(evicted.used[0])
        if n == 0:
            return
        evicted.used[0] = 0
        rows = Quarters(*(getattr(evicted, name)[:n] for name in COLUMNS))
        self._archive.put(rows, evicted.keep_from[:n])

    def _drain(self, devices: DeviceTable) -> list[IntervalRow]:
        out, n = self._out, int(self._out.used[0])
        if n == 0:
            return []
        out.used[0] = 0
        for row in range(len(self._names), devices.n_evses):
            self._names.append(devices.names(row))
        at = np.lexsort((out.revision[:n], out.quarter[:n], out.evse[:n], out.order[:n]))
        columns = (out.evse, out.quarter, out.energy, out.quality, out.revision)
        rows = []
        for evse, quarter, energy, quality, revision in zip(*(c[at].tolist() for c in columns), strict=True):
            site, station, number = self._names[evse]
            rows.append(
                IntervalRow(
                    site=site,
                    station=station,
                    evse=number,
                    start_ms=quarter * QUARTER_MS,
                    energy_mwh=None if quality == MISSING else energy,
                    quality=_QUALITIES[quality],
                    revision=revision,
                )
            )
        return rows


def _blank(n: int) -> Hot:
    evse = np.zeros(n, np.dtype(EVSE_DTYPE, align=True))
    for name, value in EVSE_BLANK.items():
        evse[name] = value
    slots = np.zeros((n, HOT_QUARTERS), SLOT_DTYPE)
    slots["t_first"] = -1
    return Hot(evse, slots, np.zeros((n, HOT_QUARTERS), np.uint32))
