"""Twin of `learned_power`: every reading of a session kept, minutes and bands written out.

The model is made by hand, so that nothing has to be trained: two classes of vehicles, and stumps.
"""

from __future__ import annotations

import atexit
import itertools
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from models.batch import IN_TRANSACTION, SUSPENDED_EV, SUSPENDED_EVSE
from models.learned.model_file import save
from models.learned.power_model import PowerModel
from models.learned.trees import Trees
from models.records import Transaction

from .plain import Expected, Reading, S, Story

MINUTE = 60 * S
GAP = 14_400 * S


def stump(feature: int, threshold: float, left: float, right: float) -> Trees:
    """Return one tree of two leaves; a missing value goes left."""
    i4 = np.int32
    return Trees(
        np.array([0], i4),
        np.array([feature, -1, -1], i4),
        np.array([threshold, 0.0, 0.0]),
        np.array([1, -1, -1], i4),
        np.array([2, -1, -1], i4),
        np.array([1, 0, 0], np.uint8),
        np.array([0.0, left, right]),
    )


def model(level: float = 0.05) -> PowerModel:
    """Return a model; the level decides how wide its band is."""
    header: dict[str, Any] = {
        "kind": "power",
        "format": 1,
        "version": 1,
        "features_version": 1,
        "features": ["offered_share", "vehicle_class"],
        "quantiles": [0.05, 0.5, 0.95],
        "base": [0.6, 0.9, 1.0],
        "level": level,
        "hold_s": 60.0,
        "windows": 2,
        "gap_s": 1800.0,
        "settings": {},
        "training": {"fingerprint": "", "sessions": 0, "stations": 0, "windows": 0},
        "metrics": {},
    }
    return PowerModel(
        header,
        np.array([[-1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]),
        np.array([2.0, 1.0, 1.0, 0.9]),
        np.array([1.0, 1.0, 0.5, 0.1]),
        np.zeros((4, 9)),
        np.full((4, 11), 1 / 11),
        stump(3, 0.5, -0.3, 0.0),
        stump(5, 0.5, 0.0, 0.05),
        stump(5, 0.5, 0.0, 0.1),
    )


FOLDER = Path(tempfile.mkdtemp(prefix="models-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
MODEL, OTHER = model(), model(0.1)
for _model in (MODEL, OTHER):
    save(_model, FOLDER)

#: Stories last an hour or two.
LAW_CONFIG: dict[str, Any] = {"models": str(FOLDER), "model": MODEL.model_id, "shadow": OTHER.model_id}


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit."""
    out: list[Expected] = []
    ended = [
        r for r in story.records if isinstance(r, Transaction) and r.event_type == "Ended" and r.evse_row >= 0
    ]
    for readings in story.by_evse():
        row = readings[0].about.row
        events: list[tuple[int, int, int, Any]] = [(r.order, 0, r.time_ns, r) for r in readings]
        events += [(r.at.order, 1, 0, r.at) for r in ended if r.evse_row == row]
        session: list[Reading] = []
        told = 0  # readings of the session whose minutes are judged
        course = _Course(row, out)
        for _, is_end, _, event in sorted(events, key=lambda e: e[:3]):
            if is_end:
                course.over(session, event)
                session, told = [], 0
            elif _known(event):
                inside = event.state & IN_TRANSACTION
                if session and (not inside or event.time_ns - session[-1].time_ns > GAP):
                    course.over(session, event)
                    session, told = [], 0
                if not inside:
                    continue
                if session and event.time_ns // MINUTE != session[-1].time_ns // MINUTE:
                    course.minute(session, session[told:], event)
                    told = len(session)
                session.append(event)
    return out


class _Course:
    """What is said of one EVSE."""

    def __init__(self, row: int, out: list[Expected]) -> None:
        self.row, self.out = row, out
        self.history: list[tuple[int, bool]] = []  # judged minutes since the last reset: (time, outside)
        self.open: tuple[int, bool] | None = None
        self.minutes: list[tuple[int, float, list[Reading]]] = []  # with a power, from the first active one
        self.said = False  # a minute after the first five was told

    def minute(self, session: list[Reading], part: list[Reading], by: Reading) -> None:
        """Take in a minute that is over."""
        powers = [w for r in part if math.isfinite(w := _watts(r))]
        if not powers:
            return
        mean, number = sum(powers) / len(powers), part[-1].time_ns // MINUTE
        if not self.minutes and not mean > 100.0:
            return
        self.minutes.append((number, mean, part))
        first = [m for k, m in enumerate(self.minutes) if k == 0 or m[0] - self.minutes[0][0] < 5]
        if self.minutes[-1] not in first:
            self.said = True
            self._judge(first, session, part, mean, number, by)

    def _judge(
        self, first: list[Any], session: list[Reading], part: list[Reading], mean: float, number: int, by: Any
    ) -> None:
        reference, at = max(m[1] for m in first), max(first, key=lambda m: m[1])[2]
        w_per_a = reference / a if (a := _amps(at)) > 1.0 else math.nan
        first_offer, offer = _offer(at, w_per_a), _offer(part, w_per_a)
        if any(r.state & (SUSPENDED_EV | SUSPENDED_EVSE) for r in part) or not mean > 100.0:
            return
        if math.isnan(offer):
            return
        size = 1 if math.log(reference / 1e3) > 2.0 else 0  # the nearer of two centres
        share, offered = mean / reference, offer / reference
        low = max(0.0, 0.6 + (0.0 if offered > 0.5 else -0.3) - 0.05)
        high = 1.0 + (0.1 if size else 0.0) + 0.05
        same = first_offer > 0 and offer <= 1.1 * first_offer
        outside = (share < low and offered >= low) or (share > high and same)
        figures = {"power_w": share, "low_w": low, "high_w": high, "usual_w": 0.9 + (0.05 if size else 0.0)}
        evidence = {"detector": "learned_power", "model": MODEL.model_id}
        self._watch(number * MINUTE, outside, by, evidence | {k: v * reference for k, v in figures.items()})

    def _watch(self, t: int, outside: bool, by: Any, evidence: dict[str, Any]) -> None:
        self.history.append((t, outside))
        run = list(itertools.takewhile(lambda m: m[1], reversed(self.history)))
        run = run[
            : 1
            + len(list(itertools.takewhile(lambda p: p[0][0] - p[1][0] <= 1800 * S, itertools.pairwise(run))))
        ]
        if outside and len(run) >= 2 and t - run[-1][0] >= 60 * S:
            if self.open is None or (by.live and not self.open[1]):
                start = run[-1][0] if self.open is None else self.open[0]
                self.open = (start, by.live)
                self._say("raise", t, by, evidence)
        elif outside and self.open is not None and by.live and not self.open[1]:
            self.open = (self.open[0], True)
            self._say("raise", t, by, evidence)
        elif not outside and self.open is not None:
            good = [m[0] for m in itertools.takewhile(lambda m: not m[1], reversed(self.history))][-1]
            if t - good >= 60 * S:
                self._say("clear", good, by, {"detector": "learned_power"})
                self.open = None

    def over(self, session: list[Reading], by: Any) -> None:
        """End a session."""
        if self.said and self.open is not None:
            good = [m[0] for m in itertools.takewhile(lambda m: not m[1], reversed(self.history))]
            self._say("clear", good[-1] if good else session[-1].time_ns, by, {"detector": "learned_power"})
            self.open = None
        self.history, self.minutes, self.said = [], [], False

    def _say(self, kind: str, t: int, by: Any, evidence: dict[str, Any]) -> None:
        assert self.open is not None
        start, live = self.open
        self.out.append(
            Expected(by.order, "unusual", "evse", self.row, kind, "info", live, start, t, evidence)
        )


def _value(reading: Reading, name: str) -> float:
    return reading.values.get(name, math.nan)


def _watts(reading: Reading) -> float:
    whole = _value(reading, "Power.Active.Import")
    return whole if whole == whole else sum(_value(reading, f"Power.Active.Import@L{p}") for p in (1, 2, 3))


def _amps(part: list[Reading]) -> float:
    """Return the mean of the most loaded phase's current, 0 where none is known."""
    names = ("Current.Import", *(f"Current.Import@L{p}" for p in (1, 2, 3)))
    known = [[a for name in names if (a := _value(r, name)) == a] for r in part]
    tops = [max(values) for values in known if values]
    return sum(tops) / len(tops) if tops else 0.0


def _offer(part: list[Reading], w_per_a: float) -> float:
    """Return the least power that was offered in a minute."""
    watts = [w for r in part if (w := _value(r, "Power.Offered")) == w]
    amps = [a for r in part if (a := _value(r, "Current.Offered")) == a]
    return min(watts) if watts else (min(amps) * w_per_a if amps else math.nan)


#: What makes a reading one of a session.
_READ = (
    *(f"{name}{p}" for name in ("Power.Active.Import", "Current.Import") for p in ("", "@L1", "@L2", "@L3")),
    *("Current.Offered", "Power.Offered", "SoC", "Temperature/Cable"),
)


def _known(reading: Reading) -> bool:
    return any(math.isfinite(_value(reading, name)) for name in _READ)
