"""The stations of one campaign: a state machine for each, in columns."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ._campaign_columns import Columns
from ._campaign_fleet import Fleet
from ._campaign_states import IN_FLIGHT, MEMBER, TERMINAL, Member, Step
from .campaign_rows import CampaignStationRow

_NAMES: Final = {state: state.name.lower() for state in Member}
NO_TIME: Final = -1


@functools.cache
def _table(states: tuple[Member, ...]) -> NDArray[np.bool_]:
    """Return for each state whether it is one of `states`."""
    return np.isin(np.arange(len(Member)), states)


def request_id_of(campaign: str, site: str, station: str, attempt: int) -> int:
    """Return the OCPP requestId of an attempt, 31 bits, from the names alone: the same after a restart."""
    return _digest(f"request/{campaign}/{attempt}", site, station) & 0x7FFF_FFFF


def rank_of(campaign: str, site: str, station: str) -> int:
    """Return what orders the stations of a campaign: a hash of the names, the same after every restart."""
    return _digest(campaign, site, station)


def _digest(what: str, site: str, station: str) -> int:
    text = "\0".join((what, site, station)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Members(Columns):
    """Stations of one campaign, by row of the fleet.

    `rank` orders them: a hash of campaign and station, so a wave is a random sample of those before it, and
    the same one after every restart.
    """

    COLUMNS: ClassVar[Mapping[str, tuple[str, int]]] = {
        "state": ("uint8", 0),
        "wave": ("int16", -1),
        "attempt": ("int32", 0),
        "failed": ("int16", 0),
        "request": ("int64", -1),
        "before": ("int32", 0),  # word of the version it had when it joined
        "boot": ("int64", -1),  # when it was asked
        "asked_ms": ("int64", NO_TIME),
        "deadline_ms": ("int64", NO_TIME),
        "not_before_ms": ("int64", NO_TIME),
        "shed_ms": ("int64", NO_TIME),  # file server put it off, and until when
        "shed_until_ms": ("int64", NO_TIME),
        "since_ms": ("int64", NO_TIME),
        "reason": ("int32", 0),
        "change": ("int32", 0),
        "rank": ("uint64", 0),
    }
    state: NDArray[np.uint8]
    wave: NDArray[np.int16]
    attempt: NDArray[np.int32]
    failed: NDArray[np.int16]
    request: NDArray[np.int64]
    before: NDArray[np.int32]
    boot: NDArray[np.int64]
    asked_ms: NDArray[np.int64]
    deadline_ms: NDArray[np.int64]
    not_before_ms: NDArray[np.int64]
    shed_ms: NDArray[np.int64]
    shed_until_ms: NDArray[np.int64]
    since_ms: NDArray[np.int64]
    reason: NDArray[np.int32]
    change: NDArray[np.int32]
    rank: NDArray[np.uint64]

    def __init__(self, campaign: str, fleet: Fleet) -> None:
        super().__init__()
        self.campaign = campaign
        self.fleet = fleet
        self.rows: list[CampaignStationRow] = []
        self.told = 0  # changes since this program began, those of deadlines too

    def join(self, row: int, now_ms: int, state: Member, reason: str = "") -> None:
        """Take a station in."""
        self.room(len(self.fleet))
        self.state[row] = state
        self.before[row] = self.fleet.fw[row]
        self.rank[row] = rank_of(self.campaign, *self.fleet.names[row])
        self._tell(row, now_ms, reason)

    def step(self, row: int, step: Step, now_ms: int, reason: str = "") -> bool:
        """Let something happen to a station; return whether its state changed."""
        before = Member(int(self.state[row]))
        after = MEMBER[before, step]
        if after is None or after is before:
            return False
        self.state[row] = after
        self._tell(row, now_ms, reason)
        return True

    def ask(self, row: int, now_ms: int, deadline_ms: int) -> int:
        """Begin the next attempt of a station that is due; return its requestId."""
        self.attempt[row] += 1
        attempt = int(self.attempt[row])
        request = request_id_of(self.campaign, *self.fleet.names[row], attempt)
        self.request[row] = request
        self.asked_ms[row] = now_ms
        self.deadline_ms[row] = deadline_ms
        self.boot[row] = self.fleet.boot[row]
        self.step(row, Step.ASK, now_ms)
        return request

    @property
    def states(self) -> NDArray[np.uint8]:
        """State of every station of the fleet."""
        self.room(len(self.fleet))
        return self.state[: len(self.fleet)]

    def chosen(self, *states: Member) -> NDArray[np.bool_]:
        """Return a mask over the fleet of the stations in one of `states`."""
        return _table(states)[self.states]

    def flying(self) -> NDArray[np.bool_]:
        """Return a mask over the fleet of the stations whose update is under way."""
        return _table(IN_FLIGHT)[self.states]

    def is_flying(self, row: int) -> bool:
        """Return whether a station's update is under way."""
        self.room(row + 1)
        return bool(_table(IN_FLIGHT)[self.state[row]])

    def ended(self) -> NDArray[np.bool_]:
        """Return a mask over the fleet of the stations that came to an end."""
        return _table(TERMINAL)[self.states]

    def ordered(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the rows of a mask in the campaign's order."""
        rows = np.flatnonzero(mask)
        return rows[np.argsort(self.rank[rows], kind="stable")]

    def counts(self) -> dict[str, int]:
        """Return how many stations are in each state, those with none left out."""
        found = np.bincount(self.states, minlength=len(Member))
        return {_NAMES[state]: int(found[state]) for state in Member if state and found[state]}

    def _tell(self, row: int, now_ms: int, reason: str) -> None:
        fleet = self.fleet
        self.since_ms[row] = now_ms
        self.reason[row] = fleet.code(reason)
        self.change[row] += 1
        self.told += 1
        state = Member(int(self.state[row]))
        site, station = fleet.names[row]
        asked = int(self.asked_ms[row])
        self.rows.append(
            CampaignStationRow(
                campaign=self.campaign,
                site=site,
                station=station,
                change=int(self.change[row]),
                state=_NAMES[state],
                wave=int(self.wave[row]),
                attempt=int(self.attempt[row]),
                failed=int(self.failed[row]),
                request_id=int(self.request[row]) if self.request[row] >= 0 else None,
                fw_before=fleet.words[self.before[row]],
                fw=fleet.words[fleet.fw[row]],
                reason=reason,
                asked_ms=asked if asked >= 0 else None,
                ended_ms=now_ms if state in TERMINAL else None,
                at_ms=now_ms,
            )
        )

    def snapshot(self) -> dict[str, Any]:
        """Return plain data; `fill` of new members takes it over."""
        self.room(len(self.fleet))
        return self.columns(len(self.fleet))
