"""Twin of `phase_open`: keeps all words of transactions and when three phases carried current."""

from __future__ import annotations

from typing import Any

from models import batch as b

from .lasting import Lasting
from .plain import Expected, Reading, S, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings, story.records)]


def _word(record: Any) -> int:
    if type(record).__name__ != "Transaction":
        return 0
    return record.phases or (4 if record.event_type == "Started" else 0)


def _of_evse(readings: list[Reading], records: list[Any]) -> list[Expected]:
    out: list[Expected] = []
    watch = Lasting(60 * S, 2, 60 * S, 1800 * S)
    carried: int | None = None
    for r in readings:
        amps = [r.values.get(f"Current.Import@L{p}", float("nan")) for p in (1, 2, 3)]
        if r.about.dc or any(a != a for a in amps):
            continue
        t, mean, least = r.time_ns, sum(amps) / 3, min(amps)
        words = [w for w in records if _word(w) and w.evse_row == r.about.row and w.at.order < r.order]
        told, told_ns = (_word(words[-1]), words[-1].time_ns) if words else (0, 0)
        if told_ns > t:
            told = 0
        if least >= 1.0:
            carried = t
        elif r.state & b.STATE_KNOWN and not r.state & b.IN_TRANSACTION:
            carried, told = None, 0
        elif not r.state & b.STATE_KNOWN and mean < 0.5:
            carried = None
        if words and told_ns > t and least < 1.0:
            continue
        if told != 3 and (carried is None or (told and carried < told_ns)):
            if watch.samples and not watch.raised:
                watch.samples.append((t, 0))
            if told not in {1, 2}:
                if watch.raised:
                    continue
                continue
            level = 0
        elif least >= 0.1 * mean and mean >= 1.0:
            level = 0
        elif mean < 2.0:
            continue
        else:
            level = 1 if least < 0.1 * mean else 0
        kind = watch.add(t, level, r.live)
        if not kind:
            continue
        end = watch.end_ns if kind == "clear" else t
        evidence: dict[str, float] = {"duration_s": (end - watch.start_ns) / S}
        if kind != "clear":
            evidence |= {"phase": amps.index(least) + 1, "current_a": least, "mean_a": mean}
        out.append(
            Expected(
                r.order, "phase_open", "evse", r.about.row, kind, "warning",
                watch.live, watch.start_ns, end, evidence,
            )
        )  # fmt: skip
    return out
