"""The files that a replay leaves: findings, intervals, sessions, bills, maintenance, dead messages.

All are written as results come, line by line in the order in which they came; at the end each is put in its
order. What a killed replay leaves can be read, and ``summary.json`` says that it is not complete.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from connectors.ledger import Ledger
from models.errors import StorageError
from models.maintenance import Assessment, FindingSeen, MaintenanceConfig, assess
from models.maintenance_csv import csv_lines
from models.outputs import (
    Account,
    CdrRow,
    CommandRow,
    DeviceRow,
    FindingChange,
    InspectionRow,
    IntervalRow,
    ReactionRow,
    SessionRow,
    WearRow,
)
from models.records import Dead
from models.units import wh_text

from . import engine
from ._sorted_lines import SortedLines
from .replay_tally import Tally

_NUMBERS: Final = ("energy_wh", "begin_wh", "end_wh")
_WRITE_EVERY_S: Final = 5.0
_LEDGER_BYTES: Final = 4 << 20  # of records that wait for the ledger
_HEAD: Final = b"site,station,evse,start,energy_wh,quality,revision\n"
#: file -> (header, how many fields of a line's key may stand there once)
_FILES: Final = {
    "findings.jsonl": (b"", 0),
    "intervals.csv": (_HEAD, 4),
    "commands.jsonl": (b"", 0),
    "reactions.jsonl": (b"", 0),
    "dead.jsonl": (b"", 0),
    "sessions.jsonl": (b"", 4),
    "cdrs.jsonl": (b"", 0),
}


class _Line(msgspec.Struct):
    """What maintenance reads of a line of ``findings.jsonl``."""

    finding_id: str
    code: str
    severity: str
    state: str
    site: str
    station: str | None
    evse: int | None
    live: bool
    planned: bool
    start: int
    end: int | None
    evidence: dict[str, Any]
    parent: str | None


_line: Final = msgspec.json.Decoder(_Line)


def session_line(row: SessionRow) -> bytes:
    """Return a line of ``sessions.jsonl``: energies are exact decimal numbers."""
    body: dict[str, Any] = dict(row.body)
    for name in _NUMBERS:
        if body.get(name) is not None:
            body[name] = msgspec.Raw(body[name].encode())
    return msgspec.json.encode(body)


def interval_line(row: IntervalRow) -> bytes:
    """Return a line of ``intervals.csv``, its end included."""
    energy = "" if row.energy_mwh is None else wh_text(row.energy_mwh)
    place = f"{_quoted(row.site)},{_quoted(row.station)},{row.evse}"
    return f"{place},{row.start_ms},{energy},{row.quality},{row.revision}\n".encode()


@lru_cache(65_536)
def _quoted(text: str) -> str:
    """Return a text as CSV has it."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([text, ""])
    return out.getvalue()[: -len(",\n")]


class ResultFiles:
    """The sink of a replay.

    Parameters
    ----------
    out : Path
        Folder of the files; it is made, and those of an earlier replay are overwritten.
    points : bool
        Write line protocol.
    ledger : Ledger, optional
        Gets energy, sessions and bills as they come, too.
    """

    def __init__(self, out: Path, *, points: bool = True, ledger: Ledger | None = None) -> None:
        self.out, self.tally = out, Tally()
        self._ledger = ledger
        self._for_ledger: dict[str, list[tuple[int, bytes]]] = {"intervals": [], "sessions": [], "cdrs": []}
        self._waiting = 0  # bytes for the ledger
        self._billed: set[str] = set()  # ids of bills: one that comes again is the same
        self._came = 0  # sessions: of equal ones the last counts
        self._devices: dict[tuple[str, str, int], DeviceRow] = {}
        self._wear: dict[tuple[str, str, int], WearRow] = {}
        self._inspections: dict[tuple[str, int], InspectionRow] = {}
        self._takes: dict[str, Callable[[bytes], None]] = {
            "findings": self._findings,
            "intervals": self._intervals,
            "dead": self._dead,
            "sessions": self._sessions,
            "cdrs": self._cdrs,
            "commands": self._commands,
            "reactions": self._reactions,
            "devices": self._note_devices,
            "wear": self._note_wear,
            "inspections": self._note_inspections,
            "account": self._account,
        }
        with self._storing():
            out.mkdir(parents=True, exist_ok=True)
            (out / "maintenance.csv").unlink(missing_ok=True)
            self._points: IO[bytes] | None = (out / "points.lp").open("wb") if points else None
            self._files = {
                name: SortedLines(out / name, header, unique) for name, (header, unique) in _FILES.items()
            }
        self._written_at = time.monotonic()
        self.leave()

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"results cannot be written to {self.out}: {error}") from error

    def append(self, records: list[engine.Blob]) -> None:
        """Take in blobs.

        Raises
        ------
        StorageError
            If they cannot be written.
        RetryLater
            If the ledger does not take them.
        """
        with self._storing():
            for stream, _, blob in records:
                if stream == "points":
                    if self._points is not None:
                        self._points.write(blob)
                elif stream in self._takes:
                    self._takes[stream](blob)
                    if self._ledger is not None and stream in self._for_ledger:
                        self._for_ledger[stream].append((0, blob))
                        self._waiting += len(blob)
            if self._waiting >= _LEDGER_BYTES:
                self._fill_ledger()
            if time.monotonic() - self._written_at >= _WRITE_EVERY_S:
                self.leave()

    def commit(self) -> int:
        """Nothing to do: a replay that is interrupted is run again."""
        return 0

    def leave(self) -> None:
        """Write what came, and that it is not all."""
        with self._storing():
            for file in self._files.values():
                file.write()
            if self._points is not None:
                self._points.flush()
            self._fill_ledger()
            body = {"complete": False, "through_ms": self.tally.through_ms or None} | self.tally.summary()
            self.write_summary(body)
        self._written_at = time.monotonic()

    def write_summary(self, body: dict[str, Any]) -> None:
        """Write ``summary.json``, whole at any time."""
        with self._storing():
            part = self.out / "summary.json.part"
            part.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
            part.replace(self.out / "summary.json")

    def finish(self, rules: MaintenanceConfig) -> None:
        """Put every file in its order, and write the maintenance that follows from all."""
        with self._storing():
            if self._points is not None:
                self._points.close()
            self._fill_ledger()
            for name, file in self._files.items():
                if name not in ("findings.jsonl", "intervals.csv"):
                    for _ in file.finish():
                        pass
            self.tally.intervals = sum(1 for _ in self._files["intervals.csv"].finish())
            newest: dict[str, _Line] = {}
            for text in self._files["findings.jsonl"].finish():
                line = _line.decode(text)
                newest[line.finding_id] = line
            with (self.out / "maintenance.csv").open("w", encoding="utf-8") as table:
                table.writelines(csv_lines(self._assessments(newest, rules)))

    def _assessments(self, newest: dict[str, _Line], rules: MaintenanceConfig) -> list[Assessment]:
        """Return the assessment of all EVSEs at the end of the log."""
        counting = [
            line for line in newest.values() if line.live and line.parent is None and not line.planned
        ]
        seen = [
            FindingSeen(
                c.finding_id, c.code, c.severity, c.state, c.site, c.station, c.evse, c.start, c.end,
                int(c.evidence.get("raised_times", 1)),
            )
            for c in counting
        ]  # fmt: skip
        types = {key: device.connector_type for key, device in self._devices.items()}
        now_ms = self.tally.through_ms
        return assess(rules, now_ms, self._wear.values(), seen, self._inspections.values(), types)

    def _fill_ledger(self) -> None:
        """Give the ledger what came, sessions before their bills."""
        if self._ledger is not None:
            for stream, blobs in self._for_ledger.items():
                if blobs:
                    self._ledger.apply(stream, blobs)
                    blobs.clear()
        self._waiting = 0

    def _findings(self, blob: bytes) -> None:
        file = self._files["findings.jsonl"]
        for c in msgspec.msgpack.decode(blob, type=list[FindingChange]):
            if c.state == "raised":
                self.tally.raised[c.code] += 1
            key = (c.changed_at, c.shard, c.order, c.code, c.finding_id)
            file.add(key, msgspec.json.encode(c.published()) + b"\n")

    def _intervals(self, blob: bytes) -> None:
        file = self._files["intervals.csv"]
        for row in msgspec.msgpack.decode(blob, type=list[IntervalRow]):
            # the highest revision comes first and stays
            file.add((row.site, row.station, row.evse, row.start_ms, -row.revision), interval_line(row))

    def _sessions(self, blob: bytes) -> None:
        file = self._files["sessions.jsonl"]
        for row in msgspec.msgpack.decode(blob, type=list[SessionRow]):
            self._came += 1
            key = (row.site, row.station, row.transaction_id, row.revision, -self._came)
            file.add(key, session_line(row) + b"\n")

    def _cdrs(self, blob: bytes) -> None:
        file = self._files["cdrs.jsonl"]
        for cdr in msgspec.msgpack.decode(blob, type=list[CdrRow]):
            if cdr.id not in self._billed:
                self._billed.add(cdr.id)
                file.add((cdr.last_updated_ms, cdr.id), cdr.body.encode() + b"\n")

    def _commands(self, blob: bytes) -> None:
        file = self._files["commands.jsonl"]
        for row in msgspec.msgpack.decode(blob, type=list[CommandRow]):
            key = (row.changed_ms, row.shard, row.order, row.cmd_id, row.change)
            file.add(key, msgspec.json.encode(row) + b"\n")

    def _reactions(self, blob: bytes) -> None:
        file = self._files["reactions.jsonl"]
        for row in msgspec.msgpack.decode(blob, type=list[ReactionRow]):
            key = (row.at_ms, row.shard, row.order, row.finding_id, row.rule)
            file.add(key, msgspec.json.encode(row) + b"\n")

    def _dead(self, blob: bytes) -> None:
        file = self._files["dead.jsonl"]
        for row in msgspec.msgpack.decode(blob, type=list[Dead]):
            file.add((row.recv_ns, row.topic, row.pos), msgspec.json.encode(row) + b"\n")

    def _note_devices(self, blob: bytes) -> None:
        for row in msgspec.msgpack.decode(blob, type=list[DeviceRow]):
            self._devices[(row.site, row.station, row.evse)] = row

    def _note_wear(self, blob: bytes) -> None:
        for row in msgspec.msgpack.decode(blob, type=list[WearRow]):
            self._wear[(row.site, row.station, row.evse)] = row

    def _note_inspections(self, blob: bytes) -> None:
        for done in msgspec.msgpack.decode(blob, type=list[InspectionRow]):
            self._inspections.setdefault((done.inspection_id, done.evse), done)

    def _account(self, blob: bytes) -> None:
        for account in msgspec.msgpack.decode(blob, type=list[Account]):
            self.tally.add(account)
