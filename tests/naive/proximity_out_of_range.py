"""Twin of `proximity_out_of_range`: counts episodes over the whole past at each sample."""

from __future__ import annotations

from .lasting import Lasting
from .plain import Expected, Reading, S, Story

_CHARGING = 2


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    watch = Lasting(0, 1, 60 * S, 1800 * S)
    seen: list[tuple[int, bool]] = []
    start = 0
    for r in readings:
        volts = r.values.get("x.PP.V")
        type_1 = r.about.declared and r.about.conn_type in {"IEC_62196_T1", "IEC_62196_T1_COMBO"}
        if volts is None or volts != volts or not type_1:
            continue
        seen.append((r.time_ns, bool(r.state & _CHARGING) and not 1.23 <= volts <= 1.82))
        begins = [t for i, (t, bad) in enumerate(seen) if bad and (i == 0 or not _runs_on(seen, i))]
        recent = [t for t in begins if r.time_ns - t <= 600 * S][-3:]
        twice = len(seen) > 1 and seen[-1][1] and _runs_on(seen, len(seen) - 1)
        kind = watch.add(r.time_ns, int(twice or len(recent) >= 3), r.live)
        if not kind:
            continue
        if kind != "clear":
            began = recent[0] if len(recent) == 3 else begins[-1]
            start = min(watch.start_ns, began, start or began)
        end = watch.end_ns if kind == "clear" else r.time_ns
        evidence: dict[str, float] = {"duration_s": (end - start) / S}
        if kind != "clear":
            evidence |= {"proximity_v": volts, "low_v": 1.23, "high_v": 1.82, "episodes": len(recent)}
        out.append(
            Expected(
                r.order, "proximity_out_of_range", "evse", r.about.row, kind, "warning",
                watch.live, start, end, evidence,
            )
        )  # fmt: skip
        start = 0 if kind == "clear" else start
    return out


def _runs_on(seen: list[tuple[int, bool]], i: int) -> bool:
    """Return whether sample i goes on with the episode of the one before."""
    return seen[i - 1][1] and seen[i][0] - seen[i - 1][0] <= 1800 * S
