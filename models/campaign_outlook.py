"""What is ahead of a campaign: the waves to come, when each may begin, and when it may end.

Computed from what the ledger has; nothing of it is a promise. `Outlook.ends_ms` supposes that what a person
has to do is done now, that every station is there, and that the gate decides after its shortest soak: sooner
it cannot be. `Outlook.likely_ms` supposes that the waves to come take as long as those that are done.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ._campaign_members import rank_of
from ._campaign_plan import Plan
from ._campaign_windows import Windows

#: How long one update takes while none of the campaign has ended: a download and two boots.
USUAL_UPDATE_S: Final = 600.0
_ENDED: Final = ("finished", "aborted", "rolled_back")
#: What a person has to do first.
_NEEDS: Final = {
    "waiting_for_approval": "a second person approves it",
    "approved": "somebody starts it",
    "paused": "somebody resumes it",
}


class WaveTimes(msgspec.Struct, frozen=True, kw_only=True):
    """When a wave opened, when it was done, when the next one opened (epoch ms; None: not yet)."""

    wave: int
    opened_ms: int
    done_ms: int | None = None
    next_ms: int | None = None


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign as the ledger has it.

    Attributes
    ----------
    waves : tuple of WaveTimes
        Those that were opened.
    sizes : dict
        Wave -> stations in it; -1: those that wait for theirs.
    left : int
        Stations of open waves that have not come to an end.
    update_s : float or None
        Mean time of an update so far, from the request to the birth.
    since_ms : int
        When its state changed last, and `text` why.
    """

    plan: Plan
    state: str
    since_ms: int
    text: str = ""
    waves: tuple[WaveTimes, ...] = ()
    sizes: dict[int, int] = {}
    left: int = 0
    flying: int = 0
    update_s: float | None = None

    @property
    def wave(self) -> int:
        """The open wave, -1 before the first."""
        return self.waves[-1].wave if self.waves else -1

    @property
    def waiting(self) -> int:
        """Stations whose wave is not open."""
        return self.sizes.get(-1, 0)

    def ahead(self) -> list[int]:
        """Return the sizes of the waves to come."""
        taken = sum(size for wave, size in self.sizes.items() if wave >= 0)
        last = self.sizes.get(self.wave, 0)
        return self.plan.wave_sizes(self.waiting, self.wave, last, taken)


class WaveAhead(msgspec.Struct, frozen=True, kw_only=True):
    """A wave to come: not before `opens_ms`, and not done before `ends_ms` (epoch ms)."""

    wave: int
    stations: int
    opens_ms: int | None
    ends_ms: int | None


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What is ahead; times are epoch ms.

    Attributes
    ----------
    needs : str
        What a person has to do first, "" if nothing.
    ends_ms : int or None
        Not before; None: it has ended, or its windows open too seldom to say.
    likely_ms : int or None
        At the pace of the waves so far; None while none is done.
    """

    at_ms: int
    needs: str
    waves: tuple[WaveAhead, ...]
    ends_ms: int | None
    likely_ms: int | None


def outlook(view: View, now_ms: int) -> Outlook:
    """Return what is ahead of a campaign at `now_ms`."""
    if view.state in _ENDED:
        return Outlook(at_ms=now_ms, needs="", waves=(), ends_ms=None, likely_ms=None)
    plan = view.plan
    sizes = view.ahead() if view.state not in ("aborting", "rolling_back") else []
    soak_ms = plan.gating.min_soak_s * 1000 if plan.gating is not None else 0
    windows = Windows(plan)
    at: int | None = _present_done(view, windows, now_ms)
    found = []
    for number, size in enumerate(sizes, view.wave + 1):
        if at is not None and number > 0:
            done = view.waves[-1].done_ms if number == view.wave + 1 and view.waves else None
            at = max(at, (at if done is None else done) + soak_ms)
        opens = None if at is None else windows.next_open("", at)
        at = None if opens is None else _done(view, windows, opens, size)
        found.append(WaveAhead(wave=number, stations=size, opens_ms=opens, ends_ms=at))
    return Outlook(
        at_ms=now_ms,
        needs=_NEEDS.get(view.state, ""),
        waves=tuple(found),
        ends_ms=at,
        likely_ms=_likely(view, len(sizes), now_ms),
    )


def _present_done(view: View, windows: Windows, now_ms: int) -> int | None:
    """Return when the open wave may be done at the earliest."""
    if not view.waves or not view.left:
        return now_ms
    return _done(view, windows, now_ms, view.left - view.flying)


def _done(view: View, windows: Windows, from_ms: int, stations: int) -> int | None:
    """Return when `stations` more may run the version at the earliest: pace, updates under way, windows."""
    plan, update_s = view.plan, view.update_s or USUAL_UPDATE_S
    asking_s = max(stations * 60 / plan.per_minute, (stations / plan.max_in_flight - 1) * update_s, 0.0)
    asked = windows.after_open("", from_ms, round(asking_s * 1000))
    return None if asked is None else asked + round(update_s * 1000)


def _likely(view: View, ahead: int, now_ms: int) -> int | None:
    done = [wave for wave in view.waves if wave.done_ms is not None]
    if not done:
        return None
    working = sum((w.done_ms or 0) - w.opened_ms for w in done) / len(done)
    waits = [w.next_ms - (w.done_ms or 0) for w in done if w.next_ms is not None]
    least = view.plan.gating.min_soak_s * 1000 if view.plan.gating is not None else 0
    waiting = max(least, sum(waits) / len(waits)) if waits else float(least)
    last = view.waves[-1]
    if last.done_ms is None:
        rest = max(0.0, last.opened_ms + working - now_ms) + waiting * (ahead > 0)
    else:
        rest = max(0.0, last.done_ms + waiting - now_ms) if ahead else 0.0
    return round(now_ms + rest + ahead * working + max(0, ahead - 1) * waiting)


def wave_of(view: View, site: str, station: str, others: list[tuple[str, str]]) -> tuple[int, int]:
    """Return the wave that a waiting station will be in, and how many stations come before it.

    Parameters
    ----------
    others : list of (site, station)
        All that wait, itself among them or not. Stations that join later may push it back.
    """
    own = rank_of(view.plan.id, site, station)
    before = sum(rank_of(view.plan.id, *other) < own for other in others)
    left, number = before, view.wave + 1
    for size in view.ahead():
        if left < size:
            break
        left, number = left - size, number + 1
    return number, before


def waves_of(view: View, waiting: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the wave that each of the waiting stations (site, station) will be in."""
    ordered = sorted(waiting, key=lambda name: rank_of(view.plan.id, *name))
    found: dict[tuple[str, str], int] = {}
    for number, size in enumerate(view.ahead(), view.wave + 1):
        found |= dict.fromkeys(ordered[len(found) : len(found) + size], number)
    return found


def view_of(
    plan: dict[str, Any],
    state: str,
    changes: list[dict[str, Any]],
    states: dict[int, dict[str, int]],
    update_s: float | None,
) -> View:
    """Return a campaign from its rows.

    Parameters
    ----------
    plan : dict
        As the row of its ``create`` has it.
    changes : list of dict
        Its history, oldest first.
    states : dict
        Wave (-1: not open) -> state -> stations.
    """
    waves: list[WaveTimes] = []
    for change in changes:
        if change["event"] == "wave":
            if waves:
                waves[-1] = msgspec.structs.replace(waves[-1], next_ms=change["at_ms"])
            waves.append(WaveTimes(wave=change["wave"], opened_ms=change["at_ms"]))
        elif change["event"] == "wave_done" and waves:
            waves[-1] = msgspec.structs.replace(waves[-1], done_ms=change["at_ms"])
    turns = [c for c in changes if c["event"] not in ("wave", "wave_done", "gate", "refused")]
    total = {state: sum(found.get(state, 0) for found in states.values()) for state in _LEFT}
    return View(
        plan=msgspec.convert(plan, Plan),
        state=state,
        since_ms=turns[-1]["at_ms"] if turns else 0,
        text=turns[-1]["text"] if turns else "",
        waves=tuple(waves),
        sizes={wave: _counted(wave, found) for wave, found in states.items()},
        left=sum(total.values()),
        flying=sum(total.values()) - total["due"],
        update_s=update_s,
    )


def _counted(wave: int, states: dict[str, int]) -> int:
    """Return how many stations a wave has; of those without one, how many wait."""
    return states.get("waiting", 0) if wave < 0 else sum(states.values())


FLYING: Final = ("requested", "accepted", "downloading", "downloaded", "installing", "installed")
_LEFT: Final = ("due", *FLYING)
