"""Twin of `connector_over_temperature`."""

from __future__ import annotations

from .lasting import Lasting
from .plain import Expected, Reading, S, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    watch = Lasting(30 * S, 2, 60 * S, 1800 * S)
    hottest_ever: list[float] = []  # since the run or finding began
    for r in readings:
        sensors = [r.values.get("Temperature/Cable"), r.values.get("Temperature/Outlet")]
        good = [(c, i + 1) for i, c in enumerate(sensors) if c is not None and -40.0 < c < 150.0]
        if not good:
            continue
        hottest, sensor = max(good, key=lambda pair: (pair[0], -pair[1]))
        warning, critical = (90.0, 100.0) if r.about.dc else (65.0, 80.0)
        level = 2 if hottest >= critical else 1 if hottest >= warning else 0
        fresh = not watch.samples or watch.samples[-1][1] == 0
        if not watch.raised and fresh:
            hottest_ever = []
        hottest_ever.append(hottest)
        kind = watch.add(r.time_ns, level, r.live)
        if not kind:
            continue
        severe = watch.raised == 2
        end = watch.end_ns if kind == "clear" else r.time_ns
        evidence: dict[str, float] = {
            "temperature_max_c": max(hottest_ever),
            "duration_s": (end - watch.start_ns) / S,
        }
        if kind != "clear":
            evidence |= {
                "temperature_c": hottest,
                "limit_c": critical if severe else warning,
                "sensor": sensor,
            }
        out.append(
            Expected(
                r.order, "connector_over_temperature", "evse", r.about.row, kind,
                "critical" if severe else "warning", watch.live, watch.start_ns, end, evidence,
            )
        )  # fmt: skip
    return out
