"""Decoded messages and their effects to the columns that travel on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import batch as b
from models._clock_skew import Arrivals, Effects
from models.card_data import CARD_DATA
from models.command_request import shown_message
from models.frame import Frame
from models.ordering import RawRows
from models.records import Dead
from models.units import NO_TIME

from .decode import Decoded, take_rows

_DEAD_BYTES: Final = 4096  # of a dead payload that are kept


@dataclass(slots=True)
class Ranked:
    """Messages in order of effect: everything indexed by rank."""

    message: b.I64
    order: b.I64
    effect_ns: b.I64
    live: b.U8
    rank_of: b.I64  # by message, -1 when it had no effect


def arrivals_of(decoded: Decoded, frame: Frame) -> Arrivals:
    return Arrivals(
        decoded.node,
        decoded.numbered,
        decoded.boot,
        decoded.seq,
        frame.recv_ns,
        decoded.newest_ns,
        decoded.clock_ns,
    )


def effective_rows(decoded: Decoded, effects: Effects, ranked: Ranked) -> RawRows:
    """Return the readings of messages that took effect, in that order, times corrected."""
    raw = decoded.rows
    if len(raw.evse) == 0:
        return raw
    rank = ranked.rank_of[raw.rank]
    good = (rank >= 0) & (effects.fate[raw.rank] == b.DECODED) & ~decoded.is_dead[raw.rank]
    time_ns = raw.time_ns + effects.shift_ns[raw.rank]
    rows = RawRows(raw.evse, time_ns, raw.reg_mwh, rank, raw.values, raw.slot_of)
    if not good.all():
        rows = take_rows(rows, np.flatnonzero(good))
    if (np.diff(rows.rank) < 0).any():
        rows = take_rows(rows, np.argsort(rows.rank, kind="stable"))
    return rows


def message_columns(
    decoded: Decoded, effects: Effects, ranked: Ranked, frame: Frame, pos: b.I64
) -> b.MessageColumns:
    alive = ~decoded.is_dead[ranked.message]
    i = ranked.message[alive]
    clock = decoded.clock_ns[i]
    recv = frame.recv_ns[i]
    return b.MessageColumns(
        ranked.order[alive],
        pos[i],
        recv,
        decoded.node[i],
        decoded.kind[i],
        decoded.boot[i],
        decoded.seq[i],
        effects.live[i],
        effects.fate[i],
        np.where(clock == NO_TIME, NO_TIME, recv - clock),
        ranked.effect_ns[alive],
    )


def _shown(frame: Frame, i: int) -> bytes:
    return shown_message(frame.topic(i).decode("utf-8", "replace"), frame.payload(i))


def dead_of(decoded: Decoded, frame: Frame, pos: NDArray[np.int64]) -> list[Dead]:
    return [
        Dead(
            pos=int(pos[i]),
            recv_ns=int(frame.recv_ns[i]),
            topic=frame.topic(i).decode("utf-8", "replace"),
            reason=error.reason,
            detail=error.detail,
            payload=b"" if error.reason == CARD_DATA else _shown(frame, i)[:_DEAD_BYTES],
        )
        for i, error in sorted(decoded.dead.items())
    ]
