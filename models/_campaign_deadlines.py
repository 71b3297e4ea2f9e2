"""Updates whose time is over, and those that may not end yet because a car charges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ._campaign_states import Member, Step

if TYPE_CHECKING:
    from ._campaign_run import Run

#: The station may wait for the car before it fetches or installs (OCPP 2.0.1 L01.FR.06, L01.FR.13).
_PUT_OFF_BY_CARS: Final = (Member.ACCEPTED, Member.DOWNLOADED)


def time_out(run: Run, now_ms: int) -> None:
    """End the attempts whose time is over; one that waits for a car has its time anew."""
    members, n = run.members, len(run.fleet)
    late = members.flying() & (members.deadline_ms[:n] <= now_ms)
    if not late.any():
        return
    waits = late & _waiting_for_cars(run, now_ms)
    for row in np.flatnonzero(waits).tolist():
        extend(run, row, now_ms)
    for row in members.ordered(late & ~waits):
        minutes = (now_ms - int(members.asked_ms[row])) // 60_000
        reason = f"no birth with {run.plan.image.version} {minutes} minutes after the request"
        run.end_attempt(int(row), now_ms, Step.TIME_OUT, reason, counted=True)


def _waiting_for_cars(run: Run, now_ms: int) -> NDArray[np.bool_]:
    """Return a mask over the fleet: accepted, not at work yet, there, and a car charges.

    Not for longer than a wave may take: a transaction that nobody ends must not hold a campaign open.
    """
    members, fleet, n = run.members, run.fleet, len(run.fleet)
    waits: NDArray[np.bool_] = (
        members.chosen(*_PUT_OFF_BY_CARS) & (fleet.charging[:n] == 1) & (fleet.online[:n] == 1)
    )
    waits &= now_ms - members.asked_ms[:n] < run.plan.wave_timeout_s * 1000
    return waits


def give_up(run: Run, now_ms: int) -> None:
    """End what is still due when the time of its wave is over."""
    if now_ms < run.wave_opened_ms + run.plan.wave_timeout_s * 1000:
        return
    members = run.members
    for row in members.ordered(members.chosen(Member.DUE)):
        failed = int(members.failed[row])
        if failed:
            members.step(int(row), Step.FAIL, now_ms, f"{failed} attempts failed, none could follow")
        else:
            members.step(int(row), Step.MISS, now_ms, "never free and online in its window")


def car_left(run: Run, row: int, now_ms: int) -> None:
    """A car has done: what waited for it has the whole time of an attempt from now on."""
    if run.open and Member(int(run.members.states[row])) in _PUT_OFF_BY_CARS:
        extend(run, row, now_ms)


def extend(run: Run, row: int, now_ms: int) -> None:
    """Give an attempt its time anew."""
    members = run.members
    later = now_ms + run.plan.attempt_timeout_s * 1000
    if later > members.deadline_ms[row]:
        members.deadline_ms[row] = later
        members.told += 1
