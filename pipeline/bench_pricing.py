"""How many sessions a second one core prices, and splits and prices, under a tariff of three elements."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

from models.pricing import Period, Session, compile_tariff, price
from models.rating import SUSPENDED_EV, Transaction, rate
from models.tariffs import read

MINUTE = 60_000
START = 1_795_535_700_000
#: Three elements by time of day, the middle one with steps.
TARIFF = {
    "id": "BENCH",
    "currency": "EUR",
    "tax_included": "NO",
    "elements": [
        {
            "price_components": [
                {"type": kind, "price": Decimal(amount), "vat": 19, "step_size": step}
                for kind, amount, step in (
                    ("FLAT", "0.35", 1), ("ENERGY", energy, 1), ("PARKING_TIME", "6", 300)
                )
            ],
            "restrictions": {"start_time": start, "end_time": end},
        }
        for start, end, energy in (
            ("00:00", "17:00", "0.49"), ("17:00", "20:00", "0.59"), ("20:00", "00:00", "0.39")
        )
    ],
}  # fmt: skip
PERIODS = (
    *(
        Period(
            START + i * 15 * MINUTE, START + (i + 1) * 15 * MINUTE, energy=5_500_000, charging_ms=15 * MINUTE
        )
        for i in range(3)
    ),
    Period(START + 45 * MINUTE, START + 60 * MINUTE, parking_ms=15 * MINUTE),
)
TRANSACTION = Transaction(
    start_ms=START,
    end_ms=START + 60 * MINUTE,
    readings=[(START + i * 5 * MINUTE, 812_004_000 + i * 1_833_333) for i in range(10)],
    spans=[(START + 45 * MINUTE, SUSPENDED_EV)],
)


def per_second(once: Callable[[], object], count: int = 10_000) -> float:
    """Return calls per second of processor time, the best of three runs."""
    best = 0.0
    for _ in range(3):
        began = time.process_time()
        for _ in range(count):
            once()
        best = max(best, count / (time.process_time() - began))
    return best


def figures() -> dict[str, float]:
    """Return sessions per second of processor time: priced only, priced and rounded, split and priced."""
    tariff = compile_tariff(read(TARIFF), "Europe/Berlin")
    session = Session(PERIODS)

    def rounded() -> None:
        made = price(tariff, session)
        _ = made.net_rounded, made.gross_rounded

    return {
        "priced_per_s": per_second(lambda: price(tariff, session)),
        "priced_and_rounded_per_s": per_second(rounded),
        "split_and_priced_per_s": per_second(lambda: rate(TRANSACTION, tariff)),
    }
