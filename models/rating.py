"""From a finished (or running) transaction to charging periods and a price.

A period begins wherever a price may change: at switches of the tariff by local clock, date, duration,
energy, idle time or power band, where the activity changes, and on request at every quarter hour. The
register at such a moment is a reading there, else linear between its neighbours, rounded down to the mWh;
each period has the difference of two registers, so the parts add up to the whole exactly, which is checked.

What the vehicle does decides the dimension: `CHARGING` is TIME, `SUSPENDED_EV` PARKING_TIME.
`SUSPENDED_EVSE`, a pause that the station or load management imposes, is never parking; OCPI counts it as
TIME (total_time less total_parking_time), `pauses_free` leaves it without any time dimension.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Final

import msgspec

from ._pricing_core import Period, Session
from ._pricing_rules import MWH_PER_KWH, CompiledTariff
from ._rating_switches import (
    QUARTER_MS,
    activity_switches,
    clock_switches,
    elapsed_switches,
    energy_switches,
    quarter_switches,
    window_switches,
)
from .pricing import Price, price
from .tariffs._ocpi_types import TariffError

__all__ = [
    "CHARGING",
    "QUARTER_MS",
    "SUSPENDED_EV",
    "SUSPENDED_EVSE",
    "Rated",
    "Reservation",
    "Transaction",
    "rate",
]

CHARGING: Final = "charging"
SUSPENDED_EV: Final = "suspended_ev"
SUSPENDED_EVSE: Final = "suspended_evse"
_ACTIVITIES: Final = frozenset({CHARGING, SUSPENDED_EV, SUSPENDED_EVSE})


class Reservation(msgspec.Struct, frozen=True):
    """A reservation: until the session began, or until it expired unused. Epoch ms."""

    start_ms: int
    end_ms: int
    expired: bool = False


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """What of a transaction decides its price. Times epoch ms, registers mWh.

    Parameters
    ----------
    start_ms, end_ms : int
        Started to Ended, or to unplugging where parking is billed; for a running one, to now.
    readings : sequence of (time, register)
        In order of time, the register never falling: begin first, end last. One is enough if nothing flowed.
    spans : sequence of (time, activity)
        Changes of what the vehicle does, in order of time; before the first it charges.
    power_kw, current_a : sequence of (time, value)
        Mean power, and current summed over phases, from each time on; without power it follows from the
        readings. Only tariffs with bands look at them.
    """

    start_ms: int
    end_ms: int
    readings: Sequence[tuple[int, int]]
    spans: Sequence[tuple[int, str]] = ()
    power_kw: Sequence[tuple[int, Decimal]] = ()
    current_a: Sequence[tuple[int, Decimal]] = ()
    reservation: Reservation | None = None
    evse_kind: str | None = None
    payment_brand: str | None = None
    payment_recognition: str | None = None


class Rated(msgspec.Struct, frozen=True):
    """The periods of a transaction and their price."""

    session: Session
    price: Price


def rate(
    transaction: Transaction | None,
    tariff: CompiledTariff,
    *,
    reservation: Reservation | None = None,
    quarter_hours: bool = False,
    pauses_free: bool = False,
) -> Rated:
    """Return periods and price of a transaction.

    Of a reservation that expired without one: None and `reservation`. A running transaction is rated the
    same way, with `end_ms` now: what it would cost if it ended.

    Raises
    ------
    TariffError
        If times or registers are out of order, parts do not add up to the whole, or the tariff depends on
        current and none is known: the registers do not tell it.
    """
    reserved = reservation or (transaction.reservation if transaction is not None else None)
    periods: list[Period] = []
    if reserved is not None:
        periods += _reserved(reserved, tariff)
    if transaction is not None and not (reserved is not None and reserved.expired):
        periods += _periods(transaction, tariff, quarter_hours, pauses_free)
    if not periods:
        raise TariffError("neither a transaction nor a reservation: nothing to rate")
    session = Session(
        periods=tuple(periods),
        expired=reserved is not None and reserved.expired,
        evse_kind=None if transaction is None else transaction.evse_kind,
        payment_brand=None if transaction is None else transaction.payment_brand,
        payment_recognition=None if transaction is None else transaction.payment_recognition,
    )
    return Rated(session, price(tariff, session))


def _reserved(reservation: Reservation, tariff: CompiledTariff) -> list[Period]:
    start, end = reservation.start_ms, reservation.end_ms
    if end < start:
        raise TariffError(f"reservation ends at {end}, before it begins at {start}")
    cuts = {start, *clock_switches(tariff, start, end), *elapsed_switches(tariff, start, end)}
    borders = [*sorted(cuts), end]
    return [Period(start_ms=a, end_ms=b, reservation_ms=b - a) for a, b in pairwise(borders)]


def _periods(
    transaction: Transaction, tariff: CompiledTariff, quarter_hours: bool, pauses_free: bool
) -> list[Period]:
    start, end, readings = transaction.start_ms, transaction.end_ms, transaction.readings
    _check(transaction, tariff)
    spans = _spans(transaction)
    crossings = energy_switches(tariff, readings)
    cuts = {start, *(a for a, _, _ in spans), *(t for t in crossings if start < t < end)}
    cuts.update(clock_switches(tariff, start, end))
    cuts.update(elapsed_switches(tariff, start, end))
    cuts.update(window_switches(tariff, start, end))
    cuts.update(activity_switches(tariff, spans, CHARGING, SUSPENDED_EV))
    if quarter_hours:
        cuts.update(quarter_switches(start, end))
    bands = _Bands(transaction, tariff) if any(c.band for c in tariff.conditions) else None
    if bands is not None:
        cuts.update(t for t in bands.switches() if start < t < end)
    borders = sorted(cuts)
    registers = [_register(readings, t, crossings) for t in borders[1:]]
    registers = [readings[0][1], *registers, readings[-1][1]]
    borders.append(end)
    made = []
    span = 0
    for i in range(len(borders) - 1):
        a, b = borders[i], borders[i + 1]
        while span + 1 < len(spans) and spans[span + 1][0] <= a:
            span += 1
        activity = spans[span][2]
        energy = registers[i + 1] - registers[i]
        charging = activity == CHARGING or (activity == SUSPENDED_EVSE and not pauses_free)
        parking = b - a if activity == SUSPENDED_EV else None
        plain = Period(a, b, energy, b - a if charging else None, parking)
        made.append(plain if bands is None else bands.fitted(plain))
    _check_sum(made, readings)
    return made


def _check(transaction: Transaction, tariff: CompiledTariff) -> None:
    if tariff.kwh_units != MWH_PER_KWH:
        raise TariffError("transactions are rated in mWh: compile the tariff with its default units")
    if transaction.end_ms < transaction.start_ms:
        raise TariffError(f"transaction ends at {transaction.end_ms}, before {transaction.start_ms}")
    if not transaction.readings:
        raise TariffError("transaction without a register reading: nothing can be billed")
    t0, e0 = transaction.readings[0]
    for t1, e1 in transaction.readings:
        if t1 < t0 or e1 < e0:
            raise TariffError(f"register {e1} mWh at {t1} after {e0} mWh at {t0}: it must not fall")
        t0, e0 = t1, e1


def _check_sum(periods: list[Period], readings: Sequence[tuple[int, int]]) -> None:
    parts = 0
    for period in periods:
        if period.energy is None or period.energy < 0:
            raise TariffError(f"period at {period.start_ms}: energy is {period.energy}")
        parts += period.energy
    if parts != readings[-1][1] - readings[0][1]:
        raise TariffError(f"parts of {parts} mWh do not add up to {readings[-1][1] - readings[0][1]} mWh")


def _spans(transaction: Transaction) -> list[tuple[int, int, str]]:
    """Return (from, until, activity) over the whole transaction without gaps."""
    start, end = transaction.start_ms, transaction.end_ms
    made = [(start, CHARGING)]
    before = start
    for time_ms, activity in transaction.spans:
        if activity not in _ACTIVITIES:
            raise TariffError(f"activity {activity!r}: expected one of {', '.join(sorted(_ACTIVITIES))}")
        if time_ms < before and time_ms < made[-1][0]:
            raise TariffError(f"activity at {time_ms}: not in order of time")
        if time_ms <= start:
            made = [(start, activity)]
        elif time_ms < end:
            made.append((time_ms, activity))
        before = time_ms
    untils = [*(t for t, _ in made[1:]), end]
    return [(a, b, activity) for (a, activity), b in zip(made, untils, strict=True)]


def _register(readings: Sequence[tuple[int, int]], time_ms: int, crossings: dict[int, int]) -> int:
    """Return the register at a moment: read, crossing a bound, or linear between neighbours, rounded down."""
    bound = crossings.get(time_ms)
    if bound is not None:
        return bound
    place = bisect.bisect_right(readings, time_ms, key=lambda reading: reading[0])
    if place == 0:
        return readings[0][1]
    if place == len(readings):
        return readings[-1][1]
    (t0, e0), (t1, e1) = readings[place - 1], readings[place]
    return e0 + (e1 - e0) * (time_ms - t0) // (t1 - t0)


class _Bands:
    """Power and current of a transaction as steps in time, and where they leave or enter a band."""

    def __init__(self, transaction: Transaction, tariff: CompiledTariff) -> None:
        self._power = list(transaction.power_kw) or _mean_power(transaction)
        self._current = list(transaction.current_a)
        self._power_limits = [
            limit for c in tariff.conditions for limit in (c.min_power, c.max_power) if limit is not None
        ]
        self._current_limits = [
            limit for c in tariff.conditions for limit in (c.min_current, c.max_current) if limit is not None
        ]
        if self._current_limits and not self._current:
            raise TariffError(f"tariff {tariff.id!r} depends on current, which is not known")

    def switches(self) -> list[int]:
        """Return the times at which a value passes a limit of the tariff."""
        return _passing(self._power, self._power_limits) + _passing(self._current, self._current_limits)

    def fitted(self, period: Period) -> Period:
        """Return the period with its lowest and highest power and current."""
        powers = _within(self._power, period)
        currents = _within(self._current, period)
        return msgspec.structs.replace(
            period,
            min_power=min(powers, default=None),
            max_power=max(powers, default=None),
            min_current=min(currents, default=None),
            max_current=max(currents, default=None),
        )


def _mean_power(transaction: Transaction) -> list[tuple[int, Decimal]]:
    """Return the mean power between readings; 1 mWh in 1 ms is 3.6 kW."""
    made = []
    for (t0, e0), (t1, e1) in pairwise(transaction.readings):
        if t1 > t0:
            made.append((t0, Decimal(e1 - e0) * 36 / (10 * (t1 - t0))))
    return [*made, (transaction.readings[-1][0], Decimal(0))]


def _passing(steps: list[tuple[int, Decimal]], limits: list[Decimal]) -> list[int]:
    return [
        t1 for (_, v0), (t1, v1) in pairwise(steps) if any((v0 < limit) != (v1 < limit) for limit in limits)
    ]


def _within(steps: list[tuple[int, Decimal]], period: Period) -> list[Decimal]:
    """Return the values that hold at some time in a period."""
    first = bisect.bisect_right(steps, period.start_ms, key=lambda step: step[0]) - 1
    last = bisect.bisect_left(steps, period.end_ms, key=lambda step: step[0])
    return [value for _, value in steps[max(first, 0) : max(last, first + 1)]]
