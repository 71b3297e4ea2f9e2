"""Twin of `flapping`."""

from __future__ import annotations

from models.records import Birth, Link

from .plain import Expected, S, Story
from .repeats import Happened, Subject, judge


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    nodes = [Subject("flapping", "node", row) for row in range(len(story.nodes))]
    stations = [Subject("flapping", "station", row) for row in range(len(story.stations))]
    last: dict[int, tuple[int, int]] = {}
    lost: set[int] = set()
    for record in story.records:
        at = record.at
        if isinstance(record, Link):
            if record.online and record.station_row in lost:
                live = at.live and at.recv_ns - record.time_ns <= 900 * S
                stations[record.station_row].times.append(
                    Happened(record.time_ns, at.order, at.effect_ns, live)
                )
                lost.discard(record.station_row)
            elif not record.online:
                lost.add(record.station_row)
        elif isinstance(record, Birth) and record.online:
            connection = (at.boot, record.cid)
            before = last.get(at.node_row, (-1, -1))
            if connection < before or (record.cid >= 0 and connection == before):
                continue
            last[at.node_row] = connection
            if not record.retained:
                nodes[at.node_row].times.append(Happened(at.effect_ns, at.order, at.effect_ns, True))
    return [e for subject in nodes + stations for e in judge(story, subject, 6)]
