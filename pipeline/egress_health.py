"""What the pipeline says of its own health: ``ev_pipeline`` points, and the sums of the status file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from models.points import encode_point
from models.units import NS_PER_MS

from .egress_drain import Drain


def totals(drains: Iterable[Drain], dead_letters: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Return what each consumer reports, over all outboxes; ``last_error`` while it still waits.

    Parameters
    ----------
    drains : iterable of Drain
    dead_letters : dict of str to int
        Consumer -> letters kept.
    """
    found: dict[str, dict[str, Any]] = {}
    for drain in drains:
        state = drain.state
        total = found.setdefault(
            drain.sink.name,
            {
                "state": "idle",
                "last_error": "",
                "lag_records": 0,
                "delivered": 0,
                "retries": 0,
                "dead_letters": dead_letters.get(drain.sink.name, 0),
            },
        )
        total["lag_records"] += state.lag()
        total["delivered"] += state.delivered
        total["retries"] += state.retries
        if state.waiting:
            total["state"] = "waiting"
            total["last_error"] = state.last_error
        elif state.lag() and total["state"] == "idle":
            total["state"] = "delivering"

    return found


def health_lines(
    drains: Iterable[Drain], dead_letters: dict[str, int], closing: dict[str, Any] | None, now_ns: int
) -> bytes:
    """Return the points of one moment: one a drain, and one for the account if it could be read."""
    lines = [
        encode_point(
            "ev_pipeline",
            {"process": "egress", "component": drain.sink.name, "part": drain.outbox.stem},
            {
                "lag_records": drain.state.lag(),
                "delivered": drain.state.delivered,
                "retries": drain.state.retries,
                "dead_letters": dead_letters.get(drain.sink.name, 0),
            },
            now_ns,
        )
        for drain in drains
    ]
    if closing is not None:
        messages, rows, through_ms = closing["messages"], closing["rows"], closing["through_ms"]
        lines.append(
            encode_point(
                "ev_pipeline",
                {"process": "ledger", "component": "account", "part": "all"},
                {
                    "messages": messages["total"],
                    **{name: messages[name] for name in ("decoded", "duplicate", "dead", "held")},
                    **{f"rows_{name}": count for name, count in rows.items()},
                    "closes": closing["closes"],
                    "through_lag_s": None
                    if through_ms is None
                    else max(0.0, now_ns / 1e9 - through_ms * NS_PER_MS / 1e9),
                },
                now_ns,
            )
        )
    return "".join(f"{line}\n" for line in lines).encode()
