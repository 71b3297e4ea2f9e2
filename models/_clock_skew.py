"""What sequencing works on, and what a message's times are worth when a station's clock is wrong."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._kernel import kernel
from .batch import I32, I64, U8
from .units import FLOOR_TIME_NS, NO_TIME

_STEADY_NS: Final = 5_000_000_000  # a new skew this near to the one in force does not replace it


class NodeState(NamedTuple):
    """Sequencing state, one row a node; column 0 is the current boot, 1 the previous one."""

    boot: I64  # (nodes, 2), -1 unknown
    next_seq: I64  # (nodes, 2)
    seen: NDArray[np.uint64]  # (nodes, 2, _WORDS): bit s % WINDOW = number s was seen
    skew_ns: I64  # (nodes,) shift in force
    skewed: I64  # (nodes,) heartbeats running with a large skew
    held: I64  # (nodes,) messages waiting now (scratch, zero between calls)


class Arrivals(NamedTuple):
    """What the kernel reads of each message, in arrival order; held ones of earlier calls first."""

    node: I32  # -1: no sequencing (ticks, operator messages)
    numbered: U8  # 1: has (boot, seq) and takes part
    boot: I64
    seq: I64
    recv_ns: I64
    newest_ns: I64  # newest time inside the message, NO_TIME when none
    clock_ns: I64  # the station's clock in a heartbeat, NO_TIME else


class Effects(NamedTuple):
    """What the kernel writes: message indices in order of effect, and per message its fate."""

    used: I64  # (1,): how many took effect
    message: I64
    effect_ns: I64
    fate: U8  # per message: DECODED, DUPLICATE, HELD
    shift_ns: I64  # per message: what to add to its times
    live: U8  # per message


@kernel
def time_of(state: NodeState, a: Arrivals, e: Effects, i: int, limits: NDArray[np.int64]) -> None:
    """Set shift and liveness of message i from the skew in force and what its times allow."""
    live_max, future_max, clock_error, clock_jump = limits[0], limits[1], limits[2], limits[3]
    node = np.int64(a.node[i])
    recv = a.recv_ns[i]
    clock = a.clock_ns[i]
    if clock != NO_TIME:
        skew = recv - clock
        size = abs(skew)
        state.skewed[node] = state.skewed[node] + 1 if size > clock_error else 0
        if size > clock_jump or state.skewed[node] >= 3:
            if abs(skew - state.skew_ns[node]) > _STEADY_NS:
                state.skew_ns[node] = skew
        elif size <= clock_error:
            state.skew_ns[node] = 0
    newest = a.newest_ns[i]
    shift = state.skew_ns[node]
    if newest == NO_TIME:
        e.shift_ns[i] = shift
        e.live[i] = 1
        return
    if shift != 0 and abs(recv - newest) <= clock_error:
        # the station set its clock right since the last heartbeat
        state.skew_ns[node] = 0
        state.skewed[node] = 0
        shift = 0
    if newest + shift > recv + future_max or newest + shift < FLOOR_TIME_NS:
        shift = recv - newest
        state.skew_ns[node] = shift
    e.shift_ns[i] = shift
    e.live[i] = 1 if recv - (newest + shift) <= live_max else 0
