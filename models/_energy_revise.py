"""Late readings older than the energy meter's window: the window is made wider for them from the archive."""

from __future__ import annotations

import numpy as np

from ._energy_archive import COLUMNS, Archive, Quarters
from ._energy_run import LATE, ORDER, Work, first_newer, late_end, take_newer
from ._energy_segments import late_group
from ._energy_table import QUARTER_MS, SLOT_DTYPE, Hot, Inventory, Readings, Rules
from .batch import I64
from .units import NO_TIME


def revise(
    hot: Hot, e: int, late: Readings, j: int, inv: Inventory, rules: Rules, work: Work, archive: Archive
) -> None:
    """Take in the late readings of the EVSE and order of late reading j; move the cursor behind them.

    The caller has made room for a window of `rules.late_quarters` in the output.
    """
    end = late_end(late, j)
    newer = first_newer(hot, e, late, j, end)
    _revise(hot, e, late, slice(j, newer), inv, rules, work, archive)
    take_newer(hot, e, late, newer, end, inv, rules, work)
    work.cursor[LATE] = end
    work.cursor[ORDER] = late.order[j]


def _revise(
    hot: Hot, e: int, late: Readings, at: slice, inv: Inventory, rules: Rules, work: Work, archive: Archive
) -> None:
    width = hot.slots.shape[1]
    newest, first = int(hot.evse["newest"][e]), int(hot.evse["first"][e])
    hot_from = newest - width + 1
    lowest = min(hot_from, newest - rules.late_quarters)
    stored = _contiguous(archive.load(e, max(lowest, first), hot_from), hot_from)
    begin = hot_from - len(stored)  # oldest quarter that is known
    if begin > first:
        lowest = begin  # what lies before can no longer be revised
    frozen = begin > first
    wide = _widen(hot, e, stored, newest - lowest + 1)
    only = slice(e, e + 1)
    one = Inventory(
        inv.generation[only],
        inv.resolution_mwh[only],
        inv.modulus_mwh[only],
        inv.p_max_w[only],
        inv.grace_ms[only],
    )
    used = int(work.out.used[0])
    scratch = np.zeros(newest - lowest + 1, np.int64), np.zeros(newest - lowest + 1, np.uint8)
    late_group(
        wide, 0, late, at.start, at.stop, one, rules, work.out, *scratch, work.counters, frozen,
    )  # fmt: skip
    work.out.evse[used : int(work.out.used[0])] = e
    changed = _rows(wide, e, max(lowest, int(wide.evse["first"][0])), hot_from, stored)
    if len(changed):
        archive.put(changed, np.full(len(changed), newest - rules.late_quarters))
    _narrow(hot, e, wide)


def _contiguous(stored: Quarters, end: int) -> Quarters:
    """Return the quarters that reach up to `end` without a hole."""
    n = len(stored)
    hole = np.flatnonzero(stored.quarter != end - n + np.arange(n))
    return stored.take(np.arange(hole[-1] + 1 if len(hole) else 0, n))


def _widen(hot: Hot, e: int, stored: Quarters, width: int) -> Hot:
    """Return a table of EVSE e alone whose window holds `width` quarters."""
    wide = Hot(hot.evse[e : e + 1].copy(), np.zeros((1, width), SLOT_DTYPE), np.zeros((1, width), np.uint32))
    wide.slots["t_first"] = -1
    hot_at, wide_at = _columns(hot, e, width)
    wide.slots[0, wide_at] = hot.slots[e, hot_at]
    wide.revision[0, wide_at] = hot.revision[e, hot_at]
    at = stored.quarter % width
    wide.revision[0, at] = stored.revision
    begin = stored.quarter * QUARTER_MS
    known = stored.t_first != NO_TIME
    wide.slots["t_first"][0, at] = np.where(known, stored.t_first - begin, -1)
    wide.slots["t_last"][0, at] = np.where(known, stored.t_last - begin, 0)
    for name in ("u_first", "u_last", "off"):
        wide.slots[name][0, at] = getattr(stored, name)
    if len(stored):
        wide.evse["base_t"], wide.evse["base_u"] = stored.t_before[0], stored.u_before[0]
        wide.evse["base_off"] = stored.off_before[0]
    return wide


def _columns(hot: Hot, e: int, width: int) -> tuple[I64, I64]:
    """Return where the quarters of the window of EVSE e lie in it, and in one of `width` quarters."""
    narrow = hot.slots.shape[1]
    quarters = int(hot.evse["newest"][e]) - np.arange(narrow)
    return quarters % narrow, quarters % width


def _rows(wide: Hot, e: int, first: int, end: int, stored: Quarters) -> Quarters:
    """Return those of quarters first to end - 1 of the window that are not as they were stored."""
    quarter = np.arange(first, max(first, end))
    n = len(quarter)
    slots = wide.slots[0, quarter % wide.slots.shape[1]]
    known = slots["t_first"] >= 0
    begin = quarter * QUARTER_MS
    t_last = begin + slots["t_last"]
    # index of the last quarter with readings before each, -1 = none
    last = np.maximum.accumulate(np.append(-1, np.where(known, np.arange(n), -1)))[:n]
    inside = last >= 0
    rows = Quarters(
        np.full(n, e, np.int32),
        quarter,
        np.where(known, begin + slots["t_first"], NO_TIME),
        np.where(known, slots["u_first"], 0),
        np.where(known, t_last, NO_TIME),
        np.where(known, slots["u_last"], 0),
        np.where(known, slots["off"], 0),
        np.where(inside, t_last[last], wide.evse["base_t"][0]),
        np.where(inside, slots["u_last"][last], wide.evse["base_u"][0]),
        np.where(inside, slots["off"][last], wide.evse["base_off"][0]),
        wide.revision[0, quarter % wide.slots.shape[1]].astype(np.int32),
    )
    changed = np.ones(n, np.bool_)
    same = n - len(stored)  # those stored are the last ones
    if len(stored) and same >= 0:
        changed[same:] = False
        for name in COLUMNS:
            changed[same:] |= getattr(rows, name)[same:] != getattr(stored, name)
    return rows.take(changed)


def _narrow(hot: Hot, e: int, wide: Hot) -> None:
    """Bring the window's part of `wide` back."""
    newest, narrow, width = int(hot.evse["newest"][e]), hot.slots.shape[1], wide.slots.shape[1]
    hot_at, wide_at = _columns(hot, e, width)
    hot.evse[e] = wide.evse[0]
    hot.slots[e, hot_at] = wide.slots[0, wide_at]
    hot.revision[e, hot_at] = wide.revision[0, wide_at]
    before = np.arange(newest - width + 1, newest - narrow + 1)
    known = before[wide.slots["t_first"][0, before % width] >= 0]
    if len(known):
        slot = wide.slots[0, known[-1] % width]
        hot.evse["base_t"][e] = known[-1] * QUARTER_MS + int(slot["t_last"])
        hot.evse["base_u"][e] = slot["u_last"]
        hot.evse["base_off"][e] = slot["off"]
