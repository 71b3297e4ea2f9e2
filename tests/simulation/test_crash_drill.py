"""The crash drill as the command runs it: 25 kills while 10,000 messages come, nothing lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.drill import TARGETS, CrashDrill, CrashOptions
from tests.servers import require


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_twenty_five_kills(tmp_path: Path, seed: int) -> None:
    for program in ("mosquitto", "influxd", "nginx"):
        require(program)
    said: list[str] = []
    options = CrashOptions(kills=25, seed=seed, messages=10_000, folder=tmp_path)
    result = CrashDrill(options, said.append).run()
    assert result["passed"], (result, said)
    wrong = (
        "lost", "doubled", "intervals_differ", "findings_differ", "influx_differ", "sessions_differ",
        "cdrs_differ",
    )  # fmt: skip
    assert {name: result[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert result["closes"]
    assert sum(result["killed"].values()) == result["kills"] == 25
    assert result["killed"].keys() == set(TARGETS)
    assert result["unacknowledged"] == 0
    # the fleet sends some twice, as a bad network does: those count once here
    assert 10_000 <= result["acked"] <= result["journaled"] <= result["sent"]
    assert result["intervals"] > 100
    assert result["findings"] >= 5
    assert result["sessions"] > 20
    assert result["cdrs"] > 5
