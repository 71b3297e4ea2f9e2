"""When to charge: the cheapest quarters before a departure that are enough for the energy wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

SLOT_MS: Final = 900_000
#: Planned on top of the energy wanted: vehicles taper, and turns cost some.
_SPARE: Final = 1.1


class Job(NamedTuple):
    """A vehicle to be charged: `wh` until `depart_ms` at no more than `power_w`; the lowest `rank` first."""

    key: int
    wh: float
    depart_ms: int
    power_w: float
    rank: int = 1


def plan(
    jobs: Sequence[Job], now_ms: int, prices: Sequence[float], site_w: float
) -> dict[int, tuple[int, ...]]:
    """Return the slots (their starts, epoch ms, in order) in which each vehicle is to charge.

    Vehicles choose one after the other, by class and departure, each the cheapest quarters that the site's
    power has room in, of equal ones the earliest. One whose energy does not fit into what is left is not in
    the answer: it charges whenever it can.

    Parameters
    ----------
    prices : sequence of float
        Per kWh, of each slot from the one that `now_ms` lies in; as far as they are known.
    site_w : float
        For charging in each slot, W.
    """
    first = now_ms // SLOT_MS * SLOT_MS
    left = [site_w] * len(prices)
    found: dict[int, tuple[int, ...]] = {}
    for job in sorted(jobs, key=lambda job: (job.rank, job.depart_ms, job.key)):
        chosen, missing = _cheapest(job, now_ms, first, prices, left)
        if missing <= 0:
            for slot, power in chosen:
                left[slot] -= power
            found[job.key] = tuple(sorted(first + slot * SLOT_MS for slot, _ in chosen))
    return found


def _cheapest(
    job: Job, now_ms: int, first: int, prices: Sequence[float], left: list[float]
) -> tuple[list[tuple[int, float]], float]:
    """Return slots with the power planned in them, and the Wh that found no place."""
    missing = job.wh * _SPARE
    chosen: list[tuple[int, float]] = []
    for slot in sorted(range(len(prices)), key=lambda slot: (prices[slot], slot)):
        start, end = first + slot * SLOT_MS, first + (slot + 1) * SLOT_MS
        ms = min(end, job.depart_ms) - max(start, now_ms)
        power = min(job.power_w, left[slot])
        if missing <= 0:
            break
        if ms > 0 and power > 0:
            chosen.append((slot, power))
            missing -= power * ms / 3_600_000
    return chosen, missing
