"""What a transaction is worth: begin, end, energy, flags, and whether it may be billed as it is.

A pure function of what is known of the transaction. Every decision is kept with its figures; where two
readings of the facts are possible a person decides (`review`), never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from ._energy_kernels import P_MAX_UNKNOWN_W
from ._tx_state import Point, Tx
from .units import NS_PER_S

#: A station reads a register for a message and for a reading at moments this far apart at most.
READ_APART_S: Final = 30.0
_POWER_FACTOR: Final = 1.5
_NS_PER_H: Final = 3_600 * NS_PER_S


@dataclass(slots=True)
class Verdict:
    """The outcome; `reasons` not empty: a person must decide."""

    start_ns: int | None = None
    end_ns: int | None = None
    begin_mwh: int | None = None
    end_mwh: int | None = None
    energy_mwh: int | None = None
    ended: bool = False
    flags: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)

    def decide(self, what: str, **evidence: Any) -> None:
        """Keep a decision with its figures."""
        self.decisions.append({"decision": what, **evidence})

    def doubt(self, flag: str, reason: str, **evidence: Any) -> None:
        """Let a person decide."""
        self.flags.add(flag)
        self.reasons.append(reason)
        self.decide(reason, **evidence)


def most_mwh(tx: Tx, span_ns: int) -> int:
    """Return the greatest plausible energy in a time."""
    p_max_w = P_MAX_UNKNOWN_W if tx.p_max_w is None else tx.p_max_w
    hours = max(0, span_ns) / _NS_PER_H + READ_APART_S / 3600.0
    return int(p_max_w * _POWER_FACTOR * hours * 1000.0) + 2 * tx.resolution_mwh


def tolerance_mwh(tx: Tx) -> int:
    """Return how far registers of messages and of readings may be apart."""
    p_max_w = P_MAX_UNKNOWN_W if tx.p_max_w is None else tx.p_max_w
    return int(p_max_w * READ_APART_S / 3600.0 * 1000.0) + 2 * tx.resolution_mwh


def at_time(points: list[Point], time_ns: int) -> tuple[int, bool] | None:
    """Return (register at a time, whether it was read then); None where no register is known before it."""
    before = [p for p in points if p.time_ns <= time_ns]
    after = [p for p in points if p.time_ns >= time_ns]
    if before and before[-1].time_ns == time_ns:
        return before[-1].reg_mwh, True
    if before and after and after[0].reg_mwh >= before[-1].reg_mwh:
        (t0, r0), (t1, r1) = _pair(before[-1]), _pair(after[0])
        return r0 + (r1 - r0) * (time_ns - t0) // (t1 - t0), False
    if before:
        return before[-1].reg_mwh, False
    return None


def _pair(p: Point) -> tuple[int, int]:
    return p.time_ns, p.reg_mwh


def judge(tx: Tx) -> Verdict:
    """Return the verdict on a transaction as it is known now."""
    v = Verdict(tx.start_ns, tx.end_ns)
    if tx.offline:
        v.flags.add("offline")
    if tx.corrected:
        v.flags.add("clock_corrected")
    if tx.late:
        v.flags.add("late")
    if tx.gap():
        v.flags.add("seq_gap")
    if len(tx.boots) > 1:
        v.flags.add("interrupted")
        v.decide("the station restarted while the transaction ran", boots=tx.boots)
    _end(tx, v)
    _begin(tx, v)
    if v.begin_mwh is not None and v.end_mwh is not None:
        _energy(tx, v)
    if v.start_ns is not None and v.end_ns is not None and v.end_ns < v.start_ns:
        v.doubt("implausible", "the transaction ends before it begins", start_ns=v.start_ns, end_ns=v.end_ns)
    return v


def _inside(tx: Tx) -> list[Point]:
    """Return the registers read while the transaction ran."""
    low = tx.start_ns
    high = tx.end_ns if tx.end_ns is not None else tx.free_ns
    if high is None and tx.closed_by is not None:
        high = tx.closed_by.time_ns
    return [p for p in tx.points if (low is None or p.time_ns >= low) and (high is None or p.time_ns <= high)]


def _begin(tx: Tx, v: Verdict) -> None:
    inside = sorted([*_inside(tx), *tx.told], key=lambda p: p.time_ns)
    if tx.start_ns is None:
        proposed = tx.before.reg_mwh if tx.before else (inside[0].reg_mwh if inside else None)
        v.start_ns = inside[0].time_ns if inside else None
        v.begin_mwh = proposed
        v.doubt("missing_started", "the begin of the transaction was never told", proposed_begin_mwh=proposed)
        return
    v.begin_mwh = tx.begin_mwh
    if tx.begin_mwh is None:
        found = at_time(sorted([*([tx.before] if tx.before else []), *tx.points], key=_pair), tx.start_ns)
        first = inside[0] if inside else None
        if found is not None:
            v.begin_mwh = found[0]
            if not found[1]:
                v.flags.add("interpolated")
                v.decide("begin register between readings", begin_mwh=found[0])
        elif first is not None:
            v.begin_mwh = first.reg_mwh
            v.doubt("interpolated", "no register at or before the begin", first_mwh=first.reg_mwh)
        else:
            v.reasons.append("no register at the begin")
    elif tx.begin_mwh == 0:
        _placeholder(tx, v, [p for p in inside if p.reg_mwh > 0])


def _placeholder(tx: Tx, v: Verdict, later: list[Point]) -> None:
    """A begin of 0: a meter that counts from 0, or "not read"."""
    last = v.end_mwh if v.end_mwh is not None else (later[-1].reg_mwh if later else None)
    first = later[0].reg_mwh if later else last
    span = (v.end_ns or (later[-1].time_ns if later else tx.start_ns or 0)) - (tx.start_ns or 0)
    known = tx.before if tx.before is not None and tx.before.reg_mwh > 2 * tx.resolution_mwh else None
    if first is None or last is None:
        return
    if known is None:
        if last > most_mwh(tx, span):
            v.doubt("placeholder_begin", "a begin register of 0 and no earlier one known", end_mwh=last)
        return
    if first < known.reg_mwh - 2 * tx.resolution_mwh:
        v.flags.add("session_relative")
        v.decide("the register counts from 0 in every transaction", before_mwh=known.reg_mwh)
        return
    since = (v.end_ns or tx.start_ns or 0) - known.time_ns
    if tx.crowded or last - known.reg_mwh > min(most_mwh(tx, span), most_mwh(tx, since)):
        v.doubt("placeholder_begin", "a begin register of 0, and what went before is not certain",
                before_mwh=known.reg_mwh, before_ns=known.time_ns)  # fmt: skip
    else:
        v.flags.add("placeholder_begin")
        v.decide("begin register of 0 replaced by the last one known", before_mwh=known.reg_mwh,
                 before_ns=known.time_ns)  # fmt: skip
    v.begin_mwh = known.reg_mwh


def _end(tx: Tx, v: Verdict) -> None:
    if tx.end_ns is not None:
        v.ended = True
        v.end_mwh = tx.end_mwh
        if tx.end_mwh is None:
            found = at_time(sorted([*tx.points, *tx.told], key=_pair), tx.end_ns)
            if found is None:
                v.reasons.append("no register at the end")
            else:
                v.end_mwh = found[0]
                if not found[1]:
                    v.flags.add("interpolated")
                    v.decide("end register from the readings around it", end_mwh=found[0])
        return
    inside = sorted([*_inside(tx), *tx.told], key=_pair)
    if tx.closed_by is not None:
        v.ended = True
        v.flags |= {"missing_ended", "closed_by_next"}
        v.end_mwh, v.end_ns = tx.closed_by.reg_mwh, tx.free_ns or tx.closed_by.time_ns
        v.decide("the end was never told; the next begin register closes it", end_mwh=v.end_mwh,
                 next_start_ns=tx.closed_by.time_ns)  # fmt: skip
        return
    if inside:
        v.end_mwh, v.end_ns = inside[-1].reg_mwh, tx.free_ns or inside[-1].time_ns


def _energy(tx: Tx, v: Verdict) -> None:
    assert v.begin_mwh is not None
    assert v.end_mwh is not None
    energy = v.end_mwh - v.begin_mwh
    slack = 2 * tx.resolution_mwh
    span = (v.end_ns or 0) - (v.start_ns or 0)
    if tx.generation != tx.end_generation:
        v.doubt("register_replaced", "the meter was replaced while the transaction ran", energy_mwh=energy)
        v.energy_mwh = energy if energy >= 0 else None
        return
    usable = _same_basis(tx, v)
    lasting = _falls(tx, v) if usable else []
    if energy < -slack:
        over = tx.modulus_mwh - v.begin_mwh + v.end_mwh
        if tx.modulus_mwh and v.begin_mwh < tx.modulus_mwh and 0 <= over <= most_mwh(tx, span):
            v.flags.add("register_rollover")
            v.decide("the register passed its modulus", modulus_mwh=tx.modulus_mwh, energy_mwh=over)
            v.energy_mwh = over
            return
        v.energy_mwh = _by_segments(v, lasting)
        v.doubt("register_reset", "the register restarted while the transaction ran",
                begin_mwh=v.begin_mwh, end_mwh=v.end_mwh)  # fmt: skip
        return
    if lasting:
        v.energy_mwh = _by_segments(v, lasting)
        v.doubt("register_reset", "the register restarted while the transaction ran",
                falls=[list(f) for f in lasting])  # fmt: skip
        return
    v.energy_mwh = max(0, energy)
    if energy < 0:
        v.decide("a fall of up to two resolutions counts 0", begin_mwh=v.begin_mwh, end_mwh=v.end_mwh)
    if energy > most_mwh(tx, span):
        v.doubt("implausible", "more energy than the EVSE can deliver in the time", energy_mwh=energy,
                most_mwh=most_mwh(tx, span))  # fmt: skip
    if usable and v.ended:
        _contradicted(tx, v)


def _same_basis(tx: Tx, v: Verdict) -> bool:
    """Return whether the readings count from the same zero as the transaction's registers."""
    inside = _inside(tx)
    if not inside or v.begin_mwh is None or v.end_mwh is None:
        return False
    low, high = inside[0], inside[-1]
    apart = tolerance_mwh(tx) + most_mwh(tx, low.time_ns - (v.start_ns or low.time_ns))
    if v.begin_mwh - tolerance_mwh(tx) <= low.reg_mwh <= v.begin_mwh + apart:
        return True
    grown = high.reg_mwh - low.reg_mwh
    if 0 <= grown <= v.end_mwh - v.begin_mwh + tolerance_mwh(tx) and low.reg_mwh <= most_mwh(
        tx, high.time_ns - low.time_ns
    ):
        v.flags.add("session_relative")
        v.decide("readings count from another zero than the transaction's registers; these bill",
                 first_reading_mwh=low.reg_mwh, begin_mwh=v.begin_mwh)  # fmt: skip
        return False
    return True


def _falls(tx: Tx, v: Verdict) -> list[tuple[int, int, int, int]]:
    """Return the falls from which the register did not come back."""
    lasting = []
    for fall in tx.falls:
        high = fall[1]
        came_back = any(p.time_ns > fall[2] and p.reg_mwh >= high - 2 * tx.resolution_mwh for p in tx.points)
        if came_back or (v.end_mwh or 0) >= high - 2 * tx.resolution_mwh:
            v.flags.add("register_rollback")
            v.decide("lower readings ignored: the register came back", from_mwh=high, to_mwh=fall[3])
        elif not _modulus_explains(tx, fall):
            lasting.append(fall)
    return lasting


def _modulus_explains(tx: Tx, fall: tuple[int, int, int, int]) -> bool:
    over = tx.modulus_mwh - fall[1] + fall[3]
    return bool(tx.modulus_mwh) and fall[1] < tx.modulus_mwh and 0 <= over <= most_mwh(tx, fall[2] - fall[0])


def _by_segments(v: Verdict, falls: list[tuple[int, int, int, int]]) -> int | None:
    """Return the energy of the segments between resets: what to propose to the person who decides."""
    if not falls or v.begin_mwh is None or v.end_mwh is None:
        return None
    total, begin = 0, v.begin_mwh
    for _, high, _, low in falls:
        total += high - begin
        begin = low
    total += v.end_mwh - begin
    return total if total >= 0 else None


def _contradicted(tx: Tx, v: Verdict) -> None:
    """Check the end register against the readings around it."""
    assert v.end_mwh is not None
    near = tolerance_mwh(tx)
    inside = _inside(tx)
    after = [p for p in tx.points if v.end_ns is not None and p.time_ns > v.end_ns][:1]
    highest = max((p.reg_mwh for p in inside), default=None)
    if highest is not None and highest > v.end_mwh + near and "register_rollback" not in v.flags:
        v.doubt("implausible", "a reading before the end is higher than the end register",
                reading_mwh=highest, end_mwh=v.end_mwh)  # fmt: skip
    elif after and after[0].reg_mwh < v.end_mwh - near:
        v.doubt("implausible", "the reading after the end is lower than the end register",
                reading_mwh=after[0].reg_mwh, end_mwh=v.end_mwh)  # fmt: skip
