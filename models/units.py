"""Units and the few conversions between them. Import is positive everywhere.

Times are int64 nanoseconds since the Unix epoch (UTC), energy is int64 mWh; a missing
register is `NO_REGISTER`, a missing analog value is NaN: neither is ever 0.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import numpy as np

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
QUARTER_NS: Final = 900 * NS_PER_S
NO_REGISTER: Final = int(np.iinfo(np.int64).min)
NO_TIME: Final = int(np.iinfo(np.int64).min)

#: Registers beyond this are not energy meters but garbage (1e12 Wh = 1 PWh / 1000).
MAX_REGISTER_MWH: Final = 10**15

#: Station times before this instant (2020-01-01) are unset clocks.
FLOOR_TIME_NS: Final = 1_577_836_800 * NS_PER_S

#: Station times in epoch ms lie in [0, this): beyond 2100 the number is no epoch in milliseconds.
MAX_STATION_TIME_MS: Final = 4_102_444_800_000


def mwh_from_wh(value: float | int | str | Decimal) -> int:
    """Return `value` in Wh as integer mWh, rounded half to even beyond the third decimal.

    A float is taken by its shortest decimal text, so 0.1 Wh is 100 mWh.

    Raises
    ------
    ValueError
        If the value is not finite or not a number.
    """
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    if not number.is_finite():
        raise ValueError(f"register {value!r} Wh is not a finite number")
    return int((number * 1000).to_integral_value())


def wh_text(mwh: int) -> str:
    """Return integer mWh as exact decimal text in Wh without trailing zeros: 1500 -> "1.5"."""
    sign = "-" if mwh < 0 else ""
    whole, rest = divmod(abs(mwh), 1000)
    return f"{sign}{whole}" if rest == 0 else f"{sign}{whole}.{rest:03d}".rstrip("0")
