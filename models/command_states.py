"""The life of a command: states, what can happen, and what comes of it, for every pair of the two.

    requested → sent → accepted | rejected | scheduled | expired | failed

The first of the last five stands. What happens after it is told (a row of its own) and changes nothing.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

State = Literal["requested", "sent", "accepted", "rejected", "scheduled", "expired", "failed"]

#: What can happen to a command:
#: send, resend       it went to the broker, for the first time or again
#: accept, reject, schedule, error   the station answered so; ``error``: it could not read or do it at all
#: restart            the station booted anew before it answered (what a Reset asks for)
#: expire             its time is over
#: give_up            no answer, and no more tries
#: refuse             it may not or cannot leave: wrong body, unknown station, full queue, dialect
#: supersede          a newer one says what it would have said
#: cancel             a person took it back
Event = Literal[
    "send", "resend", "accept", "reject", "schedule", "error",
    "restart", "expire", "give_up", "refuse", "supersede", "cancel",
]  # fmt: skip

STATES: Final[tuple[State, ...]] = get_args(State)
EVENTS: Final[tuple[Event, ...]] = get_args(Event)
OPEN: Final[tuple[State, ...]] = ("requested", "sent")
ENDED: Final[tuple[State, ...]] = ("accepted", "rejected", "scheduled", "expired", "failed")

#: Events that are a station's word.
ANSWERS: Final[tuple[Event, ...]] = ("accept", "reject", "schedule", "error")

_FROM_REQUESTED: Final[dict[Event, State]] = {
    "send": "sent",
    "resend": "requested",  # nothing to send again
    "accept": "requested",  # an answer to what was never sent is told and believed nothing
    "reject": "requested",
    "schedule": "requested",
    "error": "requested",
    "restart": "requested",
    "expire": "expired",
    "give_up": "failed",
    "refuse": "failed",
    "supersede": "failed",
    "cancel": "failed",
}
_FROM_SENT: Final[dict[Event, State]] = {
    "send": "sent",
    "resend": "sent",
    "accept": "accepted",
    "reject": "rejected",
    "schedule": "scheduled",
    "error": "failed",
    "restart": "accepted",
    "expire": "expired",
    "give_up": "failed",
    "refuse": "failed",  # on a second try: the station came back with another dialect
    "supersede": "sent",  # what left cannot be taken back: the station may be doing it
    "cancel": "sent",
}

#: (state, event) -> next state, for every pair.
TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    **{("requested", event): state for event, state in _FROM_REQUESTED.items()},
    **{("sent", event): state for event, state in _FROM_SENT.items()},
    **{(ended, event): ended for ended in ENDED for event in EVENTS},
}


def after(state: State, event: Event) -> State:
    """Return the state of a command in `state` after `event`."""
    return TRANSITIONS[state, event]


def is_open(state: str) -> bool:
    """Return whether a command in `state` still waits for something."""
    return state in OPEN
