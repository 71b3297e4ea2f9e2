"""Simulated stations that take commands, and the drill with a thousand of them in small."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from connectors.simulator.manners import NAMES, Manners, parse
from connectors.simulator.obey import Obedient, Said, version_of
from models.errors import ConfigError
from pipeline.cli import main

T0 = 1_780_000_000_000


def station(**manners: float) -> Obedient:
    return Obedient("s1", "1.0.0", Manners(**manners), random.Random(1), boot=7)


def command(action: str = "Reset", id_: str = "c1", expires_s: float = 60, **payload: Any) -> dict[str, Any]:
    body = payload or {"type": "Immediate"}
    return {"cmdId": id_, "action": action, "payload": body, "expires": T0 + round(expires_s * 1000)}


def hear(one: Obedient, until_s: float = 600) -> list[Said]:
    return one.step(T0 + round(until_s * 1000))


def words(said: list[Said]) -> list[str]:
    return [str(s.body.get("status", s.body.get("online", s.kind))) for s in said]


def test_a_reset_is_answered_and_done_once_however_often_it_comes() -> None:
    one = station()
    for at in (0, 10, 20):
        one.receive(command(), T0 + at)
    assert words(hear(one, 1.4)) == ["Accepted"] * 3
    assert words(hear(one)) == ["False", "True"]
    assert (one.boot, one.done) == (8, [("c1", "Reset")])


def test_what_has_expired_is_refused_also_when_it_is_repeated() -> None:
    one = station()
    for _ in range(2):
        one.receive(command(expires_s=0), T0)
    assert words(hear(one)) == ["Expired"] * 2
    assert one.done == []


def test_a_recorded_command_sent_again_is_not_done_again_whatever_was_changed_about_it() -> None:
    """After a reboot, after it expired, with a new expiry, and after many others."""
    one = station()
    one.receive(command(), T0)
    assert words(hear(one)) == ["Accepted", "False", "True"]
    for number in range(300):
        one.receive(command("TriggerMessage", f"other {number}", requestedMessage="Heartbeat"), T0 + 30_000)
    for repeated, at in ((command(), 40_000), (command(expires_s=86_400), 50_000), (command(), 70_000)):
        one.receive(repeated, T0 + at)
    hear(one, 700)
    assert [name for name, action in one.done if action == "Reset"] == ["c1"]
    one.receive(command(id_="never seen"), T0 + 60_000)
    assert words(hear(one, 800)) == ["Expired"]
    assert len(one.done) == 301


def test_a_wrong_clock_judges_the_expiry_and_still_nothing_is_done_twice() -> None:
    for ahead_s, said in ((3_600, "Expired"), (-3_600, "Accepted")):
        one = station()
        one.clock_ms = lambda now_ms, ahead_s=ahead_s: now_ms + 1000 * ahead_s  # type: ignore[method-assign, misc]
        for number in range(300):
            trigger = command("TriggerMessage", f"c{number}", requestedMessage="Heartbeat")
            one.receive(trigger, T0 + 120_000)
            one.receive(trigger, T0 + 120_000)
        one.receive(command("TriggerMessage", "c0", requestedMessage="Heartbeat"), T0 + 130_000)
        assert set(words(hear(one))) == {said}
        assert len(one.done) == (300 if said == "Accepted" else 0)


@pytest.mark.parametrize(
    ("manners", "said", "done"),
    [
        ({"ignore": 1}, [], 0),
        ({"reject": 1}, ["Rejected", "Rejected"], 0),
        ({"twice": 1}, ["Accepted"] * 4, 1),
        ({"forgetful": 1}, ["Accepted", "Accepted"], 2),
    ],
)
def test_bad_manners(manners: dict[str, float], said: list[str], done: int) -> None:
    one = station(**manners)
    for _ in range(2):
        one.receive(command("TriggerMessage", requestedMessage="Heartbeat"), T0)
    assert words(hear(one, 20)) == said
    assert len(one.done) == done


def test_charging_availability_and_limits_take_effect() -> None:
    one = station()
    one.receive(command("RequestStartTransaction", "a", idToken={}, evseId=1), T0)
    assert one.running == "s1-7-0"
    one.receive(command("RequestStartTransaction", "b", idToken={}, evseId=1), T0)
    one.receive(command("Reset", "c", type="OnIdle"), T0)
    one.receive(command("ChangeAvailability", "d", operationalStatus="Inoperative"), T0)
    schedule = [{"chargingSchedulePeriod": [{"startPeriod": 0, "limit": 10}]}]
    one.receive(command("SetChargingProfile", "e", chargingProfile={"chargingSchedule": schedule}), T0)
    assert (one.limit_a(T0), one.available) == (10, False)
    one.receive(command("RequestStopTransaction", "f", transactionId="s1-7-0"), T0)
    answers = {s.body["cmdId"]: s.body["status"] for s in hear(one) if s.kind == "cmdres"}
    assert answers == {
        "a": "Accepted",
        "b": "Rejected",
        "c": "Scheduled",
        "d": "Scheduled",
        "e": "Accepted",
        "f": "Accepted",
    }
    assert one.boot == 8
    assert not one.running
    deaf = station(ignore_limits=1)
    deaf.receive(command("SetChargingProfile", chargingProfile={"chargingSchedule": schedule}), T0)
    assert deaf.limit_a(T0) is None


WELL = ["Downloading", "Downloaded", "SignatureVerified", "Installing", "InstallRebooting"]


@pytest.mark.parametrize(
    ("manners", "last", "fw", "boots", "bricked"),
    [
        ({}, "Installed", "2.1.0", 1, False),
        ({"old_version": 1}, "InstallationFailed", "1.0.0", 1, False),
        ({"reboot_mid_install": 1}, "Installed", "2.1.0", 2, False),
        ({"power_loss": 1}, "Installed", "2.1.0", 2, False),
        ({"brick": 1}, "Installing", "1.0.0", 0, True),
    ],
)
def test_firmware(manners: dict[str, float], last: str, fw: str, boots: int, bricked: bool) -> None:
    one = station(**manners)
    firmware = {"location": "https://x.example/fw-2.1.0.bin?sig=1"}
    one.receive(command("UpdateFirmware", requestId=9, firmware=firmware), T0)
    said = hear(one, 3600)
    told = [s.body["status"] for s in said if s.kind == "fw"]
    assert told[-1] == last
    assert {s.body["requestId"] for s in said if s.kind == "fw"} == {9}
    assert (one.fw, one.boot - 7, one.bricked) == (fw, boots, bricked)
    if not manners:
        assert told == [*WELL, "Installed"]
        births = [s.body["fw"] for s in said if s.kind == "conn" and s.body["online"]]
        assert births == ["2.1.0"]


def test_a_newer_update_takes_the_place_of_one_under_way() -> None:
    one = station()
    one.receive(command("UpdateFirmware", "a", requestId=1, firmware={"location": "u/fw-2.0.0.bin"}), T0)
    hear(one, 5)
    one.receive(
        command("UpdateFirmware", "b", requestId=2, firmware={"location": "u/fw-2.1.0.bin"}), T0 + 5000
    )
    said = hear(one, 3600)
    assert [s.body["status"] for s in said if s.kind == "cmdres"] == ["AcceptedCanceled"]
    assert {s.body["requestId"] for s in said if s.kind == "fw"} == {2}


def test_manners_in_words() -> None:
    assert parse("ignore=0.02, brick") == Manners(ignore=0.02, brick=1.0)
    assert version_of("fw-2.1.0.bin?x") == "2.1.0"
    for text, expected in (
        ("rude=1", "no 'rude'"),
        ("brick=x", "expected brick=SHARE"),
        ("brick=2", "from 0 to 1"),
    ):
        with pytest.raises(ConfigError, match=expected):
            parse(text)
    drawn = [Manners(ignore=0.5).of(random.Random(i)).ignore for i in range(40)]
    assert 10 < sum(drawn) < 30


def test_every_manner_is_told_where_it_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert name in told
        assert f"| `{name}` |" in page
