"""Twin of `cabinet_over_temperature`: each EVSE judged alone, then any of a station's EVSEs counts."""

from __future__ import annotations

from .lasting import Lasting
from .plain import Expected, Reading, S, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    found = [item for readings in story.by_evse() for item in _of_evse(readings)]
    found.sort(key=lambda item: (item[0].order, story.evses[item[0].about.row][1], item[0].time_ns))
    out: list[Expected] = []
    hot: dict[int, set[int]] = {}
    said: dict[int, tuple[bool, int]] = {}
    for r, kind, watch_live, start_ns, end_ns, evidence in found:
        station = r.about.station
        rows = hot.setdefault(station, set())
        if kind == "clear":
            rows.discard(r.about.row)
            if rows:
                continue
            live, start_ns = said.pop(station)
        else:
            rows.add(r.about.row)
            live = watch_live
            if station in said:
                was, start_ns = said[station]
                if was or not live:
                    continue
            said[station] = (live, start_ns)
        out.append(
            Expected(
                r.order, "cabinet_over_temperature", "station", station, kind, "warning", live, start_ns,
                end_ns, evidence | {"evse": story.evses[r.about.row][1]},
            )
        )  # fmt: skip
    return out


def _of_evse(readings: list[Reading]) -> list[tuple[Reading, str, bool, int, int, dict[str, float]]]:
    out = []
    watch = Lasting(60 * S, 2, 60 * S, 1800 * S)
    hottest: list[float] = []  # since the run or finding began
    for r in readings:
        celsius = r.values.get("Temperature/Body")
        if celsius is None or not -40.0 < celsius < 150.0:
            continue
        if not watch.raised and (not watch.samples or watch.samples[-1][1] == 0):
            hottest = []
        hottest.append(celsius)
        kind = watch.add(r.time_ns, int(celsius >= 70.0), r.live)
        if kind:
            end = watch.end_ns if kind == "clear" else r.time_ns
            evidence = {"temperature_max_c": max(hottest), "duration_s": (end - watch.start_ns) / S}
            if kind != "clear":
                evidence |= {"temperature_c": celsius, "limit_c": 70.0}
            out.append((r, kind, watch.live, watch.start_ns, end, evidence))
    return out
