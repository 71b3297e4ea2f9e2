"""Kernels of `models.ordering`, and the columns they work on."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ._kernel import kernel
from .batch import F64, I16, I32, I64, U8
from .units import NO_REGISTER, NO_TIME

RECENT: Final = 16
HISTORY: Final = 4  # context states kept per EVSE
WAITING: Final = 4  # registers of transaction messages that may wait per EVSE

IN_ORDER: Final = 0
LATE: Final = 1
REPEATED: Final = 2
INVALID: Final = 3
BESIDE: Final = 4  # a transaction's register at an EVSE whose readings carry registers: for energy only


class EvseState(NamedTuple):
    """Ordering state, one row an EVSE."""

    newest_ns: I64  # (evses,), NO_TIME before the first reading
    recent: I64  # (evses, RECENT) hashes of (time, register)
    recent_at: NDArray[np.int8]  # (evses,)
    context_ns: I64  # (evses, HISTORY) ascending times of context states, NO_TIME = none
    context: I16  # (evses, HISTORY)
    wait_ns: I64  # (evses, WAITING) times of the registers that wait, ascending, NO_TIME = none
    wait_mwh: I64
    wait_until_ns: I64  # journaled time at which each is placed at the latest
    metered: U8  # (evses,) 1 once a reading carried a register: transactions' registers then stand beside


class Rows(NamedTuple):
    """Readings in order of effect and, within a message, by (EVSE, time)."""

    evse: I32
    time_ns: I64
    reg_mwh: I64
    rank: I64  # position of its message among the messages that took effect
    head: U8  # 1: first of its (message, EVSE, time)


class Marks(NamedTuple):
    """What happens between readings, by rank: context changes, registers, and ticks."""

    rank: I64
    evse: I32  # -1 for ticks
    time_ns: I64  # for ticks the journaled second
    set_bits: I16
    clear_bits: I16
    reg_mwh: I64  # NO_REGISTER: no register
    until_ns: I64  # journaled time at which the register is placed at the latest


class Placed(NamedTuple):
    """Output of the placing kernel."""

    used: I64  # (1,) number placed
    source: I64  # index of the reading, or -1 for a register of a transaction
    evse: I32
    time_ns: I64
    reg_mwh: I64
    rank: I64
    state: I16
    fate: U8


@njit(cache=True, nogil=True, fastmath=False)
def arrange_kernel(rank: I64, evse: I32, time_ns: I64, perm: I64, head: U8) -> bool:
    """Sort `perm` by (rank, EVSE, time), stable; `rank` is non-decreasing. Mark heads.

    Return whether that changed nothing: all in order, and each its own head.
    """
    n = len(rank)
    start = 0
    plain = True
    while start < n:
        stop = start + 1
        sorted_ = True
        while stop < n and rank[stop] == rank[start]:
            if evse[stop] < evse[stop - 1] or (
                evse[stop] == evse[stop - 1] and time_ns[stop] < time_ns[stop - 1]
            ):
                sorted_ = False
            stop += 1
        if not sorted_:
            plain = False
            if stop - start <= 64:
                for i in range(start + 1, stop):
                    p = perm[i]
                    j = i - 1
                    while j >= start and (
                        evse[perm[j]] > evse[p]
                        or (evse[perm[j]] == evse[p] and time_ns[perm[j]] > time_ns[p])
                    ):
                        perm[j + 1] = perm[j]
                        j -= 1
                    perm[j + 1] = p
            else:
                by_time = np.argsort(time_ns[start:stop], kind="mergesort")
                by_evse = np.argsort(evse[start:stop][by_time], kind="mergesort")
                for i in range(stop - start):
                    perm[start + i] = start + by_time[by_evse[i]]
        for i in range(start, stop):
            p = perm[i]
            q = perm[i - 1] if i > start else -1
            head[i] = 0 if q >= 0 and evse[p] == evse[q] and time_ns[p] == time_ns[q] else 1
            if head[i] == 0:
                plain = False
        start = stop
    return plain


@kernel
def _mix(time_ns: int, reg_mwh: int) -> int:
    return (time_ns * 6364136223846793005) ^ (reg_mwh * 1442695040888963407 + 1)


@kernel
def _remember(s: EvseState, e: int, time_ns: int, reg_mwh: int) -> None:
    at = s.recent_at[e]
    s.recent[e, at] = _mix(time_ns, reg_mwh)
    s.recent_at[e] = (at + 1) % RECENT
    s.newest_ns[e] = time_ns


@kernel
def _was_seen(s: EvseState, e: int, time_ns: int, reg_mwh: int) -> bool:
    h = _mix(time_ns, reg_mwh)
    for k in range(RECENT):
        if s.recent[e, k] == h:
            return True
    return False


@kernel
def _context_at(s: EvseState, e: int, time_ns: int) -> int:
    for k in range(HISTORY - 1, -1, -1):
        if s.context_ns[e, k] != NO_TIME and s.context_ns[e, k] <= time_ns:
            return int(s.context[e, k])
    # before all that is known: the oldest known state's start has not come yet
    return 0


@kernel
def _change_context(s: EvseState, e: int, time_ns: int, set_bits: int, clear_bits: int) -> None:
    """Insert a state at `time_ns`, made from the state before it; the oldest falls out."""
    k = HISTORY - 1
    while k >= 0 and s.context_ns[e, k] != NO_TIME and s.context_ns[e, k] > time_ns:
        k -= 1
    before = s.context[e, k] if k >= 0 and s.context_ns[e, k] != NO_TIME else 0
    if k < 0:
        return  # older than all that is kept
    for j in range(k):
        s.context_ns[e, j] = s.context_ns[e, j + 1]
        s.context[e, j] = s.context[e, j + 1]
    s.context_ns[e, k] = time_ns
    s.context[e, k] = (before & ~clear_bits) | set_bits


@kernel
def _place(
    s: EvseState, out: Placed, e: int, time_ns: int, reg_mwh: int, rank: int, source: int, fate: int
) -> None:
    at = out.used[0]
    out.used[0] = at + 1
    out.source[at] = source
    out.evse[at] = e
    out.time_ns[at] = time_ns
    out.reg_mwh[at] = reg_mwh
    out.rank[at] = rank
    out.state[at] = _context_at(s, e, time_ns)
    out.fate[at] = fate


@kernel
def _place_register(s: EvseState, out: Placed, e: int, time_ns: int, reg: int, rank: int) -> None:
    if s.metered[e]:
        _place(s, out, e, time_ns, reg, rank, -1, BESIDE)
        return
    if s.newest_ns[e] != NO_TIME and time_ns <= s.newest_ns[e]:
        fate = REPEATED if _was_seen(s, e, time_ns, reg) else LATE
        _place(s, out, e, time_ns, reg, rank, -1, fate)
        return
    _remember(s, e, time_ns, reg)
    _place(s, out, e, time_ns, reg, rank, -1, IN_ORDER)


@kernel
def _release_first(s: EvseState, out: Placed, e: int, rank: int) -> None:
    """Place the earliest register that waits at EVSE e."""
    time_ns, reg = s.wait_ns[e, 0], s.wait_mwh[e, 0]
    _forget_first(s, e)
    _place_register(s, out, e, time_ns, reg, rank)


@kernel
def _forget_first(s: EvseState, e: int) -> None:
    for w in range(WAITING - 1):
        s.wait_ns[e, w] = s.wait_ns[e, w + 1]
        s.wait_mwh[e, w] = s.wait_mwh[e, w + 1]
        s.wait_until_ns[e, w] = s.wait_until_ns[e, w + 1]
    s.wait_ns[e, WAITING - 1] = NO_TIME


@kernel
def _let_wait(s: EvseState, out: Placed, e: int, time_ns: int, reg: int, until_ns: int, rank: int) -> None:
    """Insert a register by time; when no slot is left the earliest is placed at once."""
    if s.wait_ns[e, WAITING - 1] != NO_TIME:
        if time_ns <= s.wait_ns[e, 0]:
            _place_register(s, out, e, time_ns, reg, rank)
            return
        _release_first(s, out, e, rank)
    w = 0
    while s.wait_ns[e, w] != NO_TIME and s.wait_ns[e, w] < time_ns:
        w += 1
    if s.wait_ns[e, w] == time_ns:
        return  # one register at one time is enough
    for v in range(WAITING - 1, w, -1):
        s.wait_ns[e, v] = s.wait_ns[e, v - 1]
        s.wait_mwh[e, v] = s.wait_mwh[e, v - 1]
        s.wait_until_ns[e, v] = s.wait_until_ns[e, v - 1]
    s.wait_ns[e, w] = time_ns
    s.wait_mwh[e, w] = reg
    s.wait_until_ns[e, w] = until_ns


@kernel
def expire_kernel(s: EvseState, out: Placed, now_ns: int, rank: int, n_evses: int, earliest: I64) -> None:
    """At a tick: place the registers that waited long enough, and all before them."""
    earliest[0] = np.iinfo(np.int64).max
    for e in range(n_evses):
        last = -1
        for w in range(WAITING):
            if s.wait_ns[e, w] != NO_TIME and s.wait_until_ns[e, w] <= now_ns:
                last = w
        for _ in range(last + 1):
            _release_first(s, out, e, rank)
        for w in range(WAITING):
            if s.wait_ns[e, w] != NO_TIME:
                earliest[0] = min(earliest[0], s.wait_until_ns[e, w])


@kernel
def _apply_mark(s: EvseState, marks: Marks, k: int, out: Placed, n_evses: int, earliest: I64) -> None:
    """Apply mark k; `earliest` (1,) is a lower bound of the journaled time at which a wait ends."""
    e = marks.evse[k]
    if e < 0:
        if earliest[0] <= marks.time_ns[k]:
            expire_kernel(s, out, marks.time_ns[k], marks.rank[k], n_evses, earliest)
        return
    if marks.set_bits[k] != 0 or marks.clear_bits[k] != 0:
        _change_context(s, e, marks.time_ns[k], marks.set_bits[k], marks.clear_bits[k])
    if marks.reg_mwh[k] != NO_REGISTER:
        _let_wait(s, out, e, marks.time_ns[k], marks.reg_mwh[k], marks.until_ns[k], marks.rank[k])
        earliest[0] = min(earliest[0], marks.until_ns[k])


@kernel
def place_kernel(
    s: EvseState,
    rows: Rows,
    marks: Marks,
    out: Placed,
    oldest_ns: int,
    n_evses: int,
    earliest: I64,
) -> None:
    k = 0
    for r in range(len(rows.evse)):
        while k < len(marks.rank) and marks.rank[k] <= rows.rank[r]:
            _apply_mark(s, marks, k, out, n_evses, earliest)
            k += 1
        if rows.head[r] == 0:
            continue
        e = rows.evse[r]
        t = rows.time_ns[r]
        reg = rows.reg_mwh[r]
        if t < oldest_ns:
            _place(s, out, e, t, reg, rows.rank[r], r, INVALID)
            continue
        if reg != NO_REGISTER:
            s.metered[e] = 1
        while s.wait_ns[e, 0] != NO_TIME and s.wait_ns[e, 0] < t:
            _release_first(s, out, e, rows.rank[r])
        if s.wait_ns[e, 0] == t:
            # the reading stands at the same time: one is enough
            if reg == NO_REGISTER:
                reg = s.wait_mwh[e, 0]
            _forget_first(s, e)
        if s.newest_ns[e] != NO_TIME and t <= s.newest_ns[e]:
            fate = REPEATED if _was_seen(s, e, t, reg) else LATE
            _place(s, out, e, t, reg, rows.rank[r], r, fate)
            continue
        _remember(s, e, t, reg)
        _place(s, out, e, t, reg, rows.rank[r], r, IN_ORDER)
    while k < len(marks.rank):
        _apply_mark(s, marks, k, out, n_evses, earliest)
        k += 1


@njit(cache=True, nogil=True, fastmath=False)
def group_kernel(evse: I32, fate: U8, wanted: int, n_evses: int, used: int) -> I64:
    """Return the indices of entries of fate `wanted`, grouped by EVSE, stable."""
    count = np.zeros(n_evses + 1, np.int64)
    for i in range(used):
        if fate[i] == wanted:
            count[evse[i] + 1] += 1
    for e in range(n_evses):
        count[e + 1] += count[e]
    out = np.empty(count[n_evses], np.int64)
    for i in range(used):
        if fate[i] == wanted:
            out[count[evse[i]]] = i
            count[evse[i]] += 1
    return out


@kernel
def gather_kernel(values: F64, perm: I64, head: U8, source: I64, out: F64) -> None:
    """Copy the values of placed readings; parts of one reading are joined, later parts fill gaps."""
    n = len(perm)
    for s in range(values.shape[0]):
        for i in range(len(source)):
            r = source[i]
            if r < 0:
                out[s, i] = np.nan
                continue
            v = values[s, perm[r]]
            j = r + 1
            while np.isnan(v) and j < n and head[j] == 0:
                v = values[s, perm[j]]
                j += 1
            out[s, i] = v


@kernel
def gather_plain_kernel(values: F64, source: I64, out: F64) -> None:
    """Do what `gather_kernel` does for readings that arrived in order and in one part, run by run."""
    n = len(source)
    i = 0
    while i < n:
        first = source[i]
        j = i + 1
        while j < n and first >= 0 and source[j] == first + j - i:
            j += 1
        for s in range(values.shape[0]):
            for k in range(i, j):
                out[s, k] = values[s, first + k - i] if first >= 0 else np.nan
        i = j


@kernel
def join_registers_kernel(reg: I64, head: U8) -> None:
    """Give each head the first register among its parts."""
    for r in range(len(reg)):
        if head[r] == 1 and reg[r] == NO_REGISTER:
            j = r + 1
            while j < len(reg) and head[j] == 0:
                if reg[j] != NO_REGISTER:
                    reg[r] = reg[j]
                    break
                j += 1


@kernel
def count_kernel(head: U8, source: I64, fate: U8, used: int, counts: I64) -> None:
    """Count wire readings (parts included) by fate."""
    n = len(head)
    for i in range(used):
        r = source[i]
        if r < 0:
            continue
        counts[fate[i]] += 1
        j = r + 1
        while j < n and head[j] == 0:
            counts[fate[i]] += 1
            j += 1
