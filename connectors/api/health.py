"""How the pipeline is: one picture from the processes' status files and the ledger, for page and /metrics."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from connectors.ledger_reader import LedgerReader
from connectors.status import read_status, status_path
from models.errors import ChargestreamError
from models.learned.running import problems as model_problems
from models.units import NS_PER_MS

from .recent import Recent

#: A process that wrote no status for this long is not well.
STALE_MS: Final = 10_000
#: Results later than this are told as a problem.
BEHIND_MS: Final = 30_000
#: The machine's clock this far behind journaled time was set back.
_CLOCK_BEHIND_S: Final = 5.0
_DAY_MS: Final = 86_400_000
#: Signed metadata of firmware: how long before its end it is told, and what to do.
_METADATA: Final = {
    "root": (30 * _DAY_MS, "chargestream firmware rotate root, with the offline keys"),
    "targets": (14 * _DAY_MS, "chargestream firmware resign, with the offline keys"),
    "timestamp": (_DAY_MS // 4, "chargestream firmware refresh, or set firmware.online_keys_dir"),
}
_SUPERVISOR: Final = "supervisor"
_THIS: Final = "api"
_ORDER: Final = ("ingest", "worker", "egress", _THIS)


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the service.

    Attributes
    ----------
    name : str
    state : str
        ``running``, ``starting`` (runs and has not reported yet), ``stopped`` or ``silent``.
    restarts : int or None
        By the supervisor; None when no supervisor runs.
    last_exit : int or None
        Exit code of the run before, negative for a signal.
    status : dict
        What it last said of itself.
    age_ms : int or None
        How long ago that was; None when it never did.
    """

    name: str
    state: str
    restarts: int | None
    last_exit: int | None
    status: dict[str, Any]
    age_ms: int | None


@dataclass(frozen=True, slots=True)
class Health:
    """What is known now; a part that cannot be read is empty, and `problems` says so in words."""

    now_ms: int
    processes: list[Process]
    closing: dict[str, Any]
    counts: dict[str, int]
    findings: list[tuple[str, str, int]]
    problems: list[str]

    def status(self, name: str) -> dict[str, Any]:
        """Return what a process last said of itself, empty when nothing."""
        return next((p.status for p in self.processes if p.name == name), {})

    @property
    def workers(self) -> list[Process]:
        """The worker processes."""
        return [p for p in self.processes if p.name.startswith("worker-")]

    @property
    def unsaved_messages(self) -> int:
        """Journaled messages and ticks that no saved state covers yet."""
        return sum(int(p.status.get("lag_messages", 0)) for p in self.workers)

    @property
    def behind_ms(self) -> int | None:
        """How long ago the newest message arrived that the ledger accounts for; None when there is none."""
        through_ms = self.closing.get("through_ms")
        return None if through_ms is None else max(0, self.now_ms - int(through_ms))


class HealthReader:
    """Reads the present health.

    Parameters
    ----------
    ledger : LedgerReader
    data_dir : Path
        Where the processes keep their status files.
    """

    def __init__(self, ledger: LedgerReader, data_dir: Path) -> None:
        self._ledger, self._data_dir = ledger, data_dir
        self._closing, self._counts = Recent(ledger.closes), Recent(ledger.counts)
        self._breakers = Recent(ledger.breaker)

    def read(self, now_ms: int) -> Health:
        """Return the health at `now_ms`, the machine's time in epoch ms."""
        problems: list[str] = []
        closing: dict[str, Any] = {}
        counts: dict[str, int] = {}
        findings: list[tuple[str, str, int]] = []
        try:
            closing, counts, findings = self._closing(), self._counts(), self._ledger.open_by_code()
            problems += _breaker_problems(self._breakers())
        except ChargestreamError as error:
            problems.append(str(error))
        processes = read_processes(self._data_dir, now_ms)
        health = Health(now_ms, processes, closing, counts, findings, problems)
        problems += _account_problems(closing)
        if not processes:
            problems.append("no process has reported yet: start the service with `chargestream run`")
        for process in processes:
            problems += _process_problems(process)
        problems += _ingest_problems(health.status("ingest"))
        problems += _egress_problems(health.status("egress"))
        problems += _firmware_problems(health.status("firmware"), now_ms)
        problems += _delay_problems(health)
        return health


def read_processes(data_dir: Path, now_ms: int) -> list[Process]:
    """Return every process that the supervisor runs or that left a status."""
    supervisor_age = _age_ms(data_dir, _SUPERVISOR, now_ms)
    supervised = read_status(data_dir, _SUPERVISOR) if _is_fresh(supervisor_age) else {}
    names = {path.stem for path in (data_dir / "status").glob("*.json")} - {_SUPERVISOR}
    if supervised:
        # Workers of a former layout left their status behind; the supervisor knows who there is now.
        names = set(supervised)
    found = [_process(name, supervised.get(name), data_dir, now_ms) for name in names]
    return sorted(found, key=lambda p: (_rank(p.name), p.name))


def _process(name: str, entry: dict[str, Any] | None, data_dir: Path, now_ms: int) -> Process:
    status, age = read_status(data_dir, name), _age_ms(data_dir, name, now_ms)
    if entry is not None and not entry.get("running"):
        state = "stopped"
    elif name == _THIS or (entry is not None and age is None and _rank(name) == len(_ORDER)):
        state = "running"  # we ourselves; or one, like a simulator, that never reports
    elif entry is not None and status.get("pid") != entry.get("pid"):
        state = "starting"
    else:
        state = "running" if _is_fresh(age) else "silent"
    entry = entry or {}
    return Process(name, state, entry.get("restarts"), entry.get("last_exit"), status, age)


def _rank(name: str) -> int:
    return next((k for k, known in enumerate(_ORDER) if name.startswith(known)), len(_ORDER))


def _age_ms(data_dir: Path, process: str, now_ms: int) -> int | None:
    try:
        return max(0, now_ms - status_path(data_dir, process).stat().st_mtime_ns // NS_PER_MS)
    except OSError:
        return None


def _is_fresh(age_ms: int | None) -> bool:
    return age_ms is not None and age_ms <= STALE_MS


def how_ended(code: int | None) -> str:
    """Return what an exit code says to a person, empty for None."""
    if code is None:
        return ""
    if code >= 0:
        return f"exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"killed by {known.get(-code, f'signal {-code}')}"


def _account_problems(closing: dict[str, Any]) -> list[str]:
    if not closing or closing["closes"]:
        return []
    first, more = closing["open"][0], len(closing["open"]) - 1
    others = f" (and {more} more ranges)" if more else ""
    return [f"the account does not close: shard {first['shard']}, {first['why']}{others}"]


def _process_problems(process: Process) -> list[str]:
    found = []
    if process.state == "stopped":
        ended = how_ended(process.last_exit)
        found.append(f"{process.name} is not running" + (f" ({ended})" if ended else ""))
    if process.state == "silent":
        found.append(f"{process.name} has not said anything for {(process.age_ms or 0) // 1000} s")
    shed = int(process.status.get("shed_bytes", 0))
    if shed:
        found.append(
            f"{process.name} left out {shed / 1e6:,.1f} MB of points for InfluxDB since its start: its "
            "outbox is full. Billing and findings go on; a replay fills the gap"
        )
    for entry in process.status.get("models", []):
        found += [f"{process.name}, {words}" for words in model_problems(entry)]
    return found


def _ingest_problems(status: dict[str, Any]) -> list[str]:
    found = []
    connected, receivers = int(status.get("connected", 0)), int(status.get("receivers", 0))
    if connected < receivers:
        which = "ingest is" if receivers == 1 else f"{receivers - connected} of {receivers} receivers are"
        reason = status.get("last_error")
        found.append(f"{which} not connected to the MQTT broker" + (f": {reason}" if reason else ""))
    if status.get("storage_full"):
        found.append("the disk of the journal is full: nothing is acknowledged until there is room")
    behind_s = int(status.get("clock_behind_ns", 0)) / 1e9
    if behind_s > _CLOCK_BEHIND_S:
        found.append(f"the clock of this machine was set back: it is {behind_s:,.0f} s behind journaled time")
    return found


def _egress_problems(status: dict[str, Any]) -> list[str]:
    found = []
    for name, consumer in sorted(status.get("consumers", {}).items()):
        if consumer.get("state") == "waiting":
            waiting = int(consumer.get("lag_records", 0))
            found.append(f"{name}: {consumer.get('last_error', '')} ({waiting:,} records wait)")
        refused = int(consumer.get("dead_letters", 0))
        if refused:
            found.append(
                f"{name} refused {refused:,} deliveries for good: see `chargestream dead-letter list`, then "
                "retry or drop them"
            )
    return found


def _firmware_problems(status: dict[str, Any], now_ms: int) -> list[str]:
    found = []
    if status.get("problem"):
        found.append(f"no firmware image is given out: {status['problem']}")
    for role, (notice_ms, command) in _METADATA.items():
        left_ms = status.get("ends_ms", {}).get(role, now_ms + notice_ms) - now_ms
        if left_ms < notice_ms:
            found.append(
                f"firmware: the {role} metadata ends in {max(left_ms, 0) // 3_600_000} h, then no image is "
                f"given out; {command}"
            )
    return found


def _breaker_problems(stopped: list[dict[str, Any]]) -> list[str]:
    reasons = "; ".join(sorted({row["reason"] for row in stopped}))
    return [f"no reaction is sent: {reasons}; chargestream reactions reset closes it"] if stopped else []


def _delay_problems(health: Health) -> list[str]:
    behind_ms = health.behind_ms
    ingest = next((p for p in health.processes if p.name == "ingest"), None)
    if behind_ms is None or behind_ms <= BEHIND_MS or ingest is None or ingest.state != "running":
        return []
    return [f"results are {behind_ms // 1000} s behind what arrives"]
