"""One campaign under way: waves, thresholds, the gate, and whom to ask next. Journaled time only."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ._campaign_asking import Locate, ask_of, take_back
from ._campaign_deadlines import give_up, time_out
from ._campaign_fleet import Fleet
from ._campaign_members import Members
from ._campaign_plan import Plan
from ._campaign_states import CAMPAIGN, ENDED, Event, Member, State, Step
from ._campaign_thresholds import too_many_failures, wave_done
from ._campaign_windows import Windows
from .campaign_rows import CampaignAsk, CampaignCancel, CampaignProgress, CampaignRow
from .firmware import FirmwareError, check_install, same_version
from .gate import Gate, Verdict

#: A station that came back on its old version while it installed has this long to boot once more.
REBOOT_GRACE_MS: Final = 600_000
#: How often the gate looks, on the clock.
GATE_LOOK_MS: Final = 300_000
#: How often progress is told, where there is any.
PROGRESS_MS: Final = 60_000
_FOREVER_MS: Final = 1 << 62
_OPEN_STATES: Final = (State.RUNNING, State.ABORTING)

#: What the run keeps beside its members: name -> value at the beginning.
_FIELDS: Final[dict[str, Any]] = {
    "state": State.WAITING_FOR_APPROVAL,
    "approved_by": "",
    "parent": "",
    "change": 0,
    "wave": -1,
    "wave_size": 0,
    "wave_opened_ms": 0,
    "soak_from_ms": None,
    "all_open": False,
    "waived_wave": -1,  # a person let this wave pass
    "waived_gate": -1,
    "judged_from_ms": 0,  # attempts that ended before do not count against the thresholds
    "progress": -1,  # changes told of as progress
    "ended_ms": 0,  # time of the last change of state
}


class Run:
    """A campaign and the stations in it.

    Attributes
    ----------
    plan : Plan
    state : State
    parent : str
        Of a roll-back: the campaign that it takes back, "" otherwise.
    wave : int
        The open one, -1 before the first.
    """

    state: State
    approved_by: str
    parent: str
    change: int
    wave: int
    wave_size: int
    wave_opened_ms: int
    soak_from_ms: int | None
    all_open: bool
    waived_wave: int
    waived_gate: int
    judged_from_ms: int
    progress: int
    ended_ms: int

    def __init__(self, plan: Plan, fleet: Fleet, locate: Locate | None = None) -> None:
        self.plan = plan
        self._locate = locate
        self.fleet = fleet
        self.members = Members(plan.id, fleet)
        self.windows = Windows(plan)
        self.gate: Gate | None = None
        self.rows: list[CampaignRow] = []
        self.asks: list[CampaignAsk] = []
        self.cancels: list[CampaignCancel] = []
        self.progressed: list[CampaignProgress] = []
        self._rested: tuple[int, int, int] | None = None  # fleet, members, campaign at the last whole step
        self._due, self._next_ms = False, 0
        self._same: dict[int, bool] = {}  # version word -> whether it is the image's
        for name, value in _FIELDS.items():
            setattr(self, name, value)

    # -- what people ask for and what it finds itself ----------------------------------------------

    def turn(self, event: Event, now_ms: int, by: str = "", text: str = "") -> bool:
        """Let an event happen; return whether it could in this state (if not, that is told)."""
        then = CAMPAIGN[self.state, event]
        if then is None:
            self.tell("refused", now_ms, by, f"{event.value}: the campaign is {self.state.value}")
            return False
        self.state, self.ended_ms = then, now_ms
        self.tell(event.value, now_ms, by, text)
        if then in ENDED:
            self._tell_progress(now_ms)
        return True

    def tell(
        self, event: str, now_ms: int, by: str = "", text: str = "", verdict: Verdict | None = None
    ) -> None:
        """Tell that something happened."""
        self.change += 1
        self.rows.append(
            CampaignRow(
                campaign=self.plan.id,
                change=self.change,
                event=event,
                state=self.state.value,
                by=by,
                text=text,
                wave=self.wave,
                counts=self.members.counts(),
                at_ms=now_ms,
                plan=msgspec.to_builtins(self.plan) if event == "create" else None,
                verdict=msgspec.to_builtins(verdict) if verdict is not None else None,
            )
        )

    @property
    def open(self) -> bool:
        """Whether stations may still change in it."""
        return self.state not in ENDED and self.state is not State.WAITING_FOR_APPROVAL

    def runs_image(self, row: int) -> bool:
        """Return whether a station runs the campaign's image, by its own last birth."""
        code = int(self.fleet.fw[row])
        found = self._same.get(code)
        if found is None:
            word = self.fleet.words[code]
            try:
                found = bool(word) and same_version(word, self.plan.image.version)
            except FirmwareError:
                found = False
            self._same[code] = found
        return found

    def unfit(self, row: int) -> str:
        """Return why a station may not have the image, "" if it may."""
        vendor, model, version = self.fleet.identity(row)
        try:
            check_install(
                self.plan.image,
                vendor=vendor,
                model=model,
                version=version,
                floors={},
                downgrade=bool(self.parent),
            )
        except FirmwareError as error:
            return error.detail
        return ""

    def admit(self, row: int, now_ms: int) -> None:
        """Take in a station that the target chooses."""
        if self.runs_image(row):
            self.members.join(row, now_ms, Member.SKIPPED, "runs the version already")
        elif unfit := self.unfit(row):
            self.members.join(row, now_ms, Member.SKIPPED, unfit)
        else:
            self.members.join(row, now_ms, Member.WAITING)
            self._open_late(row, now_ms)

    def admit_again(self, row: int, now_ms: int) -> None:
        """Take in a station that was left out, if its newest birth makes it fit."""
        if not self.runs_image(row) and not self.unfit(row):
            version = self.fleet.words[self.fleet.fw[row]]
            self.members.step(
                row, Step.FIT, now_ms, f"its birth reports {version}, it may have the image now"
            )
            self._open_late(row, now_ms)

    def _open_late(self, row: int, now_ms: int) -> None:
        """Open the wave of a station that came when all are open, or whose own is."""
        if self.all_open and self.members.wave[row] < 0:
            self.members.wave[row] = self.wave
        if self.members.wave[row] >= 0:
            self.members.step(row, Step.OPEN, now_ms)

    def end_attempt(self, row: int, now_ms: int, step: Step, reason: str, *, counted: bool) -> None:
        """An attempt came to nothing: another follows while the budget lasts, else `step` ends it.

        What does not count against the station waits like a first failure, as often as it takes.
        """
        members, plan = self.members, self.plan
        if not members.is_flying(row):
            return
        if counted:
            members.failed[row] += 1
        failed = int(members.failed[row])
        over = self.state is not State.RUNNING and self.state is not State.PAUSED
        if over or (counted and (failed > plan.retries or not self.fleet.online[row])):
            members.step(row, step, now_ms, reason)
        else:
            wait_s = plan.retry_wait_s * 2 ** max(0, failed - 1) if counted else plan.retry_wait_s
            members.not_before_ms[row] = max(now_ms + wait_s * 1000, int(members.shed_until_ms[row]))
            members.step(row, Step.RETRY, now_ms, reason)

    # -- the clock ---------------------------------------------------------------------------------

    def step(self, now_ms: int, step_ms: int, busy: NDArray[np.bool_], more_to_come: bool) -> None:
        """Do what is due at a step of the clock.

        Parameters
        ----------
        busy : ndarray
            Over the fleet: stations that another campaign updates.
        more_to_come : bool
            Stations may join yet that are not known of: it does not end.
        """
        if not self.open or self.state is State.APPROVED:
            return
        if now_ms % PROGRESS_MS == 0:
            self._tell_progress(now_ms)
        members = self.members
        told = (len(self.fleet), members.told, self.change)
        if told == self._rested and now_ms < self._next_ms and now_ms % GATE_LOOK_MS and not more_to_come:
            if self._due and self.state is State.RUNNING:
                self._ask(now_ms, step_ms, busy)
            return
        time_out(self, now_ms)
        if self.state in (State.ABORTING, State.ROLLING_BACK):
            for row in members.ordered(members.chosen(Member.WAITING, Member.DUE)):
                members.step(int(row), Step.CANCEL, now_ms, f"the campaign is {self.state.value}")
            if self.ended_ms >= now_ms - step_ms:  # it was asked for since the last step
                asked = members.ordered(members.chosen(Member.REQUESTED))
                self.cancels += [take_back(members, int(row), self.plan.id) for row in asked]
        if self.state is State.RUNNING:
            give_up(self, now_ms)
            self._judge(now_ms)
        if self.state is State.RUNNING:
            self._ask(now_ms, step_ms, busy)
        self._drained(now_ms, more_to_come)
        self._rest(told)

    def _rest(self, told: tuple[int, int, int]) -> None:
        """Note when there is something to do again: a shortcut, nothing that a restart must know."""
        members = self.members
        n = len(self.fleet)
        self._rested, self._due = told, bool(members.chosen(Member.DUE).any())
        deadlines = members.deadline_ms[:n][members.flying()]
        self._next_ms = int(deadlines.min()) if len(deadlines) else _FOREVER_MS
        if self._due:
            self._next_ms = min(self._next_ms, self.wave_opened_ms + self.plan.wave_timeout_s * 1000)
        if self.plan.until_ms is not None:
            self._next_ms = min(self._next_ms, self.plan.until_ms)

    def _tell_progress(self, now_ms: int) -> None:
        """Tell how far it is if anything changed since it was told last, or the gate is at work."""
        changes = self.change + int(self.members.change.sum())
        worst = None
        if self.plan.gating is not None and self.gate is not None and now_ms % GATE_LOOK_MS == 0:
            worst = self.gate.worst(self.plan.gating)
        if changes == self.progress and worst is None:
            return
        self.progress = changes
        counts = self.members.counts()
        told = CampaignProgress(self.plan.id, now_ms, self.state.value, self.wave, counts, worst)
        self.progressed.append(told)

    def _judge(self, now_ms: int) -> None:
        """Pause at the thresholds; open the next wave when this one is done and the gate lets it."""
        held = too_many_failures(self.plan, self.members, self.wave, self.judged_from_ms)
        if held:
            self.turn(Event.HELD, now_ms, text=held)
            return
        if self.wave < 0:
            self._open_wave(now_ms)
            return
        if self.soak_from_ms is None:
            done, text = wave_done(self.plan, self.members, self.wave, self.waived_wave)
            if done is None:
                self._look(now_ms)
                return
            if not done:
                self.turn(Event.HELD, now_ms, text=text)
                return
            self.soak_from_ms = now_ms
            self.tell("wave_done", now_ms, text=text)
        if self.members.chosen(Member.WAITING).any() and self._look(now_ms):
            self._open_wave(now_ms)

    def _look(self, now_ms: int) -> bool:
        """Ask the gate; return whether it lets the next wave begin. It may pause the campaign."""
        settings = self.plan.gating
        if settings is None or self.gate is None or self.waived_gate == self.wave:
            return True
        if now_ms % GATE_LOOK_MS:
            return False
        soaked_ms = 0 if self.soak_from_ms is None else now_ms - self.soak_from_ms
        verdict = self.gate.judge(settings, soaked_ms)
        if verdict.decision == "wait":
            return False
        if verdict.decision == "pass":
            self.tell("gate", now_ms, text=verdict.reason, verdict=verdict)
            return True
        self.tell("gate", now_ms, text=verdict.reason, verdict=verdict)
        self.turn(Event.HELD, now_ms, text=f"telemetry gate: {verdict.decision}: {verdict.reason}")
        return False

    def _open_wave(self, now_ms: int) -> None:
        members = self.members
        waiting = members.ordered(members.chosen(Member.WAITING))
        taken = int((members.wave[: len(self.fleet)] >= 0).sum())
        if not len(waiting):
            self.all_open = True
            self.wave = max(self.wave, 0)
            return
        size = self.plan.wave_size(self.wave + 1, self.wave_size, taken, len(waiting))
        self.wave += 1
        self.wave_size, self.wave_opened_ms, self.soak_from_ms = size, now_ms, None
        self.all_open = size == len(waiting)
        for row in waiting[:size]:
            members.wave[row] = self.wave
            members.step(int(row), Step.OPEN, now_ms)
        self.gate = None if self.plan.gating is None or self.all_open else self.new_gate(now_ms)
        self.tell("wave", now_ms, text=f"wave {self.wave + 1} opens with {size} stations")

    def new_gate(self, now_ms: int) -> Gate:
        """Return a gate without evidence; what it expects of stations is from before the first wave."""
        weights = self.fleet.history.weights(len(self.fleet)) if self.gate is None else self.gate.weights
        return Gate(now_ms, weights)

    def _ask(self, now_ms: int, step_ms: int, busy: NDArray[np.bool_]) -> None:
        plan, members, fleet = self.plan, self.members, self.fleet
        n = len(fleet)
        allowed = plan.per_minute * now_ms // 60_000 - plan.per_minute * (now_ms - step_ms) // 60_000
        room = min(allowed, plan.max_in_flight - int(members.flying().sum()))
        free = members.chosen(Member.DUE) & (members.not_before_ms[:n] <= now_ms) & ~busy
        free &= (fleet.online[:n] == 1) & (fleet.charging[:n] == 0)
        if room > 0 and self.plan.windows:
            sites = np.unique(fleet.site[:n][free])
            shut = [code for code in sites.tolist() if not self.windows.open(fleet.words[code], now_ms)]
            free &= ~np.isin(fleet.site[:n], shut)
        for index in members.ordered(free) if room > 0 else ():
            row = int(index)
            if unfit := self.unfit(row):
                members.step(row, Step.SKIP, now_ms, unfit)
                continue
            try:
                self.asks.append(ask_of(plan, members, row, self._locate, now_ms))
            except FirmwareError as error:
                members.step(row, Step.SKIP, now_ms, error.detail)
                continue
            room -= 1
            if room <= 0:
                break

    def _drained(self, now_ms: int, more_to_come: bool) -> None:
        left = ~self.members.ended() & (self.members.states != Member.NONE)
        if left.any() or more_to_come or self.state not in _OPEN_STATES:
            return
        if self.state is State.RUNNING:
            if self.wave < 0 or (self.soak_from_ms is None and self.wave_size):
                return  # the threshold of its last wave is still to be looked at
            if self.plan.until_ms is not None and now_ms < self.plan.until_ms:
                return
        self.turn(Event.DRAINED, now_ms)

    # -- saving ------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return plain data from which `restore` makes an equal run."""
        state: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        return state | {
            "state": self.state.value,
            "plan": msgspec.to_builtins(self.plan),
            "members": self.members.snapshot(),
            "gate": None if self.gate is None else self.gate.snapshot(),
        }

    @classmethod
    def restore(cls, state: dict[str, Any], fleet: Fleet, locate: Locate | None = None) -> Run:
        """Return the run saved in `state`."""
        run = cls(msgspec.convert(state["plan"], Plan), fleet, locate)
        for name in _FIELDS:
            setattr(run, name, state[name])
        run.state = State(state["state"])
        run.members.fill(state["members"])
        run.gate = None if state["gate"] is None else Gate.restore(state["gate"])
        return run
