"""Twin of `over_current`."""

from __future__ import annotations

from .lasting import Lasting
from .plain import Expected, Reading, S, Story


def _drawn(r: Reading) -> tuple[float, int] | None:
    """Return the current that counts and its phase, 0 without one."""
    phased = [(a, p) for p in (1, 2, 3) if (a := r.values.get(f"Current.Import@L{p}")) is not None and a == a]
    if phased and not r.about.dc:
        return max(phased, key=lambda pair: (pair[0], -pair[1]))
    plain = r.values.get("Current.Import")
    if plain is None or plain != plain:
        return None
    return plain / (1 if r.about.dc else r.about.phases or 3), 0


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    watch = Lasting(7 * S, 2, 60 * S, 1800 * S)
    offers: list[tuple[int, float]] = []
    for r in readings:
        offer = r.values.get("Current.Offered")
        if offer is not None and offer == offer:
            offers.append((r.time_ns, offer))
        drawn = _drawn(r)
        if drawn is None or not offers or r.time_ns - offers[-1][0] > 900 * S:
            continue
        offered = offers[-1][1]
        limit = offered * 1.10 + 0.5
        kind = watch.add(r.time_ns, 1 if drawn[0] > limit else 0, r.live)
        if not kind:
            continue
        end = watch.end_ns if kind == "clear" else r.time_ns
        evidence: dict[str, float] = {"duration_s": (end - watch.start_ns) / S}
        if kind != "clear":
            evidence |= {"current_a": drawn[0], "offered_a": offered, "limit_a": limit, "phase": drawn[1]}
        out.append(
            Expected(
                r.order, "over_current", "evse", r.about.row, kind, "warning",
                watch.live, watch.start_ns, end, evidence,
            )
        )  # fmt: skip
    return out
