"""The supervisor with real children: restarts, final exit codes, order of stopping."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from connectors.status import read_status
from pipeline.cli import EXIT_STORAGE, EXIT_USAGE
from pipeline.supervisor import Child, Supervisor, how_ended


def supervisor(tmp: Path, *members: Child) -> Supervisor:
    return Supervisor(
        list(members), tmp, restart_min_s=0.05, restart_max_s=0.2, stop_timeout_s=5, say=lambda _: None
    )


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a child's arguments be run as ``python -c``."""
    import subprocess

    real = subprocess.Popen

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-c", *command[4:]], **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr("pipeline.supervisor.subprocess.Popen", popen)
    # pytest's captured standard error has no file descriptor of its own
    monkeypatch.setattr("pipeline.supervisor.sys.stderr", sys.__stderr__)


def run(s: Supervisor, until: float | None = None) -> tuple[threading.Thread, list[int]]:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(s.run()))
    thread.start()
    if until:
        time.sleep(until)
        s.stop.set()
        thread.join(10)
    return thread, codes


@pytest.mark.usefixtures("scripted")
def test_a_dying_child_is_started_again_and_counted(tmp_path: Path) -> None:
    child = Child("worker-00", ("import sys; sys.exit(1)",))
    _, codes = run(supervisor(tmp_path, child), until=1.5)
    assert codes == [0]
    assert child.restarts >= 3
    assert read_status(tmp_path, "supervisor")["worker-00"]["last_exit"] == 1


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize("code", [EXIT_USAGE, EXIT_STORAGE])
def test_an_exit_code_that_a_restart_cannot_cure_stops_everything(tmp_path: Path, code: int) -> None:
    other = Child("egress", ("import time; time.sleep(60)",))
    bad = Child("worker-00", (f"import sys; sys.exit({code})",))
    thread, codes = run(supervisor(tmp_path, bad, other))
    thread.join(10)
    assert codes == [code]
    assert other.process is None


@pytest.mark.usefixtures("scripted")
def test_ingest_stops_first_and_what_hangs_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "order"
    script = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        f"    open({str(note)!r}, 'a').write(sys.argv[1] + ' ')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "time.sleep(60)\n"
    )
    members = [Child(name, (script, name)) for name in ("api", "egress", "worker-00", "ingest")]
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    members.append(Child("api-2", (deaf,)))
    s = supervisor(tmp_path, *members)
    s.stop_timeout_s = 2
    run(s, until=1.5)
    assert note.read_text().split() == ["ingest", "worker-00", "egress", "api"]
    assert members[-1].last_exit == -9


@pytest.mark.usefixtures("scripted")
def test_a_cluster_starts_again_as_a_whole(tmp_path: Path) -> None:
    flag = tmp_path / "died"
    once = (
        f"import os, sys, time; p = {str(flag)!r}\n"
        "if not os.path.exists(p): open(p, 'w'); sys.exit(1)\n"
        "time.sleep(60)"
    )
    first = Child("worker-00", (once,))
    second = Child("worker-01", ("import time; time.sleep(60)",))
    s = supervisor(tmp_path, first, second)
    s.together = True
    run(s, until=1.5)
    assert (first.restarts, second.restarts) == (1, 1)


def test_exit_codes_are_put_in_words() -> None:
    assert how_ended(-9) == "killed by SIGKILL"
    assert how_ended(-999) == "killed by signal 999"
    assert how_ended(3) == "exit code 3"
