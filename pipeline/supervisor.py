"""The parent of ingest, workers, egress and api: starts them, restarts what dies, stops all in order.

Each child is a command of its own (``chargestream worker --index 0``), so that each can also be run alone
or by systemd. Children write to this process's standard error, each line with its name. An exit code
that a restart cannot cure (wrong configuration, storage that needs a person) stops everything with
the same code.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from connectors.status import write_status

from .cli import EXIT_OK, EXIT_STORAGE, EXIT_USAGE
from .config import Config

_LOG = logging.getLogger("chargestream.supervisor")

#: A child that ran this long had a good start: its next failure counts as the first.
_GOOD_START_S: Final = 30.0
_POLL_S: Final = 0.1
_FINAL: Final = (EXIT_USAGE, EXIT_STORAGE)


@dataclass(slots=True)
class Child:
    """One process of the service.

    Attributes
    ----------
    name : str
    arguments : tuple of str
        What follows ``chargestream`` on its command line.
    """

    name: str
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    restarts: int = 0
    started: float = 0.0
    start_at: float = 0.0
    last_exit: int | None = None


def children(config: Config, config_file: Path | None) -> list[Child]:
    """Return the processes that `config` asks for, in the order in which they start."""
    common = () if config_file is None else ("--config", str(config_file))
    workers = len(config.flow.cluster_addresses) or config.flow.workers
    members = [
        Child("ingest", ("ingest", *common)),
        *(Child(f"worker-{i:02d}", ("worker", *common, "--index", str(i))) for i in range(workers)),
        Child("egress", ("egress", *common)),
        Child("api", ("api", *common)),
    ]
    if config.firmware.enabled:
        members.append(Child("firmware", ("firmware", "serve", *common)))
    if config.firmware.chunks_enabled:
        members.append(Child("firmware-chunks", ("firmware", "serve-chunks", *common)))
    return members


@dataclass(slots=True)
class Supervisor:
    """Runs children until told to stop.

    Attributes
    ----------
    members : list of Child
    data_dir : Path
        Where its status goes.
    restart_min_s, restart_max_s : float
        Wait before a restart; doubles with each failure.
    stop_timeout_s : float
        Time for a clean stop; what still runs then is killed.
    together : bool
        A Bytewax cluster: when one worker dies the others end too and all start again.
    """

    members: list[Child]
    data_dir: Path
    restart_min_s: float = 0.5
    restart_max_s: float = 30.0
    stop_timeout_s: float = 20.0
    together: bool = False
    say: Callable[[str], None] = _LOG.info
    stop: threading.Event = field(default_factory=threading.Event)
    environment: dict[str, str] = field(default_factory=dict)

    def run(self) -> int:
        """Run until `stop` is set or a child ends in a way that a restart cannot cure."""
        for child in self.members:
            self._start(child)
        code = EXIT_OK
        report_at = 0.0
        while not self.stop.is_set():
            for child in list(self.members):
                final = self._look_after(child)
                if final is not None:
                    code = final
                    self.stop.set()
            if time.monotonic() >= report_at:
                report_at = time.monotonic() + 1.0
                self._report()
            self.stop.wait(_POLL_S)
        self._stop_all()
        self._report()
        return code

    def remove(self, child: Child) -> None:
        """Stop one child and look after it no longer."""
        self.members.remove(child)
        if child.process is not None:
            child.process.send_signal(signal.SIGTERM)
            self._await_end(child, time.monotonic() + self.stop_timeout_s)

    def _start(self, child: Child) -> None:
        command = [sys.executable, "-P", "-m", "pipeline", *child.arguments]
        child.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            env=os.environ | self.environment,
            start_new_session=True,  # Ctrl-C is for the supervisor, which stops children in order
        )
        child.started = time.monotonic()
        self.say(f"{child.name} started, process {child.process.pid}")

    def _look_after(self, child: Child) -> int | None:
        """Restart a child that ended; return an exit code that ends everything, else None."""
        now = time.monotonic()
        if child.process is None:
            if now >= child.start_at:
                child.restarts += child.started > 0  # one that joined later starts for the first time
                self._start(child)
            return None
        code = child.process.poll()
        if code is None:
            return None
        child.process, child.last_exit = None, code
        if code in _FINAL:
            _LOG.error("%s ended with exit code %d: a restart will not help, stopping", child.name, code)
            return code
        child.failures = 1 if now - child.started >= _GOOD_START_S else child.failures + 1
        wait = min(self.restart_max_s, self.restart_min_s * 2 ** (child.failures - 1))
        wait *= 0.5 + random.random() / 2
        child.start_at = now + wait
        _LOG.warning("%s ended (%s), restarting in %.1f s", child.name, how_ended(code), wait)
        if self.together and child.name.startswith("worker"):
            self._end_cluster(child, child.start_at)
        return None

    def _end_cluster(self, first: Child, start_at: float) -> None:
        """End the other members of a cluster: none of them can rejoin."""
        for child in self.members:
            if child is not first and child.name.startswith("worker") and child.process is not None:
                child.process.kill()
                child.process.wait()
                child.process, child.start_at = None, start_at

    def _stop_all(self) -> None:
        """Stop what feeds first, so that nothing new comes, then the rest; kill what does not end."""
        deadline = time.monotonic() + self.stop_timeout_s
        for group in self._groups():
            for child in group:
                if child.process is not None:
                    child.process.send_signal(signal.SIGTERM)
            for child in group:
                self._await_end(child, deadline)

    def _groups(self) -> list[list[Child]]:
        ranks = ("simulator", "ingest", "worker", "egress", "api", "firmware")
        return [[c for c in self.members if c.name.startswith(rank)] for rank in ranks]

    def _await_end(self, child: Child, deadline: float) -> None:
        if child.process is None:
            return
        try:
            child.last_exit = child.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _LOG.warning("%s did not end in time, killing it", child.name)
            child.process.kill()
            child.last_exit = child.process.wait()
        child.process = None
        self.say(f"{child.name} stopped")

    def _report(self) -> None:
        write_status(
            self.data_dir,
            "supervisor",
            {
                child.name: {
                    "pid": child.process.pid if child.process else None,
                    "running": child.process is not None,
                    "restarts": child.restarts,
                    "last_exit": child.last_exit,
                }
                for child in self.members
            },
        )


def how_ended(code: int) -> str:
    """Return what an exit code says to a person."""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"


def supervise(
    config: Config, config_file: Path | None, stop: threading.Event, only: Sequence[str] = ()
) -> int:
    """Run the service that `config` describes until `stop` is set; return its exit code.

    Parameters
    ----------
    config : Config
    config_file : Path or None
        Passed on to the children, which read it themselves.
    stop : Event
    only : sequence of str
        Names of the children to run (empty: all).
    """
    members = [c for c in children(config, config_file) if not only or c.name in only]
    service = config.service
    return Supervisor(
        members,
        Path(service.data_dir),
        restart_min_s=service.restart_min_s,
        restart_max_s=service.restart_max_s,
        stop_timeout_s=service.stop_timeout_s,
        together=bool(config.flow.cluster_addresses),
        stop=stop,
    ).run()
