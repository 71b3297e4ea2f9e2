"""What a transaction is worth: begin, end, energy, flags, and whether it may be billed as it is.

A pure function of what is known of the transaction. Every decision is kept with its figures; where two
readings of the facts are possible a person decides (`review`), never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from ._tx_evidence import by_segments, contradicted, falls, same_basis
from ._tx_limits import inside, most_mwh
from ._tx_state import Point, Tx
from .signed_values import FAILED, MISSING, VALID

#: Signed registers have two decimals of kWh at least (OCMF 1.4.1, RV).
SIGNED_STEP_MWH: Final = 10_000


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


def judge(tx: Tx) -> Verdict:
    """Return the verdict on a transaction as it is known now."""
    v = Verdict(tx.start_ns, tx.end_ns)
    marks = {"offline": tx.offline, "clock_corrected": tx.corrected, "late": tx.late, "seq_gap": tx.gap()}
    v.flags |= {flag for flag, on in marks.items() if on}
    if len(tx.boots) > 1:
        v.flags.add("interrupted")
        v.decide("the station restarted while the transaction ran", boots=tx.boots)
    for decision in tx.set_aside:
        v.decide("a decision set aside, since a message changed what it was about", set_aside=decision)
    if tx.gone:
        reason = "told of again after it was forgotten" + (": its bill stands" if tx.gone_billed else "")
        v.doubt("late", reason, revision=tx.gone)
    if tx.evse_row < 0:
        v.doubt("missing_started", "no message says at which EVSE it was")
    _end(tx, v)
    _begin(tx, v)
    if v.begin_mwh is not None and v.end_mwh is not None:
        _energy(tx, v)
    for name, registers in (("begin", tx.begins), ("end", tx.ends)):
        told = [r for r in registers if r]
        if told and told[-1] - told[0] > 2 * tx.resolution_mwh:
            v.doubt("implausible", f"two {name} registers were told", told_mwh=told)
    if tx.proof is not None and v.ended:
        _signatures(tx, v, tx.proof)
    if v.start_ns is not None and v.end_ns is not None and v.end_ns < v.start_ns:
        v.doubt("implausible", "the transaction ends before it begins", start_ns=v.start_ns, end_ns=v.end_ns)
    if tx.aged and not v.ended:
        v.reasons.append("no end was told within the time after which a person decides")
    return v


def _pair(p: Point) -> tuple[int, int]:
    return p.time_ns, p.reg_mwh


def _begin(tx: Tx, v: Verdict) -> None:
    read = sorted([*inside(tx), *tx.told], key=_pair)
    if tx.start_ns is None:
        proposed = tx.before.reg_mwh if tx.before else (read[0].reg_mwh if read else None)
        v.start_ns = min(tx.begins_ns, read[0].time_ns) if read else tx.begins_ns
        v.begin_mwh = proposed
        v.doubt("missing_started", "the begin of the transaction was never told", proposed_begin_mwh=proposed)
        return
    v.begin_mwh = tx.begin_mwh
    if tx.begin_mwh is None:
        _begin_untold(tx, v, read)
    elif tx.begin_mwh == 0:
        _placeholder(tx, v, [p for p in read if p.reg_mwh > 0])


def _begin_untold(tx: Tx, v: Verdict, read: list[Point]) -> None:
    """Outside transactions nothing is delivered: the register before the start is the begin."""
    assert tx.start_ns is not None
    first = read[0] if read else None
    if first is not None and first.time_ns == tx.start_ns:
        v.begin_mwh = first.reg_mwh
    elif tx.before is None:
        v.begin_mwh = first.reg_mwh if first else None
        v.doubt("interpolated", "no register at or before the begin", first_mwh=v.begin_mwh)
    else:
        v.begin_mwh = known = tx.before.reg_mwh
        v.flags.add("interpolated")
        v.decide("begin register from the reading before it", begin_mwh=known)
        if tx.crowded or (
            first is not None and not _grows(tx, known, first.reg_mwh, first.time_ns - tx.start_ns)
        ):
            v.doubt("interpolated", "no register at the begin, and what went before is not certain",
                    before_mwh=known)  # fmt: skip


def _grows(tx: Tx, low: int, high: int, span_ns: int) -> bool:
    """Return whether a register may have gone from one value to another in a time."""
    return -2 * tx.resolution_mwh <= high - low <= most_mwh(tx, span_ns)


def _placeholder(tx: Tx, v: Verdict, later: list[Point]) -> None:
    """A begin of 0: a meter that counts from 0, or "not read"."""
    start = tx.start_ns or 0
    first = later[0] if later else None
    last = v.end_mwh if v.end_mwh is not None else (later[-1].reg_mwh if later else None)
    if last is None:
        return
    slack = 2 * tx.resolution_mwh
    if tx.before is None:
        rows = inside(tx)
        low = bool(rows) and all(p.reg_mwh <= most_mwh(tx, p.time_ns - start) for p in [*rows, *tx.told])
        if last > slack and not low:
            v.doubt("placeholder_begin", "a begin register of 0 and no earlier one known", end_mwh=last)
        return
    known = tx.before.reg_mwh
    if known <= slack and not tx.crowded:
        return
    if tx.relative:
        v.flags.add("session_relative")
        v.decide("the register has counted from 0 in another transaction", before_mwh=known)
        return
    if min(last, tx.end_mwh or last, first.reg_mwh if first else last) < known - slack:
        if last <= slack:
            v.doubt("placeholder_begin", "begin and end register are 0", before_mwh=known)
            return
        v.flags.add("session_relative")
        v.decide("the register counts from 0 in every transaction", before_mwh=known)
        return
    early = first is not None and not _grows(tx, known, first.reg_mwh, first.time_ns - start)
    if tx.crowded or early or last - known > most_mwh(tx, (v.end_ns or tx.last_ns) - start):
        v.doubt("placeholder_begin", "a begin register of 0, and what went before is not certain",
                before_mwh=known)  # fmt: skip
    else:
        v.flags.add("placeholder_begin")
        v.decide("begin register of 0 replaced by the last one known", before_mwh=known)
    v.begin_mwh = known


def _end(tx: Tx, v: Verdict) -> None:
    v.ended = tx.over
    if tx.end_ns is not None:
        v.end_mwh = tx.end_mwh
        if tx.end_mwh is None:
            _end_untold(tx, v)
        return
    if tx.closed_by is not None:
        v.flags |= {"missing_ended", "closed_by_next"}
        v.end_mwh, v.end_ns = tx.closed_by.reg_mwh, tx.free_ns or tx.closed_by.time_ns
        v.decide("the end was never told; the next begin register closes it", end_mwh=v.end_mwh,
                 next_start_ns=tx.closed_by.time_ns)  # fmt: skip
        return
    if tx.silent_ns:
        v.flags.add("missing_ended")
    read = sorted([*inside(tx), *tx.told], key=_pair)
    if read:
        v.end_mwh, v.end_ns = read[-1].reg_mwh, tx.free_ns or read[-1].time_ns


def register_after(tx: Tx) -> Point | None:
    """Return the first register at or after the end that is not another transaction's."""
    assert tx.end_ns is not None
    limit = tx.next_start_ns
    after = [p for p in tx.points if p.time_ns >= tx.end_ns and (limit is None or p.time_ns < limit)]
    if after:
        return after[0]
    return Point(limit, tx.next_begin_mwh) if limit is not None and tx.next_begin_mwh else None


def _end_untold(tx: Tx, v: Verdict) -> None:
    """Outside transactions nothing is delivered: the register after the end is the end."""
    assert tx.end_ns is not None
    last = max([p for p in [*inside(tx), *tx.told] if p.time_ns <= tx.end_ns], key=_pair, default=None)
    after = register_after(tx)
    if after is None:
        v.end_mwh = last.reg_mwh if last else None
        v.doubt("interpolated", "no register at or after the end", last_mwh=v.end_mwh)
        return
    v.end_mwh = after.reg_mwh
    if after.time_ns == tx.end_ns:
        return
    v.flags.add("interpolated")
    v.decide("end register from the reading after it", end_mwh=v.end_mwh, read_ns=after.time_ns)
    if last is not None and not _grows(tx, last.reg_mwh, after.reg_mwh, tx.end_ns - last.time_ns):
        v.doubt("interpolated", "no register at the end, and the readings around it do not agree",
                last_mwh=last.reg_mwh, after_mwh=after.reg_mwh)  # fmt: skip


def _energy(tx: Tx, v: Verdict) -> None:
    assert v.begin_mwh is not None
    assert v.end_mwh is not None
    energy = v.end_mwh - v.begin_mwh
    slack = 2 * tx.resolution_mwh
    span = (v.end_ns or 0) - (v.start_ns or 0)
    if tx.replaced:
        v.doubt("register_replaced", "the meter was replaced while the transaction ran", energy_mwh=energy)
        v.energy_mwh = energy if energy >= 0 else None
        return
    if energy < -slack:
        over = tx.modulus_mwh - v.begin_mwh + v.end_mwh
        if tx.modulus_mwh and v.begin_mwh < tx.modulus_mwh and 0 <= over <= most_mwh(tx, span):
            v.flags.add("register_rollover")
            v.decide("the register passed its modulus", modulus_mwh=tx.modulus_mwh, energy_mwh=over)
            v.energy_mwh = over
            return
    usable = energy >= -slack and same_basis(tx, v)
    lasting = falls(tx, v) if usable or energy < -slack else []
    if energy < -slack or lasting:
        v.flags.discard("register_rollback")
        v.energy_mwh = by_segments(v, lasting)
        v.doubt("register_reset", "the register restarted while the transaction ran",
                begin_mwh=v.begin_mwh, end_mwh=v.end_mwh, falls=[list(f) for f in lasting])  # fmt: skip
        return
    v.energy_mwh = max(0, energy)
    if energy < 0:
        v.decide("a fall of up to two resolutions counts 0", begin_mwh=v.begin_mwh, end_mwh=v.end_mwh)
    if energy > most_mwh(tx, span) and tx.start_ns is not None:
        v.doubt("implausible", "more energy than the EVSE can deliver in the time", energy_mwh=energy,
                most_mwh=most_mwh(tx, span))  # fmt: skip
    if usable and v.ended:
        contradicted(tx, v)


def _signatures(tx: Tx, v: Verdict, proof: dict[str, Any]) -> None:
    """What the signed values of a finished transaction say; what they were checked against is kept."""
    found = {name: value for name, value in proof.items() if name not in ("of", "required") and value}
    verdict = proof["verdict"]
    if verdict in FAILED:
        v.doubt("signature_invalid", "the signed values do not prove the transaction", signed=found)
    elif verdict == MISSING:
        v.flags.add("signature_missing")
        v.decide("the meter signs, but no signed value came")
    elif verdict != VALID:
        v.decide("the signed values could not be proven", signed=found)
    if proof.get("required") and verdict != VALID and verdict not in FAILED:
        v.reasons.append("signed values are required")
    if verdict != VALID:
        return
    v.decide("the signed values prove the transaction", signed=found)
    energy = proof["energy_mwh"]
    if v.energy_mwh is not None and abs(energy - v.energy_mwh) > 2 * max(tx.resolution_mwh, SIGNED_STEP_MWH):
        v.doubt("signature_invalid", "the signed energy is not that of the registers",
                signed_mwh=energy, energy_mwh=v.energy_mwh)  # fmt: skip
