"""The compiled walk of `message_loss`: numbers that follow on, and how many were used each minute."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import DECODED, HEARTBEAT, I32, I64, U8
from models.units import NO_TIME

from ._connections import BOOT_FIELDS, boot_of
from ._few import NONE
from ._nodes import NEVER

MINUTE_NS: Final = 60_000_000_000
MINUTES: Final = 64  # ring of counts per minute; the rule looks back at most `SLIM_MINUTES`
SLIM_MINUTES: Final = 60

#: Of a node of which nothing is missing or late. Others have `CLOSE_FIELDS`, and this means nothing.
NODE_FIELDS: Final[list[Any]] = [
    *BOOT_FIELDS,
    ("top", "u4"),  # highest number seen of the boot
    ("known", "u4"),  # numbers seen since the first
    ("minute", "u4"),  # newest minute of the ring
    ("used", "u1", (SLIM_MINUTES // 2,)),  # numbers used per minute, four bits each
]
MOST_USED: Final = 15
WIDE: Final = 2**32 - 1  # greater numbers are watched closely

#: `total` counts numbers over boots: number s of the current boot is `base` + s.
CLOSE_FIELDS: Final[list[Any]] = [
    ("boot", "i8"),
    ("base", "i8"),
    ("top", "i8"),  # highest number seen of the boot
    ("first", "i8"),  # total before the first number seen
    ("old_boot", "i8"),
    ("old_base", "i8"),
    ("backlog_ns", "i8"),  # last message that was backlog
    ("minute", "i8"),  # newest minute of the ring
    ("due_ns", "i8"),
    ("start_ns", "i8"),
    ("absent_ns", "i8"),  # since when the condition is absent, while raised
    ("raised", "u1"),
    ("gaps", "u1"),  # the node has gaps in `_gaps`
    ("used", "u2", (MINUTES,)),  # numbers used per minute
]

CLOSE_BLANK: Final[dict[str, Any]] = {
    "boot": -1,
    "old_boot": -1,
    "backlog_ns": NO_TIME,
    "minute": -1,
    "due_ns": NEVER,
    "start_ns": NO_TIME,
    "absent_ns": NO_TIME,
}


class Numbered(NamedTuple):
    """What the walk reads of each message."""

    effect_ns: I64
    node: I32
    kind: U8
    boot: I64
    seq: I64
    live: U8
    fate: U8


@kernel
def count(rec: Any, minute: int, n: int) -> None:
    """Count `n` numbers used in `minute`, forgetting minutes that the ring has passed."""
    if minute > rec["minute"]:
        steps = min(minute - rec["minute"], MINUTES) if rec["minute"] >= 0 else MINUTES
        for back in range(steps):
            rec["used"][(minute - back) % MINUTES] = 0
        rec["minute"] = minute
    rec["used"][minute % MINUTES] = min(rec["used"][minute % MINUTES] + n, 65_535)


@kernel
def _count_slim(rec: Any, minute: int) -> bool:
    """Count a number used in `minute`; return false if there is no room for it."""
    for back in range(min(max(minute - rec["minute"], 0), SLIM_MINUTES)):
        place = (minute - back) % SLIM_MINUTES
        rec["used"][place // 2] &= 240 if place % 2 == 0 else 15
    rec["minute"] = max(minute, rec["minute"])
    place = minute % SLIM_MINUTES
    shift = 4 * (place % 2)
    if (rec["used"][place // 2] >> shift) & 15 == MOST_USED:
        return False
    rec["used"][place // 2] += 1 << shift
    return True


@kernel
def _follows(rec: Any, k: int, messages: Numbered) -> bool:
    """Take in a number of a node that is not watched closely; return false if it needs to be."""
    boot, seq = messages.boot[k], messages.seq[k]
    known = boot_of(rec)
    if messages.live[k] == 0 or boot > known:
        return False
    ahead = seq - rec["top"]
    if boot < known or ahead < 1:
        return True
    if ahead > 1 or messages.kind[k] == HEARTBEAT or seq >= WIDE:
        return False
    if not _count_slim(rec, messages.effect_ns[k] // MINUTE_NS):
        return False
    rec["top"] = seq
    rec["known"] = min(rec["known"] + 1, WIDE)
    return True


@kernel
def walk_kernel(
    at: int, stop: int, messages: Numbered, nodes: Any, close_of: I32, close: Any, due_ns: int
) -> int:
    """Take in numbers that follow on; return the first message that needs a closer look, or `stop`."""
    effect_ns, node, kind, boot = messages.effect_ns, messages.node, messages.kind, messages.boot
    seq, live, fate = messages.seq, messages.live, messages.fate
    n_close = len(close_of)
    for k in range(at, stop):
        t = effect_ns[k]
        if node[k] >= 0 and boot[k] >= 0 and seq[k] >= 0 and fate[k] == DECODED:
            record = close_of[node[k]] if node[k] < n_close else NONE
            if record == NONE:
                if not _follows(nodes[node[k]], k, messages):
                    return k
            else:
                rec = close[record]
                if live[k] == 0:
                    rec["backlog_ns"] = t
                ahead = seq[k] - rec["top"] if boot[k] == rec["boot"] else np.int64(2)
                if kind[k] == HEARTBEAT:
                    if ahead > 0:
                        return k
                elif ahead == 1:
                    rec["top"] = seq[k]
                    count(rec, t // MINUTE_NS, 1)
                elif ahead > 1 or rec["gaps"] != 0:
                    return k
        if t >= due_ns:
            return k
    return stop
