"""How long after its end a window waits for readings that are on their way."""

from __future__ import annotations

from typing import Final

import numpy as np

from .batch import I64
from .devices import DeviceTable
from .units import NO_TIME, NS_PER_S

#: A declared `batch_s` beyond this does not make a window wait longer.
BATCH_MAX_NS: Final = 3600 * NS_PER_S


class Graces:
    """The grace of every EVSE: a setting, and the longest time between two messages that its node declared.

    Parameters
    ----------
    base_ns : int
    unit_ns : int
        Unit of `of`, in ns.
    """

    def __init__(self, base_ns: int, unit_ns: int = 1) -> None:
        self._base_ns, self._unit_ns = base_ns, unit_ns
        self._batch_ns: I64 = np.zeros(0, np.int64)
        self._graces: I64 = np.zeros(0, np.int64)

    def of(self, devices: DeviceTable) -> tuple[I64, bool]:
        """Return (grace of each EVSE, whether that of a known one changed since the last call)."""
        known, evses = len(self._batch_ns), devices.n_evses
        batch_ns = devices.batch_ns[: devices.n_nodes]
        changed = not np.array_equal(batch_ns[:known], self._batch_ns)
        if changed or len(batch_ns) > known or evses > len(self._graces):
            self._batch_ns = batch_ns.copy()
            wait_ns = np.where(batch_ns == NO_TIME, 0, np.clip(batch_ns, 0, BATCH_MAX_NS))
            self._graces = (self._base_ns + wait_ns[devices.evse_node[:evses]]) // self._unit_ns
        return self._graces, changed
