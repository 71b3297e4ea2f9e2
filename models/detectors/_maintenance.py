"""Announced maintenance: which absences are planned, and until when."""

from __future__ import annotations

from typing import Any, Final

from models.units import NS_PER_MS, NS_PER_S

#: A window is forgotten this long after its end.
_KEEP_NS: Final = 86_400 * NS_PER_S

#: Windows remembered; beyond, the one that ends first is forgotten.
_MOST: Final = 10_000

_Window = tuple[str, str, str, int, int]  # site, node or "", station or "", from, until


class Maintenance:
    """Windows from operator messages ``maintenance`` {site, node?, station?, from, until} (epoch ms)."""

    def __init__(self, resume_state: list[list[Any]] | None = None) -> None:
        self._windows: list[_Window] = [(w[0], w[1], w[2], w[3], w[4]) for w in resume_state or []]

    def add(self, body: dict[str, Any], now_ns: int) -> None:
        """Take in a message; one that is not what it should be is no announcement."""
        site, node, station = body.get("site"), body.get("node") or "", body.get("station") or ""
        begin, end = _time_ns(body.get("from")), _time_ns(body.get("until"))
        names = isinstance(site, str) and isinstance(node, str) and isinstance(station, str)
        if not names or begin is None or end is None or begin > end:
            return
        self._windows = [w for w in self._windows if w[4] + _KEEP_NS > now_ns]
        self._windows.append((str(site), node, station, begin, end))
        if len(self._windows) > _MOST:
            self._windows.remove(min(self._windows, key=lambda w: w[4]))

    def until(self, site: str, node: str, station: str, start_ns: int, now_ns: int) -> int | None:
        """Return the latest end of a window that touches [start, now] of this subject, None if none does.

        For a node `station` is its own name: a window for a stand-alone station is one for its node.
        """
        ends = [
            w[4]
            for w in self._windows
            if w[0] == site
            and w[1] in {"", node}
            and w[2] in {"", station}
            and w[3] <= now_ns
            and w[4] >= start_ns
        ]
        return max(ends, default=None)

    def snapshot(self) -> list[list[Any]]:
        """Return plain data."""
        return [list(w) for w in self._windows]


def _time_ns(value: object) -> int | None:
    """Return epoch ms as ns, None for what is no time."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 9e12:
        return int(value) * NS_PER_MS
    return None
