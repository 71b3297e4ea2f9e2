"""What a session costs while it runs, prices fixed at its start, and payments that end it in time."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from models.billing_rows import PaymentRow
from models.cashier import BillingPlan, Cashier, Place
from models.dynamic import Succession
from models.errors import DecodeError
from models.tariffs import read
from models.transactions import TransactionConfig
from models.units import NS_PER_S
from pipeline.dialects.ocpp_j import build
from tests.transaction_log import BEGIN, END, HOUR, MINUTE, SECOND, T0, TxLog, charge, log_of, run_all

from .test_ocpp_j import send

ENERGY: dict[str, Any] = {
    "id": "E", "currency": "EUR",
    "elements": [{"price_components": [{"type": "ENERGY", "price": 0.50, "vat": 10, "step_size": 1}]}],
}  # fmt: skip


def cashier(tariff: dict[str, Any] = ENERGY) -> Cashier:
    place = Place(Succession([read(tariff)], "UTC"), "", "", "", "DEU", "", "0.00000", "0.00000")
    return Cashier(BillingPlan("DE", "CHS", default=place))


def charging(*, end: bool = True) -> TxLog:
    """Return an hour's charge of 10 kWh."""
    log = log_of()
    log.status(BEGIN - SECOND, "Occupied")
    log.tx(BEGIN, "Started", 500_000, seq=0, chargingState="Charging", idTokenHash="h1")
    charge(log)
    if end:
        log.tx(END, "Ended", 510_000, seq=1)
        log.status(END + SECOND, "Available")
    log.until(END + 20 * MINUTE)
    return log


def test_the_cost_is_told_each_minute_while_it_grows_and_at_the_end_as_billed() -> None:
    got = run_all(charging().frame(), cashier=cashier())
    running = [row for row in got.costs if not row.final]
    # a minute after the start and on to the end; the reading of a minute comes just after its tick
    assert len(running) == 61
    steps = [(row.time_ms, row.energy_mwh) for row in running]
    assert steps[0] == (T0 + BEGIN + MINUTE, 0)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(steps))
    # 10 kWh / 60 * 25 at 0.50, with 10 % tax
    row = running[25]
    assert row.energy_mwh == pytest.approx(10_000_000 * 25 / 60, abs=1000)
    assert (row.total_excl, row.total_incl, row.currency) == ("2.08", "2.29", "EUR")
    [last] = [row for row in got.costs if row.final]
    assert (last.energy_mwh, last.total_excl, last.total_incl) == (10_000_000, "5.00", "5.50")
    assert json.loads(got.cdrs[0].body)["total_cost"] == {"excl_vat": 5.0, "incl_vat": 5.5}
    told = [p for p in got.publishes if "/cost/" in p.topic]
    assert {(p.topic, p.qos, p.retain) for p in told} == {("evt/v1/s/cp/cost/1", 1, False)}
    assert json.loads(told[-1].payload) == {
        "v": 1, "site": "s", "station": "cp", "evse": 1, "transaction_id": "a", "t": last.time_ms,
        "energy_wh": 10_000, "currency": "EUR", "total_excl": 5.0, "total_incl": 5.5, "tariff_id": "E",
        "state": "final",
    }  # fmt: skip


def test_cuts_and_restarts_change_no_cost() -> None:
    frame = charging().frame()
    whole = run_all(frame, cashier=cashier())
    pieces = run_all(frame, cuts=(7, 40, 41, 90, 130), restore=True, cashier=cashier())
    assert pieces == whole


def test_the_cost_is_told_no_more_often_than_asked_for_and_not_at_all_without_a_tariff() -> None:
    seldom = run_all(charging().frame(), (), TransactionConfig(cost_ns=600 * NS_PER_S), cashier=cashier())
    assert len([row for row in seldom.costs if not row.final]) == 6
    never = run_all(charging().frame(), (), TransactionConfig(cost_ns=0), cashier=cashier())
    assert [row.final for row in never.costs] == [True]
    assert run_all(charging().frame()).costs == []


def test_time_costs_while_nothing_flows() -> None:
    parking = {
        "id": "P", "currency": "EUR",
        "elements": [{"price_components": [{"type": "PARKING_TIME", "price": 6, "step_size": 60}]}],
    }  # fmt: skip
    log = log_of()
    log.tx(BEGIN, "Started", 500_000, seq=0, chargingState="SuspendedEV")
    log.reads(BEGIN + MINUTE, END - MINUTE, 500_000, 500_000)
    log.tx(END, "Ended", 500_000, seq=1)
    log.until(END + 20 * MINUTE)
    got = run_all(log.frame(), cashier=cashier(parking))
    running = [row.total_excl for row in got.costs if not row.final]
    assert running[:3] == ["0.10", "0.20", "0.30"]
    assert got.costs[-1].total_excl == "6.00"


BUSY: dict[str, Any] = {
    "kind": "adaptive", "id": "BUSY", "by": "occupancy",
    "steps": [{"below": 0.3, "tariff": ENERGY | {"id": "QUIET"}},
              {"tariff": {"id": "FULL", "currency": "EUR", "elements": [
                  {"price_components": [{"type": "ENERGY", "price": 0.80, "step_size": 1}]}]}}],
}  # fmt: skip


def three_plugs() -> TxLog:
    """Return a charge at EVSE 2 while EVSE 1 charges, one at EVSE 3 after both."""
    log = log_of(evses=(1, 2, 3))
    log.session(BEGIN, END, 500_000, 510_000, tx="first", evse=1)
    log.session(BEGIN + 20 * MINUTE, END + 10 * MINUTE, 100_000, 105_000, tx="second", evse=2)
    log.session(END + 30 * MINUTE, END + HOUR, 200_000, 201_000, tx="third", evse=3)
    log.until(END + 2 * HOUR)
    return log


def test_occupancy_at_the_start_chooses_the_tariff_and_is_kept_with_the_bill() -> None:
    got = run_all(three_plugs().frame(), cashier=cashier(BUSY))
    last = {row.transaction_id: row for row in got.sessions}
    told = {tx: (row.state, row.body["price"]["tariff_id"], row.body["price"]["at_start"]["plugs_used"])
            for tx, row in last.items()}  # fmt: skip
    assert told == {
        "first": ("complete", "QUIET", 0),
        "second": ("complete", "FULL", 1),
        "third": ("complete", "QUIET", 0),
    }
    facts = last["second"].body["price"]["snapshot"]["facts"]
    assert (facts["occupancy"], facts["step"]) == (pytest.approx(1 / 3), 1)
    assert run_all(three_plugs().frame(), cuts=(3, 33, 91), restore=True, cashier=cashier(BUSY)) == got


def test_power_of_the_quarter_hour_before_the_start_chooses_the_tariff() -> None:
    strong = BUSY | {"by": "site_kw", "steps": [BUSY["steps"][0] | {"below": 5}, BUSY["steps"][1]]}
    got = run_all(three_plugs().frame(), cashier=cashier(strong))
    last = {row.transaction_id: row.body["price"] for row in got.sessions if "price" in row.body}
    # the first charge draws 10 kW; the second one starts a quarter hour and a half after it did
    assert last["second"]["at_start"]["site_kw"] == pytest.approx(10, rel=0.01)
    assert [last[tx]["tariff_id"] for tx in ("first", "second", "third")] == ["QUIET", "FULL", "QUIET"]


def pay(log: TxLog, t: int, **body: Any) -> None:
    head = {"site": log.site, "authorization_reference": "ref-1", "currency": "EUR"}
    log.messages.append((t, "evt/v1/_op/payment", head | body))


def last_payment(rows: list[PaymentRow]) -> PaymentRow:
    assert [row.change for row in rows] == list(range(1, len(rows) + 1))
    return rows[-1]


@pytest.mark.parametrize("how", [{"transaction_id": "a"}, {"token_hash": "h1"}, {"evse": 1}])
@pytest.mark.parametrize("when", [BEGIN - MINUTE, BEGIN + 2 * MINUTE])
def test_a_session_is_asked_to_stop_before_its_money_is_used_up(how: dict[str, Any], when: int) -> None:
    log = charging()
    pay(log, when, action="authorize", amount="3.00", station="cp", **how)
    pay(log, END + HOUR, action="settle", status="Settled", amount="3.00")
    log.until(END + HOUR + MINUTE)
    got = run_all(log.frame(), cashier=cashier())
    stops = [json.loads(p.payload) for p in got.publishes if p.topic == "evt/v1/_op/command"]
    body = stops[0]
    # again whenever the last request has expired, for the station goes on
    assert len({stop["id"] for stop in stops}) == len(stops) == 7
    assert (body["command"], body["body"], body["evse"]) == (
        "RequestStopTransaction",
        {"transactionId": "a"},
        1,
    )
    assert (body["site"], body["station"], body["by"]) == ("s", "cp", "payment")
    states = [row.state for row in got.payments]
    assert list(dict.fromkeys(states)) == ["authorized", "running", "stopping", "billed", "settled"]
    asked = next(row for row in got.payments if row.state == "stopping")
    assert asked.cost is not None
    assert 2.6 <= float(asked.cost) <= 2.95
    # the station went on: 5.50 are billed, of which 3.00 were authorised
    assert got.payments[-2].problem == "billed 5.50, authorised only 3.00"
    assert last_payment(got.payments).problem == "settled 3.00, the session costs 5.50"
    cdr = json.loads(got.cdrs[0].body)
    assert (cdr["authorization_reference"], cdr["auth_method"]) == ("ref-1", "AUTH_REQUEST")
    assert got.sessions[-1].body["authorization_reference"] == "ref-1"


def test_a_settlement_that_fits_its_bill_is_without_a_problem() -> None:
    log = charging()
    pay(log, BEGIN - MINUTE, action="authorize", amount="40.00", station="cp", evse=1)
    pay(log, BEGIN - MINUTE + SECOND, action="authorize", amount="40.00", station="cp", evse=1)
    pay(log, END + HOUR, action="settle", status="Settled", amount="5.50", psp_reference="psp-9")
    log.until(END + HOUR + MINUTE)
    got = run_all(log.frame(), cuts=(5, 60), restore=True, cashier=cashier())
    last = last_payment(got.payments)
    assert (last.state, last.settled, last.cost, last.problem) == ("settled", "5.50", "5.50", "")
    assert not [p for p in got.publishes if "command" in p.topic]


def settled(**body: Any) -> dict[str, Any]:
    """Return what the dialect makes of a station's NotifySettlement."""
    call: dict[str, Any] = {"pspRef": "psp-7", "status": "Settled", "settlementTime": "2026-06-10T05:30:05Z"}
    call |= {"settlementAmount": 5.5, "transactionId": "a"} | body
    sink = send(build({}), [2, "m1", "NotifySettlement", call], node="cp")
    [told] = sink.of("operator")
    assert told["topic"] == "payment"
    found: dict[str, Any] = told["body"]
    return found | {"site": "s"}  # the route of this test's station names the node as site


@pytest.mark.parametrize("authorised", [True, False])
@pytest.mark.parametrize("when", [BEGIN + 5 * MINUTE, END + HOUR])
@pytest.mark.parametrize(("amount", "problem"), [(5.5, ""), (5.4, "settled 5.4, the session costs 5.50")])
def test_what_a_station_settled_belongs_to_its_transaction(
    authorised: bool, when: int, amount: float, problem: str
) -> None:
    log = charging()
    if authorised:
        pay(log, BEGIN - MINUTE, action="authorize", amount="40.00", station="cp", evse=1)
    for t in (when, when + SECOND):  # told twice
        log.messages.append((t, "evt/v1/_op/payment", settled(settlementAmount=amount)))
    log.until(END + HOUR + MINUTE)
    got = run_all(log.frame(), cuts=(20, 70, 90), restore=True, cashier=cashier())
    last = last_payment(got.payments)
    assert (last.state, last.problem, last.cost) == ("settled", problem, "5.50")
    assert (last.transaction_id, last.psp_reference, last.currency) == ("a", "psp-7", "EUR")
    assert last.authorization_reference == ("ref-1" if authorised else "psp-7")


def test_a_settlement_that_breaks_the_rules_is_dead() -> None:
    for body in (
        {"status": "Lost"},
        {"settlementTime": "soon"},
        {"pspRef": ""},
        {"pspRef": "4111111111111111"},
    ):
        with pytest.raises(DecodeError):
            settled(**body)


@pytest.mark.parametrize(
    ("body", "state", "problem"),
    [
        ({"status": "Settled", "amount": "5.40"}, "settled", "settled 5.40, the session costs 5.50"),
        ({"status": "Settled", "amount": "50"}, "settled", "settled 50, authorised only 40.00"),
        ({"status": "Settled", "amount": "5.50", "currency": "USD"}, "settled",
         "settled in USD, authorised in EUR"),
        ({"status": "Failed"}, "failed", "not paid: failed"),
        ({"status": "Settled", "amount": "5.50", "authorization_reference": "other"}, "settled",
         "settled without an authorisation that we know"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(body: dict[str, Any], state: str, problem: str) -> None:
    log = charging()
    pay(log, BEGIN - MINUTE, action="authorize", amount="40.00", station="cp", evse=1)
    pay(log, END + HOUR, action="settle", **body)
    log.until(END + HOUR + MINUTE)
    got = run_all(log.frame(), cashier=cashier())
    assert (got.payments[-1].state, got.payments[-1].problem) == (state, problem)
