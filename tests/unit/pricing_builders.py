"""Small tariffs, periods and cases, written short."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from models.pricing import Price, price
from models.pricing_cases import read_case

DAY = "2026-03-10T"
HOUR = f"{DAY}10:00:00Z"


def component(kind: str, amount: str, step: int = 1, vat: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"type": kind, "price": Decimal(amount), "step_size": step}
    return made if vat is None else made | {"vat": Decimal(vat)}


def element(*components: dict[str, Any], **restrictions: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"price_components": list(components)}
    return made | {"restrictions": restrictions} if restrictions else made


def tariff(*elements: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "T", "currency": "EUR", "tax_included": "NO", "elements": list(elements)} | more


def period(at: str, seconds: int, **volumes: Any) -> dict[str, Any]:
    named = [{"type": kind, "volume": Decimal(str(v))} for kind, v in volumes.items()]
    return {"start_date_time": at, "duration_s": seconds, "dimensions": named}


def priced(given: dict[str, Any], *periods: dict[str, Any], zone: str = "UTC", **more: Any) -> Price:
    prepared = read_case({"id": "x", "tariff": given, "time_zone": zone, "charging_periods": list(periods)}
                         | more, lambda _: None)  # fmt: skip
    return price(prepared.tariff, prepared.session)


def net(*args: Any, **more: Any) -> Decimal:
    made = priced(*args, **more).net
    return Decimal(made.numerator) / made.denominator
