"""OCPP meter values to readings: one reading per timestamp, one value per channel, nothing invented."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import numpy as np

from models.channels import CHANNEL_ID, REGISTER_CHANNEL
from models.meter_reader import count_name
from models.units import MAX_REGISTER_MWH, NO_REGISTER, mwh_from_wh

from . import Sink
from ._decoding import plain
from ._ocpp_types import MeterValue, SampledValue, time_ns
from ._ocpp_units import (
    DEFAULT_LOCATION,
    DEFAULT_MEASURAND,
    canonical_unit,
    channel_name,
    convert,
    number,
)

BEGIN: Final = "Transaction.Begin"
END: Final = "Transaction.End"

#: Where one measurand stands twice at one time, the higher context counts, then the first.
_RANK: Final = {BEGIN: 3, END: 3, "Sample.Periodic": 2, "Sample.Clock": 2, "Trigger": 2}
_REGISTER_PHASES: Final = {f"{DEFAULT_MEASURAND}@{phase}": phase for phase in ("L1", "L2", "L3")}

#: Analog values beyond this are missing.
_MAX_ANALOG: Final = 1e9


@dataclass(slots=True)
class Reading:
    """What was measured at one time: channel id -> (rank, value), registers in mWh by context rank."""

    values: dict[int, tuple[int, float]] = field(default_factory=dict)
    register: tuple[int, int] | None = None
    by_phase: dict[str, tuple[int, int]] = field(default_factory=dict)
    contexts: set[str] = field(default_factory=set)

    def register_mwh(self) -> int | None:
        """Return the total register; the sum of phases only where no total stands."""
        if self.register is not None:
            return self.register[1]
        return sum(mwh for _, mwh in self.by_phase.values()) if self.by_phase else None


@dataclass(slots=True)
class Samples:
    """Readings of one message by time, and the signed values in it, untouched."""

    readings: dict[int, Reading] = field(default_factory=dict)
    signed: list[Any] = field(default_factory=list)

    def register_mwh(self, prefer: str, *, last: bool) -> int | None:
        """Return the register taken in context `prefer`, else of the first or last reading that has one."""
        known = [(t, r) for t, r in sorted(self.readings.items()) if r.register_mwh() is not None]
        named = [(t, r) for t, r in known if prefer in r.contexts]
        chosen = named or known
        return chosen[-1 if last else 0][1].register_mwh() if chosen else None

    def put(self, out: Sink, evse: int) -> None:
        """Put the readings into `out` as rows of an EVSE of the node."""
        times = sorted(t for t, r in self.readings.items() if r.values or r.register_mwh() is not None)
        if not times:
            return
        channels = sorted({c for t in times for c in self.readings[t].values})
        values = np.full((len(channels), len(times)), np.nan)
        registers = np.full(len(times), NO_REGISTER, np.int64)
        for k, t in enumerate(times):
            reading = self.readings[t]
            for row, channel in enumerate(channels):
                if channel in reading.values:
                    values[row, k] = reading.values[channel][1]
            mwh = reading.register_mwh()
            if mwh is not None:
                registers[k] = mwh
        found = registers if (registers != NO_REGISTER).any() else None
        out.rows("", evse, np.array(times, np.int64), channels, values, found)


def read_samples(meter_values: list[MeterValue], ignored: dict[str, int]) -> Samples:
    """Return what `meter_values` hold; values we have no channel or unit for are counted in `ignored`.

    Raises
    ------
    DecodeError
        If a timestamp is no time.
    """
    samples = Samples()
    for meter_value in meter_values:
        at = time_ns(meter_value.timestamp)
        reading = samples.readings.setdefault(at, Reading())
        for sample in meter_value.sampled_value:
            _take(sample, reading, samples, ignored)
    return samples


def _take(sample: SampledValue, reading: Reading, samples: Samples, ignored: dict[str, int]) -> None:
    if sample.signed_meter_value is not None:
        samples.signed.append(plain(sample.signed_meter_value))
    if sample.format == "SignedData":
        samples.signed.append({"measurand": sample.measurand or DEFAULT_MEASURAND, "data": str(sample.value)})
        return
    name = channel_name(
        sample.measurand or DEFAULT_MEASURAND, sample.phase or "", sample.location or DEFAULT_LOCATION
    )
    if name not in CHANNEL_ID and name not in _REGISTER_PHASES:
        count_name(ignored, f"channel {name}")
        return
    value = number(sample.value)
    unit, multiplier = sample.unit or "", 0
    if sample.unit_of_measure is not None:
        unit, multiplier = sample.unit_of_measure.unit, sample.unit_of_measure.multiplier
    if value is not None:
        value = convert(value, unit, multiplier, canonical_unit(name))
    if value is None:
        count_name(ignored, f"value of {name} in {unit or 'its default unit'}")
        return
    context = sample.context or "Sample.Periodic"
    rank = _RANK.get(context, 1)
    if name in _REGISTER_PHASES or CHANNEL_ID[name] == REGISTER_CHANNEL:
        _take_register(_REGISTER_PHASES.get(name), value, rank, context, reading)
    elif rank > reading.values.get(CHANNEL_ID[name], (0, 0.0))[0] and abs(value) <= _MAX_ANALOG:
        reading.values[CHANNEL_ID[name]] = (rank, float(value))


def _take_register(phase: str | None, wh: Decimal, rank: int, context: str, reading: Reading) -> None:
    mwh = mwh_from_wh(wh)
    if abs(mwh) > MAX_REGISTER_MWH:
        return
    known = reading.register if phase is None else reading.by_phase.get(phase)
    if known is not None and known[0] >= rank:
        return
    reading.contexts.add(context)
    if phase is None:
        reading.register = (rank, mwh)
    else:
        reading.by_phase[phase] = (rank, mwh)
