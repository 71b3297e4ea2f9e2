"""The drill with a thousand commands, in small; and that it sees what it is there to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from connectors.claims import Claims
from connectors.simulator.manners import Manners
from models.command_repeat import REPEATABLE
from pipeline.cli import main
from pipeline.drill_commands import CommandsDrill, CommandsOptions


def drill(seed: int = 1, **options: Any) -> dict[str, Any]:
    small: dict[str, Any] = {
        "commands": 60,
        "stations": 8,
        "sites": 2,
        "loss": 0.1,
        "double": 0.1,
        "kills": 2,
    }
    return CommandsDrill(CommandsOptions(seed, **(small | {"naive": 0.5, "egress_kills": 6} | options))).run()


@pytest.mark.parametrize("seed", [1, 2])
def test_in_small(seed: int) -> None:
    result = drill(seed)
    assert result["passed"], result
    assert result["ended"] == 60
    assert result["lost"] > 5
    assert result["worker_kills"] == 2
    troubles = ("egress_killed_claimed", "egress_killed_sent", "connections_broken")
    assert [result[name] for name in troubles] == [2, 2, 2]
    assert (result["ocpp_form"], result["naive_stations"]) == ("raw" if seed % 2 else "wrapped", 4)


def test_it_sees_native_stations_that_do_a_command_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Manners, "of", lambda *_: Manners(forgetful=1.0))
    result = drill(naive=0.0, double=0.3)
    assert not result["passed"]
    assert result["done_twice"] > 3


def test_it_sees_what_goes_twice_without_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(self: Claims, wanted: Mapping[str, int], now_ms: int) -> set[str]:
        return set(wanted)

    monkeypatch.setattr(Claims, "take", take)
    result = drill(naive=1.0, loss=0.0)
    assert not result["passed"]
    assert result["harm"] > 0


def test_it_sees_harmful_commands_that_are_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPEATABLE, "Reset", "it is not")
    monkeypatch.setitem(REPEATABLE, "UnlockConnector", "it is not")
    result = drill(naive=1.0, loss=0.3)
    assert not result["passed"]
    assert result["harm"] > 0


@pytest.mark.parametrize("argument", ["--naive=2", "--commands=0", "--kills=-1", "--loss=1"])
def test_wrong_arguments_are_told(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drill", "commands", argument]) == 2
    assert "drill commands: " in capsys.readouterr().err
