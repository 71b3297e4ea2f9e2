"""The one rule for machines without a server: skip and count here, fail in CI."""

from __future__ import annotations

from typing import Any

import pytest

from tests import conftest, servers


def test_a_missing_server_skips_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no-such-server is not installed \(Debian package"):
        servers.require("no-such-server")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="missing server: no-such-server is not installed"):
        servers.require("no-such-server")


def test_skips_for_a_missing_server_are_counted() -> None:
    class Report:
        def __init__(self, longrepr: object) -> None:
            self.longrepr = longrepr

    class Terminal:
        def __init__(self) -> None:
            reasons = (f"Skipped: {servers.MISSING} nginx is not installed", "Skipped: no data", "")
            self.stats = {"skipped": [Report(("file.py", 1, reason)) for reason in reasons]}
            self.lines: list[str] = []

        def write_sep(self, _: str, text: str, **__: Any) -> None:
            self.lines.append(text)

    terminal: Any = Terminal()
    conftest.pytest_terminal_summary(terminal)
    assert terminal.lines == ["1 tests skipped for a missing server"]
