"""State and kernels of `unusual`: levels of a channel in event time, samples of a shape."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.learned.series import block_add, block_sample
from models.units import NO_TIME

#: One record per EVSE and channel, 40 bytes. Values are kept and compared in single precision.
LEVEL_FIELDS: Final[list[Any]] = [
    ("first_ns", "i8"),
    ("last_ns", "i8"),
    ("n", "i4"),
    ("low", "f4"),
    ("high", "f4"),
    ("mean", "f4"),
    ("mean_low", "f4"),
    ("mean_high", "f4"),
]
LEVEL_BLANK: Final[dict[str, Any]] = {"first_ns": NO_TIME}

BLOCK_FIELDS: Final[list[Any]] = [
    ("bucket", "i8"),  # number of the stretch of time that the sample being made covers
    ("n", "i8"),
    ("sum", "f8"),
    ("low", "f8"),
    ("high", "f8"),
    ("centre", "f8"),
    ("blocks", "i8"),
    ("sample", "f8"),  # the last sample made, with its extremes
    ("sample_low", "f8"),
    ("sample_high", "f8"),
    ("ready", "i8"),  # the reading at hand finished it
]
BLOCK_BLANK: Final[dict[str, Any]] = {"bucket": NO_TIME}


class Levels(NamedTuple):
    """Limits of the family of levels."""

    learn_ns: int
    learn_n: int
    excess: float
    least_share: float
    mean_ns: float


@kernel
def _beyond(value: float, low: float, high: float, least_share: float) -> float:
    """Return by how many ranges a value lies outside; a range is at least a share of the magnitude."""
    out = max(low - value, value - high)
    if not out > 0.0:
        return 0.0
    width = max(high - low, least_share * max(abs(low), abs(high)))
    return out / width if width > 0.0 else np.inf


@kernel
def level_step(rec: Any, given: float, t: int, rule: Levels) -> float:
    """Take in one value at time t; return its excess or that of the mean in ranges, 0 while learning."""
    value = float(np.float32(given))
    if rec["n"] == 0:
        rec["first_ns"] = t
        rec["low"] = rec["high"] = rec["mean"] = rec["mean_low"] = rec["mean_high"] = value
        rec["last_ns"], rec["n"] = t, 1
        return 0.0
    dt = float(t - rec["last_ns"])
    mean = float(np.float32(rec["mean"] + dt / (dt + rule.mean_ns) * (value - rec["mean"])))
    ranges = 0.0
    if rec["n"] >= rule.learn_n and t - rec["first_ns"] >= rule.learn_ns:
        ranges = max(
            _beyond(value, rec["low"], rec["high"], rule.least_share),
            _beyond(mean, rec["mean_low"], rec["mean_high"], rule.least_share),
        )
    rec["n"] = min(rec["n"] + 1, 2_000_000_000)
    rec["last_ns"], rec["mean"] = t, mean
    rec["low"], rec["high"] = min(rec["low"], value), max(rec["high"], value)
    rec["mean_low"], rec["mean_high"] = min(rec["mean_low"], mean), max(rec["mean_high"], mean)
    return ranges


@kernel
def take_sample(rec: Any, value: float, bucket: int) -> bool:
    """Add a value to the sample of its stretch of time; return whether the one before was finished by it."""
    finished = rec["n"] > 0 and bucket != rec["bucket"]
    if finished:
        rec["sample_low"], rec["sample_high"] = rec["low"], rec["high"]
        rec["sample"] = block_sample(rec)
    rec["bucket"] = bucket
    block_add(rec, value)
    return bool(finished)
