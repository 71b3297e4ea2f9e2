"""What the detectors of connectors share: the current through the plug, and which plugs are of type 1."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64
from models.channels import CHANNEL_ID
from models.devices import CONNECTOR_TYPES

#: Columns of `Currents`, in its order.
CURRENT_CHANNELS: Final[tuple[int, ...]] = tuple(
    CHANNEL_ID[name]
    for name in ("Current.Import@L1", "Current.Import@L2", "Current.Import@L3", "Current.Import")
)

#: Codes in the device table of plugs with the latch switch of SAE J1772.
TYPE_1: Final = CONNECTOR_TYPES.index("IEC_62196_T1")
TYPE_1_COMBO: Final = CONNECTOR_TYPES.index("IEC_62196_T1_COMBO")


class Currents(NamedTuple):
    """Currents per phase and without one, A, NaN where a batch has none."""

    l1_a: F64
    l2_a: F64
    l3_a: F64
    unphased_a: F64


@kernel
def flowing(currents: Currents, i: int, dc: int) -> float:
    """Return the current through the hottest pin of the plug at reading i, A; NaN where none is known.

    AC: the greatest phase, else the current without phase. DC: the output, which has no phase.
    """
    plain = float(currents.unphased_a[i])
    if dc != 0:
        return plain
    greatest = -np.inf
    if currents.l1_a[i] > greatest:  # false for NaN
        greatest = currents.l1_a[i]
    if currents.l2_a[i] > greatest:
        greatest = currents.l2_a[i]
    if currents.l3_a[i] > greatest:
        greatest = currents.l3_a[i]
    return float(greatest) if greatest > -np.inf else plain
