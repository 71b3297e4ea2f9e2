"""Which EVSEs see a low supply, and which stations are heard, for `site_power_event`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from models._kernel import kernel
from models.batch import F64, I16
from models.detecting import CLEAR, RAISE, UPDATE, EmissionArrays, Timeline

from ._kernels import ROOM, emit, phase_view, pick_phases
from ._voltage import Inventory

#: What an EVSE sees: a phase is low, all are, all are gone. Emissions carry it as severity.
SOME, ALL, GONE = 1, 2, 3

FIELDS: Final[list[Any]] = [("depth", "u1")]  # SOME, ALL or GONE, 0 outside a low run


class Limits(NamedTuple):
    """What is low, relative to the nominal voltage, and for whom none is declared."""

    low: float
    unpowered: float
    undeclared_v: float
    undeclared_floor_v: float


@kernel
def _depth(a: float, b: float, c: float, low: float, unpowered: float) -> int:
    """Return what the phases that are there show, -1 when none is."""
    greatest, least = -np.inf, np.inf
    if a == a:
        greatest, least = max(greatest, a), min(least, a)
    if b == b:
        greatest, least = max(greatest, b), min(least, b)
    if c == c:
        greatest, least = max(greatest, c), min(least, c)
    if greatest < 0.0:
        return -1
    if greatest < unpowered:
        return GONE
    if greatest < low:
        return ALL
    return SOME if least < low else 0


@njit(cache=True, nogil=True, fastmath=False)
def low_kernel(
    start: int,
    time: Timeline,
    values: F64,
    columns: I16,
    inv: Inventory,
    state: Any,
    limits: Limits,
    out: EmissionArrays,
) -> int:
    """Emit the changes of what EVSEs see: RAISE low, UPDATE deeper or shallower, CLEAR not low.

    An emission starts when it changes: whoever takes it in knows when the low run began.
    """
    n, room = len(time.evse), len(out.order) - ROOM
    evse = time.evse
    chosen = np.empty(4, np.int16)
    i = start
    while i < n:
        e = evse[i]
        rec = state[e]
        declared = inv.declared[e] != 0
        u_n = inv.u_n_v[e] if declared else limits.undeclared_v
        low, unpowered = limits.low * u_n, limits.unpowered * u_n
        some = pick_phases(inv.dc[e], inv.phases[e], columns, chosen)
        one, two = phase_view(values, chosen, 0), phase_view(values, chosen, 1)
        three, single = phase_view(values, chosen, 2), phase_view(values, chosen, 3)
        while i < n and evse[i] == e:
            if out.used[0] > room:
                return i
            a = one[i] if chosen[0] >= 0 else np.nan
            if chosen[3] >= 0 and a != a:
                a = single[i]
            b = two[i] if chosen[1] >= 0 else np.nan
            c = three[i] if chosen[2] >= 0 else np.nan
            if not declared:
                # line to line or to neutral: what is not near a usual voltage says nothing
                a = a if a >= limits.undeclared_floor_v else np.nan
                b = b if b >= limits.undeclared_floor_v else np.nan
                c = c if c >= limits.undeclared_floor_v else np.nan
            depth = _depth(a, b, c, low, unpowered) if some != 0 else -1
            if depth >= 0 and depth != rec["depth"]:
                t = time.time_ns[i]
                kind = UPDATE
                if depth == 0:
                    kind = CLEAR
                elif rec["depth"] == 0:
                    kind = RAISE
                rec["depth"] = depth
                emit(out, e, kind, depth, time.live[i], t, t, time.order[i], time.effect_ns[i], 0.0)
            i += 1
    return n
