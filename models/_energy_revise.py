"""Late readings older than the energy meter's window: the window is made wider for them from the archive."""

from __future__ import annotations

import numpy as np

from ._energy_archive import Archive, Quarters
from ._energy_kernels import first_from
from ._energy_run import EVSE, LATE, ORDER, Readings, Work, late_end, newest_ms, registers_of, take_newer
from ._energy_segments import late_group
from ._energy_table import QUARTER_MS, SLOT_DTYPE, Hot, Inventory, Rules
from .batch import I64
from .units import NO_TIME


def revise(
    hot: Hot, e: int, late: Readings, j: int, inv: Inventory, rules: Rules, work: Work, archive: Archive
) -> None:
    """Take in the late readings of the message and EVSE of late reading j; move the cursor behind them.

    The caller has made room for a window of `rules.late_quarters` in the output.
    """
    end = late_end(late, j)
    times, registers = registers_of(late, j, end)
    order = int(late.order[j])
    older = first_from(times, newest_ms(hot, e) + 1, 0)
    if older > 0:
        _revise(hot, e, times[:older], registers[:older], order, inv, rules, work, archive)
    take_newer(hot, e, times[older:], registers[older:], order, int(late.effect_ns[j]), inv, rules, work)
    work.cursor[LATE] = end
    work.cursor[ORDER] = order
    assert work.cursor[EVSE] == e


def _revise(
    hot: Hot,
    e: int,
    times: I64,
    registers: I64,
    order: int,
    inv: Inventory,
    rules: Rules,
    work: Work,
    archive: Archive,
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
    at = slice(e, e + 1)
    one = Inventory(inv.generation[at], inv.resolution_mwh[at], inv.modulus_mwh[at], inv.p_max_w[at])
    used = int(work.out.used[0])
    scratch = np.zeros(newest - lowest + 1, np.int64), np.zeros(newest - lowest + 1, np.uint8)
    late_group(wide, 0, times, registers, order, one, rules, work.out, *scratch, work.counters, frozen)
    work.out.evse[used : int(work.out.used[0])] = e
    changed = _rows(wide, e, max(lowest, int(wide.evse["first"][0])), hot_from, stored)
    if len(changed):
        archive.put(changed, np.full(len(changed), newest - rules.late_quarters))
    _narrow(hot, e, wide)


def _contiguous(stored: Quarters, end: int) -> Quarters:
    """Return the quarters that reach up to `end` without a hole."""
    n = len(stored)
    keep = 0
    while keep < n and stored.quarter[n - 1 - keep] == end - 1 - keep:
        keep += 1
    return stored.take(np.arange(n - keep, n))


def _widen(hot: Hot, e: int, stored: Quarters, width: int) -> Hot:
    """Return a table of EVSE e alone whose window holds `width` quarters."""
    wide = Hot(hot.evse[e : e + 1].copy(), np.zeros((1, width), SLOT_DTYPE), np.zeros((1, width), np.uint16))
    wide.slots["t_first"] = -1
    newest, narrow = int(hot.evse["newest"][e]), hot.slots.shape[1]
    for q in range(newest - narrow + 1, newest + 1):
        wide.slots[0, q % width] = hot.slots[e, q % narrow]
        wide.revision[0, q % width] = hot.revision[e, q % narrow]
    for i, q in enumerate(stored.quarter.tolist()):
        slot = wide.slots[0, q % width]
        wide.revision[0, q % width] = stored.revision[i]
        if stored.t_first[i] != NO_TIME:
            slot["t_first"] = stored.t_first[i] - q * QUARTER_MS
            slot["t_last"] = stored.t_last[i] - q * QUARTER_MS
            slot["u_first"], slot["u_last"] = stored.u_first[i], stored.u_last[i]
            slot["off"] = stored.off[i]
    if len(stored):
        wide.evse["base_t"], wide.evse["base_u"] = stored.t_before[0], stored.u_before[0]
        wide.evse["base_off"] = stored.off_before[0]
    return wide


def _rows(wide: Hot, e: int, first: int, end: int, stored: Quarters) -> Quarters:
    """Return those of quarters first to end - 1 of the window that are not as they were stored."""
    width = wide.slots.shape[1]
    before = int(wide.evse["base_t"][0]), int(wide.evse["base_u"][0]), int(wide.evse["base_off"][0])
    known = {row[1]: row for row in stored.rows()}
    rows = []
    for q in range(first, end):
        slot = wide.slots[0, q % width]
        points = NO_TIME, 0, NO_TIME, 0, 0
        if slot["t_first"] >= 0:
            points = (
                q * QUARTER_MS + int(slot["t_first"]), int(slot["u_first"]),
                q * QUARTER_MS + int(slot["t_last"]), int(slot["u_last"]), int(slot["off"]),
            )  # fmt: skip
        row = (e, q, *points, *before, int(wide.revision[0, q % width]))
        if known.get(q) != row:
            rows.append(row)
        if points[2] != NO_TIME:
            before = points[2:]
    return Quarters.of(rows)


def _narrow(hot: Hot, e: int, wide: Hot) -> None:
    """Bring the window's part of `wide` back."""
    newest, narrow, width = int(hot.evse["newest"][e]), hot.slots.shape[1], wide.slots.shape[1]
    hot.evse[e] = wide.evse[0]
    for q in range(newest - narrow + 1, newest + 1):
        hot.slots[e, q % narrow] = wide.slots[0, q % width]
        hot.revision[e, q % narrow] = wide.revision[0, q % width]
    for q in range(newest - narrow, newest - width, -1):
        slot = wide.slots[0, q % width]
        if slot["t_first"] >= 0:
            hot.evse["base_t"][e] = q * QUARTER_MS + int(slot["t_last"])
            hot.evse["base_u"][e] = slot["u_last"]
            hot.evse["base_off"][e] = slot["off"]
            break
