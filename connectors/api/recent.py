"""What is dear to ask for is asked for only so often, and nobody waits while it is asked again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: What answers faster is asked each time.
_CHEAP_S: Final = 0.03
#: What is dearer takes at most this share of the time.
_SHARE: Final = 0.05
#: Who asks seldom must not hear what was true when he asked last: older than this, and than twice the time it
#: is valid, it is waited for.
_OLD_S: Final = 5.0


class Recent(Generic[T]):
    """Remembers an answer and renews it in the background when it is old. Thread-safe.

    An answer that takes less than 30 ms is fetched anew each time; another one stays valid for twenty times
    as long as it took, and is handed out while its successor is being fetched; one that is older than 5 s and
    twice that time is waited for.

    Parameters
    ----------
    ask : callable
        Fetches the answer; what it raises is raised to the caller, and asked again next time.
    steady_s : callable
        A clock that never steps back, s.
    """

    def __init__(self, ask: Callable[[], T], steady_s: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._steady_s = ask, steady_s
        self._lock = threading.Lock()
        self._answer: tuple[T] | None = None
        self._cost_s = self._at_s = 0.0

    def __call__(self) -> T:
        """Return the answer."""
        held = self._answer
        if held is None or self._cost_s < _CHEAP_S:
            with self._lock:
                return self._renew()
        valid_s = self._cost_s / _SHARE
        if self._steady_s() - self._at_s > max(2 * valid_s, _OLD_S):
            with self._lock:
                renewed = self._answer  # perhaps by somebody else, while we waited for the lock
                return self._renew() if renewed is None or renewed is held else renewed[0]
        if self._steady_s() - self._at_s > valid_s and self._lock.acquire(blocking=False):
            threading.Thread(target=self._renew_alone, name="recent", daemon=True).start()
        return held[0]

    def _renew(self) -> T:
        begun_s = self._steady_s()
        try:
            answer = self._ask()
        except BaseException:
            self._answer = None
            raise
        self._at_s = self._steady_s()
        self._cost_s = self._at_s - begun_s
        self._answer = (answer,)
        return answer

    def _renew_alone(self) -> None:
        """Renew under the lock that the caller took."""
        try:
            self._renew()
        except Exception:
            self._answer = None  # the next caller asks and hears the error itself
        finally:
            self._lock.release()
