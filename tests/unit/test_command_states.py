"""The life of a command: every cell of the table."""

from __future__ import annotations

import pytest

from models.command_states import (
    ANSWERS,
    ENDED,
    EVENTS,
    OPEN,
    STATES,
    TRANSITIONS,
    Event,
    State,
    after,
    is_open,
)

WANTED = {
    ("requested", "send"): "sent",
    ("requested", "expire"): "expired",
    ("requested", "give_up"): "failed",
    ("requested", "refuse"): "failed",
    ("requested", "supersede"): "failed",
    ("requested", "cancel"): "failed",
    ("sent", "accept"): "accepted",
    ("sent", "reject"): "rejected",
    ("sent", "schedule"): "scheduled",
    ("sent", "error"): "failed",
    ("sent", "restart"): "accepted",
    ("sent", "expire"): "expired",
    ("sent", "give_up"): "failed",
    ("sent", "refuse"): "failed",
}


def test_the_table_is_total() -> None:
    assert set(TRANSITIONS) == {(state, event) for state in STATES for event in EVENTS}
    assert set(OPEN) | set(ENDED) == set(STATES)
    assert not set(OPEN) & set(ENDED)
    assert set(ANSWERS) < set(EVENTS)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_cell(state: State, event: Event) -> None:
    assert after(state, event) == WANTED.get((state, event), state)
    assert is_open(state) == (state in ("requested", "sent"))
