"""Sessions of a shard as they finish, for the detector and for training."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.batch import ReadingBatch
from models.detecting import Observed, timeline
from models.records import Transaction

from .sessions import Ends, Finished, chosen, columns, gather, room_for


def ends_of(seen: Observed) -> Ends:
    """Return the Ended messages of a batch by EVSE, then order."""
    found = sorted(
        (r.evse_row, r.at.order, r.at.effect_ns, r.at.live)
        for r in seen.records
        if isinstance(r, Transaction) and r.event_type == "Ended" and r.evse_row >= 0
    )
    return Ends(
        np.array([f[0] for f in found], np.int32),
        np.array([f[1] for f in found], np.int64),
        np.array([f[2] for f in found], np.int64),
        np.array([f[3] for f in found], np.uint8),
    )


def finished(seen: Observed, state: Any) -> Finished:
    """Take in a batch; return the sessions it finished. `state` has a record per EVSE of the table."""
    rows, ends = seen.rows, ends_of(seen)
    out = room_for(len(rows) + len(ends.evse))
    if len(rows) + len(ends.evse):
        gather(timeline(rows), rows.reg_mwh, columns(rows), ends, state, out)
    return chosen(out, slice(int(out.used[0])))


def warm_up(state: Any) -> None:
    """Compile the kernel, or read it from the cache, before a stream waits for it."""
    none = Ends(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8))
    rows = ReadingBatch.empty()
    gather(timeline(rows), rows.reg_mwh, columns(rows), none, state, room_for(0))
