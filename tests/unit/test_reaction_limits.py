"""Limits of reactions and those of load management at one station: the lower one holds, in any order."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from connectors.simulator.manners import Manners
from connectors.simulator.obey import Obedient
from models._load_profiles import dynamic, fallback
from models._reaction_rules import limit
from models.command_check import check_command
from models.reactions import Rule, RuleBook, Step

from . import test_reactions as reacting

T0 = 1_790_000_000_000
HOUR = 3_600_000
PLACE = "site-a/cs-1"


def station(running: bool) -> Obedient:
    made = Obedient("cs-1", "1.0", Manners(), random.Random(1))
    if running:
        made.start("tx-1", T0)
    return made


def give(to: Obedient, command: str, body: dict[str, Any], number: int) -> None:
    asked = {"cmdId": f"c{number}", "action": command, "payload": body, "issued": T0, "expires": T0 + HOUR}
    to.receive(asked | {"st": to.station}, T0 + number)


def reaction(amps: float | None) -> tuple[str, dict[str, Any]]:
    made = limit(PLACE, amps)
    return made["command"], made["body"]


def load(amps: float, tx_id: str) -> tuple[str, dict[str, Any]]:
    return "SetChargingProfile", dynamic(1, amps, T0, T0 + HOUR, tx_id, 3, 0.0)


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("amps", [(10.0, 6.0), (10.0, 16.0), (10.0, 0.0)])
def test_the_lower_holds_whichever_comes_last(running: bool, amps: tuple[float, float]) -> None:
    tx_id = "tx-1" if running else ""
    beneath = ("SetChargingProfile", fallback(1, 8.0, 3, 0.0))
    for order in itertools.permutations([reaction(amps[0]), load(amps[1], tx_id), beneath]):
        one = station(running)
        for number, (command, body) in enumerate(order):
            give(one, command, body, number)
        assert one.limit_a(T0 + 10) == min(amps)
        give(one, *reaction(None), number=5)
        assert one.limit_a(T0 + 10) == amps[1]


def test_a_vehicle_that_comes_later_is_limited_too() -> None:
    """A limit of no transaction must not give way to the one that load management sets for the next."""
    one = station(running=False)
    give(one, *reaction(10.0), number=0)
    one.start("tx-2", T0 + 1)
    give(one, *load(16.0, "tx-2"), number=2)
    assert one.limit_a(T0 + 10) == 10.0


def test_it_is_a_request_that_ocpp_knows() -> None:
    for amps in (10.0, None):
        check_command(*reaction(amps))


def amps_of(asks: list[Any]) -> list[float | None]:
    """What each command leaves in force: the newest takes the place of the one before."""
    told: list[float | None] = []
    for _, ask in asks:
        if ask.command == "SetChargingProfile":
            schedule = ask.body["chargingProfile"]["chargingSchedule"][0]
            told.append(schedule["chargingSchedulePeriod"][0]["limit"])
        elif ask.command == "ClearChargingProfile":
            told.append(None)
    return told


def test_two_findings_at_one_station_leave_the_lower_limit_until_each_is_over() -> None:
    rules = tuple(
        Rule(name=name, codes=(code,), steps=(Step("limit", 0, amps),), safety=True)
        for name, code, amps in (("hot", "connector_over_temperature", 6.0), ("warm", "over_current", 12.0))
    )
    hot, warm = "connector_over_temperature", "over_current"
    events: list[reacting.Event] = [
        (10, reacting.finding(10, code=hot)),
        (20, reacting.finding(20, code=warm)),
        (30, reacting.finding(30, "cleared", code=hot)),
        (40, reacting.finding(40, "cleared", code=warm)),
    ]
    for cuts in ([], [15, 25, 35]):
        asks, _ = reacting.run(events, 100, RuleBook(rules=rules, act=True), cuts)
        assert amps_of(asks) == [6.0, 6.0, 12.0, None]
