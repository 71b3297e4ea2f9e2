"""``chargestream score``: subcommands come from their files."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import pytest

from models import plugins
from pipeline.commands import score


def test_a_file_is_a_subcommand(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(
        __doc__="Score teapots.\n\nMore.",
        add_arguments=lambda parser: parser.add_argument("--cups", type=int),
        run=lambda args: args.cups,
    )
    monkeypatch.setattr(plugins, "names", lambda package: ["tea_pots"])
    monkeypatch.setattr(plugins, "load", lambda package, name: module)
    parser = argparse.ArgumentParser()
    score.add_arguments(parser)
    assert score.run(parser.parse_args(["tea-pots", "--cups", "3"])) == 3
    with pytest.raises(SystemExit):
        parser.parse_args([])
