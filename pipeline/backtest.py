"""Two configurations over the same logs and journals: findings new, gone, moved, and what a row costs."""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from .config import Config
from .flow import Stages
from .replay import replay, run_flow
from .replay_files import ResultFiles
from .replay_journal import FrozenJournal
from .warmup import warm_up

_NS: Final = 1_000_000_000
#: Findings of one code and subject whose starts lie this near are the same condition.
SAME_START_MS: Final = 3_600_000

Subject = tuple[str, str, str | None, str | None, int | None]


class Raised(msgspec.Struct, frozen=True):
    """A finding as it was raised. Times epoch ms."""

    code: str
    site: str
    node: str | None
    station: str | None
    evse: int | None
    start: int
    raised_at: int
    severity: str
    live: bool
    end: int | None = None

    @property
    def subject(self) -> Subject:
        """What the finding is about."""
        return (self.code, self.site, self.node, self.station, self.evse)


@dataclass(slots=True)
class Side:
    """What one configuration found."""

    name: str
    findings: list[Raised]
    rows: int
    flow_ns_per_row: float
    closes: bool


@dataclass(slots=True)
class Difference:
    """Findings of B against those of A, by condition."""

    new: list[Raised] = field(default_factory=list)
    gone: list[Raised] = field(default_factory=list)
    earlier: list[tuple[Raised, Raised]] = field(default_factory=list)
    later: list[tuple[Raised, Raised]] = field(default_factory=list)
    same: int = 0


def run_side(config: Config, logs: Sequence[Path], journals: Sequence[FrozenJournal], name: str) -> Side:
    """Replay logs and journals, one after the other, each from a fresh start.

    Raises
    ------
    DecodeError
        If a line of a log cannot be read.
    StorageError
        If a journal cannot be read.
    """
    findings: list[Raised] = []
    rows, flow_s, closes = 0, 0.0, True
    for log in logs:
        with tempfile.TemporaryDirectory(prefix="backtest-") as place:
            summary = replay(config, log, Path(place), write_points=False)
            rows += int(summary["rows"]["in"])
            flow_s += float(summary["flow_s"])
            closes = closes and bool(summary["closes"])
            findings += _raised((Path(place) / "findings.jsonl").read_bytes().splitlines())
    for journal in journals:
        stages = Stages.of(config, None)
        warm_up(stages)
        with tempfile.TemporaryDirectory(prefix="backtest-") as place, journal:
            results = ResultFiles(Path(place), points=False)
            began = time.perf_counter()
            run_flow(config, stages, journal, results)
            flow_s += time.perf_counter() - began
            results.finish(config.maintenance.rules())
            summary = results.tally.summary()
            rows += int(summary["rows"]["in"])
            closes = closes and bool(summary["closes"])
            findings += _raised((Path(place) / "findings.jsonl").read_bytes().splitlines())
    return Side(name, findings, rows, flow_s * _NS / rows if rows else 0.0, closes)


def _raised(lines: Iterable[bytes]) -> list[Raised]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    changes = [decoder.decode(line) for line in lines]
    return [msgspec.convert(change, Raised) for change in changes if change["state"] == "raised"]


def compare(a: list[Raised], b: list[Raised], same_start_ms: int = SAME_START_MS) -> Difference:
    """Return what changed from `a` to `b`.

    Within a code and subject, findings are paired by nearest start, each used once; a pair that was raised at
    another moment is earlier or later.
    """
    out = Difference()
    left: dict[Subject, list[Raised]] = defaultdict(list)
    for finding in a:
        left[finding.subject].append(finding)
    for finding in sorted(b, key=lambda f: (f.start, f.raised_at)):
        known = left[finding.subject]
        nearest = min(known, key=lambda f: abs(f.start - finding.start), default=None)
        if nearest is None or abs(nearest.start - finding.start) > same_start_ms:
            out.new.append(finding)
            continue
        known.remove(nearest)
        if finding.raised_at < nearest.raised_at:
            out.earlier.append((nearest, finding))
        elif finding.raised_at > nearest.raised_at:
            out.later.append((nearest, finding))
        else:
            out.same += 1
    out.gone = sorted((f for rest in left.values() for f in rest), key=lambda f: (f.start, f.code))
    return out


def report(a: Side, b: Side) -> dict[str, Any]:
    """Return the comparison as JSON data."""
    found = compare(a.findings, b.findings)
    by_code: dict[str, Counter[str]] = defaultdict(Counter)
    for name in ("new", "gone"):
        for finding in getattr(found, name):
            by_code[finding.code][name] += 1
    for name in ("earlier", "later"):
        for _, finding in getattr(found, name):
            by_code[finding.code][name] += 1
    return {
        "configs": [
            {"name": s.name, "findings": len(s.findings), "rows": s.rows, "closes": s.closes,
             "flow_ns_per_row": round(s.flow_ns_per_row, 1)}
            for s in (a, b)
        ],
        "same": found.same,
        "by_code": {code: dict(counts) for code, counts in sorted(by_code.items())},
        "new": [msgspec.to_builtins(f) for f in found.new],
        "gone": [msgspec.to_builtins(f) for f in found.gone],
        "earlier": [_moved(x, y) for x, y in found.earlier],
        "later": [_moved(x, y) for x, y in found.later],
    }  # fmt: skip


def _moved(before: Raised, after: Raised) -> dict[str, Any]:
    shift_s = (after.raised_at - before.raised_at) / 1000.0
    out: dict[str, Any] = msgspec.to_builtins(after)
    return out | {"raised_at_before": before.raised_at, "shift_s": shift_s}
