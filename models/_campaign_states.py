"""States of a campaign and of a station in it, and what leads from one to another: total tables."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from itertools import product
from typing import Final


class State(StrEnum):
    """Where a campaign stands."""

    WAITING_FOR_APPROVAL = "waiting_for_approval"
    APPROVED = "approved"
    RUNNING = "running"
    PAUSED = "paused"
    ABORTING = "aborting"  # nothing new is sent; updates under way end as they do
    ROLLING_BACK = "rolling_back"
    FINISHED = "finished"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"


class Event(StrEnum):
    """What happens to a campaign: what people ask for, then what it finds itself."""

    APPROVE = "approve"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    ROLLBACK = "rollback"
    HELD = "held"  # a threshold, or the telemetry gate
    DRAINED = "drained"  # no station is left to update


#: States that a campaign never leaves by itself.
ENDED: Final = frozenset({State.FINISHED, State.ABORTED, State.ROLLED_BACK})

#: States in which chosen stations join: before the approval too, so that whoever approves sees them.
JOINING: Final = frozenset({State.WAITING_FOR_APPROVAL, State.APPROVED, State.RUNNING, State.PAUSED})

_LEADS: Final[dict[tuple[State, Event], State]] = {
    (State.WAITING_FOR_APPROVAL, Event.APPROVE): State.APPROVED,
    (State.WAITING_FOR_APPROVAL, Event.ABORT): State.ABORTED,
    (State.APPROVED, Event.START): State.RUNNING,
    (State.APPROVED, Event.ABORT): State.ABORTED,
    (State.RUNNING, Event.PAUSE): State.PAUSED,
    (State.RUNNING, Event.HELD): State.PAUSED,
    (State.RUNNING, Event.ABORT): State.ABORTING,
    (State.RUNNING, Event.ROLLBACK): State.ROLLING_BACK,
    (State.RUNNING, Event.DRAINED): State.FINISHED,
    (State.PAUSED, Event.RESUME): State.RUNNING,
    (State.PAUSED, Event.ABORT): State.ABORTING,
    (State.PAUSED, Event.ROLLBACK): State.ROLLING_BACK,
    (State.ABORTING, Event.ROLLBACK): State.ROLLING_BACK,
    (State.ABORTING, Event.DRAINED): State.ABORTED,
    (State.ROLLING_BACK, Event.DRAINED): State.ROLLED_BACK,
    (State.ROLLING_BACK, Event.ABORT): State.ABORTING,
    (State.FINISHED, Event.ROLLBACK): State.ROLLING_BACK,
    (State.ABORTED, Event.ROLLBACK): State.ROLLING_BACK,
}
#: (state, event) -> state, None: refused. Every pair is in it.
CAMPAIGN: Final[dict[tuple[State, Event], State | None]] = {
    pair: _LEADS.get(pair) for pair in product(State, Event)
}


class Member(IntEnum):
    """Where a station stands in a campaign; the number is what is stored."""

    NONE = 0  # not in the campaign
    WAITING = 1  # its wave is not open
    DUE = 2  # may be asked as soon as nothing holds it
    REQUESTED = 3  # asked, no answer yet
    ACCEPTED = 4
    DOWNLOADING = 5
    DOWNLOADED = 6  # verified or scheduled for installation, too
    INSTALLING = 7
    INSTALLED = 8  # says so; its birth with the new version is to come
    SUCCEEDED = 9
    FAILED = 10
    TIMED_OUT = 11
    REJECTED = 12
    UNREACHABLE = 13  # never free, online and in its window while its wave lasted
    SKIPPED = 14  # runs the version already, or may not have it
    CANCELLED = 15


class Step(IntEnum):
    """What happens to a station in a campaign."""

    OPEN = 0  # its wave opens
    ASK = 1
    ACCEPT = 2
    DOWNLOAD = 3
    DOWNLOADED = 4
    INSTALL = 5
    INSTALLED = 6
    BORN_NEW = 7  # its own birth reports the new version
    RETRY = 8  # this attempt came to nothing, another follows
    FAIL = 9
    TIME_OUT = 10
    REFUSE = 11
    MISS = 12  # its wave is over and it was never asked, or nothing of it came
    SKIP = 13
    CANCEL = 14
    REGRESS = 15  # it had the new version, and its birth reports another
    FIT = 16  # it was left out, and its birth reports a version that may have the image
    PUT_OFF = 17  # what failed it was the file server's doing, as is told later


IN_FLIGHT: Final = (
    Member.REQUESTED,
    Member.ACCEPTED,
    Member.DOWNLOADING,
    Member.DOWNLOADED,
    Member.INSTALLING,
    Member.INSTALLED,
)
FAILURES: Final = (Member.FAILED, Member.TIMED_OUT, Member.REJECTED)
TERMINAL: Final = (
    Member.SUCCEEDED, *FAILURES, Member.UNREACHABLE, Member.SKIPPED, Member.CANCELLED,
)  # fmt: skip


def _member_table() -> dict[tuple[Member, Step], Member | None]:
    leads: dict[tuple[Member, Step], Member] = {
        (Member.WAITING, Step.OPEN): Member.DUE,
        (Member.DUE, Step.ASK): Member.REQUESTED,
        (Member.DUE, Step.MISS): Member.UNREACHABLE,
        (Member.INSTALLED, Step.INSTALLED): Member.INSTALLED,
    }
    for state in (Member.WAITING, Member.DUE):
        leads[state, Step.SKIP] = Member.SKIPPED
        leads[state, Step.CANCEL] = Member.CANCELLED
    leads[Member.DUE, Step.FAIL] = Member.FAILED  # no retry could follow
    leads[Member.REQUESTED, Step.MISS] = Member.UNREACHABLE
    leads[Member.REQUESTED, Step.CANCEL] = Member.CANCELLED  # taken back before it was sent
    forward = {
        Step.ACCEPT: Member.ACCEPTED,
        Step.DOWNLOAD: Member.DOWNLOADING,
        Step.DOWNLOADED: Member.DOWNLOADED,
        Step.INSTALL: Member.INSTALLING,
        Step.INSTALLED: Member.INSTALLED,
    }
    for state in IN_FLIGHT:
        for step, then in forward.items():
            if then > state:
                leads[state, step] = then
        leads[state, Step.RETRY] = Member.DUE
        leads[state, Step.FAIL] = Member.FAILED
        leads[state, Step.TIME_OUT] = Member.TIMED_OUT
        leads[state, Step.REFUSE] = Member.REJECTED
    # The station's own word on what it runs is the truth, however late it comes.
    for state in (Member.DUE, *IN_FLIGHT, *FAILURES, Member.UNREACHABLE, Member.CANCELLED):
        leads[state, Step.BORN_NEW] = Member.SUCCEEDED
    leads[Member.WAITING, Step.BORN_NEW] = Member.SKIPPED
    leads[Member.UNREACHABLE, Step.SKIP] = Member.SKIPPED
    leads[Member.SUCCEEDED, Step.REGRESS] = Member.FAILED
    leads[Member.SKIPPED, Step.FIT] = Member.WAITING
    leads[Member.FAILED, Step.PUT_OFF] = Member.DUE
    return {pair: leads.get(pair) for pair in product(Member, Step)}


#: (state, step) -> state, None: nothing changes. Every pair is in it.
MEMBER: Final = _member_table()

#: FirmwareStatusEnumType -> what it means for the station; `None`: says nothing of progress.
FIRMWARE: Final[dict[str, Step | None]] = {
    "Idle": None,
    "DownloadScheduled": Step.ACCEPT,
    "Downloading": Step.DOWNLOAD,
    "DownloadPaused": Step.DOWNLOAD,
    "Downloaded": Step.DOWNLOADED,
    "SignatureVerified": Step.DOWNLOADED,
    "InstallScheduled": Step.DOWNLOADED,
    "Installing": Step.INSTALL,
    "InstallRebooting": Step.INSTALL,
    "Installed": Step.INSTALLED,
    "DownloadFailed": Step.FAIL,
    "InstallationFailed": Step.FAIL,
    "InstallVerificationFailed": Step.FAIL,
    "InvalidSignature": Step.REFUSE,
}
