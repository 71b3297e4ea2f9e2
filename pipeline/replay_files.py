"""The files that a replay leaves: findings, intervals, sessions, bills, maintenance, dead messages."""

from __future__ import annotations

import csv
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

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

_NUMBERS: Final = ("energy_wh", "begin_wh", "end_wh")


class Results(Protocol):
    """What was collected."""

    findings: list[FindingChange]
    intervals: MutableMapping[tuple[str, str, int, int], IntervalRow]
    sessions: MutableMapping[tuple[str, str, str, int], SessionRow]
    cdrs: MutableMapping[str, CdrRow]
    dead: list[Dead]
    commands: list[CommandRow]
    reactions: list[ReactionRow]
    accounts: list[Account]
    devices: dict[tuple[str, str, int], DeviceRow]
    wear: dict[tuple[str, str, int], WearRow]
    inspections: dict[tuple[str, int], InspectionRow]


def session_line(row: SessionRow) -> bytes:
    """Return a line of ``sessions.jsonl``: energies are exact decimal numbers."""
    body: dict[str, Any] = dict(row.body)
    for name in _NUMBERS:
        if body.get(name) is not None:
            body[name] = msgspec.Raw(body[name].encode())
    return msgspec.json.encode(body)


def _told_at(row: CommandRow) -> tuple[int, int, int, str, int]:
    return row.changed_ms, row.shard, row.order, row.cmd_id, row.change


def bills(collected: Results) -> Iterator[CdrRow]:
    """Yield the bills in the order in which they were made."""
    cdrs = collected.cdrs
    for _, name in sorted((cdr.last_updated_ms, name) for name, cdr in cdrs.items()):
        yield cdrs[name]


def write_results(out: Path, collected: Results, rules: MaintenanceConfig) -> None:
    """Write findings, intervals, sessions, bills, commands, reactions, maintenance, dead messages."""
    changes = sorted(collected.findings, key=lambda c: (c.changed_at, c.shard, c.order, c.code, c.finding_id))
    with (out / "findings.jsonl").open("wb") as file:
        for change in changes:
            file.write(msgspec.json.encode(change.published()) + b"\n")
    with (out / "intervals.csv").open("w", encoding="utf-8", newline="") as text:
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["site", "station", "evse", "start", "energy_wh", "quality", "revision"])
        for key in sorted(collected.intervals):
            row = collected.intervals[key]
            energy = "" if row.energy_mwh is None else wh_text(row.energy_mwh)
            table.writerow([row.site, row.station, row.evse, row.start_ms, energy, row.quality, row.revision])
    with (out / "commands.jsonl").open("wb") as file:
        for told in sorted(collected.commands, key=_told_at):
            file.write(msgspec.json.encode(told) + b"\n")
    with (out / "reactions.jsonl").open("wb") as file:
        for step in sorted(
            collected.reactions, key=lambda r: (r.at_ms, r.shard, r.order, r.finding_id, r.rule)
        ):
            file.write(msgspec.json.encode(step) + b"\n")
    with (out / "dead.jsonl").open("wb") as file:
        for dead in sorted(collected.dead, key=lambda d: (d.recv_ns, d.topic, d.pos)):
            file.write(msgspec.json.encode(dead) + b"\n")
    with (out / "sessions.jsonl").open("wb") as file:
        for place in sorted(collected.sessions):
            file.write(session_line(collected.sessions[place]) + b"\n")
    with (out / "cdrs.jsonl").open("wb") as file:
        for cdr in bills(collected):
            file.write(cdr.body.encode() + b"\n")
    with (out / "maintenance.csv").open("w", encoding="utf-8") as text:
        text.writelines(csv_lines(_assessments(collected, changes, rules)))


def _assessments(
    collected: Results, changes: list[FindingChange], rules: MaintenanceConfig
) -> list[Assessment]:
    """Return the assessment of all EVSEs at the end of the log; `changes` in their order."""
    newest = {change.finding_id: change for change in changes}
    counting = [c for c in newest.values() if c.live and c.parent is None and not c.planned]
    seen = [
        FindingSeen(
            c.finding_id, c.code, c.severity, c.state, c.site, c.station, c.evse, c.start, c.end,
            int(c.evidence.get("raised_times", 1)),
        )
        for c in counting
    ]  # fmt: skip
    now_ms = max((account.through_ms for account in collected.accounts), default=0)
    types = {key: device.connector_type for key, device in collected.devices.items()}
    return assess(rules, now_ms, collected.wear.values(), seen, collected.inspections.values(), types)
