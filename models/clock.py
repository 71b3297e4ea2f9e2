"""The arrival clock of the journal: it never steps back, whatever the machine's clock does."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .units import NO_TIME, NS_PER_S


class JournalClock:
    """Arrival time, non-decreasing over a run and over restarts.

    While the machine's clock is behind what was already given out (it was set back, or the journal comes
    from a machine whose clock was ahead), this one goes on at half speed until the other has caught up:
    timeouts still run, and nothing is stamped before what is journaled.

    Parameters
    ----------
    wall_ns : callable
        The machine's clock, ns since the epoch.
    steady_ns : callable
        A clock that is never set, ns.
    last_tick_ns : int
        Newest tick of the journal, `units.NO_TIME` when it is new. Messages after it lie within its second.
    """

    def __init__(self, wall_ns: Callable[[], int], steady_ns: Callable[[], int], last_tick_ns: int) -> None:
        self._wall_ns, self._steady_ns = wall_ns, steady_ns
        self._lock = threading.Lock()
        self._steady = steady_ns()
        self._last = wall_ns() if last_tick_ns == NO_TIME else last_tick_ns + NS_PER_S - 1

    def __call__(self) -> int:
        """Return the time in ns."""
        with self._lock:
            steady = self._steady_ns()
            self._last = max(self._wall_ns(), self._last + (steady - self._steady) // 2)
            self._steady = steady
            return self._last

    def behind_ns(self) -> int:
        """Return by how much the machine's clock lies behind this one, 0 when it does not."""
        with self._lock:
            return max(0, self._last - self._wall_ns())
