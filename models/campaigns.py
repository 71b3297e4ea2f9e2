"""Firmware campaigns: whole fleets to a new version, wave by wave, and back if it does harm.

`CampaignBook` is the state of all campaigns and of the stations they know, on the control shard. It is told
what people ask (`operator`), what stations do (`seen`) and what time it is (`advance`), all from the journal,
and says what happened (`CampaignRow`, `CampaignStationRow`) and what to ask of stations (`CampaignAsk`).

Time passes in steps of the clock (`STEP_MS`), so the same journal gives the same campaigns however it is cut.
Messages may come twice and late. A station has one update under way at most, over all campaigns; it has
succeeded when its own birth reports the new version, and not before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ._campaign_asking import Locate, no_address
from ._campaign_events import born, charging, firmware, result, shed, withdrawn
from ._campaign_fleet import Fleet
from ._campaign_inputs import (
    ChargingSeen,
    DigestSeen,
    FirmwareSeen,
    Request,
    ResultSeen,
    ShedSeen,
    StationSeen,
    TagRequest,
    WithdrawnSeen,
    read_request,
    read_seen,
    same_person,
)
from ._campaign_plan import Plan, back_plan, read_plan
from ._campaign_run import Run
from ._campaign_states import CAMPAIGN, ENDED, JOINING, Event, Member, State, Step
from ._campaign_thresholds import chosen_words
from .campaign_rows import CampaignAsk, CampaignCancel, CampaignProgress, CampaignRow, CampaignStationRow
from .errors import DecodeError, SnapshotError
from .gate import HOUR_MS

__all__ = ["STEP_MS", "CampaignBook", "Locate", "Outcome"]

VERSION: Final = 2
#: The clock of campaigns.
STEP_MS: Final = 10_000
#: Campaigns that ended are known this long: late words of stations still count.
_REMEMBER_MS: Final = 30 * 86_400_000


@dataclass(slots=True)
class Outcome:
    """What happened since the last look."""

    campaigns: list[CampaignRow] = field(default_factory=list)
    stations: list[CampaignStationRow] = field(default_factory=list)
    asks: list[CampaignAsk] = field(default_factory=list)
    cancels: list[CampaignCancel] = field(default_factory=list)
    progress: list[CampaignProgress] = field(default_factory=list)


class CampaignBook:
    """All campaigns of an installation.

    Parameters
    ----------
    resume_state : dict, optional
        What `snapshot` returned.
    locate : callable, optional
        Addresses of our own file server, for campaigns that name no `location`.
    hosts : tuple of str
        Patterns of the hosts that a `location` may name besides our own file server.

    Raises
    ------
    SnapshotError
        If `resume_state` is of another version.
    """

    def __init__(
        self,
        resume_state: dict[str, Any] | None = None,
        locate: Locate | None = None,
        hosts: tuple[str, ...] = ("*",),
    ) -> None:
        self.fleet = Fleet()
        self._locate, self._hosts = locate, hosts
        self.runs: dict[str, Run] = {}
        self._refused: list[CampaignRow] = []
        self._refusals = 0
        self._next_step_ms = 0
        self._digests: list[tuple[int, int, float, float, float, float, float]] = []
        self._used: dict[str, None] = {}  # ids of all campaigns ever
        if resume_state is None:
            return
        if resume_state.get("version") != VERSION:
            raise SnapshotError(
                f"campaigns have version {resume_state.get('version')!r}, this program reads {VERSION}"
            )
        self.fleet = Fleet.restore(resume_state["fleet"])
        for saved in resume_state["runs"]:
            self.runs[saved["plan"]["id"]] = Run.restore(saved, self.fleet, locate)
        self._refusals = resume_state["refusals"]
        self._used = dict.fromkeys(resume_state["used"])
        self._next_step_ms = resume_state["next_step_ms"]
        self._digests = [tuple(digest) for digest in resume_state["digests"]]

    # -- time --------------------------------------------------------------------------------------

    def advance(self, now_ms: int) -> None:
        """Let time go on to `now_ms`: every step of the clock up to and with it is done."""
        if not self._next_step_ms or not any(run.open for run in self.runs.values()):
            self._next_step_ms = max(self._next_step_ms, now_ms // STEP_MS * STEP_MS + STEP_MS)
            return
        while self._next_step_ms <= now_ms:
            self._step(self._next_step_ms)
            self._next_step_ms += STEP_MS

    def due_ms(self) -> int | None:
        """Return the next step of the clock, None while no campaign runs."""
        return self._next_step_ms if any(run.open for run in self.runs.values()) else None

    def _step(self, now_ms: int) -> None:
        self._take_digests()
        runs = [run for run in self.runs.values() if run.open]
        for run in runs:
            busy: NDArray[np.bool_] = np.zeros(len(self.fleet), np.bool_)
            for other in runs:
                if other is not run:
                    busy |= other.members.flying()
            more = False
            if run.parent:
                more = self._take_back(run, self.runs[run.parent], now_ms)
            run.step(now_ms, STEP_MS, busy, more)
            if run.parent and run.state in ENDED:
                parent = self.runs[run.parent]
                if parent.state is State.ROLLING_BACK:
                    parent.turn(Event.DRAINED, now_ms)

    def _take_back(self, run: Run, parent: Run, now_ms: int) -> bool:
        """Take into a roll-back what its campaign has updated since; return whether more may come."""
        found = parent.members.chosen(Member.SUCCEEDED) & (run.members.states == Member.NONE)
        for row in run.members.ordered(found):
            run.admit(int(row), now_ms)
        return bool(parent.members.flying().any())

    # -- people ------------------------------------------------------------------------------------

    def operator(self, body: dict[str, Any], now_ms: int) -> None:
        """Do what an operator message ``_op/campaign`` asks; what cannot be done is told as refused."""
        try:
            if body.get("action") == "create":
                self._create(read_plan(body), now_ms)
                return
            request = read_request(body)
        except DecodeError as error:
            self._refuse(body, now_ms, error.detail)
            return
        if isinstance(request, TagRequest):
            self.fleet.tag(request.stations, request.tags, remove=request.remove)
            self._join_all(now_ms)
            return
        run = self.runs.get(request.id)
        if run is None:
            self._refuse(body, now_ms, f"there is no campaign {request.id!r}")
        elif request.action == "rollback":
            self._roll_back(run, request, now_ms)
        else:
            self._request(run, request, now_ms)

    def _create(self, plan: Plan, now_ms: int) -> None:
        known = self.runs.get(plan.id)
        if known is not None and known.plan == plan:
            return  # told twice
        why = f"there was a campaign {plan.id!r} before" if plan.id in self._used else ""
        if why := why or no_address(plan, self._hosts, ours=self._locate is not None):
            self._refuse({"by": plan.by}, now_ms, f"create: {why}")
            return
        for name, run in list(self.runs.items()):
            if run.state in ENDED and run.ended_ms < now_ms - _REMEMBER_MS:
                del self.runs[name]
        run = self._add(Run(plan, self.fleet, self._locate))
        self._join_all(now_ms)
        run.tell("create", now_ms, plan.by, chosen_words(plan, run.members))

    def _add(self, run: Run) -> Run:
        self.runs[run.plan.id] = run
        self._used[run.plan.id] = None
        return run

    def _request(self, run: Run, request: Request, now_ms: int) -> None:
        event = Event(request.action)
        if event is Event.APPROVE and same_person(request.by, run.plan.by):
            run.tell("refused", now_ms, request.by, "approve: whoever made a campaign may not approve it")
            return
        if event is Event.ABORT and CAMPAIGN[run.state, event] is State.ABORTED:  # it never began
            for row in run.members.ordered(run.members.chosen(Member.WAITING)):
                run.members.step(int(row), Step.CANCEL, now_ms, "the campaign is aborted")
        if not run.turn(event, now_ms, request.by, request.text):
            return
        if event is Event.APPROVE:
            run.approved_by = request.by
        elif event is Event.START:
            run.judged_from_ms = now_ms
            self._choose_anew(run, now_ms)
        elif event is Event.RESUME:
            run.judged_from_ms, run.waived_wave = now_ms, run.wave
            if request.waive_gate:
                run.waived_gate = run.wave
            elif run.gate is not None and run.soak_from_ms is not None:
                run.gate, run.soak_from_ms = run.new_gate(now_ms), now_ms
        elif event is Event.ABORT:
            child = self.runs.get(_rollback_id(run.plan.id))
            if child is not None and child.open:
                child.turn(Event.ABORT, now_ms, request.by)

    def _roll_back(self, run: Run, request: Request, now_ms: int) -> None:
        plan = run.plan
        if plan.previous is None or run.parent:
            run.tell("refused", now_ms, request.by, "rollback: the campaign names no previous image")
            return
        name = _rollback_id(plan.id)
        if name in self._used or not run.turn(Event.ROLLBACK, now_ms, request.by, request.text):
            if name in self._used:
                run.tell("refused", now_ms, request.by, f"rollback: {name} exists already")
            return
        child = self._add(Run(back_plan(plan, name, request.by), self.fleet, self._locate))
        child.parent, child.state, child.approved_by = plan.id, State.RUNNING, run.approved_by
        child.judged_from_ms = now_ms
        child.tell("create", now_ms, request.by)
        self._take_back(child, run, now_ms)

    def _refuse(self, body: dict[str, Any], now_ms: int, why: str) -> None:
        self._refusals += 1
        self._refused.append(
            CampaignRow(
                campaign="",
                change=self._refusals,
                event="refused",
                state="",
                by=str(body.get("by", "")),
                text=why,
                wave=-1,
                counts={},
                at_ms=now_ms,
            )
        )

    # -- stations ----------------------------------------------------------------------------------

    def seen(self, kind: str, body: Any, now_ms: int) -> None:
        """Take in a message ``_ctl/<kind>`` of a station's shard.

        Raises
        ------
        DecodeError
            If it is not what its kind promises.
        """
        what = read_seen(kind, body)
        if what is None:
            return
        if isinstance(what, DigestSeen):
            self._digest(what)
            return
        row = self.fleet.row(what.site, what.station)
        match what:
            case StationSeen():
                self._station(row, what, now_ms)
            case FirmwareSeen():
                firmware(self.runs, row, what, now_ms)
            case ResultSeen():
                result(self.runs, row, what, now_ms)
            case ChargingSeen():
                charging(self.runs, self.fleet, row, what, now_ms)
            case ShedSeen():
                shed(self.runs, row, what, now_ms)
            case WithdrawnSeen():
                withdrawn(self.runs, row, what, now_ms)

    def _digest(self, seen: DigestSeen) -> None:
        fleet, hour = self.fleet, seen.hour_ms // HOUR_MS
        whole = seen.hour_ms % HOUR_MS == 0 and seen.to_ms - seen.hour_ms == HOUR_MS
        wanted = whole and any(run.gate is not None for run in self.runs.values())
        fresh: list[tuple[int, int, float, float, float, float, float]] = []
        for item in seen.items:
            row = fleet.row(item.site, item.station)
            if whole and fleet.new_hour(row, hour):
                energy_wh = math.nan if item.energy_mwh is None else item.energy_mwh / 1000
                counts = (item.findings, item.failed_starts, item.offline_s, energy_wh, item.starts)
                fresh.append((hour, row, *counts))
        if fresh:
            table = np.array(fresh, np.float64)
            fleet.history.add(hour, table[:, 1].astype(np.int64), table[:, 2:6], table[:, 6])
        if wanted:
            self._digests += fresh

    def digests(
        self, hour: int, rows: NDArray[np.int64], values: NDArray[np.float64], starts: NDArray[np.float64]
    ) -> None:
        """Take in one hour of many stations at once, each for the first time; shapes as in `Gate.add`."""
        for run in self.runs.values():
            if run.gate is None:
                continue
            run.members.room(len(self.fleet))
            state = run.members.state[rows]
            done = run.members.since_ms[rows] <= hour * HOUR_MS
            updated = (state == Member.SUCCEEDED) & done
            waiting = (state == Member.WAITING) | ((state == Member.DUE) & (run.members.attempt[rows] == 0))
            chosen = updated | waiting
            run.gate.add(hour, rows[chosen], updated[chosen], values[chosen], starts[chosen])

    def _take_digests(self) -> None:
        if not self._digests:
            return
        table = np.array(self._digests, np.float64)
        self._digests = []
        hours = table[:, 0].astype(np.int64)
        for hour in np.unique(hours):
            part = table[hours == hour]
            self.digests(int(hour), part[:, 1].astype(np.int64), part[:, 2:6], part[:, 6])

    def _station(self, row: int, seen: StationSeen, now_ms: int) -> None:
        fleet = self.fleet
        if seen.order <= fleet.seen_order[row]:
            return
        fleet.seen_order[row] = seen.order
        fleet.online[row] = seen.online
        for name in ("vendor", "model", "fw"):
            if word := getattr(seen, name):
                getattr(fleet, name)[row] = fleet.code(word)
        if seen.boot is not None:
            fleet.boot[row] = seen.boot
        for run in self.runs.values():
            run.members.room(len(fleet))
            if run.members.state[row] == Member.NONE:
                if run.state in JOINING and not run.parent:
                    self._join(run, row, now_ms)
            elif seen.online and seen.fw:
                born(self.runs, run, row, now_ms)

    # -- who belongs to what -----------------------------------------------------------------------

    def _join_all(self, now_ms: int) -> None:
        for run in self.runs.values():
            if run.state in JOINING and not run.parent:
                for row in np.flatnonzero(run.members.states == Member.NONE).tolist():
                    self._join(run, row, now_ms)

    def _choose_anew(self, run: Run, now_ms: int) -> None:
        """At the start: tags may have changed since the campaign was made."""
        for row in run.members.ordered(run.members.chosen(Member.WAITING)):
            if not self.fleet.fits(int(row), run.plan.target):
                run.members.step(int(row), Step.SKIP, now_ms, "the target does not choose it any more")
        self._join_all(now_ms)

    def _join(self, run: Run, row: int, now_ms: int) -> None:
        vendor, model, _ = self.fleet.identity(row)
        image = run.plan.image
        if (vendor, model) == (image.vendor, image.model) and self.fleet.fits(row, run.plan.target):
            run.admit(row, now_ms)

    # -- what comes of it --------------------------------------------------------------------------

    def drain(self) -> Outcome:
        """Return what happened since the last call."""
        out = Outcome(campaigns=self._refused)
        self._refused = []
        for run in self.runs.values():
            out.campaigns += _taken(run.rows)
            out.stations += _taken(run.members.rows)
            out.asks += _taken(run.asks)
            out.cancels += _taken(run.cancels)
            out.progress += _taken(run.progressed)
        return out

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data; what `drain` would return is not part of it."""
        return {
            "version": VERSION,
            "fleet": self.fleet.snapshot(),
            "runs": [run.snapshot() for run in self.runs.values()],
            "refusals": self._refusals,
            "used": list(self._used),
            "next_step_ms": self._next_step_ms,
            "digests": list(self._digests),
        }


def _taken(rows: list[Any]) -> Iterable[Any]:
    taken, rows[:] = list(rows), []
    return taken


def _rollback_id(name: str) -> str:
    return f"{name}.back"
