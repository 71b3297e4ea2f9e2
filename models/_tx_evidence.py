"""Readings as evidence for or against the registers that a transaction's messages told."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ._tx_limits import inside, most_mwh, tolerance_mwh

if TYPE_CHECKING:
    from ._tx_judge import Verdict
    from ._tx_state import Point, Tx

Fall = tuple[int, int, int, int]  # time and register before it, time and register after it


def same_basis(tx: Tx, v: Verdict) -> bool:
    """Return whether the readings count from the same zero as the transaction's registers."""
    read = inside(tx)
    if not read or v.begin_mwh is None or v.end_mwh is None:
        _begin_below(tx, v)
        return False
    low, high, near = read[0], read[-1], tolerance_mwh(tx)
    early_mwh = most_mwh(tx, low.time_ns - (v.start_ns or low.time_ns))
    if v.begin_mwh - near <= low.reg_mwh <= v.begin_mwh + near + early_mwh:
        return True
    grown, whole = high.reg_mwh - low.reg_mwh, v.end_mwh - v.begin_mwh
    unread_mwh = early_mwh + most_mwh(tx, (v.end_ns or high.time_ns) - high.time_ns)
    counts_from_0 = low.reg_mwh <= early_mwh or v.begin_mwh == 0
    if counts_from_0 and 0 <= grown <= whole + near and whole - grown <= near + unread_mwh:
        v.flags.add("session_relative")
        v.decide("readings count from another zero than the transaction's registers; these bill",
                 first_reading_mwh=low.reg_mwh, begin_mwh=v.begin_mwh)  # fmt: skip
        return False
    if "missing_started" not in v.flags:
        v.doubt("implausible", "the first reading contradicts the begin register",
                first_reading_mwh=low.reg_mwh, begin_mwh=v.begin_mwh)  # fmt: skip
    return True


def _begin_below(tx: Tx, v: Verdict) -> None:
    """Without readings inside: the begin may not lie below the one before it if the end goes on there."""
    if tx.before is None or not v.begin_mwh or v.end_mwh is None or "missing_started" in v.flags:
        return
    known = tx.before.reg_mwh
    if v.begin_mwh < known - tolerance_mwh(tx) and v.end_mwh >= known - 2 * tx.resolution_mwh:
        v.doubt("implausible", "the begin register lies below the one before it, where the end goes on",
                before_mwh=known, begin_mwh=v.begin_mwh)  # fmt: skip


def falls(tx: Tx, v: Verdict) -> list[Fall]:
    """Return the falls from which the register did not come back."""
    read, slack = inside(tx), 2 * tx.resolution_mwh
    lasting: list[Fall] = []
    high: Point | None = None
    for p, q in pairwise(read):
        if p.reg_mwh - q.reg_mwh <= slack or (high is not None and q.reg_mwh >= high.reg_mwh - slack):
            continue
        if high is not None and p.reg_mwh < high.reg_mwh - slack:
            continue  # falls on from a low register
        high = p
        if _comes_back(tx, v, p, q):
            v.flags.add("register_rollback")
            v.decide("lower readings ignored: the register came back", from_mwh=p.reg_mwh, to_mwh=q.reg_mwh)
        elif not _modulus_explains(tx, p, q):
            lasting.append((p.time_ns, p.reg_mwh, q.time_ns, q.reg_mwh))
            high = None
    return lasting


def _comes_back(tx: Tx, v: Verdict, p: Point, q: Point) -> bool:
    """Return whether the register comes back to p faster than energy could bring it there from q.

    A fall of less than the tolerance that counting makes good is a fall all the same, and no reset.
    """
    slack, low = 2 * tx.resolution_mwh, q
    later = [r for r in inside(tx) if r.time_ns > q.time_ns]
    if v.end_ns is not None and v.end_mwh is not None:
        later.append(type(p)(v.end_ns, v.end_mwh))
    for r in later:
        if r.reg_mwh >= p.reg_mwh - slack:
            small = p.reg_mwh - q.reg_mwh <= tolerance_mwh(tx)
            return small or r.reg_mwh - low.reg_mwh > most_mwh(tx, r.time_ns - low.time_ns, read=True)
        low = r
    return False


def _modulus_explains(tx: Tx, p: Point, q: Point) -> bool:
    over = tx.modulus_mwh - p.reg_mwh + q.reg_mwh
    return p.reg_mwh < tx.modulus_mwh and 0 <= over <= most_mwh(tx, q.time_ns - p.time_ns)


def by_segments(v: Verdict, lasting: list[Fall]) -> int | None:
    """Return the energy of the segments between resets: what to propose to the person who decides."""
    if not lasting or v.begin_mwh is None or v.end_mwh is None:
        return None
    total, begin = 0, v.begin_mwh
    for _, high, _, low in lasting:
        total += high - begin
        begin = low
    total += v.end_mwh - begin
    return total if total >= 0 else None


def contradicted(tx: Tx, v: Verdict) -> None:
    """Check the end register against the readings around it."""
    if v.end_mwh is None or v.begin_mwh is None or v.end_ns is None:
        return
    near, slack, read = tolerance_mwh(tx), 2 * tx.resolution_mwh, inside(tx)
    after = next((p for p in tx.points if p.time_ns > (v.end_ns or 0)), None)
    last = read[-1] if read else None
    highest = max((p.reg_mwh for p in read), default=v.begin_mwh)
    if highest > v.end_mwh + near and "register_rollback" not in v.flags:
        v.doubt("implausible", "a reading before the end is higher than the end register",
                reading_mwh=highest, end_mwh=v.end_mwh)  # fmt: skip
    elif last is not None and v.end_mwh - last.reg_mwh > most_mwh(tx, v.end_ns - last.time_ns):
        v.doubt("implausible", "the end register is more than can have been added to the last reading",
                reading_mwh=last.reg_mwh, end_mwh=v.end_mwh)  # fmt: skip
    elif after is not None and highest - slack <= after.reg_mwh < v.end_mwh - near:
        v.doubt("implausible", "the reading after the end is lower than the end register",
                reading_mwh=after.reg_mwh, end_mwh=v.end_mwh)  # fmt: skip
