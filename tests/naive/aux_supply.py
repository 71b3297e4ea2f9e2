"""Twin of `aux_supply`: each EVSE alone, then any of a station's EVSEs counts."""

from __future__ import annotations

from .lasting import Lasting
from .plain import Expected, Reading, S, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    by_station: dict[int, list[Expected]] = {}
    for readings in story.by_evse():
        about = readings[0].about
        number = story.evses[about.row][1]
        by_station.setdefault(about.station, []).extend(_of_evse(readings, number))
    return [e for station, found in by_station.items() for e in _of_station(station, found)]


def _of_station(station: int, found: list[Expected]) -> list[Expected]:
    out: list[Expected] = []
    bad: set[int] = set()
    start, live = 0, False
    for e in sorted(found, key=lambda e: (e.order, e.evidence["evse"], e.time_ns)):
        if e.kind == "clear":
            bad.discard(e.evidence["evse"])
            if not bad:
                out.append(e._replace(subject=station, start_ns=start, live=live))
            continue
        if not bad:
            start, live = e.start_ns, e.live
            out.append(e._replace(subject=station))
        elif e.live and not live:
            live = True
            out.append(e._replace(subject=station, start_ns=start))
        bad.add(e.evidence["evse"])
    return out


def _of_evse(readings: list[Reading], number: int) -> list[Expected]:
    out: list[Expected] = []
    watch = Lasting(60 * S, 2, 60 * S, 1800 * S)
    run: list[float] = []  # since the run or finding began
    for r in readings:
        volts = r.values.get("x.Supply12V")
        if volts is None or volts != volts:
            continue
        if not watch.raised and (not watch.samples or watch.samples[-1][1] == 0):
            run = []
        run.append(volts)
        kind = watch.add(r.time_ns, int(abs(volts - 12.0) > 1.2 + 1e-9), r.live)
        if kind:
            end = watch.end_ns if kind == "clear" else r.time_ns
            evidence = {
                "supply_v": volts,
                "nominal_v": 12.0,
                "deviation_percent": 100 * (volts / 12.0 - 1),
                "worst_v": max(run, key=lambda v: abs(v - 12.0)),
                "duration_s": (end - watch.start_ns) / S,
                "evse": number,
            }
            out.append(
                Expected(
                    r.order, "aux_supply", "station", r.about.row, kind, "warning", watch.live,
                    watch.start_ns, end, evidence,
                )
            )  # fmt: skip
    return out
