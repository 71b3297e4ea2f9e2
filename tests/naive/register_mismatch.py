"""Twin of `register_mismatch`: the pairs of a session are kept and summed anew at each judgement."""

from __future__ import annotations

import math
import struct
from typing import Any

from .plain import Expected, Reading, S, Story

STATE_KNOWN, IN_TRANSACTION = 128, 1


def _watts(r: Reading) -> float | None:
    found = [r.values.get("Power.Active.Import")]
    if found[0] is None or found[0] != found[0]:
        found = [r.values.get(f"Power.Active.Import@L{p}") for p in (1, 2, 3)]
    there = [w for w in found if w is not None and w == w]
    if not there:
        return None
    single: float = struct.unpack("f", struct.pack("f", max(0.0, sum(there))))[0]
    return single


class _Pair:
    """Two neighbouring readings of a session."""

    def __init__(self, a: tuple[Reading, float], b: tuple[Reading, float], *, cut: bool) -> None:
        assert a[0].reg_mwh is not None
        assert b[0].reg_mwh is not None
        self.step = b[0].reg_mwh - a[0].reg_mwh
        self.seconds = (b[0].time_ns - a[0].time_ns) / S
        self.from_w, self.to_w = a[1], b[1]
        self.end = b[0].time_ns
        about = b[0].about
        longest = 1800.0 if about.sample_s is None or not about.declared else max(60.0, 3 * about.sample_s)
        self.near = self.seconds <= longest and not cut
        self.good = self.near and self.step >= -2 * about.resolution_mwh


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings, story.records)]


def _cut(records: list[Any], last: Reading, r: Reading) -> bool:
    """Return whether the newest begin or end told of before a reading lies between it and the last one."""
    told = [
        w
        for w in records
        if type(w).__name__ == "Transaction"
        and w.event_type in {"Started", "Ended"}
        and w.evse_row == r.about.row
        and w.at.order < r.order
    ]
    return bool(told) and last.time_ns < told[-1].time_ns <= r.time_ns


def _of_evse(readings: list[Reading], records: list[Any]) -> list[Expected]:
    out: list[Expected] = []
    last: tuple[Reading, float] | None = None
    begin = 0
    pairs: list[_Pair] | None = None
    raised: tuple[int, bool] | None = None
    for r in readings:
        watts = _watts(r)
        if watts is None or r.reg_mwh is None:
            continue
        session = bool(r.state & IN_TRANSACTION) if r.state & STATE_KNOWN else watts > 100.0
        now = (r, watts)
        if last is not None and last[0].about.generation != r.about.generation:
            last = pairs = None
        if pairs is None:
            if session:
                begin = r.time_ns if last is None else last[0].time_ns
                pairs = [] if last is None else [_Pair(last, now, cut=_cut(records, last[0], r))]
                pairs = [p for p in pairs if p.near]
        else:
            assert last is not None
            pairs.append(_Pair(last, now, cut=_cut(records, last[0], r)))
            advanced = pairs[-1].good and pairs[-1].step > 0
            if not session or advanced:
                wrong, sound, evidence = _verdict(pairs, begin, r, ended=not session)
                kind = ""
                if wrong and (raised is None or (r.live and not raised[1])):
                    raised, kind = (begin if raised is None else raised[0], r.live), "raise"
                elif sound and not session and raised is not None:
                    kind = "clear"
                if kind:
                    assert raised is not None
                    out.append(
                        Expected(
                            r.order, "register_mismatch", "evse", r.about.row, kind, "warning", raised[1],
                            raised[0], r.time_ns, evidence,
                        )
                    )  # fmt: skip
                    if kind == "clear":
                        raised = None
            if not session:
                pairs = None
        last = now
    return out


def _verdict(
    pairs: list[_Pair], begin: int, r: Reading, *, ended: bool
) -> tuple[bool, bool, dict[str, float]]:
    """Return (wrong, sound, evidence) of a session so far."""
    good = [p for p in pairs if p.good]
    counted = sum(p.step for p in good) / 1000
    energy = math.fsum((p.from_w + p.to_w) / 2 * p.seconds / 3600 for p in good)
    tolerance = math.fsum(abs(p.to_w - p.from_w) / 2 * p.seconds / 3600 for p in good)
    tolerance += 2 * r.about.resolution_mwh / 1000
    if not ended:
        still, since = 0.0, begin
        for p in pairs:
            if not p.good:
                since = p.end
            elif p.step > 0:
                still, since = max(still, (p.end - since) / S), p.end
        tolerance += max((p.to_w for p in good), default=0.0) * still / 3600
    beyond = abs(counted - energy) - tolerance
    evidence = {
        "register_wh": counted,
        "energy_wh": energy,
        "difference_wh": counted - energy,
        "tolerance_wh": tolerance,
        "duration_s": (r.time_ns - begin) / S,
    }
    if energy > 0:
        evidence["difference_percent"] = 100 * (counted - energy) / energy
    wrong = beyond >= 200 - 1e-6 and beyond >= 0.05 * energy
    return wrong, not wrong and 0.05 * energy >= 200, evidence
