"""The breaker of the fleet: too many reactions together are a fault of the rules, not of the stations."""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec

from .outputs import FindingChange, Publish
from .policies import Desk, Policy
from .topics import OPERATOR_SITE, ROOT

#: What site shards tell the control shard: {action: sent, cause, time_ms}, {action: reset, by, time_ms}.
TOLD: Final = "reaction"
HOUR_MS: Final = 3_600_000
CODE: Final = "reactions_stopped"
_ADVICE: Final = (
    "Automatic commands are stopped everywhere. See in `chargestream reactions list` which rule sent them "
    "and why, correct the rule or the stations, then close the breaker: `chargestream reactions reset`."
)


class Breaker(Policy):
    """Counts the commands of all reactions of an hour; stops all of them when they are too many.

    Parameters
    ----------
    fleet_per_h : int
    resume_state : dict, optional
        What `snapshot` returned.
    """

    def __init__(self, fleet_per_h: int, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {}
        self._limit = fleet_per_h
        self._sent: dict[str, int] = dict(state.get("sent", {}))  # cause -> when
        self._open: dict[str, Any] | None = state.get("open")  # of the finding

    def forwarded(self, kind: str, body: dict[str, Any], desk: Desk) -> None:
        """Count a command, or take note that a person closed the breaker; repeats change nothing."""
        if kind != TOLD:
            return
        if body.get("action") == "reset":
            if self._open is not None and body["time_ms"] >= self._open["raised_at"]:
                self._report("cleared", desk)
                self._open = None
                self._sent.clear()
            return
        self._sent[body["cause"]] = body["time_ms"]
        self._sent = {cause: at for cause, at in self._sent.items() if at > body["time_ms"] - HOUR_MS}
        if len(self._sent) >= self._limit and self._open is None:
            request = {
                "action": "trip",
                "by": f"the breaker of the fleet, after {self._limit} commands within an hour",
            }
            desk.publish(
                Publish(topic=f"{ROOT}/{OPERATOR_SITE}/reactions", payload=msgspec.json.encode(request))
            )
            self._open = {"raised_at": desk.now_ms, "commands": len(self._sent)}
            self._report("raised", desk)

    def _report(self, state: str, desk: Desk) -> None:
        assert self._open is not None
        at = self._open["raised_at"]
        cleared = state == "cleared"
        desk.report(
            "findings",
            FindingChange(
                finding_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"_fleet//{CODE}/{at}")),
                code=CODE,
                scope="site",
                site="_fleet",
                node=None,
                station=None,
                evse=None,
                connector=None,
                severity="critical",
                source="rule",
                state=state,
                live=True,
                planned=False,
                raised_at=at,
                start=at,
                last=desk.now_ms,
                end=desk.now_ms if cleared else None,
                score=1.0,
                evidence={"commands_of_an_hour": self._open["commands"], "limit": self._limit},
                taxonomy=None,
                advice=_ADVICE,
                parent=None,
                change=2 if cleared else 1,
                changed_at=desk.now_ms,
                shard=desk.shard,
                order=desk.order,
            ),
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return {"sent": dict(self._sent), "open": dict(self._open) if self._open else None}
