"""Registers around transactions: per EVSE the newest one, in a transaction also a track by quarters.

A track holds the first and the last register of every quarter hour, both sides of every fall beyond two
resolutions and of the return from it: enough to price by the quarter, to find a begin or an end that was not
told, and to contradict one that was. Readings of a backlog that come after newer ones join it. Outside
transactions the last `HISTORY` registers are kept at which the meter stood still for a minute or a quarter
ended: a transaction that began offline is told of later.
It does not depend on how the stream is cut: `RegisterTracks.advance` takes in an EVSE's readings up to an
order, whatever lies in the batch beyond it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._energy_table import QUARTER_MS
from ._kernel import kernel
from .batch import I32, I64, ReadingBatch
from .devices import DeviceTable
from .units import NO_REGISTER, NO_TIME

QUARTER: Final = 0
FALL: Final = 1
RETURN: Final = 2
HISTORY: Final = 7
_ROOM: Final = 256
_STILL_NS: Final = 60_000_000_000
_END: Final = int(np.iinfo(np.int64).max)

_DTYPE: Final = [
    ("time_ns", "i8"),  # newest reading with a register
    ("reg_mwh", "i8"),
    ("effect_ns", "i8"),  # newest reading of any kind: journaled time
    ("order", "i8"),  # readings below this order are taken in
    ("first_ns", "i8"),  # first register of the open quarter, of tracked EVSEs
    ("first_mwh", "i8"),
    ("high_mwh", "i8"),  # register from which it fell, `NO_REGISTER` when it did not or came back
    ("still_ns", "i8"),  # since when the register is what it is
    ("kept", "i8"),  # registers put into the history
    ("tracked", "u1"),
]


class Told(NamedTuple):
    """What the kernel puts out: first and last register of a quarter, both sides of a fall or return."""

    used: I64  # (1,)
    evse: I32
    kind: I32
    t0: I64
    r0: I64
    t1: I64
    r1: I64


class Columns(NamedTuple):
    """What is read of a batch."""

    evse: I32
    time_ns: I64
    order: I64
    effect_ns: I64
    reg_mwh: I64


def _told(n: int) -> Told:
    wide = [np.zeros(n, np.int64) for _ in range(4)]
    return Told(np.zeros(1, np.int64), np.zeros(n, np.int32), np.zeros(n, np.int32), *wide)


@kernel
def _tell(out: Told, e: int, kind: int, t0: int, r0: int, t1: int, r1: int) -> None:
    i = out.used[0]
    out.used[0] = i + 1
    out.evse[i] = e
    out.kind[i] = kind
    out.t0[i] = t0
    out.r0[i] = r0
    out.t1[i] = t1
    out.r1[i] = r1


@kernel
def _remember(rec: Any, history: I64, e: int, t: int, r: int, quarter_ns: int) -> None:
    """Keep the register before this one where it stood still or a quarter ended."""
    if r != rec["reg_mwh"]:
        last = rec["time_ns"]
        if last - rec["still_ns"] >= _STILL_NS or t // quarter_ns != last // quarter_ns:
            at = rec["kept"] % HISTORY
            history[e, 2 * at] = last
            history[e, 2 * at + 1] = rec["reg_mwh"]
            rec["kept"] += 1
        rec["still_ns"] = t


@kernel
def take_kernel(
    rows: Columns, begin: int, end: int, upto: int, state: Any, history: I64, resolution: I64, out: Told
) -> int:
    """Take in readings begin to end with order < `upto`; return where room ran out, or end."""
    quarter_ns = QUARTER_MS * 1_000_000
    room = len(out.evse) - 3
    for i in range(begin, end):
        e = rows.evse[i]
        rec = state[e]
        order = rows.order[i]
        if order < rec["order"] or order >= upto:
            continue
        if out.used[0] > room:
            return i
        rec["effect_ns"] = rows.effect_ns[i]
        r = rows.reg_mwh[i]
        if r == NO_REGISTER:
            continue
        t = rows.time_ns[i]
        if rec["time_ns"] == NO_TIME:
            rec["still_ns"] = t
        else:
            _remember(rec, history, e, t, r, quarter_ns)
        if rec["tracked"] != 0 and rec["time_ns"] != NO_TIME:
            if rec["reg_mwh"] - r > 2 * resolution[e]:
                _tell(out, e, FALL, rec["time_ns"], rec["reg_mwh"], t, r)
                rec["high_mwh"] = max(rec["high_mwh"], rec["reg_mwh"])
            elif rec["high_mwh"] != NO_REGISTER and r >= rec["high_mwh"] - 2 * resolution[e]:
                _tell(out, e, RETURN, rec["time_ns"], rec["reg_mwh"], t, r)
                rec["high_mwh"] = NO_REGISTER
            if t // quarter_ns != rec["time_ns"] // quarter_ns:
                _tell(out, e, QUARTER, rec["first_ns"], rec["first_mwh"], rec["time_ns"], rec["reg_mwh"])
                rec["first_ns"] = t
                rec["first_mwh"] = r
        else:
            rec["first_ns"] = t
            rec["first_mwh"] = r
        rec["time_ns"] = t
        rec["reg_mwh"] = r
    return end


class RegisterTracks:
    """Newest registers of all EVSEs of a shard, and the tracks of those in a transaction."""

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        self._n = 0
        self._state = _blank(16)
        self._history = np.full((16, 2 * HISTORY), NO_TIME, np.int64)
        self._out = _told(_ROOM)
        self._rows = _columns(ReadingBatch.empty())
        self._late = self._rows
        self._runs: dict[int, tuple[int, int]] = {}  # EVSE -> its rows of the batch, begin and end
        self._resolution: I64 = np.full(1, 1000, np.int64)
        #: EVSE -> [kind, t0, r0, t1, r1] in the order in which they were seen
        self.tracks: dict[int, list[list[int]]] = {}
        #: EVSE -> quarter -> [t0, r0, t1, r1], its first and last late reading
        self._late_tracks: dict[int, dict[int, list[int]]] = {}
        self._late_counts: dict[int, int] = {}  # EVSE -> late readings that joined its track, of this run
        if resume_state is not None:
            state = resume_state["evses"]
            self.reserve(len(state["time_ns"]))
            for name, values in state.items():
                self._state[name][: self._n] = values
            self._history[: self._n] = resume_state["history"]
            self.tracks = {row: [list(item) for item in items] for row, items in resume_state["tracks"]}
            self._late_tracks = {
                row: {quarter: list(item) for quarter, item in items} for row, items in resume_state["late"]
            }
        take_kernel(self._rows, 0, 0, 0, self._state, self._history, self._resolution, self._out)

    def reserve(self, n: int) -> None:
        """Have room for n EVSEs."""
        self._n = max(self._n, n)
        if self._n > len(self._state):
            more = _blank(max(self._n, 2 * len(self._state)) - len(self._state))
            self._state = np.concatenate([self._state, more])
            none = np.full((len(more), 2 * HISTORY), NO_TIME, np.int64)
            self._history = np.concatenate([self._history, none])

    def begin(self, rows: ReadingBatch, late: ReadingBatch, devices: DeviceTable) -> None:
        """Look at another batch; nothing of it is taken in yet."""
        self.reserve(devices.n_evses)
        self._rows = _columns(rows)
        self._late = _columns(late)
        self._runs = _runs(self._rows.evse)
        self._resolution = devices.resolution_mwh

    def advance(self, evse: int, order: int) -> None:
        """Take in the readings of an EVSE below `order`."""
        if evse in self._runs:
            self._take(*self._runs[evse], order)
        if len(self._late.evse):
            self._take_late(evse, order)
        self._state["order"][evse] = order

    def finish(self) -> None:
        """Take in what is left of the batch."""
        n = len(self._rows.evse)
        if n:
            self._take(0, n, _END)
        for evse in np.unique(self._late.evse).tolist():
            self._take_late(evse, _END)
        self._rows = self._late = _columns(ReadingBatch.empty())
        self._runs = {}

    def _take(self, at: int, end: int, upto: int) -> None:
        while True:
            at = take_kernel(
                self._rows, at, end, upto, self._state, self._history, self._resolution, self._out
            )
            out, n = self._out, int(self._out.used[0])
            if n:
                columns = (out.evse, out.kind, out.t0, out.r0, out.t1, out.r1)
                for e, *item in zip(*(column[:n].tolist() for column in columns), strict=True):
                    self.tracks.setdefault(e, []).append(item)
                out.used[0] = 0
            if at >= end:
                return

    def _take_late(self, evse: int, upto: int) -> None:
        """Let late readings of a tracked EVSE join its track."""
        late = self._late
        lo, hi = (int(np.searchsorted(late.evse, evse, side)) for side in ("left", "right"))
        if lo == hi or not self._state["tracked"][evse]:
            return
        taken = self._state["order"][evse]
        order, reg = late.order[lo:hi], late.reg_mwh[lo:hi]
        mine = lo + np.flatnonzero((order >= taken) & (order < upto) & (reg != NO_REGISTER))
        quarters = self._late_tracks.setdefault(evse, {})
        self._late_counts[evse] = self._late_counts.get(evse, 0) + len(mine)
        for t, r in zip(late.time_ns[mine].tolist(), late.reg_mwh[mine].tolist(), strict=True):
            item = quarters.setdefault(t // (QUARTER_MS * 1_000_000), [t, r, t, r])
            if t < item[0]:
                item[:2] = t, r
            if t > item[2]:
                item[2:] = t, r

    def track(self, evse: int, on: bool) -> None:
        """Begin or end the track of an EVSE; what it holds is dropped at the end."""
        was = bool(self._state["tracked"][evse])
        self._state["tracked"][evse] = on
        if on and not was:
            # the newest reading, if any, opens the track: it is what was known before
            self._state["first_ns"][evse] = self._state["time_ns"][evse]
            self._state["first_mwh"][evse] = self._state["reg_mwh"][evse]
        if not on:
            self.tracks.pop(evse, None)
            self._late_tracks.pop(evse, None)
            self._state["high_mwh"][evse] = NO_REGISTER

    def before(self, evse: int, start_ns: int) -> tuple[int, int] | None:
        """Return (time, register) of the newest register known before a time, None if there is none."""
        known = [p for p in self._known(evse) if p[0] < start_ns]
        row = self._history[evse].tolist()
        known += [(t, r) for t, r in zip(row[::2], row[1::2], strict=True) if NO_TIME != t < start_ns]
        rec = self._state[evse]
        for t in (int(rec["time_ns"]), int(rec["still_ns"])):
            if NO_TIME != t < start_ns:
                known.append((t, int(rec["reg_mwh"])))
                break
        return max(known, default=None)

    def newest_ns(self, evse: int) -> int:
        """Return the time of the newest register, `NO_TIME` if there is none."""
        return int(self._state["time_ns"][evse])

    def late_count(self, evse: int) -> int:
        """Return how many late readings have joined the track of an EVSE since the start of the process."""
        return self._late_counts.get(evse, 0)

    def heard_ns(self, evse: int) -> int:
        """Return the journaled time of the newest reading, `NO_TIME` if there is none."""
        return int(self._state["effect_ns"][evse])

    def points(self, evse: int, begin_ns: int, end_ns: int) -> list[tuple[int, int]]:
        """Return the registers of a track between two times, by time; one before the begin and one after
        the end included if there are any."""
        found = sorted(dict(self._known(evse)).items())
        before = [p for p in found if p[0] < begin_ns][-1:]
        after = [p for p in found if p[0] > end_ns][:1]
        return before + [p for p in found if begin_ns <= p[0] <= end_ns] + after

    def _known(self, evse: int) -> list[tuple[int, int]]:
        """Return the registers of a track."""
        if not self._state["tracked"][evse]:
            return []
        found = [(v[at], v[at + 1]) for _, *v in self.tracks.get(evse, []) for at in (0, 2)]
        found += [(v[at], v[at + 1]) for v in self._late_tracks.get(evse, {}).values() for at in (0, 2)]
        rec = self._state[evse]
        if rec["time_ns"] != NO_TIME:
            found += [
                (int(rec["first_ns"]), int(rec["first_mwh"])),
                (int(rec["time_ns"]), int(rec["reg_mwh"])),
            ]
        return found

    def forget(self, evse: int, before_ns: int) -> None:
        """Drop what lies before a time, but its last register."""
        items = self.tracks.get(evse)
        if items:
            keep = [i for i, item in enumerate(items) if item[3] >= before_ns]
            first = max(0, (keep[0] if keep else len(items)) - 1)
            self.tracks[evse] = items[first:]

    def snapshot(self) -> dict[str, Any]:
        """Return plain data; between batches only."""
        state = {name: self._state[name][: self._n].copy() for name in self._state.dtype.names or ()}
        return {
            "evses": state,
            "history": self._history[: self._n].copy(),
            "tracks": [[row, [list(i) for i in items]] for row, items in self.tracks.items()],
            "late": [
                [row, [[quarter, list(item)] for quarter, item in items.items()]]
                for row, items in self._late_tracks.items()
            ],
        }

    def nbytes(self) -> int:
        """Return the bytes of columnar state held."""
        return self._n * (self._state.dtype.itemsize + 8 * self._history.shape[1])


def _blank(n: int) -> NDArray[Any]:
    state = np.zeros(n, np.dtype(_DTYPE, align=True))
    for name in ("time_ns", "effect_ns", "first_ns", "still_ns"):
        state[name] = NO_TIME
    state["high_mwh"] = NO_REGISTER
    return state


def _runs(evse: I32) -> dict[int, tuple[int, int]]:
    """Return where the rows of each EVSE begin and end."""
    if not len(evse):
        return {}
    begin = np.flatnonzero(np.append(True, evse[1:] != evse[:-1]))
    end = np.append(begin[1:], len(evse))
    return dict(zip(evse[begin].tolist(), zip(begin.tolist(), end.tolist(), strict=True), strict=True))


def _columns(rows: ReadingBatch) -> Columns:
    return Columns(
        np.ascontiguousarray(rows.evse),
        np.ascontiguousarray(rows.time_ns),
        np.ascontiguousarray(rows.order),
        np.ascontiguousarray(rows.effect_ns),
        np.ascontiguousarray(rows.reg_mwh),
    )
