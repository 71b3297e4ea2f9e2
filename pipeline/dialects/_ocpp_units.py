"""OCPP units, measurands, phases and locations as tables, and one sampled value converted by them.

Sources: OCPP 1.6 edition 2 §7.31 (Measurand), §7.45 (UnitOfMeasure); OCPP 2.0.1 part 2 §3.29,
appendix 2 (StandardizedUnitsOfMeasure). All arithmetic is decimal, so 0.1 kWh is exactly 100 Wh.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from models.channels import CHANNEL_ID, CHANNELS

DEFAULT_MEASURAND: Final = "Energy.Active.Import.Register"
DEFAULT_LOCATION: Final = "Outlet"


class Unit(NamedTuple):
    """``canonical = (value + before) * factor + after``."""

    canonical: str
    factor: Decimal = Decimal(1)
    before: Decimal = Decimal(0)
    after: Decimal = Decimal(0)


_KILO: Final = Decimal(1000)

UNITS: Final[dict[str, Unit]] = {
    "Wh": Unit("Wh"),
    "kWh": Unit("Wh", _KILO),
    "varh": Unit("varh"),
    "kvarh": Unit("varh", _KILO),
    "VAh": Unit("VAh"),
    "kVAh": Unit("VAh", _KILO),
    "W": Unit("W"),
    "kW": Unit("W", _KILO),
    "VA": Unit("VA"),
    "kVA": Unit("VA", _KILO),
    "var": Unit("var"),
    "kvar": Unit("var", _KILO),
    "A": Unit("A"),
    "V": Unit("V"),
    "Hz": Unit("Hz"),
    "Hertz": Unit("Hz"),  # 1.6 MeterValues schema
    "Percent": Unit("Percent"),
    "Celsius": Unit("Celsius"),
    "Celcius": Unit("Celsius"),  # misspelt in the 1.6 schema
    "Fahrenheit": Unit("Celsius", Decimal(5) / Decimal(9), before=Decimal(-32)),
    "K": Unit("Celsius", after=Decimal("-273.15")),
    "RPM": Unit("1/min"),
}

#: What a phase is called on the wire -> in channel names, by the kind of quantity.
LINE_TO_NEUTRAL: Final = {
    "L1": "L1-N",
    "L2": "L2-N",
    "L3": "L3-N",
    "L1-N": "L1-N",
    "L2-N": "L2-N",
    "L3-N": "L3-N",
    "L1-L2": "L1-L2",
    "L2-L3": "L2-L3",
    "L3-L1": "L3-L1",
}
PER_LINE: Final = {
    "L1": "L1",
    "L2": "L2",
    "L3": "L3",
    "N": "N",
    "L1-N": "L1",
    "L2-N": "L2",
    "L3-N": "L3",
}

#: A temperature says where it is also at the outlet; for all others the outlet is the place meant.
_PLACED_AT_OUTLET: Final = "Temperature"

#: Values beyond this are garbage whatever the unit.
MAX_VALUE: Final = Decimal(10) ** 15
_MAX_TEXT: Final = 64
_MAX_EXPONENT: Final = 40
_MAX_MULTIPLIER: Final = 24


def channel_name(measurand: str, phase: str, location: str) -> str:
    """Return the channel as OCPP names spell it; it need not be one we know."""
    phases = LINE_TO_NEUTRAL if measurand == "Voltage" else PER_LINE
    name = measurand
    if phase:
        name += "@" + phases.get(phase, phase)
    if location and (location != DEFAULT_LOCATION or measurand == _PLACED_AT_OUTLET):
        name += "/" + location
    return name


def canonical_unit(channel: str) -> str:
    """Return the unit of a known channel name; of a register per phase that of the register."""
    base = channel if channel in CHANNEL_ID else channel.partition("@")[0]
    return CHANNELS[CHANNEL_ID[base]].unit


def number(text: str | float) -> Decimal | None:
    """Return a value from the wire as Decimal; None when it is no number one could use."""
    if isinstance(text, bool):
        return None
    spelled = text.strip() if isinstance(text, str) else repr(text)
    if len(spelled) > _MAX_TEXT:
        return None
    try:
        value = Decimal(spelled)
    except InvalidOperation:
        return None
    # exponents first: arithmetic on 1e999999999 would overflow the decimal context
    if not value.is_finite() or value.adjusted() > _MAX_EXPONENT or value.copy_abs() > MAX_VALUE:
        return None
    return value if value.adjusted() >= -_MAX_EXPONENT else Decimal(0)


def convert(value: Decimal, unit: str, multiplier: int, wanted: str) -> Decimal | None:
    """Return `value` * 10**`multiplier` of `unit` in the canonical unit `wanted`; None when it does not fit.

    An empty `unit` is taken as `wanted`: the norm's default is Wh for energies, and stations leave
    the unit out elsewhere where there is only one.
    """
    known = UNITS.get(unit) if unit else Unit(wanted)
    if known is None or known.canonical != wanted or abs(multiplier) > _MAX_MULTIPLIER:
        return None
    scaled = (value.scaleb(multiplier) + known.before) * known.factor + known.after
    return scaled if abs(scaled) <= MAX_VALUE else None
