"""What a station does, and what it means for the campaigns it is in."""

from __future__ import annotations

from typing import Final

from ._campaign_deadlines import car_left
from ._campaign_fleet import Fleet
from ._campaign_inputs import ChargingSeen, FirmwareSeen, ResultSeen, ShedSeen, WithdrawnSeen
from ._campaign_run import REBOOT_GRACE_MS, Run
from ._campaign_states import FIRMWARE, JOINING, Event, Member, State, Step
from ._firmware_versions import FirmwareError, version_key

#: A firmware status without requestId that is older than the request by more than this is of another update.
_CLOCK_SLACK_MS: Final = 60_000
#: Answers after which another try of the same request makes no sense.
_HOPELESS: Final = (
    "InvalidCertificate", "RevokedCertificate", "NotSupported", "NotImplemented",
)  # fmt: skip
#: Reasons (OCPP StatusInfoReasonType) that are no fault of the station.
_BUSY: Final = ("TxInProgress", "TxStarted", "FwUpdateInProgress")

#: A failure that names no requestId (OCPP 1.6) is of an older update if this one cannot have come so far.
_LEAST: Final = {
    "DownloadFailed": Member.ACCEPTED,
    "InstallationFailed": Member.DOWNLOADING,
    "InstallVerificationFailed": Member.DOWNLOADING,
    "InvalidSignature": Member.DOWNLOADING,
}

Runs = dict[str, Run]


def born(runs: Runs, run: Run, row: int, now_ms: int) -> None:
    """A member of a campaign reports the version it runs."""
    members = run.members
    state = Member(int(members.state[row]))
    if run.runs_image(row):
        step = Step.BORN_NEW if members.attempt[row] else Step.SKIP
        members.step(row, step, now_ms, f"its birth reports {run.plan.image.version}")
        return
    version = run.fleet.words[run.fleet.fw[row]]
    if state is Member.SKIPPED and run.state in JOINING:
        run.admit_again(row, now_ms)
    elif state is Member.SUCCEEDED and run.state in (State.RUNNING, State.PAUSED):
        if not _busy_elsewhere(runs, run, row) and _went_back(run, row, version):
            members.step(row, Step.REGRESS, now_ms, f"its birth reports {version} again")
    elif state in (Member.INSTALLING, Member.INSTALLED) and run.fleet.boot[row] > members.boot[row]:
        grace = now_ms + REBOOT_GRACE_MS
        members.deadline_ms[row] = min(int(members.deadline_ms[row]), grace)
        members.told += 1


def _went_back(run: Run, row: int, version: str) -> bool:
    """Return whether a version is the one before, or older than the image; a newer one is no harm."""
    if run.fleet.fw[row] == run.members.before[row]:
        return True
    try:
        return version_key(version) < version_key(run.plan.image.version)
    except FirmwareError:
        return True


def charging(runs: Runs, fleet: Fleet, row: int, seen: ChargingSeen, now_ms: int) -> None:
    """A station begins or ends to charge."""
    if seen.order <= fleet.charging_order[row]:
        return
    left = bool(fleet.charging[row]) and not seen.charging
    fleet.charging_order[row], fleet.charging[row] = seen.order, seen.charging
    for run in runs.values() if left else ():
        car_left(run, row, now_ms)


def _busy_elsewhere(runs: Runs, run: Run, row: int) -> bool:
    return any(other.members.is_flying(row) for other in runs.values() if other is not run and other.open)


def firmware(runs: Runs, row: int, seen: FirmwareSeen, now_ms: int) -> None:
    """A station tells how its update goes."""
    run = _update_of(runs, row, seen)
    step = FIRMWARE.get(seen.status)
    if run is None or step is None:
        return
    members = run.members
    if step in (Step.FAIL, Step.REFUSE):
        put_off = seen.status == "DownloadFailed" and bool(members.shed_ms[row] >= members.asked_ms[row])
        if seen.request_id is None and not put_off and members.state[row] < _LEAST[seen.status]:
            return
        reason = f"{seen.status}: put off by the file server" if put_off else seen.status
        run.end_attempt(row, now_ms, step, reason, counted=not put_off)
    elif step is Step.INSTALLED and run.runs_image(row):
        members.step(row, Step.BORN_NEW, now_ms, f"its birth reports {run.plan.image.version}")
    else:
        members.step(row, step, now_ms, seen.status)


def _update_of(runs: Runs, row: int, seen: FirmwareSeen) -> Run | None:
    """Return the campaign whose present attempt at a station a firmware status is about."""
    time_ms = seen.time_ms if seen.station_ms is None else seen.station_ms
    for run in runs.values():
        if not run.members.is_flying(row):
            continue
        if seen.request_id is not None:
            if run.members.request[row] == seen.request_id:
                return run
        elif time_ms >= run.members.asked_ms[row] - _CLOCK_SLACK_MS:
            return run
    return None


def result(runs: Runs, row: int, seen: ResultSeen, now_ms: int) -> None:
    """A request to a station ended."""
    kind, _, rest = seen.cause.partition("/")
    name, _, attempt = rest.rpartition("/")
    run = runs.get(name) if kind == "campaign" else None
    if run is None:
        return
    members = run.members
    members.room(len(run.fleet))
    if str(members.attempt[row]) != attempt or members.state[row] != Member.REQUESTED:
        return
    why = ": ".join(text for text in (seen.status or seen.state, _reason_code(seen), seen.reason) if text)
    if seen.state in ("accepted", "scheduled"):
        members.step(row, Step.ACCEPT, now_ms, seen.status)
    elif seen.sent_ms is None:
        stopped = run.state in (State.ABORTING, State.ROLLING_BACK)
        step = Step.CANCEL if stopped else Step.MISS
        run.end_attempt(row, now_ms, step, f"never sent: {why}", counted=False)
    elif seen.state == "rejected" or seen.status or seen.event == "error":
        if seen.status in _HOPELESS or _error_code(seen) in _HOPELESS:
            members.step(row, Step.REFUSE, now_ms, why)
        else:
            counted = _reason_code(seen) not in _BUSY
            run.end_attempt(row, now_ms, Step.REFUSE, why, counted=counted)
    # Sent and not answered: it may be at work. Its timeout decides, never a second request before.


def shed(runs: Runs, row: int, seen: ShedSeen, now_ms: int) -> None:
    """The file server put a station's download off; that may be told after the station's own failure."""
    for run in runs.values():
        members = run.members
        members.room(len(run.fleet))
        if members.attempt[row] == 0 or seen.time_ms < members.asked_ms[row] - _CLOCK_SLACK_MS:
            continue
        until = seen.time_ms + seen.retry_after_s * 1000
        members.shed_ms[row] = max(int(members.shed_ms[row]), seen.time_ms, int(members.asked_ms[row]))
        members.shed_until_ms[row] = max(int(members.shed_until_ms[row]), until)
        told_first = run.fleet.words[members.reason[row]] == "DownloadFailed"
        if not members.failed[row] or not told_first:
            continue
        again = members.state[row] == Member.FAILED and run.state in (State.RUNNING, State.PAUSED)
        if again or members.state[row] == Member.DUE:
            members.failed[row] -= 1
            members.reason[row] = 0
            members.not_before_ms[row] = max(int(members.not_before_ms[row]), until, now_ms)
        if again:
            members.step(row, Step.PUT_OFF, now_ms, "DownloadFailed: put off by the file server")


def withdrawn(runs: Runs, row: int, seen: WithdrawnSeen, now_ms: int) -> None:
    """The file server refuses a station the image: no fault of the station, and nobody else would get it."""
    run = runs.get(seen.campaign)
    if run is None or run.plan.image.image_id != seen.image:
        return
    put_off = ShedSeen(site=seen.site, station=seen.station, time_ms=seen.time_ms)
    shed({seen.campaign: run}, row, put_off, now_ms)
    if run.state is State.RUNNING:
        run.turn(Event.HELD, now_ms, text=f"the file server refuses {seen.image}: {seen.reason}")


def _error_code(seen: ResultSeen) -> str:
    error = seen.answer.get("error")
    return str(error.get("code", "")) if isinstance(error, dict) else ""


def _reason_code(seen: ResultSeen) -> str:
    info = seen.answer.get("statusInfo")
    return str(info.get("reasonCode", "")) if isinstance(info, dict) else ""
