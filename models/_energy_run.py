"""The kernel of `models.energy` that takes a batch, EVSE by EVSE: readings, late readings, ticks by order."""

from __future__ import annotations

from typing import Final, NamedTuple

from ._energy_kernels import (
    LATE_CONFLICTS,
    NEVER,
    SLACK_MWH,
    deadline_ms,
    first_from,
    last_point,
    quarters_to,
    settle_by_tick,
)
from ._energy_segments import continues, late_group, needs_archive, reading
from ._energy_table import QUARTER_MS, Evicted, Hot, Inventory, Out, Readings, Rules
from ._kernel import kernel
from .batch import I64, U8
from .units import NO_REGISTER

# What the kernel stopped for
DONE: Final = 0
ROOM: Final = 1  # no room left in an output array
ARCHIVE: Final = 2  # late readings change quarters before the window

# Where it stopped (`Work.cursor`)
EVSE: Final = 0  # the EVSE being worked on, -1 = none
ROW: Final = 1
LATE: Final = 2
ORDER: Final = 3  # what this EVSE took in last
SCAN: Final = 4  # next EVSE to visit, -1 = only those with readings
NEED: Final = 5  # quarters that must find room
BOUND: Final = 6  # no EVSE's deadline lies before this
CURSOR_SIZE: Final = 7

#: Room that any single step may need beyond the quarters it passes.
ROOM_SPARE: Final = 24


class Ticks(NamedTuple):
    """Ticks by order."""

    order: I64
    effect_ms: I64


class Work(NamedTuple):
    """What the kernel writes besides the state."""

    out: Out
    evicted: Evicted
    cursor: I64
    counters: I64
    before_energy: I64
    before_quality: U8


@kernel
def _has_room(hot: Hot, need: int, rules: Rules, work: Work) -> bool:
    """Return whether `need` quarters and what comes with them fit."""
    width = hot.slots.shape[1]
    rows = need + ROOM_SPARE + width
    leaving = min(need, 5 * rules.late_quarters) + ROOM_SPARE + 5 * width
    if work.out.used[0] + rows <= len(work.out.order) and work.evicted.used[0] + leaving <= len(
        work.evicted.evse
    ):
        return True
    work.cursor[NEED] = max(rows, leaving)
    return False


@kernel
def _due_tick(hot: Hot, e: int, ticks: Ticks, inv: Inventory, after_order: int) -> int:
    """Return the first tick after `after_order` at which EVSE e is due, len(ticks) if none."""
    k = first_from(ticks.effect_ms, deadline_ms(hot, e, inv), 0)
    due: int = first_from(ticks.order, after_order + 1, k)
    return due


@kernel
def _count_up(hot: Hot, e: int, rows: Readings, i: int, before: int, upto: int, inv: Inventory) -> int:
    """Take in plain readings from i on: later, not lower, in the newest quarter; return the next index.

    Stops at order `before` or beyond `upto`, and where anything else happens.
    """
    rec = hot.evse[e]
    if rec["newest"] < 0 or rec["level"] != 0 or rec["open"] == 0 or inv.generation[e] != rec["generation"]:
        return i
    q = rec["newest"]
    end_ns = (q + 1) * (QUARTER_MS * 1_000_000)
    _, u_last = last_point(hot, e)
    off = rec["off"]
    r_last = u_last - off
    at = -1
    while i < len(rows.evse) and rows.evse[i] == e:
        order = rows.order[i]
        if order >= before or order > upto:
            break
        r = rows.reg_mwh[i]
        if r != NO_REGISTER:
            if rows.time_ns[i] >= end_ns or r < r_last or r - r_last > SLACK_MWH:
                break
            r_last = r
            at = i
        i += 1
    if at >= 0:
        slot = hot.slots[e, q % hot.slots.shape[1]]
        slot["t_last"] = rows.time_ns[at] // 1_000_000 - q * QUARTER_MS
        slot["u_last"] = r_last + off
        rec["effect"] = rows.effect_ns[at] // 1_000_000
    return i


@kernel
def late_end(late: Readings, j: int) -> int:
    """Return the end of the late readings of the EVSE, order and kind of late reading j."""
    e, order, beside = late.evse[j], late.order[j], late.beside[j]
    while j < len(late.evse) and late.evse[j] == e and late.order[j] == order and late.beside[j] == beside:
        j += 1
    return j


@kernel
def newest_ms(hot: Hot, e: int) -> int:
    """Return the time of the newest point of EVSE e, -1 when it has none."""
    if hot.evse[e]["newest"] < 0:
        return -1
    t: int = last_point(hot, e)[0]
    return t


@kernel
def first_newer(hot: Hot, e: int, late: Readings, j: int, end: int) -> int:
    """Return the first of late readings j to end, by time, that is newer than the newest point of EVSE e."""
    newest = newest_ms(hot, e)
    i = j
    while i < end and late.time_ns[i] // 1_000_000 <= newest:
        i += 1
    return i


@kernel
def _take_late(hot: Hot, e: int, late: Readings, j: int, inv: Inventory, rules: Rules, work: Work) -> int:
    """Take in the late readings of one EVSE and order; return what stopped it, nothing done then."""
    end = late_end(late, j)
    newer = first_newer(hot, e, late, j, end)
    for i in range(j, newer):
        if needs_archive(hot, e, late.time_ns[i] // 1_000_000):
            return ARCHIVE
    passed = quarters_to(hot, e, late.time_ns[end - 1] // 1_000_000)
    if not _has_room(hot, passed + 5 * (end - j), rules, work):
        return ROOM
    if newer > j:
        late_group(
            hot, e, late, j, newer, inv, rules, work.out,
            work.before_energy, work.before_quality, work.counters, False,
        )  # fmt: skip
    take_newer(hot, e, late, newer, end, inv, rules, work)
    return DONE


@kernel
def take_newer(
    hot: Hot, e: int, late: Readings, j: int, end: int, inv: Inventory, rules: Rules, work: Work
) -> None:
    """Take in late readings j to end, by time, that are new to the register's series."""
    for i in range(j, end):
        if late.beside[i] != 0 and not continues(hot, e, late.time_ns[i] // 1_000_000, late.reg_mwh[i], inv):
            work.counters[LATE_CONFLICTS] += 1
            continue
        reading(
            hot, e, late.time_ns[i] // 1_000_000, late.reg_mwh[i], late.order[i],
            late.effect_ns[i] // 1_000_000, inv, rules, work.out, work.evicted, work.counters,
        )  # fmt: skip


@kernel
def _take_evse(
    hot: Hot, e: int, rows: Readings, late: Readings, ticks: Ticks, inv: Inventory, rules: Rules, work: Work
) -> int:
    """Take in all that the batch has for EVSE e from the cursor on; return what stopped it."""
    cursor = work.cursor
    i, j = cursor[ROW], cursor[LATE]
    due = _due_tick(hot, e, ticks, inv, cursor[ORDER])
    code = DONE
    while True:
        row_order = rows.order[i] if i < len(rows.evse) and rows.evse[i] == e else NEVER
        late_order = late.order[j] if j < len(late.evse) and late.evse[j] == e else NEVER
        due_order = ticks.order[due] if due < len(ticks.order) else NEVER
        if due_order < min(row_order, late_order):
            if ticks.effect_ms[due] >= deadline_ms(hot, e, inv):
                if not _has_room(hot, 1, rules, work):
                    code = ROOM
                    break
                settle_by_tick(hot, e, ticks.order[due], rules, work.out)
                cursor[ORDER] = due_order - 1  # the same tick may find the next quarter due
            else:
                cursor[ORDER] = due_order
        elif late_order <= row_order:
            if late_order == NEVER:
                break
            code = _take_late(hot, e, late, j, inv, rules, work)
            if code != DONE:
                break
            j = late_end(late, j)
            cursor[ORDER] = late_order
        else:
            i = _count_up(hot, e, rows, i, late_order, due_order, inv)
            if i >= len(rows.evse) or rows.evse[i] != e:
                cursor[ORDER] = rows.order[i - 1]
                continue
            row_order = rows.order[i]
            if row_order >= late_order or row_order > due_order:
                continue
            if rows.reg_mwh[i] != NO_REGISTER:
                t = rows.time_ns[i] // 1_000_000
                if not _has_room(hot, quarters_to(hot, e, t), rules, work):
                    code = ROOM
                    break
                reading(
                    hot, e, t, rows.reg_mwh[i], row_order, rows.effect_ns[i] // 1_000_000, inv, rules,
                    work.out, work.evicted, work.counters,
                )  # fmt: skip
            i += 1
            cursor[ORDER] = row_order
        due = _due_tick(hot, e, ticks, inv, cursor[ORDER])
    cursor[ROW], cursor[LATE] = i, j
    return code


@kernel
def _plain(hot: Hot, rows: Readings, late: Readings, inv: Inventory, cursor: I64) -> None:
    """Take in EVSEs from the cursor on as long as their registers only count up within the open quarter.

    The common case, free of calls: they cost more than the work. Only for batches whose ticks find no EVSE
    due: readings move its deadline away. Stops at the first EVSE with anything else, its plain readings
    taken.
    """
    table, slots, width = hot.evse, hot.slots, hot.slots.shape[1]
    evse, time_ns, effect_ns, reg = rows.evse, rows.time_ns, rows.effect_ns, rows.reg_mwh
    generation, n, grace_ms = inv.generation, len(rows.evse), inv.grace_ms
    next_late = late.evse[cursor[LATE]] if cursor[LATE] < len(late.evse) else -1
    i, bound = cursor[ROW], cursor[BOUND]
    while i < n:
        e = evse[i]
        rec = table[e]
        if rec["open"] == 0 or rec["level"] != 0 or rec["generation"] != generation[e] or e == next_late:
            break
        q = rec["newest"]
        due_ms = max((q + 1) * QUARTER_MS, rec["effect"]) + grace_ms[e]
        slot = slots[e, q % width]
        begin_ns, end_ns = q * (QUARTER_MS * 1_000_000), (q + 1) * (QUARTER_MS * 1_000_000)
        first = slot["u_last"] - rec["off"]
        last, at = first, -1
        while i < n and evse[i] == e:
            r = reg[i]
            if r != NO_REGISTER:
                if time_ns[i] >= end_ns or r < last or r - last > SLACK_MWH:
                    break
                last = r
                at = i
            i += 1
        if at >= 0:
            slot["t_last"] = (time_ns[at] - begin_ns) // 1_000_000
            slot["u_last"] += last - first
            rec["effect"] = effect_ns[at] // 1_000_000
        if i < n and evse[i] == e:
            break
        bound = min(bound, due_ms)
    cursor[ROW], cursor[BOUND] = i, bound


@kernel
def _next_evse(rows: Readings, late: Readings, cursor: I64, n_evses: int) -> int:
    """Return the next EVSE to visit, -1 at the end."""
    e: int = -1
    if cursor[SCAN] >= 0:
        if cursor[SCAN] < n_evses:
            e = cursor[SCAN]
            cursor[SCAN] += 1
        return e
    i, j = cursor[ROW], cursor[LATE]
    if i < len(rows.evse):
        e = rows.evse[i]
    if j < len(late.evse) and (e < 0 or late.evse[j] < e):
        e = late.evse[j]
    return e


@kernel
def run_kernel(
    hot: Hot, n_evses: int, rows: Readings, late: Readings, ticks: Ticks, inv: Inventory, rules: Rules,
    work: Work,
) -> int:  # fmt: skip
    """Take in a batch from the cursor on; return DONE, or what must be seen to before it is called again."""
    cursor = work.cursor
    code: int = DONE
    while True:
        if cursor[EVSE] < 0:
            if cursor[SCAN] < 0:
                _plain(hot, rows, late, inv, cursor)
            cursor[EVSE] = _next_evse(rows, late, cursor, n_evses)
            cursor[ORDER] = -1
            if cursor[EVSE] < 0:
                return DONE
        e = cursor[EVSE]
        code = _take_evse(hot, e, rows, late, ticks, inv, rules, work)
        if code != DONE:
            return code
        cursor[BOUND] = min(cursor[BOUND], deadline_ms(hot, e, inv))
        cursor[EVSE] = -1
