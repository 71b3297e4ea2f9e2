"""A hand-made stream for unit tests of detectors: a stand-alone station, and one behind a gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from models import plugins
from models.detecting import Detector, Emission, Emissions
from models.records import Origin
from tests.laws.streams import batches
from tests.laws.teller import T0
from tests.naive.plain import Evse, Message, Reading, S, Story

#: Start of the tape: a full ten minutes, so that means are easy to reckon.
START_NS = T0 // (600 * S) * 600 * S


def at_ns(seconds: float) -> int:
    """Return the time `seconds` after the start of the tape."""
    return START_NS + round(seconds * S)


class Tape:
    """Records what happens, in order; times are seconds from the start.

    EVSE 0 belongs to the stand-alone station ``alone`` (node 0), EVSE 1 to ``G1`` behind ``gateway``
    (node 1).
    """

    def __init__(self, **about: Any) -> None:
        about = {"sample_s": 10.0} | about
        self.about = Evse(0, 0, 0, **about)
        self.behind = Evse(1, 1, 1, **about)
        self.story = Story(
            ["site"],
            [(0, "alone"), (0, "gateway")],
            [(0, "alone", 0), (0, "G1", 1)],
            [(0, 1), (1, 1)],
        )

    @property
    def order(self) -> int:
        """The order of the next message."""
        return len(self.story.messages)

    def message(self, t: float, node: int, kind: str, **fields: Any) -> Origin:
        """Add a message; return where it stands."""
        recv = at_ns(fields.pop("recv", t))
        self.story.messages.append(Message(self.order, recv, at_ns(t), node, kind, **fields))
        return Origin(
            order=self.order - 1,
            pos=self.order - 1,
            recv_ns=recv,
            effect_ns=at_ns(t),
            node_row=node,
            boot=fields.get("boot", -1),
            seq=fields.get("seq", -1),
        )

    def ticks(self, start: float, end: float, step: float = 1.0) -> None:
        """Add ticks from `start` (inclusive) to `end` (exclusive)."""
        while start < end:
            self.message(start, -1, "tick")
            start += step

    def sample(
        self,
        t: float,
        values: dict[str, float] | None = None,
        *,
        reg_wh: float | None = None,
        live: bool = True,
        arrives: float | None = None,
        behind: bool = False,
        state: int = 0,
        **change: Any,
    ) -> None:
        """Add a message with one reading; `change` alters the inventory from here on."""
        if change:
            self.about = replace(self.about, **change)
        about = self.behind if behind else self.about
        at = self.message(t if arrives is None else arrives, about.node, "meter", live=live)
        reg = None if reg_wh is None else round(reg_wh * 1000)
        self.story.readings.append(
            Reading(about, at_ns(t), at.order, at.effect_ns, live, values or {}, reg, state)
        )

    def record(self, record: Any) -> None:
        """Add a record that belongs to the last message."""
        self.story.records.append(record)

    def run(self, name: str, **config: Any) -> list[Emission]:
        """Return what a detector emits."""
        module = plugins.load("models.detectors", name)
        detector: Detector = module.build(module.Config(**config))
        out = Emissions()
        for seen in batches(self.story):
            detector.process(seen, out)
        return out.drain()


def brief(emissions: list[Emission]) -> list[tuple[str, float, float]]:
    """Return (kind, start, time) of emissions, in seconds from the start of the tape."""
    kinds = {1: "raise", 2: "update", 3: "clear"}
    return [(kinds[e.kind], (e.start_ns - START_NS) / S, (e.time_ns - START_NS) / S) for e in emissions]
