"""Duplicates out, sequence gaps waited for: messages to their order of effect.

QoS 1 delivers a message again when an acknowledgement is lost, and a bridge may let messages
overtake each other. Every node numbers its messages per boot (``boot``, ``seq``). A message whose number
was seen is a duplicate. One that comes before its predecessor waits, at most `hold_ns` of
journaled time; then the gap is passed over, and the missing message, should it come later, is taken
as it comes. Memory is bounded: the last `WINDOW` numbers of the current and the previous boot.

Clock skew: heartbeats carry the station's clock. Beyond `clock_error_ns` at three heartbeats running,
or `clock_jump_ns` once, times of that node are shifted by the measured skew. A message whose
newest time lies in the future, or before 2020, is shifted so that its newest time is its arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ._clock_skew import Arrivals, Effects, NodeState, time_of
from ._kernel import kernel
from .batch import DECODED, DUPLICATE, HELD, I64
from .errors import SnapshotError
from .units import NO_TIME

VERSION: Final = 1
WINDOW: Final = 1024
_WORDS: Final = WINDOW // 64


@dataclass(frozen=True, slots=True)
class SequencingConfig:
    """Bounds, all in ns of journaled time unless said.

    Attributes
    ----------
    hold_ns : int
        Longest wait for an earlier number (2 s).
    hold_max : int
        Messages that may wait per node (256); one more passes the gap over.
    live_max_age_ns : int
        Older readings are backlog (900 s, CONVENTIONS).
    future_max_ns : int
        A time this far after arrival cannot be (300 s).
    clock_error_ns, clock_jump_ns : int
        Skew that counts as a wrong clock at three heartbeats running (60 s), or at once (300 s).
    """

    hold_ns: int = 2_000_000_000
    hold_max: int = 256
    live_max_age_ns: int = 900_000_000_000
    future_max_ns: int = 300_000_000_000
    clock_error_ns: int = 60_000_000_000
    clock_jump_ns: int = 300_000_000_000


@kernel
def _mark(seen: NDArray[np.uint64], node: int, slot: int, seq: int) -> None:
    at = seq % WINDOW
    seen[node, slot, at // 64] |= np.uint64(1) << np.uint64(at % 64)


@kernel
def _forget(seen: NDArray[np.uint64], node: int, slot: int) -> None:
    for w in range(_WORDS):
        seen[node, slot, w] = np.uint64(0)


@kernel
def _is_marked(seen: NDArray[np.uint64], node: int, slot: int, seq: int) -> bool:
    at = seq % WINDOW
    return bool((seen[node, slot, at // 64] >> np.uint64(at % 64)) & np.uint64(1))


@kernel
def _advance(state: NodeState, node: int, slot: int, seq: int) -> None:
    """Take `seq` >= next as the newest number; numbers passed over are unseen."""
    first = state.next_seq[node, slot]
    if seq - first >= WINDOW:
        _forget(state.seen, node, slot)
    else:
        for s in range(first, seq):
            at = s % WINDOW
            state.seen[node, slot, at // 64] &= ~(np.uint64(1) << np.uint64(at % 64))
    _mark(state.seen, node, slot, seq)
    state.next_seq[node, slot] = seq + 1


@kernel
def _release(state: NodeState, a: Arrivals, e: Effects, i: int, now: int, limits: NDArray[np.int64]) -> None:
    at = e.used[0]
    e.message[at] = i
    e.effect_ns[at] = now
    e.used[0] = at + 1
    e.fate[i] = DECODED
    e.live[i] = 1
    if a.node[i] >= 0:
        time_of(state, a, e, i, limits)


@kernel
def _duplicate(e: Effects, i: int, now: int) -> None:
    at = e.used[0]
    e.message[at] = i
    e.effect_ns[at] = now
    e.used[0] = at + 1
    e.fate[i] = DUPLICATE
    e.live[i] = 1


@kernel
def _drain(
    state: NodeState,
    a: Arrivals,
    e: Effects,
    waiting: I64,
    n_waiting: int,
    node: int,
    skip_gap: bool,
    now: int,
    limits: NDArray[np.int64],
) -> int:
    """Release what of `node` waits and follows on; with `skip_gap` the first gap is passed over."""
    while state.held[node] > 0:
        best = -1
        for w in range(n_waiting):
            i = waiting[w]
            if a.node[i] == node and (best < 0 or a.seq[i] < a.seq[waiting[best]]):
                best = w
        i = waiting[best]
        if a.seq[i] != state.next_seq[node, 0] and not skip_gap:
            break
        skip_gap = False
        _advance(state, node, 0, a.seq[i])
        _release(state, a, e, i, now, limits)
        state.held[node] -= 1
        for w in range(best, n_waiting - 1):
            waiting[w] = waiting[w + 1]
        n_waiting -= 1
    return n_waiting


@kernel
def _drain_all(
    state: NodeState,
    a: Arrivals,
    e: Effects,
    waiting: I64,
    n_waiting: int,
    node: int,
    now: int,
    limits: NDArray[np.int64],
) -> int:
    while state.held[node] > 0:
        n_waiting = _drain(state, a, e, waiting, n_waiting, node, True, now, limits)
    return n_waiting


@kernel
def _old_boot(state: NodeState, a: Arrivals, e: Effects, i: int, now: int, limits: NDArray[np.int64]) -> None:
    """A message of an earlier boot: known duplicates out, the rest taken as it comes."""
    node, seq = np.int64(a.node[i]), a.seq[i]
    if a.boot[i] > state.boot[node, 1]:
        # the first word of that boot comes after its successor's
        state.boot[node, 1] = a.boot[i]
        state.next_seq[node, 1] = seq
        _forget(state.seen, node, 1)
    if a.boot[i] == state.boot[node, 1]:
        ahead = state.next_seq[node, 1] - seq
        if ahead <= 0:
            _advance(state, node, 1, seq)
        elif ahead <= WINDOW:
            if _is_marked(state.seen, node, 1, seq):
                _duplicate(e, i, now)
                return
            _mark(state.seen, node, 1, seq)
    _release(state, a, e, i, now, limits)


@kernel
def _sequence_kernel(
    state: NodeState,
    a: Arrivals,
    e: Effects,
    waiting: I64,
    hold_ns: int,
    hold_max: int,
    limits: NDArray[np.int64],
) -> int:
    """Put the messages in order of effect; return how many still wait (their indices in `waiting`)."""
    n_waiting = 0
    now = np.int64(NO_TIME)
    for i in range(len(a.node)):
        now = max(now, a.recv_ns[i])
        while n_waiting > 0 and a.recv_ns[waiting[0]] + hold_ns <= now:
            n_waiting = _drain(
                state, a, e, waiting, n_waiting, np.int64(a.node[waiting[0]]), True, now, limits
            )
        node = np.int64(a.node[i])
        if a.numbered[i] == 0:
            _release(state, a, e, i, now, limits)
            continue
        boot, seq = a.boot[i], a.seq[i]
        current = state.boot[node, 0]
        if current >= 0 and boot < current:
            _old_boot(state, a, e, i, now, limits)
            continue
        if boot != current:
            n_waiting = _drain_all(state, a, e, waiting, n_waiting, node, now, limits)
            state.boot[node, 1] = current
            state.next_seq[node, 1] = state.next_seq[node, 0]
            for w in range(_WORDS):
                state.seen[node, 1, w] = state.seen[node, 0, w]
            _forget(state.seen, node, 0)
            state.boot[node, 0] = boot
            # a node never seen may have been running for long: its first number is as good as any
            state.next_seq[node, 0] = seq if current < 0 else min(1, seq)
        following = state.next_seq[node, 0]
        if seq == following:
            _advance(state, node, 0, seq)
            _release(state, a, e, i, now, limits)
            n_waiting = _drain(state, a, e, waiting, n_waiting, node, False, now, limits)
        elif seq < following:
            if following - seq <= WINDOW and _is_marked(state.seen, node, 0, seq):
                _duplicate(e, i, now)
            else:
                if following - seq <= WINDOW:
                    _mark(state.seen, node, 0, seq)
                _release(state, a, e, i, now, limits)
        else:
            n_waiting = _hold(state, a, e, waiting, n_waiting, i, now, hold_ns, hold_max, limits)
    return n_waiting


@kernel
def _hold(
    state: NodeState,
    a: Arrivals,
    e: Effects,
    waiting: I64,
    n_waiting: int,
    i: int,
    now: int,
    hold_ns: int,
    hold_max: int,
    limits: NDArray[np.int64],
) -> int:
    """Let message i wait, unless it waits already, waiting is off, or too many do."""
    node, seq = np.int64(a.node[i]), a.seq[i]
    for w in range(n_waiting):
        if a.node[waiting[w]] == node and a.seq[waiting[w]] == seq:
            _duplicate(e, i, now)
            return n_waiting
    e.fate[i] = HELD
    waiting[n_waiting] = i
    n_waiting += 1
    state.held[node] += 1
    if hold_ns <= 0 or state.held[node] > hold_max:
        n_waiting = _drain(state, a, e, waiting, n_waiting, node, True, now, limits)
    return n_waiting


class Sequencer:
    """Sequencing state of one shard's nodes."""

    def __init__(self, config: SequencingConfig, resume_state: dict[str, Any] | None = None) -> None:
        self.config = config
        self._limits = np.array(
            [config.live_max_age_ns, config.future_max_ns, config.clock_error_ns, config.clock_jump_ns],
            np.int64,
        )
        self._n = 0
        self.state = _empty_nodes(16)
        if resume_state is not None:
            if resume_state.get("version") != VERSION:
                raise SnapshotError(
                    f"sequencer has version {resume_state.get('version')!r}, this program reads {VERSION}"
                )
            n = len(resume_state["boot"])
            self.reserve(n)
            for name in ("boot", "next_seq", "seen", "skew_ns", "skewed"):
                getattr(self.state, name)[:n] = resume_state[name]

    def reserve(self, nodes: int) -> None:
        """Have room for `nodes` rows."""
        self._n = max(self._n, nodes)
        if self._n > len(self.state.skew_ns):
            bigger = _empty_nodes(max(self._n, 2 * len(self.state.skew_ns)))
            pairs: list[tuple[NDArray[Any], NDArray[Any]]] = list(zip(self.state, bigger, strict=True))
            for old, new in pairs:
                new[: len(old)] = old
            self.state = bigger

    def run(self, arrivals: Arrivals, *, release_all: bool = False) -> tuple[Effects, I64]:
        """Return the effects of `arrivals` and the indices of those that still wait, in arrival order.

        With `release_all` nothing waits any longer: the log ends here.
        """
        m = len(arrivals.node)
        effects = Effects(
            np.zeros(1, np.int64),
            np.empty(m, np.int64),
            np.empty(m, np.int64),
            np.full(m, HELD, np.uint8),
            np.zeros(m, np.int64),
            np.ones(m, np.uint8),
        )
        waiting = np.empty(m, np.int64)
        left = _sequence_kernel(
            self.state,
            arrivals,
            effects,
            waiting,
            0 if release_all else self.config.hold_ns,
            self.config.hold_max,
            self._limits,
        )
        self.state.held[:] = 0
        return effects, waiting[:left]

    def snapshot(self) -> dict[str, Any]:
        """Return plain data; messages that wait are the caller's to save."""
        names = ("boot", "next_seq", "seen", "skew_ns", "skewed")
        return {"version": VERSION} | {name: getattr(self.state, name)[: self._n].copy() for name in names}

    def nbytes(self) -> int:
        """Return the bytes of state held for the nodes known."""
        return sum(int(array[: self._n].nbytes) for array in self.state)


def _empty_nodes(n: int) -> NodeState:
    return NodeState(
        np.full((n, 2), -1, np.int64),
        np.zeros((n, 2), np.int64),
        np.zeros((n, 2, _WORDS), np.uint64),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
    )
