"""Records that billing puts out beside sessions and bills: what a session has cost so far, and payments."""

from __future__ import annotations

import msgspec


class CostRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a session has cost so far, or did cost (`final`). Natural key: (site, station, transaction_id);
    the greatest `time_ms` wins.

    Totals are decimal text, rounded to the currency's minor unit; the time is journaled.
    """

    site: str
    station: str
    transaction_id: str
    evse: int | None
    time_ms: int
    energy_mwh: int
    currency: str
    total_excl: str
    total_incl: str
    tariff_id: str
    final: bool = False


class PaymentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as it stands. Natural key: (site, authorization_reference); a higher `change` wins.

    Amounts are decimal text in `currency`. A reference is the payment provider's name for its own record:
    data of cards is never taken. Times are epoch ms of journaled time.
    """

    site: str
    authorization_reference: str
    change: int
    state: str  # authorized, running, stopping, billed, settled, canceled, rejected, failed
    station: str
    evse: int | None
    transaction_id: str
    token_type: str
    token_hash: str
    currency: str
    authorized: str | None  # amount that was pre-authorised
    cost: str | None  # of the session so far, with tax; once billed, of the bill
    settled: str | None
    psp_reference: str
    problem: str  # what does not fit, in words; empty when all does
    authorized_ms: int | None
    stop_asked_ms: int | None
    settled_ms: int | None
    changed_ms: int
