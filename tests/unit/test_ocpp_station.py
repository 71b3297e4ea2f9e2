"""Simulated OCPP-J stations: both versions, both forms, and nothing remembered."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from connectors.simulator.manners import Manners
from connectors.simulator.ocpp_station import OcppStation

T0 = 1_780_000_000_000


def station(version: str = "1.6", form: str = "raw", **manners: float) -> OcppStation:
    return OcppStation("CP1", version, form, Manners(**manners), random.Random(1))


def call(one: OcppStation, action: str, body: dict[str, Any], id_: str = "c1", at_ms: int = T0) -> None:
    if one.form == "raw":
        message: Any = [2, id_, action, body]
    else:
        message = {"type": 2, "id": id_, "action": action, "request": body, "response": None}
    one.call(json.dumps(message).encode(), at_ms)


def heard(one: OcppStation, until_ms: int = T0 + 2_000) -> list[Any]:
    voices = [one.voice(said) for said in one.step(until_ms)]
    return [json.loads(voice) for voice in voices if voice is not None]


@pytest.mark.parametrize("form", ["raw", "wrapped"])
@pytest.mark.parametrize(("version", "body"), [("1.6", {"type": "Hard"}), ("2.0.1", {"type": "Immediate"})])
def test_it_does_a_call_as_often_as_it_comes(version: str, body: dict[str, str], form: str) -> None:
    one = station(version, form)
    for at in (0, 1):
        call(one, "Reset", body, at_ms=T0 + at)
    answers = heard(one, T0 + 1_400)
    if form == "raw":
        assert answers == [[3, "c1", {"status": "Accepted"}]] * 2
    else:
        assert [(a["type"], a["id"], a["response"]) for a in answers] == [
            (3, "c1", {"status": "Accepted"})
        ] * 2
    assert one.at_ms == {"c1": [T0, T0 + 1]}
    (boot,) = heard(one, T0 + 600_000)[:1]
    assert (boot[2] if form == "raw" else boot["action"]) == "BootNotification"


def test_what_16_says_in_other_words() -> None:
    one = station()
    call(one, "RemoteStartTransaction", {"idTag": "AB", "connectorId": 1}, "a")
    call(one, "UnlockConnector", {"connectorId": 1}, "b")
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 9.0}]}
    profile = {
        "chargingProfileId": 7,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxDefaultProfile",
        "chargingProfileKind": "Relative",
        "chargingSchedule": schedule,
    }
    call(one, "SetChargingProfile", {"connectorId": 1, "csChargingProfiles": profile}, "c")
    assert one.limit_a(T0 + 100) == 9
    call(one, "ClearChargingProfile", {"id": 7}, "d")
    call(one, "ClearChargingProfile", {"id": 7}, "e")
    call(one, "SetVariables", {}, "f")
    call(one, "TriggerMessage", {"requestedMessage": "Heartbeat"}, "g")
    answers = {a[1]: a[2] if a[0] == 4 else a[2]["status"] for a in heard(one)}
    assert answers == {
        "a": "Accepted", "b": "UnlockFailed", "c": "Accepted", "d": "Accepted", "e": "Unknown",
        "f": "NotImplemented", "g": "Accepted",
    }  # fmt: skip


def test_an_update_is_told_and_boots_into_the_new_version() -> None:
    one = station("2.0.1")
    call(one, "UpdateFirmware", {"requestId": 4, "firmware": {"location": "https://x.example/fw-2.1.0.bin"}})
    said = heard(one, T0 + 3_600_000)
    told = [m[3]["status"] for m in said if m[0] == 2 and m[2] == "FirmwareStatusNotification"]
    assert told[-1] == "Installed"
    boots = [m[3]["chargingStation"]["firmwareVersion"] for m in said if m[0] == 2 and "Boot" in m[2]]
    assert boots == ["2.1.0"]


def test_one_that_ignores_says_nothing() -> None:
    one = station(ignore=1.0)
    call(one, "Reset", {"type": "Soft"})
    one.call(b'[3, "x", {}]', T0)
    assert heard(one) == []
