"""Residual currents as shares of a limit: DC and AC on one scale."""

from __future__ import annotations

import numpy as np

from models.batch import ReadingBatch
from models.channels import CHANNEL_ID

from ._slim import Columns, levels

_DC, _AC = CHANNEL_ID["x.Residual.DC"], CHANNEL_ID["x.Residual.AC"]


def condition(rows: ReadingBatch, dc_ma: float, ac_ma: float) -> Columns:
    """Return which readings are at a limit.

    The evidence is that of the kind nearer to its limit (`extra`: 1 DC, 2 AC); `score` is its share of the
    limit.
    """
    dc = np.abs(rows.column(_DC))
    ac = np.abs(rows.column(_AC))
    of_dc, of_ac = dc / dc_ma, ac / ac_ma
    share = np.fmax(of_dc, of_ac)
    alternating = np.isnan(of_dc) | (of_ac > of_dc)
    return Columns(
        levels(share == share, share >= 1.0),
        np.where(alternating, ac, dc),
        np.where(alternating, ac_ma, dc_ma),
        np.where(alternating, 2.0, 1.0),
        share,
    )
