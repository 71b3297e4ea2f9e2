"""What `chargestream` answers to whoever supervises it."""

from __future__ import annotations

import argparse
import types

import pytest

from connectors import operator
from models import errors, plugins
from models.command_check import CommandRefused
from models.firmware import FirmwareError
from pipeline import cli


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (errors.ConfigError("bad.toml: x"), 2, "chargestream: configuration: bad.toml: x\n"),
        (errors.StorageFull("disk full"), 74, "chargestream: storage: disk full\n"),
        (errors.StorageCorrupt("checksum"), 74, "chargestream: storage: checksum\n"),
        (errors.RetryLater("no answer"), 69, "chargestream: no answer\n"),
        (errors.Refused("401"), 69, "chargestream: 401\n"),
        (errors.DecodeError("log", "line 3"), 1, "chargestream: log: line 3\n"),
        (errors.TariffError("tariff.json: x"), 1, "chargestream: tariff.json: x\n"),
        (FirmwareError("hash", "x"), 1, "chargestream: firmware: hash: x\n"),
        (errors.SnapshotError("version 9"), 1, "chargestream: version 9\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_errors_become_exit_codes_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    text: str,
) -> None:
    def run(_: argparse.Namespace) -> int:
        raise raised

    command = types.SimpleNamespace(__doc__="Fail.", add_arguments=lambda _: None, run=run)
    monkeypatch.setattr(plugins, "names", lambda _: ["fail"])
    monkeypatch.setattr(plugins, "load", lambda *_: command)
    assert cli.main(["fail"]) == code
    assert capsys.readouterr().err == text


def test_every_error_of_the_tree_has_a_code() -> None:
    def below(kind: type[BaseException]) -> set[type[BaseException]]:
        return {kind}.union(*(below(sub) for sub in kind.__subclasses__()))

    for kind in below(errors.ChargestreamError):
        bases = (errors.ConfigError, errors.StorageError, errors.DeliveryError)
        assert issubclass(kind, bases) or kind in {
            errors.ChargestreamError,
            errors.DecodeError,
            operator.UnknownFinding,
            errors.SnapshotError,
            errors.TariffError,
            FirmwareError,
            CommandRefused,
        }, kind


def test_unknown_commands_and_options_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["nonsense"], ["config", "--nonsense"], []):
        with pytest.raises(SystemExit) as caught:
            cli.main(argv)
        assert caught.value.code == cli.EXIT_USAGE
    assert "usage: chargestream" in capsys.readouterr().err


def test_every_command_has_help_and_stays_light(capsys: pytest.CaptureFixture[str]) -> None:
    for name in plugins.names("pipeline.commands"):
        module = plugins.load("pipeline.commands", name)
        assert module.__doc__, name
        assert callable(module.run)
        with pytest.raises(SystemExit) as caught:
            cli.main([name.replace("_", "-"), "--help"])
        assert caught.value.code == 0
    assert "usage: chargestream" in capsys.readouterr().out
