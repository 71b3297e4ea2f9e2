"""The reckoning after a crash drill: what was acknowledged against journal, ledger and InfluxDB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from connectors import _ledger_billing as b
from connectors.billing_reader import BillingReader
from connectors.influx_server import InfluxServer
from connectors.journal import JournalReader
from connectors.ledger_reader import LedgerReader
from models.frame import TICK_FLAG
from models.outputs import CdrRow, FindingChange, IntervalRow, SessionRow
from models.topics import CONTROL_SITE, ROOT
from models.units import wh_text

from . import engine
from .config import Config
from .flow import Stages, build_flow

_OWN: Final = f"{ROOT}/{CONTROL_SITE}/".encode()
SessionKey = tuple[str, str, str, int]
IntervalKey = tuple[str, str, int, int]


@dataclass(slots=True)
class Reckoning:
    """What was found; every ``*_differ``, `lost` and `doubled` has to be 0.

    Attributes
    ----------
    acked : int
        Messages that the broker acknowledged to their sender, each topic and payload counted once: fewer than
        were sent, for the fleet also sends some twice.
    journaled : int
        Messages in the journal, counted likewise; also those whose acknowledgement a crash swallowed.
    lost : int
        Acknowledged and not in the journal.
    doubled : int
        Revisions of an interval, and changes of a finding, that came twice.
    intervals, findings : int
        In the ledger.
    intervals_differ, findings_differ : int
        Those that an undisturbed run over the same journal gives otherwise, or only one of both gives.
    influx_differ : int
        Intervals with energy that InfluxDB and the ledger do not both hold alike.
    sessions, cdrs : int
        Revisions of sessions, and bills, in the ledger; bills are compared to the byte.
    sessions_differ, cdrs_differ : int
        As above.
    closes : bool
        The account of the ledger closes.
    messages : dict of str to int
        Its sums: every arrival, so repeated ones count, as ``duplicate``.
    """

    acked: int
    journaled: int
    lost: int
    doubled: int
    intervals: int
    intervals_differ: int
    findings: int
    findings_differ: int
    influx_differ: int
    sessions: int
    sessions_differ: int
    cdrs: int
    cdrs_differ: int
    closes: bool
    messages: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether nothing is lost, doubled or different."""
        wrong = self.lost + self.doubled + self.intervals_differ + self.findings_differ + self.influx_differ
        wrong += self.sessions_differ + self.cdrs_differ
        there = min(self.acked, self.intervals, self.findings, self.sessions, self.cdrs)
        return self.closes and wrong == 0 and there > 0

    def figures(self) -> dict[str, Any]:
        """Return all figures by name."""
        return {name: getattr(self, name) for name in self.__slots__}


class _Reference:
    """The sink of the undisturbed run: every interval revision, finding change, session revision and bill."""

    def __init__(self) -> None:
        self.intervals: list[IntervalRow] = []
        self.findings: list[FindingChange] = []
        self.sessions: dict[SessionKey, str] = {}
        self.cdrs: dict[str, str] = {}

    def append(self, records: list[engine.Blob]) -> None:
        for stream, _, blob in records:
            if stream == "intervals":
                self.intervals += msgspec.msgpack.decode(blob, type=list[IntervalRow])
            elif stream == "findings":
                self.findings += msgspec.msgpack.decode(blob, type=list[FindingChange])
            elif stream == "sessions":
                for row in msgspec.msgpack.decode(blob, type=list[SessionRow]):
                    text = msgspec.json.encode(row.body, order="sorted").decode()
                    self.sessions[row.site, row.station, row.transaction_id, row.revision] = text
            elif stream == "cdrs":
                self.cdrs |= {row.id: row.body for row in msgspec.msgpack.decode(blob, type=list[CdrRow])}

    def commit(self) -> int:
        return 0


def reckon(config: Config, acked: Path, influx: InfluxServer, folder: Path) -> Reckoning:
    """Compare everything with everything, while no process of the service runs.

    Parameters
    ----------
    config : Config
        Of the run that was disturbed.
    acked : Path
        Lines of topic, boot, seq, SHA-256 that the sender saw acknowledged.
    influx : InfluxServer
    folder : Path
        For what the undisturbed run needs.
    """
    data = Path(config.service.data_dir)
    sent = {line.split("\t")[0] + " " + line.split("\t")[3] for line in acked.read_text().splitlines()}
    with JournalReader(data / "journal.db") as journal:
        journaled = _journaled(journal)
        reference = _undisturbed(config, journal, folder)
    ledger = LedgerReader(config.ledger_url())
    try:
        closing = ledger.closes()
        held = {
            _interval_key(row): (row["energy_mwh"], row["quality"], row["revision"])
            for row in ledger.intervals()
        }
        changes = [_finding_key(row) for row in ledger.finding_changes(limit=10_000_000)]
    finally:
        ledger.close()
    wanted, revisions = _last_revisions(reference.intervals)
    known = [(c.finding_id, c.change, c.state, c.raised_at, c.start, c.severity) for c in reference.findings]
    measured = _in_influx(influx)
    sessions, cdrs = _billed(config.ledger_url())
    shown = {key: value for key, value in held.items() if value[0] is not None}
    return Reckoning(
        acked=len(sent),
        journaled=len(journaled),
        lost=len(sent - journaled),
        doubled=revisions + len(changes) - len(set(changes)),
        intervals=len(held),
        intervals_differ=_differences(held, wanted),
        findings=len({change[0] for change in changes}),
        findings_differ=len(set(changes) ^ set(known)),
        influx_differ=_differences(
            {key: (wh_text(value[0] or 0), value[2]) for key, value in shown.items()},
            {key: value for key, value in measured.items() if key in shown or value[0] != ""},
        ),
        sessions=len(sessions),
        sessions_differ=_differences(sessions, reference.sessions),
        cdrs=len(cdrs),
        cdrs_differ=_differences(cdrs, reference.cdrs),
        closes=bool(closing["closes"]),
        messages=closing["messages"],
    )


def _billed(url: str) -> tuple[dict[SessionKey, str], dict[str, str]]:
    """Return every revision of every session, and every bill, as the ledger has it."""
    reader = BillingReader(url)
    try:
        revisions, bills = reader.rows(b.session_revisions), reader.rows(b.cdrs)
    finally:
        reader.close()
    names = ("site", "station", "transaction_id", "revision")
    sessions: dict[Any, str] = {tuple(row[name] for name in names): row["body"] for row in revisions}
    return sessions, {row["id"]: row["body"] for row in bills}


def _journaled(journal: JournalReader) -> set[str]:
    """Return topic and SHA-256 of every journaled message but those that our own flow sends itself."""
    found = set()
    for shard, end in journal.ends().items():
        offset = journal.first(shard)
        while offset < end:
            chunk = journal.read(shard, offset)
            assert chunk is not None
            _, frame = chunk
            for i in range(len(frame)):
                if not frame.flags[i] & TICK_FLAG and not frame.topic(i).startswith(_OWN):
                    digest = hashlib.sha256(frame.payload(i)).hexdigest()
                    found.add(f"{frame.topic(i).decode('utf-8', 'replace')} {digest}")
            offset += len(frame)
    return found


def _undisturbed(config: Config, journal: JournalReader, folder: Path) -> _Reference:
    """Run the flow over the journal once, from its beginning, in other batches than the workers did."""
    folder.mkdir(parents=True, exist_ok=True)
    sink = _Reference()
    shards = list(range(config.journal.shards))
    settings = engine.SourceSettings(
        shards=shards, all_shards=shards, batch_max_messages=777, ends=True, finish=False
    )
    engine.run(build_flow(Stages.of(config, None), journal, settings).build(sink), epoch_s=3600.0)
    return sink


def _interval_key(row: Any) -> IntervalKey:
    return row["site"], row["station"], row["evse"], row["start_ms"]


def _finding_key(row: Any) -> tuple[Any, ...]:
    return row["finding_id"], row["change"], row["state"], row["raised_at"], row["start"], row["severity"]


def _last_revisions(rows: Iterable[IntervalRow]) -> tuple[dict[IntervalKey, tuple[Any, ...]], int]:
    """Return the last revision of each interval, and how many revisions came twice."""
    last: dict[IntervalKey, tuple[Any, ...]] = {}
    seen: set[tuple[IntervalKey, int]] = set()
    doubled = 0
    for row in rows:
        key = (row.site, row.station, row.evse, row.start_ms)
        doubled += (key, row.revision) in seen
        seen.add((key, row.revision))
        if key not in last or last[key][2] < row.revision:
            last[key] = (row.energy_mwh, row.quality, row.revision)
    return last, doubled


def _differences(a: dict[Any, Any], b: dict[Any, Any]) -> int:
    return sum(a.get(key) != b.get(key) for key in a.keys() | b.keys())


def _in_influx(influx: InfluxServer) -> dict[IntervalKey, tuple[str, int]]:
    """Return energy and revision of every interval that InfluxDB holds."""
    rows = influx.query('SELECT "energy_wh", "revision", "site", "station", "evse" FROM "ev_energy_15m"')
    out: dict[IntervalKey, tuple[str, int]] = {}
    for row in rows:
        key = (str(row["site"]), str(row["station"]), int(row["evse"]), int(row["time"]) // 1_000_000)
        energy = row["energy_wh"]
        shown = "" if energy is None else wh_text(round(energy * 1000))
        out[key] = (shown, int(row["revision"]))
    return out
