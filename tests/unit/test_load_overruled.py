"""Commands of others that take the place of load management's profiles: refused, or noticed and put right."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w

from connectors.ledger import Ledger
from models.command_shorthand import spell_out
from models.load import displaces
from models.load_rows import LoadRow
from models.load_settings import Outlet
from pipeline import cli, config
from pipeline.control_plan import control_plan
from tests.servers import free_port

from .load_yard import Yard, settings
from .test_control import Bench, answer, message, tick
from .test_load_policy import SITE, born

OURS = {"chargingProfilePurpose": "TxDefaultProfile", "stackLevel": 0}


@pytest.mark.parametrize(
    ("command", "body", "does"),
    [
        (*spell_out("limit", 1, "8"), True),
        (*spell_out("limit", None, "8"), False),  # the station as a whole: the lower one holds
        (*spell_out("clear-limit", None, ""), False),
        ("ClearChargingProfile", {}, True),
        ("ClearChargingProfile", {"chargingProfileId": 710_001}, True),
        ("ClearChargingProfile", {"chargingProfileCriteria": {"chargingProfilePurpose": "TxProfile"}}, True),
        ("ClearChargingProfile", {"chargingProfileCriteria": {"stackLevel": 3}}, False),
        ("SetChargingProfile", {"chargingProfile": OURS | {"stackLevel": 2, "id": 5}}, False),
        ("SetChargingProfile", {"chargingProfile": "nonsense"}, False),
        ("Reset", {"type": "OnIdle"}, False),
    ],
)
def test_what_takes_the_place_of_our_profiles(command: str, body: dict[str, Any], does: bool) -> None:
    assert displaces(command, body) is does


def test_what_was_taken_is_counted_at_its_most_and_sent_again() -> None:
    outlets = (Outlet("s0", 1, fallback_a=6.0), Outlet("s1", 1))
    yard = Yard(settings(40.0, outlets=outlets))
    yard.plug("s0", amps=10.0)
    yard.plug("s1")
    yard.run(60)
    assert yard.amps("s1") > 25.0
    sent = len(yard.asks)
    yard.ignores["s0"] = ""
    yard.load.overruled("s0", 1, *spell_out("limit", 1, "32"), yard.now)
    yard.run(20)
    assert yard.load.points.may_draw_a(yard.now)[0].max() == 32.0
    assert yard.amps("s1") <= 8.0
    again = [ask for ask in yard.asks[sent:] if ask.station == "s0"]
    assert -1.0 in [ask.limit_a for ask in again]  # the fallback
    yard.ignores.clear()
    yard.run(250)  # the fallback is asked for once a minute, and what was held before runs out
    assert yard.amps("s1") > 25.0
    assert yard.amps("s0") == 10.0


def test_the_control_stage_hears_of_it(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(SITE)
    bench = Bench(12, control_plan(config.load(tmp_path / "c.toml", {})))
    command, body = spell_out("limit", 1, "16")
    wish = {"id": "x", "site": "depot", "station": "s1", "evse": 1, "by": "anna"}
    wish |= {"command": command, "body": body, "expires_s": 60}
    bench.feed(born(0, "s1"), tick(1000), message(2000, "_op/command", **wish), tick(3000))
    sent = bench.sent()[-1]
    bench.feed(answer(3500, sent["cmdId"]), *[tick(4000 + 1000 * i) for i in range(8)])
    again = bench.rows[-1]
    assert (again.by, again.command) == ("load", "SetChargingProfile")
    assert again.body["chargingProfile"]["id"] == 720_001


@pytest.mark.parametrize(("age_s", "managed"), [(60, True), (3600, False)])
def test_whoever_limits_an_evse_of_a_managed_site_is_told_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], age_s: int, managed: bool
) -> None:
    minute = LoadRow(
        site="depot", start_ms=int(time.time() * 1000) - age_s * 1000, limit_a=(1.0,) * 3,
        current_a=(0.0,) * 3, other_a=(0.0,) * 3, held_a=(0.0,) * 3, ev_kw=0, site_kw=0, quarter_kwh=0,
        projected_kw=0, peak_kw=0, demand_limit_kw=None, charging=0, waiting=0, lost=0, commands=0,
    )  # fmt: skip
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.apply("loads", [(0, msgspec.msgpack.encode([minute]))])
    ledger.close()
    file = tmp_path / "c.toml"
    mqtt = {"port": free_port(), "connect_timeout_s": 0.5, "reconnect_min_s": 0.1}
    file.write_text(tomli_w.dumps({"service": {"data_dir": str(tmp_path)}, "mqtt": mqtt}))
    words = ["command", "send", "depot", "s1", "limit", "8", "--config", str(file)]
    assert cli.main([*words, "--evse", "1"]) != 0
    said = capsys.readouterr().err
    assert ("chargestream load limit depot AMPERE --station s1" in said) is managed
    assert cli.main(words) != 0  # the station as a whole: only the broker is missing
    assert "load management" not in capsys.readouterr().err
