"""What money needs of the transactions of a shard: bills, running costs, payments, prices at the start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import msgspec

from ._tx_billing import connector_of, with_bill
from ._tx_judge import Verdict
from ._tx_rows import session_row
from ._tx_state import Point, Tx
from .billing_rows import CostRow, PaymentRow
from .cashier import Cashier, TariffError, sale_of
from .devices import DeviceTable
from .ocpi_objects import write_json
from .outputs import CdrRow, Publish, SessionRow
from .partner_tokens import TokenBook
from .payments import SETTLE, PaymentBook, PaymentWord
from .topics import ROOT
from .units import NS_PER_MS, NS_PER_S, wh_text

#: A session without an end from which nothing is heard is priced this seldom.
_SILENT_NS: Final = 900 * NS_PER_S
_QUARTER_NS: Final = 900 * NS_PER_S
#: What was authorised is watched this often where running costs are not told.
_WATCH_NS: Final = 60 * NS_PER_S


@dataclass(slots=True)
class Takings:
    """What came of a batch."""

    cdrs: list[CdrRow] = field(default_factory=list)
    costs: list[CostRow] = field(default_factory=list)
    payments: list[PaymentRow] = field(default_factory=list)
    publishes: list[Publish] = field(default_factory=list)


class Till:
    """Bills and costs of one shard.

    Parameters
    ----------
    cashier : Cashier or None
        None: nothing is billed.
    every_ns : int
        A running cost is told at most this often, journaled time; 0: never.
    payments : list of bytes, optional
        What `snapshot` returned.
    tokens : dict, optional
        What `tokens` saved.
    """

    def __init__(
        self,
        cashier: Cashier | None,
        every_ns: int,
        payments: list[bytes] | None = None,
        tokens: dict[str, bytes] | None = None,
    ) -> None:
        self.tokens = TokenBook(tokens)
        self._cashier, self._every_ns = cashier, every_ns
        self._payments = PaymentBook(payments)
        self._takings = Takings()

    def snapshot(self) -> list[bytes]:
        """Return plain data."""
        return self._payments.snapshot()

    def taken(self) -> Takings:
        """Return what came since the last call."""
        out, self._takings = self._takings, Takings()
        out.payments, self._payments.rows = self._payments.rows, []
        out.publishes += self._payments.publishes
        self._payments.publishes = []
        return out

    def next_cost_ns(self, tx: Tx, now: int) -> int:
        """Return when a transaction's cost is to be told next, 0: never."""
        every = self._every_ns or (_WATCH_NS if tx.payment else 0)
        if self._cashier is None or not every or tx.final or tx.start_ns is None:
            return 0
        if self._cashier.plan.place(tx.site) is None:
            return 0
        return now + (max(_SILENT_NS, every) if tx.silent_ns else every)

    def bill(self, tx: Tx, verdict: Verdict, row: SessionRow, devices: DeviceTable, now: int) -> SessionRow:
        """Return a session with its price; bills and the last cost are among the takings."""
        if self._cashier is None or tx.gone_billed:
            return row  # a second bill without the credit of the first would charge twice
        row, cdrs = with_bill(self._cashier, tx, verdict, row, devices, now)
        self._takings.cdrs += cdrs
        price = row.body.get("price")
        if price is not None and cdrs:
            self._tell(tx, row.energy_mwh or 0, price, devices, now, final=True)
            if tx.payment:
                gross, currency = price["total_incl"], price["currency"]
                self._payments.billed(tx.site, tx.payment, gross, currency, now // NS_PER_MS)
        return row

    def running(
        self, tx: Tx, verdict: Verdict, held: list[tuple[int, int]], devices: DeviceTable, now: int
    ) -> None:
        """Tell what a transaction would cost if it ended now, if that is another amount than told last.

        `held` are the spans (ns) in which its EVSE was held back until now.
        """
        begin, end = verdict.begin_mwh, verdict.end_mwh
        known = begin is not None and end is not None and verdict.energy_mwh is not None
        if self._cashier is None or not known or verdict.start_ns is None:
            return
        assert begin is not None
        assert end is not None
        assert verdict.energy_mwh is not None
        row = session_row(tx, verdict, now)
        goes_on = tx.end_ns is None and not tx.silent_ns
        end_ns = max(now, verdict.start_ns) if goes_on or verdict.end_ns is None else verdict.end_ns
        body = row.body | {
            "start": verdict.start_ns // NS_PER_MS,
            "end": max(end_ns, verdict.start_ns) // NS_PER_MS,
            "charging_states": [[t // NS_PER_MS, word] for t, word in tx.states],
            "held": [[a // NS_PER_MS, b // NS_PER_MS] for a, b in held],
            "signed": [],
        }
        points = [(p.time_ns // NS_PER_MS, p.reg_mwh) for p in tx.points]
        hardware = connector_of(devices, tx.evse_row)
        sale = sale_of(body, begin, end, verdict.energy_mwh, points, hardware, tx.revision, now // NS_PER_MS)
        try:
            price = self._cashier.price(msgspec.structs.replace(sale, at_start=tx.at_start))
        except TariffError:
            return  # a price that is not known yet; the bill says so if it never is
        if price is not None:
            if self._every_ns:
                self._tell(tx, verdict.energy_mwh, price, devices, now, final=False)
            if tx.payment:
                gross, currency = price["total_incl"], price["currency"]
                self._payments.spent(tx.site, tx.payment, gross, currency, now // NS_PER_MS)

    def _tell(
        self, tx: Tx, energy_mwh: int, price: dict[str, Any], devices: DeviceTable, now: int, *, final: bool
    ) -> None:
        told = [energy_mwh, price["total_excl"], price["total_incl"]]
        if told == tx.cost and not final:
            return
        tx.cost = told
        row = CostRow(
            site=tx.site,
            station=tx.station,
            transaction_id=tx.tx_id,
            evse=tx.evse,
            time_ms=now // NS_PER_MS,
            energy_mwh=energy_mwh,
            currency=price["currency"],
            total_excl=price["total_excl"],
            total_incl=price["total_incl"],
            tariff_id=price["tariff_id"],
            final=final,
        )
        self._takings.costs.append(row)
        if tx.evse is not None and tx.node_row >= 0:
            topic = f"{ROOT}/{tx.site}/{devices.nodes[tx.node_row]}/cost/{tx.evse}"
            self._takings.publishes.append(Publish(topic=topic, payload=_message(row)))

    def match(self, tx: Tx, now: int) -> None:
        """Find the payment that a transaction was authorised with."""
        if not tx.payment and tx.start_ns is not None and not tx.final:
            tx.payment = self._payments.match(
                tx.site,
                tx.station,
                tx.evse,
                tx.tx_id,
                tx.token_hash,
                tx.start_ns // NS_PER_MS,
                now // NS_PER_MS,
            )

    def whose(self, tx: Tx) -> None:
        """Note whose customer it is, as soon as it is known; after its bill it stays as billed."""
        if tx.cdr_token is None and not tx.billed:
            tx.cdr_token = self.tokens.find(tx.token_hash)

    def paid(self, word: PaymentWord, tx: Tx | None, now: int) -> None:
        """Take in what a payment system says; `tx` is the transaction that it names, if it is known."""
        self._payments.take(word, now // NS_PER_MS)
        place = None if self._cashier is None else self._cashier.plan.place(word.site)
        if tx is None or tx.payment or word.action != SETTLE or place is None:
            return
        gross = tx.cost[2] if tx.billed else None
        currency = place.billers.currency_at(None if tx.start_ns is None else tx.start_ns // NS_PER_MS)
        tx.payment = self._payments.adopt(word, tx.token_hash, gross, currency, now // NS_PER_MS)

    def asks_site(self, site: str) -> bool:
        """Return whether the prices of a site depend on what happens there when a session starts."""
        place = None if self._cashier is None else self._cashier.plan.place(site)
        return place is not None and place.billers.asks_site


def _message(row: CostRow) -> bytes:
    """Return what displays are told; money and energy are exact numbers."""
    body = {
        "v": 1,
        "site": row.site,
        "station": row.station,
        "evse": row.evse,
        "transaction_id": row.transaction_id,
        "t": row.time_ms,
        "energy_wh": Decimal(wh_text(row.energy_mwh)),
        "currency": row.currency,
        "total_excl": Decimal(row.total_excl),
        "total_incl": Decimal(row.total_incl),
        "tariff_id": row.tariff_id,
        "state": "final" if row.final else "running",
    }
    return write_json(body)


def at_start(tx: Tx, others: Iterable[tuple[Tx, list[Point]]], evses: int) -> dict[str, Any]:
    """Return what a site did when a session began: plugs in use, and mean power of the quarter hour before.

    Parameters
    ----------
    others : iterable of (Tx, registers)
        The other transactions of the site, each with registers by time.
    evses : int
        EVSEs that the site is known to have.
    """
    assert tx.start_ns is not None
    start, used, energy = tx.start_ns, set(), 0
    until = start - start % _QUARTER_NS
    since = until - _QUARTER_NS
    for other, points in others:
        end = other.free_ns or other.end_ns or (other.last_ns if other.silent_ns else None)
        if other.evse_row != tx.evse_row and other.begins_ns < start and (end is None or end > start):
            used.add(other.evse_row)
        registers = sorted({(p.time_ns, p.reg_mwh) for p in [*points, *other.told] if p.reg_mwh})
        if registers and registers[0][0] < until and registers[-1][0] > since:
            energy += max(0, _at(registers, until) - _at(registers, since))
    kw = energy * 4 / 1_000_000
    share = len(used) / evses if evses else 0.0
    return {"occupancy": share, "site_kw": kw, "plugs_used": len(used), "plugs": evses}


def _at(registers: list[tuple[int, int]], time_ns: int) -> int:
    """Return the register at a time: linear between neighbours, the first or last beyond them."""
    if time_ns <= registers[0][0]:
        return registers[0][1]
    for (t0, r0), (t1, r1) in pairwise(registers):
        if time_ns <= t1:
            return r0 + (r1 - r0) * (time_ns - t0) // (t1 - t0) if t1 > t0 else r1
    return registers[-1][1]
