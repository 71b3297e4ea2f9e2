"""State and kernels of `unusual`: levels of a channel in event time, samples of a shape."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64
from models.channels import CHANNELS
from models.learned.series import SAMPLE_BLANK, SAMPLE_FIELDS, block_add, block_sample
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
    *SAMPLE_FIELDS,
    ("sample", "f8"),  # the last sample made, with its extremes
    ("sample_low", "f8"),
    ("sample_high", "f8"),
    ("ready", "i8"),  # the reading at hand finished it
]
BLOCK_BLANK: Final[dict[str, Any]] = SAMPLE_BLANK | {"bucket": NO_TIME}


#: Units of scales whose zero is a convention.
_NO_ZERO: Final = frozenset({"Celsius", "dBm"})


class Levels(NamedTuple):
    """Limits of the family of levels."""

    learn_ns: int
    learn_n: int
    excess: float
    mean_ns: float


class Least(NamedTuple):
    """What a range counts at least, by channel: where zero means nothing, the share of a magnitude is 0."""

    share: F64  # of the greatest magnitude
    width: F64  # in the channel's unit


def least(channels: tuple[int, ...], share: float, width: float) -> Least:
    """Return the least ranges of channels: `width` for scales without a true zero, else `share`."""
    free = np.array([CHANNELS[c].unit in _NO_ZERO for c in channels], bool)
    return Least(np.where(free, 0.0, share), np.where(free, width, 0.0))


@kernel
def _beyond(value: float, low: float, high: float, share: float, width: float) -> float:
    """Return by how many ranges a value lies outside, a range being at least what `Least` says."""
    out = max(low - value, value - high)
    if not out > 0.0:
        return 0.0
    counted = max(max(high - low, width), share * max(abs(low), abs(high)))
    return out / counted if counted > 0.0 else np.inf


@kernel
def level_step(rec: Any, given: float, t: int, rule: Levels, share: float, width: float) -> float:
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
            _beyond(value, rec["low"], rec["high"], share, width),
            _beyond(mean, rec["mean_low"], rec["mean_high"], share, width),
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
