"""The closing account of a replay, added up as its results come."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from models.outputs import Account

_MESSAGES: Final = ("decoded", "duplicate", "dead")
_ROWS: Final = ("processed", "late", "duplicate", "invalid")
_PACKAGES: Final = ("chargestream", "bytewax", "numba", "numpy", "msgspec")


@dataclass(slots=True)
class Tally:
    """What was read, what became of it, and what was found."""

    #: findings raised, by code
    raised: Counter[str] = field(default_factory=Counter)
    through_ms: int = 0  # journaled time of the newest message
    intervals: int = 0
    _total: Counter[str] = field(default_factory=Counter)
    _held: dict[int, tuple[int, int]] = field(default_factory=dict)  # shard -> (end, messages that wait)

    def add(self, account: Account) -> None:
        """Add the account of one batch."""
        total = self._total
        total["messages"] += account.messages
        for name in _MESSAGES:
            total[name] += getattr(account, name)
        total["rows_in"] += account.rows_in
        for name in _ROWS:
            total[f"rows_{name}"] += getattr(account, f"rows_{name}")
        self._held[account.shard] = max(self._held.get(account.shard, (0, 0)), (account.end, account.held))
        self.through_ms = max(self.through_ms, account.through_ms)

    def summary(self) -> dict[str, Any]:
        """Return the account (DESIGN: ``summary.json``), without times."""
        total = self._total
        messages = {"total": total["messages"]} | {name: total[name] for name in _MESSAGES}
        rows = {"in": total["rows_in"]} | {name: total[f"rows_{name}"] for name in _ROWS}
        waiting = sum(count for _, count in self._held.values())
        return {
            "messages": messages,
            "rows": rows,
            "waiting": waiting,
            "closes": messages["total"] == sum(messages[name] for name in _MESSAGES) + waiting
            and rows["in"] == sum(rows[name] for name in _ROWS),
            "findings": dict(sorted(self.raised.items())),
            "intervals": self.intervals,
        }


def versions() -> dict[str, str]:
    """Return the versions of what results may depend on."""
    return {name: version(name) for name in _PACKAGES}
