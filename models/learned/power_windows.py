"""What a session draws, minute by minute: rows of inputs for the model of expected power, in constant memory.

Readings inside a transaction are gathered in windows of one minute of event time, aligned to UTC; a window is
over with the first reading after it. A session begins with its first window above `ACTIVE_W`. Its first
`EARLY_S` say what kind of car it is (`SHAPES`) and what it takes: the greatest mean of a window there is its
*reference*. Every later window is a row: the mean power as a share of the reference, and what may explain it
(`INPUTS`). What was not measured is NaN.

The session ends as in `sessions`: with the first reading outside a transaction, the Ended message, or a gap
of four hours. The window that is open then is left out: it holds the moment of switching off.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, I32, I64, IN_TRANSACTION, SUSPENDED_EV, SUSPENDED_EVSE, U8, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import Observed, Timeline, timeline
from models.units import NO_TIME

from .gathering import ends_of
from .sessions import Ends

#: What explains the power of a window. `full_hours` is the energy so far by the reference, `offered_share`
#: the power that is offered by the reference. The class of the vehicle is added by the model.
INPUTS: Final = ("elapsed_h", "full_hours", "soc_percent", "offered_share", "temperature_c")
N_INPUTS: Final = len(INPUTS)

#: What the first minutes say of a vehicle. `taken_share` is the reference by what was offered then,
#: `steadiness` the mean of the first windows by the greatest of them; `phases` is 0 where none is told.
SHAPES: Final = ("log_reference_kw", "phases", "taken_share", "steadiness")
N_SHAPES: Final = len(SHAPES)

#: Version of the meaning of inputs and shapes: a model is trained for one.
INPUTS_VERSION: Final = 1

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
        "Power.Offered",
        "SoC",
        "Temperature/Cable",
    )
)

WINDOW_S: Final = 60
EARLY_S: Final = 300
ACTIVE_W: Final = 100.0  # more than a car asleep draws
_WINDOW_NS: Final = WINDOW_S * 1_000_000_000
_EARLY: Final = EARLY_S // WINDOW_S
_GAP_NS: Final = 14_400_000_000_000  # as for sessions
_LEAST_A: Final = 1.0  # below, a ratio to the current says nothing
_RISEN: Final = 1.1  # an offer this much above the first one is another offer

# what a row may be judged by
USABLE: Final = 1  # neither asleep nor suspended
OFFER_KNOWN: Final = 2
OFFER_AS_FIRST: Final = 4  # not above the one under which the reference was measured
OVER: Final = 8  # no window: the session is over

POWER_FIELDS: Final[list[Any]] = [
    ("window", "i8"),  # minutes since the epoch, of the one being gathered
    ("last_ns", "i8"),  # NO_TIME: no session
    ("begin", "i8"),  # first window above ACTIVE_W, -1 before
    ("before", "i8"),  # last window with a power, -1 before
    ("watts_before", "f8"),
    ("energy_ws", "f8"),
    ("reference_w", "f8"),
    ("early_w", "f8"),  # sum of the means of the first windows
    ("w_per_a", "f8"),  # power by current of the most loaded phase, where the reference was measured
    ("taken", "f8"),  # reference by offer
    ("phases", "f8"),
    ("watts", "f8"),  # of the window: sum, greatest phase current's sum, least offers
    ("amps", "f8"),
    ("offered_a", "f8"),
    ("offered_w", "f8"),
    ("soc", "f8"),
    ("degrees", "f8"),
    ("n", "i4"),
    ("n_amps", "i4"),
    ("n_early", "i4"),
    ("n_phases", "i1"),
    ("still", "u1"),
    ("told", "u1"),  # a row was written of this session
]
POWER_BLANK: Final[dict[str, Any]] = {"last_ns": NO_TIME}


class Windows(NamedTuple):
    """Rows in the order of EVSE and time: windows, and ends of sessions."""

    used: I64  # (1,)
    evse: I32
    order: I64
    effect_ns: I64
    live: U8
    time_ns: I64  # begin of the window; end of the session
    session_ns: I64  # begin of the session: with the EVSE, its name
    flags: U8
    share: F64  # mean power by reference
    reference_w: F64
    inputs: F64  # (capacity, N_INPUTS)
    shapes: F64  # (capacity, N_SHAPES)


def room_for(n: int) -> Windows:
    """Return arrays for n rows."""
    times = [np.zeros(n, np.int64) for _ in range(4)]
    return Windows(
        np.zeros(1, np.int64),
        np.zeros(n, np.int32),
        times[0],
        times[1],
        np.zeros(n, np.uint8),
        times[2],
        times[3],
        np.zeros(n, np.uint8),
        np.full(n, np.nan),
        np.full(n, np.nan),
        np.full((n, N_INPUTS), np.nan),
        np.full((n, N_SHAPES), np.nan),
    )


def chosen(windows: Windows, index: Any) -> Windows:
    """Return the rows `index` (a slice, integers or a mask), in that order."""
    columns = [column[index] for column in windows[1:]]
    return Windows(np.array([len(columns[0])], np.int64), *columns)


@kernel
def _begin(rec: Any, t: int) -> None:
    rec["begin"] = rec["before"] = -1
    rec["energy_ws"] = rec["reference_w"] = rec["early_w"] = 0.0
    rec["w_per_a"] = rec["taken"] = rec["phases"] = rec["watts_before"] = np.nan
    rec["soc"] = rec["degrees"] = np.nan
    rec["n_early"] = rec["told"] = 0
    _open(rec, t)


@kernel
def _open(rec: Any, t: int) -> None:
    """Begin the window that t lies in."""
    rec["window"] = t // _WINDOW_NS
    rec["watts"] = rec["amps"] = 0.0
    rec["offered_a"] = rec["offered_w"] = np.nan
    rec["n"] = rec["n_amps"] = rec["n_phases"] = 0
    rec["still"] = 0


@kernel
def _take(rec: Any, v: F64, i: int, still: int) -> None:
    """Take reading i into the window; `v` has a row for each of `CHANNELS`."""
    watts = v[0, i]
    if watts != watts:
        watts = v[1, i] + v[2, i] + v[3, i]
    if abs(watts) < np.inf:
        rec["watts"] += watts
        rec["n"] += 1
    amps, phases = v[7, i], 0
    for k in range(4, 7):
        if v[k, i] == v[k, i]:
            phases += 1 if v[k, i] > _LEAST_A else 0
            if not v[k, i] <= amps:
                amps = v[k, i]
    rec["n_phases"] = max(rec["n_phases"], phases)
    if abs(amps) < np.inf:
        rec["amps"] += amps
        rec["n_amps"] += 1
    if v[8, i] == v[8, i] and not v[8, i] >= rec["offered_a"]:
        rec["offered_a"] = v[8, i]
    if v[9, i] == v[9, i] and not v[9, i] >= rec["offered_w"]:
        rec["offered_w"] = v[9, i]
    if v[10, i] == v[10, i]:
        rec["soc"] = v[10, i]
    if v[11, i] == v[11, i]:
        rec["degrees"] = v[11, i]
    if still != 0:
        rec["still"] = 1


@kernel
def _early(rec: Any, watts: float) -> None:
    """Take one of the first windows into what is known of the vehicle."""
    rec["n_early"] += 1
    rec["early_w"] += watts
    if not watts > rec["reference_w"]:
        return
    rec["reference_w"], rec["phases"] = watts, float(rec["n_phases"])
    amps = rec["amps"] / max(rec["n_amps"], 1)
    rec["w_per_a"] = watts / amps if amps > _LEAST_A else np.nan
    offered = rec["offered_w"]
    if offered != offered:
        offered = rec["offered_a"] * rec["w_per_a"]
    rec["taken"] = watts / offered if offered > 0.0 else np.nan


@kernel
def _row(rec: Any, e: int, i: int, time: Timeline, watts: float, out: Windows) -> None:
    """Write the window that is over."""
    j = out.used[0]
    out.used[0] = j + 1
    rec["told"] = 1
    out.evse[j], out.order[j], out.effect_ns[j] = e, time.order[i], time.effect_ns[i]
    out.live[j], out.time_ns[j] = time.live[i], rec["window"] * _WINDOW_NS
    out.session_ns[j] = rec["begin"] * _WINDOW_NS
    reference = rec["reference_w"]
    offered = rec["offered_w"]
    if offered != offered:
        offered = rec["offered_a"] * rec["w_per_a"]
    flags = 0
    if watts > ACTIVE_W and rec["still"] == 0:
        flags |= USABLE
    if offered == offered:
        flags |= OFFER_KNOWN
        if rec["taken"] * offered <= _RISEN * reference:
            flags |= OFFER_AS_FIRST
    out.flags[j], out.share[j], out.reference_w[j] = flags, watts / reference, reference
    x = out.inputs[j]
    x[0] = (rec["window"] - rec["begin"]) / 60.0
    x[1] = rec["energy_ws"] / (3600.0 * reference)
    x[2], x[3], x[4] = rec["soc"], offered / reference, rec["degrees"]
    _shape(rec, out.shapes[j])


@kernel
def _shape(rec: Any, s: Any) -> None:
    s[0] = np.log(rec["reference_w"] / 1e3)
    s[1], s[2] = rec["phases"], rec["taken"]
    s[3] = rec["early_w"] / (rec["n_early"] * rec["reference_w"])


@kernel
def _close(rec: Any, e: int, i: int, time: Timeline, out: Windows) -> None:
    """End the window of EVSE e; reading i told that it is over."""
    if rec["n"] == 0:
        return
    watts, window = rec["watts"] / rec["n"], rec["window"]
    if rec["begin"] < 0:
        if not watts > ACTIVE_W:
            return
        rec["begin"] = window
    if rec["before"] >= 0:
        rec["energy_ws"] += 0.5 * (watts + rec["watts_before"]) * (window - rec["before"]) * WINDOW_S
    rec["before"], rec["watts_before"] = window, watts
    if window - rec["begin"] < _EARLY or rec["n_early"] == 0:
        _early(rec, watts)
    else:
        _row(rec, e, i, time, watts, out)


@kernel
def _finish(rec: Any, e: int, order: int, effect_ns: int, live: int, out: Windows) -> None:
    """End the session of EVSE e; one that left no row leaves no end."""
    if rec["told"] != 0:
        j = out.used[0]
        out.used[0] = j + 1
        out.evse[j], out.order[j], out.effect_ns[j], out.live[j] = e, order, effect_ns, live
        out.time_ns[j], out.session_ns[j] = rec["last_ns"], rec["begin"] * _WINDOW_NS
        out.flags[j], out.reference_w[j] = OVER, rec["reference_w"]
        _shape(rec, out.shapes[j])
    rec["last_ns"] = NO_TIME


@kernel
def _known(v: F64, i: int) -> bool:
    for c in range(len(v)):
        if abs(v[c, i]) < np.inf:
            return True
    return False


@kernel
def _gather(time: Timeline, values: F64, ends: Ends, state: Any, out: Windows) -> None:
    """Take in readings and Ended messages of a batch; write windows and ends to `out`."""
    k, m = 0, len(ends.evse)
    for i in range(len(time.evse)):
        e, t = time.evse[i], time.time_ns[i]
        while k < m and (ends.evse[k] < e or (ends.evse[k] == e and ends.order[k] < time.order[i])):
            if state[ends.evse[k]]["last_ns"] != NO_TIME:
                _finish(
                    state[ends.evse[k]], ends.evse[k], ends.order[k], ends.effect_ns[k], ends.live[k], out
                )
            k += 1
        rec = state[e]
        inside = (time.state[i] & IN_TRANSACTION) != 0
        if rec["last_ns"] == NO_TIME and not inside:
            continue
        if not _known(values, i):
            continue
        if rec["last_ns"] != NO_TIME and (not inside or t - rec["last_ns"] > _GAP_NS):
            _finish(rec, e, time.order[i], time.effect_ns[i], time.live[i], out)
        if not inside:
            continue
        if rec["last_ns"] == NO_TIME:
            _begin(rec, t)
        elif t // _WINDOW_NS != rec["window"]:
            _close(rec, e, i, time, out)
            _open(rec, t)
        rec["last_ns"] = t
        _take(rec, values, i, time.state[i] & (SUSPENDED_EV | SUSPENDED_EVSE))
    while k < m:
        if state[ends.evse[k]]["last_ns"] != NO_TIME:
            _finish(state[ends.evse[k]], ends.evse[k], ends.order[k], ends.effect_ns[k], ends.live[k], out)
        k += 1


def _columns(rows: ReadingBatch) -> F64:
    out = np.full((len(CHANNELS), len(rows)), np.nan)
    for k, channel in enumerate(CHANNELS):
        slot = int(rows.slot_of[channel])
        if slot >= 0:
            out[k] = rows.values[slot]
    return out


def windows_of(seen: Observed, state: Any) -> Windows:
    """Take in a batch; return the rows it finished. `state` has a record (`POWER_FIELDS`) per EVSE."""
    rows, ends = seen.rows, ends_of(seen)
    n = len(rows) + len(ends.evse)
    out = room_for(n)
    if n:
        _gather(timeline(rows), _columns(rows), ends, state, out)
    return chosen(out, slice(int(out.used[0])))


def warm_up(state: Any) -> None:
    """Compile the kernel, or read it from the cache, before a stream waits for it."""
    none = Ends(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8))
    rows = ReadingBatch.empty()
    _gather(timeline(rows), _columns(rows), none, state, room_for(0))
