"""OCPI pricing written from the rule text alone: dictionaries, fractions, one session at a time.

Takes the JSON of a tariff and of charging periods (as in priced cases, with ``duration_s``) and returns
net, gross and (net, gross) by dimension, as exact fractions.
"""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

Amounts = tuple[Fraction, Fraction]
NAMES = {"FLAT": "fixed", "ENERGY": "energy", "TIME": "time", "PARKING_TIME": "parking"}
DAYS = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"]


def volume(period: dict[str, Any], kind: str) -> Fraction | None:
    for d in period["dimensions"]:
        if d["type"] == kind:
            return Fraction(str(d["volume"]))
    return None


def matches(
    r: dict[str, Any], local: dt.datetime, kwh: Fraction, seconds: Fraction, p: dict[str, Any]
) -> bool:
    clock = f"{local:%H:%M}"
    start, end = r.get("start_time"), r.get("end_time")
    if end == "00:00":
        end = "24:00"
    if start and end and end <= start:
        if end <= clock < start:
            return False
    elif (start and clock < start) or (end and clock >= end):
        return False
    day = f"{local:%Y-%m-%d}"
    if ("start_date" in r and day < r["start_date"]) or ("end_date" in r and day >= r["end_date"]):
        return False
    if "day_of_week" in r and DAYS[local.weekday()] not in r["day_of_week"]:
        return False
    if ("min_kwh" in r and kwh < Fraction(str(r["min_kwh"]))) or (
        "max_kwh" in r and kwh >= Fraction(str(r["max_kwh"]))
    ):
        return False
    if ("min_duration" in r and seconds < r["min_duration"]) or (
        "max_duration" in r and seconds >= r["max_duration"]
    ):
        return False
    for unit in ("current", "power"):
        low, high = volume(p, f"MIN_{unit.upper()}"), volume(p, f"MAX_{unit.upper()}")
        low, high = (high if low is None else low), (low if high is None else high)
        if f"min_{unit}" in r and low is not None and low < Fraction(str(r[f"min_{unit}"])):
            return False
        if f"max_{unit}" in r and high is not None and high >= Fraction(str(r[f"max_{unit}"])):
            return False
    return True


def choose(
    elements: list[dict[str, Any]], kind: str, wanted: str | None, *args: Any
) -> dict[str, Any] | None:
    for element in elements:
        r = element.get("restrictions") or {}
        if r.get("reservation") != wanted or not matches(r, *args):
            continue
        for component in element["price_components"]:
            if component["type"] == kind:
                found: dict[str, Any] = component
                return found
    return None


def money(component: dict[str, Any], amount: Fraction, tax: str) -> Amounts:
    price, vat = Fraction(str(component["price"])), Fraction(str(component.get("vat") or 0))
    if tax == "N/A":
        return price * amount, price * amount
    if tax == "YES":
        return price * amount / (1 + vat / 100), price * amount
    return price * amount, price * amount * (1 + vat / 100)


def price(
    tariff: dict[str, Any], periods: list[dict[str, Any]], zone: str, expired: bool = False
) -> tuple[Fraction, Fraction, dict[str, Amounts]]:
    tax = tariff.get("tax_included", "NO")
    used: dict[str, list[list[Any]]] = {"ENERGY": [], "TIME": [], "PARKING_TIME": [], "RESERVATION_TIME": []}
    flats: list[tuple[str, dict[str, Any]]] = []
    kwh = seconds = waited = Fraction(0)
    for p in periods:
        at = dt.datetime.fromisoformat(p["start_date_time"].replace("Z", "+00:00")).astimezone(ZoneInfo(zone))
        length = Fraction(str(p["duration_s"]))
        if volume(p, "RESERVATION_TIME") is not None:
            args = (at, kwh, waited, p)
            waited += length
            for kind in ("FLAT", "TIME"):
                wanted = "RESERVATION"
                has = any(
                    (e.get("restrictions") or {}).get("reservation") == "RESERVATION_EXPIRES"
                    and any(c["type"] == kind for c in e["price_components"])
                    for e in tariff["elements"]
                )
                if expired and has:
                    wanted = "RESERVATION_EXPIRES"
                found = choose(tariff["elements"], kind, wanted, *args)
                if found and kind == "TIME":
                    used["RESERVATION_TIME"].append([found, length])
                elif found and all(name != "reservation" for name, _ in flats):
                    flats.append(("reservation", found))
            continue
        if expired:
            continue
        found = choose(tariff["elements"], "FLAT", None, at, kwh, seconds, p)
        if found and all(name != "fixed" for name, _ in flats):
            flats.append(("fixed", found))
        for kind in ("ENERGY", "TIME", "PARKING_TIME"):
            amount = volume(p, kind)
            if not amount:
                continue
            found = choose(tariff["elements"], kind, None, at, kwh, seconds, p)
            if found:
                used[kind].append([found, amount * 1000 if kind == "ENERGY" else length])
        kwh += volume(p, "ENERGY") or 0
        seconds += length
    return total(tariff, tax, used, flats, expired)


def total(
    tariff: dict[str, Any],
    tax: str,
    used: dict[str, list[list[Any]]],
    flats: list[tuple[str, dict[str, Any]]],
    expired: bool,
) -> tuple[Fraction, Fraction, dict[str, Amounts]]:
    by: dict[str, Amounts] = {}

    def add(name: str, amounts: Amounts) -> None:
        before = by.get(name, (Fraction(0), Fraction(0)))
        by[name] = (before[0] + amounts[0], before[1] + amounts[1])

    for name, component in flats:
        add(name, money(component, Fraction(1), tax))
    for kind, rows in used.items():
        if not rows:
            continue
        whole = sum(row[1] for row in rows)
        if whole > 0 and not (kind == "TIME" and used["PARKING_TIME"]):
            step = rows[-1][0]["step_size"] or 1
            rows[-1][1] += ceil(whole / step) * step - whole
        for component, amount in rows:
            per = 1000 if kind == "ENERGY" else 3600
            add(NAMES.get(kind, "reservation"), money(component, amount / per, tax))
    net = sum((a for a, _ in by.values()), Fraction(0))
    gross = sum((b for _, b in by.values()), Fraction(0))
    for name, pick in (("min_price", max), ("max_price", min)):
        limit = tariff.get(name)
        if limit is None or (expired and name == "min_price"):
            continue
        before, after = (
            limit.get("before_taxes", limit.get("excl_vat")),
            limit.get("after_taxes", limit.get("incl_vat")),
        )
        net = net if before is None else pick(net, Fraction(str(before)))
        gross = gross if after is None else pick(gross, Fraction(str(after)))
    return net, gross, by
