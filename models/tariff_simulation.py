"""Past sessions under other tariffs: revenue, demand peaks, and who would pay more or less.

Each session is priced under each tariff as it happened: nobody is supposed to behave differently. Energy
within a session follows its load profile where there is one; else it flows at `power_kw` from the start until
it is there and the vehicle is idle after that; else evenly over the whole session.
"""

from __future__ import annotations

import bisect
import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from .dynamic import Biller, demand_charge
from .market_prices import PriceSeries
from .pricing import minor_unit, plain, rounded
from .rating import QUARTER_MS, SUSPENDED_EV, Transaction
from .tariffs._ocpi_types import TariffError, exact

Evse = tuple[str, str, str]


class PastSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session as ``sessions.jsonl`` has it; times epoch ms, energy mWh."""

    id: str
    site: str
    station: str
    evse: str
    start_ms: int
    end_ms: int
    energy: int
    customer: str = ""

    @property
    def place(self) -> Evse:
        """Where it was."""
        return self.site, self.station, self.evse


def past_session(row: Mapping[str, Any]) -> PastSession | None:
    """Return a row of ``sessions.jsonl`` as a session; None if it is not billable (its state says so).

    Raises
    ------
    TariffError
        If something is missing or impossible.
    """
    if row.get("state", "complete") != "complete":
        return None
    try:
        energy = exact(row["energy_wh"]) * 1000
        start, end = int(row["start"]), int(row["end"])
        made = PastSession(
            id=str(row["transaction_id"]),
            site=str(row["site"]),
            station=str(row["station"]),
            evse=str(row["evse"]),
            start_ms=start,
            end_ms=end,
            energy=int(energy),
            customer=str(row.get("token_hash") or ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TariffError(
            f"session {row.get('transaction_id', '?')!r}: {type(error).__name__}: {error}"
        ) from error
    if energy < 0 or energy != int(energy) or end < start:
        raise TariffError(f"session {made.id!r}: {row['energy_wh']} Wh from {start} to {end}: impossible")
    return made


def latest(rows: Iterable[Mapping[str, Any]]) -> list[PastSession]:
    """Return the billable sessions of rows in order of start; of several revisions the last counts."""
    newest: dict[tuple[str, str, str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = tuple(str(row.get(name)) for name in ("site", "station", "evse", "transaction_id"))
        kept = newest.get((key[0], key[1], key[2], key[3]))
        if kept is None or row.get("revision", 0) >= kept.get("revision", 0):
            newest[key[0], key[1], key[2], key[3]] = row
    made = [session for row in newest.values() if (session := past_session(row)) is not None]
    return sorted(made, key=lambda s: (s.start_ms, s.site, s.station, s.evse, s.id))


def transaction_of(
    session: PastSession, profile: Sequence[tuple[int, int]] = (), power_kw: Decimal | None = None
) -> Transaction:
    """Return the transaction that a session was, its registers rising from 0.

    `profile` holds (quarter start, mWh) of its EVSE in order of time.
    """
    start, end, energy = session.start_ms, session.end_ms, session.energy
    shape = _shape(session, profile) if profile else []
    if shape:
        return Transaction(start_ms=start, end_ms=end, readings=shape)
    if power_kw is None:
        return Transaction(start_ms=start, end_ms=end, readings=[(start, 0), (end, energy)])
    full = start + int(Fraction(energy * 36, 10) / Fraction(power_kw))  # 1 mWh is 3.6 kW for a ms
    stop = min(full, end)
    spans = [(stop, SUSPENDED_EV)] if stop < end else []
    return Transaction(start_ms=start, end_ms=end, readings=[(start, 0), (stop, energy)], spans=spans)


def _shape(session: PastSession, profile: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return registers that rise as the profile's quarters do and end at the session's energy."""
    first = bisect.bisect_left(profile, session.start_ms - QUARTER_MS + 1, key=lambda q: q[0])
    borders, sums, total = [session.start_ms], [0], 0
    for start, energy in profile[first:]:
        if start >= session.end_ms:
            break
        begin, end = max(start, session.start_ms), min(start + QUARTER_MS, session.end_ms)
        total += energy * (end - begin)
        borders.append(end)
        sums.append(total)
    if not total:
        return []
    return [(t, session.energy * part // total) for t, part in zip(borders, sums, strict=True)]


class Site:
    """What a site did, quarter by quarter and plug by plug; from the transactions."""

    def __init__(self) -> None:
        self.quarters: dict[int, int] = defaultdict(int)  # UTC quarter start -> mWh
        self._places: set[Evse] = set()
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, session: PastSession, transaction: Transaction) -> None:
        """Take in a session."""
        self._places.add(session.place)
        self._starts.append(session.start_ms)
        self._ends.append(session.end_ms)
        for (t0, e0), (t1, e1) in zip(transaction.readings, transaction.readings[1:], strict=False):
            start, done = t0, 0
            while start < t1:
                border = min(start - start % QUARTER_MS + QUARTER_MS, t1)
                so_far = (e1 - e0) * (border - t0) // (t1 - t0)
                self.quarters[start - start % QUARTER_MS] += so_far - done
                start, done = border, so_far

    def close(self) -> None:
        """Make ready to be asked."""
        self._starts.sort()
        self._ends.sort()

    def occupancy(self, time_ms: int) -> float:
        """Return the share of plugs that were in use just before a moment, of those ever seen in use."""
        begun = bisect.bisect_left(self._starts, time_ms)
        ended = bisect.bisect_right(self._ends, time_ms)
        return max(0, begun - ended) / len(self._places)

    def power_kw(self, time_ms: int) -> float:
        """Return the mean power of the quarter hour before that of a moment."""
        return self.quarters.get(time_ms - time_ms % QUARTER_MS - QUARTER_MS, 0) * 4 / 1_000_000


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one tariff makes of the sessions. Money exact; changes are against the first tariff, gross."""

    tariff: str
    currency: str
    sessions: int
    energy: int
    net: Fraction
    gross: Fraction
    demand_charges: list[dict[str, Any]]
    unpriced: dict[str, int]
    costs: dict[str, Fraction]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data, without the single sessions."""
        kwh = Fraction(self.energy, 1_000_000)
        charges = sum((Fraction(peak["charge"]) for peak in self.demand_charges), Fraction(0))
        return {
            "tariff": self.tariff,
            "currency": self.currency,
            "sessions": self.sessions,
            "energy_kwh": plain(kwh),
            "revenue_excl": f"{rounded(self.net, minor_unit(self.currency)):f}",
            "revenue_incl": f"{rounded(self.gross, minor_unit(self.currency)):f}",
            "mean_excl_per_kwh": plain(self.net / kwh, 5) if kwh else None,
            "demand_charge": f"{rounded(charges, minor_unit(self.currency)):f}",
            "demand_peaks": [
                peak | {"charge": plain(Fraction(peak["charge"]))} for peak in self.demand_charges
            ],
            "unpriced": self.unpriced,
        }


def simulate(
    tariffs: Sequence[Any],
    sessions: Sequence[PastSession],
    *,
    time_zone: str = "UTC",
    profiles: Mapping[Evse, Sequence[tuple[int, int]]] | None = None,
    prices: PriceSeries | None = None,
    power_kw: Decimal | None = None,
) -> list[Outcome]:
    """Return what each tariff makes of the sessions.

    A session that a tariff cannot price counts in `unpriced` by reason, never as free.

    Raises
    ------
    TariffError
        If the tariffs' currencies differ or the time zone is not known.
    """
    currencies = {tariff.currency.upper() for tariff in tariffs}
    if len(currencies) != 1:
        raise TariffError(f"tariffs in {', '.join(sorted(currencies))}: only one currency can be compared")
    transactions = [transaction_of(s, (profiles or {}).get(s.place, ()), power_kw) for s in sessions]
    sites: dict[str, Site] = defaultdict(Site)
    for session, transaction in zip(sessions, transactions, strict=True):
        sites[session.site].add(session, transaction)
    for site in sites.values():
        site.close()
    return [_outcome(tariff, sessions, transactions, sites, time_zone, prices) for tariff in tariffs]


def _outcome(
    tariff: Any,
    sessions: Sequence[PastSession],
    transactions: Sequence[Transaction],
    sites: Mapping[str, Site],
    time_zone: str,
    prices: PriceSeries | None,
) -> Outcome:
    biller = Biller(tariff, time_zone)
    net = gross = Fraction(0)
    energy = 0
    unpriced: dict[str, int] = defaultdict(int)
    costs: dict[str, Fraction] = {}
    for number, (session, transaction) in enumerate(zip(sessions, transactions, strict=True)):
        site = sites[session.site]
        try:
            price = biller.rated(
                transaction,
                prices=prices,
                occupancy=site.occupancy(session.start_ms),
                site_kw=site.power_kw(session.start_ms),
            ).price
        except TariffError as error:
            unpriced[str(error).partition(" at ")[0]] += 1
            continue
        net += price.net
        gross += price.gross
        energy += session.energy
        costs[f"{number}"] = price.gross
    return Outcome(
        tariff=tariff.id,
        currency=tariff.currency.upper(),
        sessions=len(costs),
        energy=energy,
        net=net,
        gross=gross,
        demand_charges=_demand(tariff, sites, ZoneInfo(time_zone)),
        unpriced=dict(unpriced),
        costs=costs,
    )


def _demand(tariff: Any, sites: Mapping[str, Site], zone: ZoneInfo) -> list[dict[str, Any]]:
    """Return the highest quarter hour of each site and local month, and what it costs under a tariff.

    Demand is the mean power over a fixed quarter hour; a sliding maximum would be another figure.
    """
    made = []
    for name, site in sorted(sites.items()):
        peaks: dict[str, tuple[int, int]] = {}
        for start, energy in site.quarters.items():
            month = f"{dt.datetime.fromtimestamp(start // 1000, zone):%Y-%m}"
            best = peaks.get(month)
            if best is None or (energy, -start) > (best[0], -best[1]):
                peaks[month] = (energy, start)
        for month, (energy, start) in sorted(peaks.items()):
            local = dt.datetime.fromtimestamp(start // 1000, zone)
            kw = Fraction(energy * 4, 1_000_000)
            per_kw = demand_charge(tariff, local.date())
            made.append(
                {
                    "site": name,
                    "month": month,
                    "peak_kw": plain(kw, 3),
                    "at": local.isoformat(),
                    "per_kw": f"{per_kw:f}",
                    "charge": kw * Fraction(per_kw),
                }
            )
    return made


def effect(base: Outcome, other: Outcome, sessions: Sequence[PastSession]) -> dict[str, Any]:
    """Return who pays more or less under another tariff, by customer where sessions name one.

    Only sessions that both tariffs priced are compared.
    """
    before: dict[str, Fraction] = defaultdict(Fraction)
    after: dict[str, Fraction] = defaultdict(Fraction)
    for number, cost in base.costs.items():
        if number in other.costs:
            who = sessions[int(number)].customer or f"session {number}"
            before[who] += cost
            after[who] += other.costs[number]
    changes = sorted(after[who] - before[who] for who in before)
    if not changes:
        return {"compared": 0}
    decimals = minor_unit(base.currency)
    shown = {
        "median": changes[len(changes) // 2],
        "p05": changes[len(changes) * 5 // 100],
        "p95": changes[min(len(changes) * 95 // 100, len(changes) - 1)],
        "largest_saving": changes[0],
        "largest_rise": changes[-1],
        "mean": sum(changes, Fraction(0)) / len(changes),
        "revenue": sum(changes, Fraction(0)),
    }
    return {
        "compared": len(changes),
        "by": "customer" if any(s.customer for s in sessions) else "session",
        "pay_less": sum(change < 0 for change in changes),
        "pay_more": sum(change > 0 for change in changes),
        "same": sum(change == 0 for change in changes),
        **{name: f"{rounded(change, decimals):f}" for name, change in shown.items()},
    }
