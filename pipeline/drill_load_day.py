"""The vehicles of a day for the load drill: sessions of the ACN data where at hand, else made up alike."""

from __future__ import annotations

import csv
import gzip
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator

#: Files of the ACN data, a week's worth of days in each is enough.
_FILES: Final = ("caltech_2019-05-01_2019-08-31.csv.gz", "jpl_2019-05-01_2019-08-31.csv.gz")
_LEAST_SESSIONS: Final = 40
#: Phases and A per phase of vehicles on European AC stations, and how common they are.
_KINDS: Final = ((1, 32.0), (2, 16.0), (3, 16.0))
_SHARES: Final = (0.45, 0.15, 0.40)
_DAY_S: Final = 86_400


class Visit(NamedTuple):
    """A vehicle at an EVSE: seconds of the day, Wh it can take, its phases and A per phase.

    `says_s` and `wants_wh` are what the driver said of departure and energy (in the data: sessions claimed by
    a driver), which is often wrong; 0: nothing.
    """

    evse: int
    arrive_s: int
    leave_s: int
    wh: float
    phases: int
    max_a: float
    says_s: int
    wants_wh: float


class Day(NamedTuple):
    """A day of visits, where it comes from, and how many found no free EVSE."""

    visits: list[Visit]
    source: str
    turned_away: int


def make_day(rng: Generator, evses: int, seconds: int, data: Path | None, stated: str = "right") -> Day:
    """Return the visits of one working day at `evses` EVSEs.

    Parameters
    ----------
    stated : {"right", "drivers", "none"}
        Departure and energy wanted are told as they turn out, as drivers told them (often wrong, or not at
        all), or by nobody.
    data : Path or None
        Folder with ``ev/acn-sessions``; where it is absent, a synthetic day of the same kind is drawn and
        the source says so.
    """
    folder = data / "ev" / "acn-sessions" if data else None
    if folder and all((folder / name).is_file() for name in _FILES):
        raw, source = _acn(rng, folder)
    else:
        raw, source = _synthetic(rng, evses), "synthetic arrivals (no ACN data at hand)"
    day = _placed(rng, raw, evses, seconds, source)
    if stated == "right":
        return day._replace(visits=[v._replace(says_s=v.leave_s, wants_wh=v.wh) for v in day.visits])
    if stated == "none":
        return day._replace(visits=[v._replace(says_s=0, wants_wh=0.0) for v in day.visits])
    return day


def _acn(rng: Generator, folder: Path) -> tuple[list[tuple[int, int, float, int, float]], str]:
    days: dict[str, list[tuple[int, int, float, int, float]]] = {}
    for name in _FILES:
        with gzip.open(folder / name, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                arrive, leave = (datetime.fromisoformat(row[key]) for key in ("arrival", "departure"))
                midnight = arrive.replace(hour=0, minute=0, second=0)
                says = datetime.fromisoformat(row["estimated_departure"])
                site = name.partition("_")[0].capitalize()
                days.setdefault(f"{site} {arrive.date().isoformat()}", []).append(
                    (
                        int((arrive - midnight).total_seconds()),
                        int((leave - midnight).total_seconds()),
                        float(row["delivered_energy (kWh)"]) * 1000,
                        int((says - midnight).total_seconds()),
                        float(row["requested_energy (kWh)"]) * 1000 if row["claimed"] == "True" else 0.0,
                    )
                )
    busy = sorted(day for day, visits in days.items() if len(visits) >= _LEAST_SESSIONS)
    day = busy[int(rng.integers(len(busy)))]
    return sorted(days[day]), f"ACN-Data, {day}"


def _synthetic(rng: Generator, evses: int) -> list[tuple[int, int, float, int, float]]:
    """Draw a working day: most come in the morning and stay a shift, some come later for an hour or two."""
    n = round(evses * 1.6)
    morning = rng.random(n) < 0.7
    arrive = np.where(morning, rng.normal(8.2, 1.0, n), rng.uniform(9, 20, n)) * 3600
    stay = np.where(morning, rng.normal(7.5, 1.8, n), rng.gamma(4.0, 0.6, n)) * 3600
    wh = np.clip(rng.gamma(2.4, 5.5, n), 1.0, 60.0) * 1000
    said = rng.normal(0, 1800, n)
    return sorted(
        (max(0, int(a)), int(a + max(900, s)), float(e), int(a + max(900, s) + d), float(e * 1.1 * tells))
        for a, s, e, d, tells in zip(arrive, stay, wh, said, rng.random(n) < 0.8, strict=True)
    )


def _placed(
    rng: Generator, raw: list[tuple[int, int, float, int, float]], evses: int, seconds: int, source: str
) -> Day:
    free_s = [0] * evses
    visits, away = [], 0
    for arrive, leave, wh, says, wants in raw:
        leave = min(leave, seconds - 60)
        if leave - arrive < 120:
            continue
        open_ = [evse for evse in range(evses) if free_s[evse] <= arrive]
        if not open_:
            away += 1
            continue
        evse = int(open_[int(rng.integers(len(open_)))])
        free_s[evse] = leave + 60
        phases, max_a = _KINDS[int(rng.choice(len(_KINDS), p=_SHARES))]
        tells = wants > 0 and says > arrive
        visits.append(
            Visit(evse, arrive, leave, wh, phases, max_a, says if tells else 0, wants if tells else 0.0)
        )
    return Day(visits, source, away)
