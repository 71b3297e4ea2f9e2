"""The demo on a machine without servers: embedded broker, real processes, both faults found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("iotcore", reason="the extra chargestream[broker] is not installed")

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-P", "-m", "pipeline", "demo", "--broker", "embedded")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_finds_both_faults_and_its_account_closes(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--for", "36s", "--data", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "page: http://127.0.0.1:" in done.stdout
    assert "finding 1 × over_current" in done.stdout
    assert "finding 1 × residual_current_trip" in done.stdout
    assert "readings 0 " not in done.stdout
    assert done.stdout.rstrip().endswith("the account closes: nothing was lost")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ctrl_c_stops_it_cleanly_and_leaves_no_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--data", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "page: http" in line:
                break
        time.sleep(2)
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
        assert demo.wait(60) == 0, rest
    assert "the account closes" in rest
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False).stdout
    assert [pid for pid in left.split() if int(pid) != os.getpid()] == []
