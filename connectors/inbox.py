"""Received messages on their way to the journal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.frame import Frame


class Source(Protocol):
    """Where received messages come from and acknowledgements go to."""

    def ack(self, received: Received) -> None:
        """Acknowledge messages that are on disk; never blocks."""


@dataclass(slots=True)
class Received:
    """Messages as they came over one connection.

    Attributes
    ----------
    frame : Frame
        `recv_ns` is filled in by the `Inbox`.
    mids : ndarray, shape (n,), uint16
        MQTT packet identifiers, 0 for QoS 0.
    generation : int
        Connection that they came over.
    source : Source
        Whom to tell when they are on disk.
    """

    frame: Frame
    mids: NDArray[np.uint16]
    generation: int
    source: Source

    @property
    def size(self) -> int:
        """Bytes in memory, roughly."""
        return len(self.frame.topics) + len(self.frame.payloads) + 64 * len(self.frame)


class Inbox:
    """Received messages that are not on disk yet, in order of arrival, stamped with one clock.

    Parameters
    ----------
    clock : callable
        Arrival time in ns, non-decreasing.
    max_bytes : int
        Past this, `full` is True and receivers stop reading; `put` never blocks.
    """

    def __init__(self, clock: Callable[[], int], max_bytes: int) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._items: list[Received] = []
        self._changed = threading.Condition()
        self._wake_messages = 1
        self._wake_bytes = 1
        self.messages = 0
        self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether receivers have to pause."""
        return self.bytes >= self._max_bytes

    def put(self, received: Received) -> None:
        """Add messages; their arrival is now."""
        with self._changed:
            received.frame.recv_ns[:] = self._clock()
            self._items.append(received)
            self.messages += len(received.frame)
            self.bytes += received.size
            if self.messages >= self._wake_messages or self.bytes >= self._wake_bytes:
                self._changed.notify()

    def wait(self, timeout_s: float, messages: int = 1, nbytes: int = 1) -> bool:
        """Return as soon as `messages` or `nbytes` wait, or False after `timeout_s`."""
        with self._changed:
            self._wake_messages, self._wake_bytes = messages, nbytes
            return self._changed.wait_for(
                lambda: self.messages >= messages or self.bytes >= nbytes, max(timeout_s, 0.0)
            )

    def wake(self) -> None:
        """Let `wait` return now if anything waits at all (used when stopping)."""
        with self._changed:
            self._wake_messages = self._wake_bytes = 1
            self._changed.notify()

    def take(self) -> tuple[list[Received], int]:
        """Return all waiting messages, and the time: whatever comes later is not before it."""
        with self._changed:
            items, self._items = self._items, []
            self.messages = self.bytes = 0
            return items, self._clock()
