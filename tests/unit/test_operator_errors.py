"""What an operator is told who asks wrongly: what came, and what was expected. Nothing is sent for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import cli

SEND = ["command", "send", "depot", "s1"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([*SEND, "explode"], ["no word 'explode'", "reset-now"]),
        ([*SEND, "limit", "lots"], ["0 to 1000", "'lots'"]),
        ([*SEND, "Reset", "--body", "nonsense"], ["--body nonsense", "a JSON object, or @FILE"]),
        ([*SEND, "Reset", "--body", "@/no/such.json"], ["@/no/such.json", "No such file"]),
        ([*SEND, "limit", "16", "--body", "{}"], ["value '16' and --body", "give one"]),
        ([*SEND, "reset", "--expires", "-5"], ["--expires", "'-5'", "expected 60s, 5m"]),
        ([*SEND, "reset", "--expires", "nan"], ["--expires", "'nan'", "expected 60s, 5m"]),
        (["command", "list", "--state", "bogus"], ["'bogus'", "expired"]),
        (["command", "list", "--limit", "-1"], ["'-1'", "1 or more"]),
        (["campaign", "stations", "c", "--limit", "0"], ["'0'", "1 or more"]),
        (["campaign", "create", "/no/such.toml"], ["/no/such.toml cannot be read", "a plan in TOML"]),
        (["pki", "node", "a/b", "CP1", "--pki", "/no/such"], ["name 'a/b'", "without / + #"]),
        (["firmware", "hold", "x", "--repo", "/no/such"], ["/no/such", "init-repo"]),
        (
            ["broker-config", "--out", "o", "--pki", "/no/such", "--certificate", "/no.pem"],
            ["/no/such/nodes-ca.pem does not exist", "chargestream pki init"],
        ),
        (["drill", "campaign", "--stations", "5"], ["--stations 5", "at least 200"]),
        (["drill", "campaign", "--kills", "-1"], ["--kills -1", "0 or more"]),
        (["drill", "gate", "--canaries", "5"], ["--canaries 5 of --stations 4000", "20 to 3980"]),
        (["drill", "gate", "--soak-hours", "2"], ["--soak-hours 2", "6 to 1440"]),
    ],
)
def test_an_error_says_what_came_and_what_was_expected(
    words: list[str],
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: object = cli.main(words)
    except SystemExit as error:  # argparse
        code = error.code
    assert code == 2
    found = capsys.readouterr().err
    for part in told:
        assert part in found
    assert "Traceback" not in found
