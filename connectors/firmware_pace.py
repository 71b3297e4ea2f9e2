"""How fast images go out, and to how many at once: what is beyond that is told when to come again."""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_MAX_STATIONS: Final = 100_000
_MINUTE_S: Final = 60.0


class TokenBucket:
    """Shares a rate among all who take; each pays for what it takes and waits for its turn.

    Parameters
    ----------
    rate_per_s : float
        Tokens (bytes) a second; 0: no limit.
    burst : float
        Tokens that may be taken at once after a pause.
    """

    def __init__(self, rate_per_s: float, burst: float, steady: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._steady = rate_per_s, burst, steady
        self._lock = threading.Lock()
        self._level, self._at = burst, steady()

    def take(self, tokens: float) -> float:
        """Take tokens, on credit if need be; return how long to wait before using them, s."""
        if not self._rate:
            return 0.0
        with self._lock:
            now = self._steady()
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
            self._at = now
            self._level -= tokens
            return max(0.0, -self._level / self._rate)


class Doorkeeper:
    """Lets a bounded number in, and none too often.

    Parameters
    ----------
    max_downloads : int
        At once.
    starts_per_minute : int
        Of one station: a station that fetches in tiny ranges must not take the place of others.
    retry_s : float
        Shortest time after which those who are turned away may come again; up to twice that, at random, so
        that they do not come together.
    """

    def __init__(
        self,
        max_downloads: int,
        starts_per_minute: int,
        retry_s: float,
        steady: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._max, self._starts, self._retry_s = max_downloads, starts_per_minute, retry_s
        self._steady, self._rng = steady, rng or random.Random()
        self._lock = threading.Lock()
        self._stations: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.inside = 0

    def enter(self, station: str) -> tuple[int, int]:
        """Return (0, 0) and count one in, or (HTTP status 429 or 503, seconds to wait)."""
        with self._lock:
            now = self._steady()
            level, at = self._stations.pop(station, (float(self._starts), now))
            level = min(float(self._starts), level + (now - at) * self._starts / _MINUTE_S)
            self._stations[station] = (level, now)
            if len(self._stations) > _MAX_STATIONS:
                self._stations.popitem(last=False)
            if level < 1:
                return 429, max(1, round((1 - level) * _MINUTE_S / self._starts + 0.5))
            if self.inside >= self._max:
                return 503, max(1, round(self._retry_s * (1 + self._rng.random())))
            self._stations[station] = (level - 1, now)
            self.inside += 1
            return 0, 0

    def leave(self) -> None:
        """Count one out."""
        with self._lock:
            self.inside -= 1
