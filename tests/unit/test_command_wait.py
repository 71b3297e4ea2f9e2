"""``chargestream command``: what it tells while it waits, hints at names, and how it ends."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from models.command_check import CommandRefused, check_command
from models.command_shorthand import spell_out
from models.outputs import CommandRow
from pipeline.cli import main
from pipeline.commands import _command_words as told
from pipeline.commands import command

from .commanding import Desk, reset


class Ledger:
    """A reader of a ledger in which a command gets one change further with every look."""

    def __init__(self, rows: list[CommandRow], silent: int = 0) -> None:
        self.rows, self.looks, self.silent = rows, 0, silent
        self.places = {"depot": ["AX01-01", "AX01-02"], "harbour": ["h1"]}

    def command(self, cmd_id: str) -> dict[str, Any] | None:
        self.looks += 1
        n = min(self.looks - self.silent, len(self.rows))
        if n <= 0:
            return None
        changes = [{f: getattr(row, f) for f in row.__struct_fields__} for row in self.rows[:n]]
        return changes[-1] | {"changes": changes}

    def stations(self, site: str) -> list[str]:
        return self.places.get(site, [])

    def sites(self) -> list[str]:
        return list(self.places)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("pipeline.commands._command_words.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "pipeline.commands._command_words.time.sleep", lambda s: now.__setitem__(0, now[0] + s)
    )


def ended(status: str) -> list[CommandRow]:
    desk = Desk()
    desk.answer(desk.ask(reset()), status, 2)
    return desk.rows


@pytest.mark.parametrize(
    ("status", "code", "last"),
    [
        ("Accepted", 0, "accept    accepted  Accepted"),
        ("Scheduled", 0, "schedule  scheduled Scheduled"),
        ("Rejected", 1, "reject    rejected  Rejected"),
        ("Nonsense", 1, "error     failed    the station answered 'Nonsense'"),
    ],
)
def test_it_tells_every_change_once_until_the_end(
    status: str, code: int, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told.follow(Ledger(ended(status), silent=3), "c", 60.0, as_json=False) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["asked", "send", last.split()[0]]
    assert last in lines[-1]


def test_as_json_it_prints_the_record_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert told.follow(Ledger(ended("Accepted")), "c", 60.0, as_json=True) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["state"] == "accepted"


def test_one_that_does_not_end_or_is_not_heard_of_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert told.follow(Ledger(ended("Accepted")[:2]), "abcdefghij", 20.0, as_json=False) == 1
    assert "abcdefghij has not ended after 20 s: sent; see" in capsys.readouterr().err
    assert told.follow(Ledger([]), "abcdefghij", 20.0, as_json=False) == 1
    said = capsys.readouterr().err
    assert said.count("do ingest, worker and egress run?") == 1
    assert "not in the ledger" in said


@pytest.mark.parametrize(
    ("site", "station", "said"),
    [
        ("depot", "AX01-01", ""),
        ("depot", "AX01-1", "no station 'AX01-1' at depot; there are AX01-01, AX01-02"),
        ("deport", "x", "no site 'deport'; there are depot"),
    ],
)
def test_names_that_the_ledger_does_not_know_get_a_hint(
    site: str, station: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told.hint(Ledger([]), site, station)
    text = capsys.readouterr().err
    assert said in text
    assert bool(said) == bool(text)


def test_what_was_meant_is_guessed_and_choices_are_told_whole() -> None:
    for word, meant in (("limt", "did you mean limit"), ("RequestStopTransactio", "RequestStopTransaction")):
        with pytest.raises(CommandRefused, match=meant):
            spell_out(word, None, "")
    with pytest.raises(CommandRefused, match="did you mean ClearCache"):
        check_command("ClearCash", {})
    with pytest.raises(CommandRefused, match="PublishFirmwareStatusNotification"):
        check_command("TriggerMessage", {"requestedMessage": "Foo"})


def wish(*words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command._wish(parser.parse_args(["send", "depot", "s1", *words]))


def test_an_action_without_a_body_has_an_empty_one_and_times_have_units() -> None:
    assert (wish("ClearCache")["body"], wish("ClearCache")["expires_s"]) == ({}, 300.0)
    assert wish("Reset", "--body", '{"type": "OnIdle"}', "--expires", "1h")["expires_s"] == 3600.0
    assert wish("reset")["command"] == "Reset"


@pytest.mark.parametrize("words", [["--evse", "-3"], ["--evse", "two"], ["--expires", "0"], ["--wait", "x"]])
def test_wrong_options_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["command", "send", "depot", "s1", "reset", *words])
    assert stopped.value.code == 2
    assert words[1] in capsys.readouterr().err
