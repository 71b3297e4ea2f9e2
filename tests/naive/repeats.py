"""Textbook form of something that happens too often: looks back over all times at every journal entry."""

from __future__ import annotations

from dataclasses import dataclass, field

from .plain import Expected, S, Story


@dataclass
class Happened:
    """One time: event time, order, journaled time, live."""

    time_ns: int
    order: int
    effect_ns: int
    live: bool


@dataclass
class Subject:
    """A node or station and every time it happened."""

    code: str
    scope: str
    row: int
    times: list[Happened] = field(default_factory=list)


def judge(story: Story, subject: Subject, least: int) -> list[Expected]:
    """Return what `least` times within an hour raise, and when it clears."""
    out: list[Expected] = []
    coming = sorted(subject.times, key=lambda h: h.order)
    at: list[int] = []
    raised, live, start, first = False, False, 0, 0

    def tell(order: int, kind: str, time_ns: int) -> None:
        evidence: dict[str, float] = {"times": len(at) - first}
        if kind == "raise":
            evidence |= {"span_s": (at[-1] - at[-least]) / S, "window_s": 3600.0}
        where = (order, subject.code, subject.scope, subject.row, kind, "warning")
        out.append(Expected(*where, live, start, time_ns, evidence))

    for message in sorted(story.messages, key=lambda m: m.order):
        while coming and coming[0].order <= message.order:
            now = coming.pop(0)
            at.append(max([now.time_ns, *at[-1:]]))
            if len(at) >= least and at[-1] - at[-least] <= 3600 * S:
                if not raised:
                    first = len(at) - least
                    start = at[first]
                if not raised or (now.live and not live):
                    raised, live = True, now.live
                    tell(now.order, "raise", at[-1])
        if raised and at[-least] + 3660 * S <= message.effect_ns:
            raised = False
            tell(message.order, "clear", at[-least] + 3600 * S)
    return out
