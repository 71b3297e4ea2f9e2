"""Finished sessions as a few figures that EVSEs of a type are compared in, in constant memory per EVSE."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, I32, I64, IN_TRANSACTION, SUSPENDED_EV, SUSPENDED_EVSE, U8, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import Observed, Timeline, timeline
from models.learned.gathering import ends_of
from models.learned.sessions import Ends

from ._base import Table
from ._pool import NONE, Chains, Pool, drop, take

#: What sessions are compared in, and whether more is worse.
METRICS: Final[dict[str, bool]] = {
    "current_by_offer": False,  # mean of current by offered current while drawing: what the cars are let have
    "power_by_peak": False,  # mean power while drawing by the session's peak: steady, or breaking off
    "rise_k_per_a2": True,  # rise of the plug by the mean square of its current
    "duration_h": False,  # cars that leave early
    "without_energy": True,  # 1 or 0: a session that delivered nothing
}
N_METRICS: Final = len(METRICS)

CHANNELS: Final = tuple(
    CHANNEL_ID[name]
    for name in (
        "Power.Active.Import",
        "Power.Active.Import@L1",
        "Power.Active.Import@L2",
        "Power.Active.Import@L3",
        "Current.Import@L1",
        "Current.Import@L2",
        "Current.Import@L3",
        "Current.Import",
        "Current.Offered",
        "Temperature/Cable",
    )
)

GAP_S: Final = 14_400.0  # as for learned sessions
_GAP_NS: Final = round(GAP_S * 1e9)
_ACTIVE_W: Final = 100.0
_LEAST_OFFER_A: Final = 6.0  # IEC 61851-1: the least a pilot can offer
_LEAST_S: Final = 60.0  # a session shorter than that says nothing
_STEADY_S: Final = 600.0  # drawing this long before its course is compared
_WARM_S: Final = 1800.0  # and this long before its heat is: plugs have lags of 6 to 10 min
_LEAST_A2: Final = 25.0
_NOTHING_WS: Final = 20.0 * 3600.0  # 20 Wh: a minute at 6 A and 230 V, as for start_failures

#: What is kept of an EVSE while it has a session.
SESSION_FIELDS: Final[list[Any]] = [
    ("start_ns", "i8"),
    ("last_ns", "i8"),
    ("lag_s", "f4"),  # from the last reading with a power to the last reading, NaN before there is one
    ("watts", "f4"),
    ("peak", "f4"),
    ("energy_ws", "f4"),
    ("active_s", "f4"),
    ("cold", "f4"),
    ("hot", "f4"),
    ("square", "f4"),
    ("taken", "f4"),  # sum of current by offer
    ("n_square", "i4"),
    ("n_taken", "i4"),
]


class Sessions:
    """Sessions that go on, by EVSE."""

    def __init__(self) -> None:
        self.index, self.pool = Table([("session", "i4")], {"session": NONE}), Pool(SESSION_FIELDS)

    def columns(self) -> dict[str, Any]:
        """Return the sessions by EVSE, and how many EVSEs there are."""
        return {"n": self.index.n, "sessions": self.pool.columns(self.index.columns()["session"])}

    def load(self, state: dict[str, Any], owner: str) -> None:
        """Take over what `columns` returned; raise `SnapshotError` if that is of other fields."""
        self.index.reserve(state["n"])
        self.pool.load(state["sessions"], self.index.rows["session"], owner)

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers of all EVSEs and of the sessions."""
        return self.index.nbytes + self.pool.nbytes


class Done(NamedTuple):
    """Sessions that are over."""

    used: I64  # (1,)
    evse: I32
    order: I64
    effect_ns: I64
    live: U8
    start_ns: I64
    end_ns: I64
    figures: F64  # (capacity, N_METRICS), NaN: it does not tell


def room_for(n: int) -> Done:
    """Return arrays for n sessions."""
    times = [np.zeros(n, np.int64) for _ in range(4)]
    figures = np.full((n, N_METRICS), np.nan)
    evse, live = np.zeros(n, np.int32), np.zeros(n, np.uint8)
    return Done(np.zeros(1, np.int64), evse, times[0], times[1], live, times[2], times[3], figures)


@kernel
def _begin(rec: Any, t: int) -> None:
    rec["start_ns"] = rec["last_ns"] = t
    rec["lag_s"] = np.nan
    rec["watts"] = rec["peak"] = rec["energy_ws"] = rec["active_s"] = rec["square"] = rec["taken"] = 0.0
    rec["cold"] = rec["hot"] = np.nan
    rec["n_square"] = rec["n_taken"] = 0


@kernel
def _take(rec: Any, t: int, v: F64, i: int, still: int) -> None:
    """Take in reading i; `v` has a row for each of `CHANNELS`."""
    dt = rec["lag_s"] + (t - rec["last_ns"]) * 1e-9  # NaN before there is a power
    rec["last_ns"] = t
    rec["lag_s"] = dt
    watts = v[0, i]
    if watts != watts:
        watts = v[1, i] + v[2, i] + v[3, i]
    if abs(watts) < np.inf:
        if dt == dt:
            mean = 0.5 * (watts + rec["watts"])
            rec["energy_ws"] += mean * dt
            if mean > _ACTIVE_W:
                rec["active_s"] += dt
        rec["watts"], rec["lag_s"] = watts, 0.0
        rec["peak"] = max(rec["peak"], watts)
    amps = v[7, i]
    for k in range(4, 7):
        if v[k, i] == v[k, i] and not v[k, i] <= amps:
            amps = v[k, i]
    if abs(amps) < np.inf:
        rec["square"] += amps * amps
        rec["n_square"] += 1
        if watts > _ACTIVE_W and still == 0 and v[8, i] >= _LEAST_OFFER_A:
            rec["taken"] += amps / v[8, i]
            rec["n_taken"] += 1
    if v[9, i] == v[9, i]:
        if rec["cold"] != rec["cold"]:
            rec["cold"] = rec["hot"] = v[9, i]
        rec["hot"] = max(rec["hot"], v[9, i])


@kernel
def _finish(rec: Any, e: int, order: int, effect_ns: int, live: int, out: Done) -> None:
    """End the session of EVSE e; one too short to say anything is forgotten."""
    start, end = rec["start_ns"], rec["last_ns"]
    if (end - start) * 1e-9 < _LEAST_S:
        return
    j = out.used[0]
    out.used[0] = j + 1
    out.evse[j], out.order[j], out.effect_ns[j] = e, order, effect_ns
    out.live[j], out.start_ns[j], out.end_ns[j] = live, start, end
    x = out.figures[j]
    for k in range(N_METRICS):
        x[k] = np.nan
    if rec["n_taken"] >= 3:
        x[0] = rec["taken"] / rec["n_taken"]
    if rec["active_s"] >= _STEADY_S and rec["peak"] > _ACTIVE_W:
        x[1] = rec["energy_ws"] / (rec["peak"] * rec["active_s"])
    if rec["active_s"] >= _WARM_S and rec["n_square"] >= 3 and rec["square"] >= _LEAST_A2 * rec["n_square"]:
        x[2] = (rec["hot"] - rec["cold"]) / (rec["square"] / rec["n_square"])
    x[3] = (end - start) / 3.6e12
    if rec["lag_s"] == rec["lag_s"]:
        x[4] = 1.0 if rec["energy_ws"] < _NOTHING_WS else 0.0


@kernel
def _end(index: Any, pool: Chains, e: int, order: int, effect_ns: int, live: int, out: Done) -> None:
    """End the session of EVSE e if it has one."""
    at = index[e]["session"]
    if at != NONE:
        _finish(pool.rows[at], e, order, effect_ns, live, out)
        index[e]["session"] = drop(pool, at, at)


@kernel
def _gather(time: Timeline, values: F64, ends: Ends, index: Any, pool: Chains, out: Done) -> None:
    """Take in readings and Ended messages of a batch; write the sessions they end to `out`.

    There is a free record for each EVSE of the batch without a session.
    """
    k, m = 0, len(ends.evse)
    for i in range(len(time.evse)):
        e, t = time.evse[i], time.time_ns[i]
        while k < m and (ends.evse[k] < e or (ends.evse[k] == e and ends.order[k] < time.order[i])):
            _end(index, pool, ends.evse[k], ends.order[k], ends.effect_ns[k], ends.live[k], out)
            k += 1
        inside = (time.state[i] & IN_TRANSACTION) != 0
        if index[e]["session"] == NONE and not inside:
            continue
        known = False
        for c in range(len(values)):
            known = known or abs(values[c, i]) < np.inf
        if not known:
            continue
        at = index[e]["session"]
        if at != NONE and (not inside or t - pool.rows[at]["last_ns"] > _GAP_NS):
            _end(index, pool, e, time.order[i], time.effect_ns[i], time.live[i], out)
        if inside:
            if index[e]["session"] == NONE:
                index[e]["session"] = take(pool, NONE)
                _begin(pool.rows[index[e]["session"]], t)
            rec = pool.rows[index[e]["session"]]
            _take(rec, t, values, i, time.state[i] & (SUSPENDED_EV | SUSPENDED_EVSE))
    while k < m:
        _end(index, pool, ends.evse[k], ends.order[k], ends.effect_ns[k], ends.live[k], out)
        k += 1


def _columns(rows: ReadingBatch) -> F64:
    out = np.full((len(CHANNELS), len(rows)), np.nan)
    for k, channel in enumerate(CHANNELS):
        slot = int(rows.slot_of[channel])
        if slot >= 0:
            out[k] = rows.values[slot]
    return out


def done(seen: Observed, sessions: Sessions) -> Done:
    """Take in a batch; return the sessions that it ended, in the order of effect, then of names."""
    rows, ends, index, pool = seen.rows, ends_of(seen), sessions.index.rows, sessions.pool
    out = room_for(len(rows) + len(ends.evse))
    if len(rows) + len(ends.evse):
        new = rows.evse[index["session"][rows.evse] == NONE]
        pool.have(len(np.unique(new)))
        _gather(timeline(rows), _columns(rows), ends, index, pool.chains, out)
    n = int(out.used[0])
    names = [seen.devices.names(e) for e in out.evse[:n].tolist()]
    by = sorted(range(n), key=lambda j: (int(out.order[j]), names[j], int(out.end_ns[j])))
    _, evse, order, effect_ns, live, start_ns, end_ns, figures = out
    return Done(out.used, evse[by], order[by], effect_ns[by], live[by], start_ns[by], end_ns[by], figures[by])


def warm_up(sessions: Sessions) -> None:
    """Compile the kernel, or read it from the cache, before a stream waits for it."""
    none = Ends(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8))
    rows = ReadingBatch.empty()
    _gather(timeline(rows), _columns(rows), none, sessions.index.rows, sessions.pool.chains, room_for(0))
