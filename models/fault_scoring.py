"""Compare findings with the truth about faults: what was found, how late, and what was said for nothing.

A truth is ``{code, site?, node?, station?, evse?, severity?, start?, end?}``, times in epoch ms. What it
leaves out says nothing: without `start` the fault was there from the beginning, without `end` to the last.

A finding finds a truth when

- its code is the truth's, or that of a parent under which such a finding is recorded
  (`models.faults.PARENTS`);
- nothing that both name is different: site, node, station, EVSE (a finding of a node meets a truth of a
  station behind it);
- it was raised between `early_ms` before the truth's start and `tolerance_ms` after its end.

Findings that are planned, of backlog, or kept quiet by a parent tell nobody anything: they may find a truth,
and never count as alarms. Every other finding that finds nothing is either *beside* a fault (its subject was
broken otherwise when its condition began, or when it was raised) or *false*.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from .faults import PARENTS

SEVERITIES: Final = ("clear", "moderate", "subtle")
#: Where a truth names none.
NO_SEVERITY: Final = "any"
_HOURS_A_MONTH: Final = 730.5
_PLACES: Final = ("site", "node", "station", "evse")


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What was really wrong, where and when; unknown fields are ignored."""

    code: str
    site: str | None = None
    node: str | None = None
    station: str | None = None
    evse: int | None = None
    severity: str = NO_SEVERITY
    start: int | None = None
    end: int | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A line of ``findings.jsonl`` as far as scoring needs it; unknown fields are ignored."""

    code: str
    finding_id: str = ""
    site: str | None = None
    node: str | None = None
    station: str | None = None
    evse: int | None = None
    state: str = "raised"
    severity: str = "warning"
    live: bool = True
    planned: bool = False
    raised_at: int | None = None
    start: int | None = None
    end: int | None = None
    parent: str | None = None

    @property
    def at_ms(self) -> int:
        """When it was raised, by the journal or else by its own start."""
        return next((t for t in (self.raised_at, self.start) if t is not None), 0)

    @property
    def tells(self) -> bool:
        """Whether somebody was told of it."""
        return self.live and not self.planned and self.parent is None


@dataclass(frozen=True, slots=True)
class Rules:
    """Tolerances of the comparison.

    Attributes
    ----------
    early_ms : int
        A finding raised this long before the truth's start still counts. Unit: ms. Default 60 s: clocks.
    tolerance_ms : int
        A finding raised this long after the truth's end still counts. Unit: ms. Default 900 s: rules over
        ten-minute means and over whole sessions speak after the event.
    """

    early_ms: int = 60_000
    tolerance_ms: int = 900_000


@dataclass(slots=True)
class Cell:
    """Truths of one code and severity."""

    truths: int = 0
    found: int = 0
    delays_s: list[float] = field(default_factory=list)

    @property
    def recall(self) -> float:
        """Share of truths that were found."""
        return self.found / self.truths

    def record(self) -> dict[str, Any]:
        """Return plain data."""
        delays = self.delays_s
        return {
            "truths": self.truths,
            "found": self.found,
            "recall": round(self.recall, 4),
            "delay_s": round(statistics.median(delays), 1) if delays else None,
            "delay_max_s": round(max(delays), 1) if delays else None,
        }


@dataclass(slots=True)
class Comparison:
    """What came of findings against truths.

    Attributes
    ----------
    cells : dict
        code -> severity -> `Cell`.
    missed : list of Truth
    false, beside : list of Found
        Told findings without a truth: where nothing was wrong, and where something else was.
    """

    cells: dict[str, dict[str, Cell]] = field(default_factory=lambda: defaultdict(dict))
    missed: list[Truth] = field(default_factory=list)
    false: list[Found] = field(default_factory=list)
    beside: list[Found] = field(default_factory=list)

    def macro_recall(self, severity: str) -> float | None:
        """Return the mean over codes of the recall at a severity, None without truths."""
        shares = [by[severity].recall for by in self.cells.values() if severity in by]
        return statistics.fmean(shares) if shares else None

    def severities(self) -> list[str]:
        """Return the severities there are, known ones first."""
        there = {severity for by in self.cells.values() for severity in by}
        return [s for s in SEVERITIES if s in there] + sorted(there - set(SEVERITIES))

    def record(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "codes": {
                code: {severity: by[severity].record() for severity in self.severities() if severity in by}
                for code, by in sorted(self.cells.items())
            },
            "macro_recall": {s: round(self.macro_recall(s) or 0.0, 4) for s in self.severities()},
            "missed": [msgspec.to_builtins(truth) for truth in self.missed],
            "false": counts(self.false),
            "beside": counts(self.beside),
        }


def counts(findings: Iterable[Found]) -> dict[str, int]:
    """Return how many findings there are of each code."""
    return dict(sorted(Counter(finding.code for finding in findings).items()))


def per_evse_month(findings: int, evses: int, hours: float) -> float:
    """Return findings per EVSE and month of 730.5 hours."""
    return findings / (evses * hours / _HOURS_A_MONTH)


def raised(lines: Iterable[Found]) -> list[Found]:
    """Return one record per finding out of its state changes: the first that told somebody, else the first.

    A line without an identity is a finding of its own, unless it is not the raising.
    """
    out: dict[str, Found] = {}
    for number, line in enumerate(lines):
        if line.state != "raised":
            continue
        key = line.finding_id or f"line {number}"
        held = out.get(key)
        if held is None or (line.tells and not held.tells):
            out[key] = line
    return list(out.values())


def _ancestors(code: str) -> set[str]:
    out: set[str] = set()
    waiting = [code]
    while waiting:
        for parent in PARENTS.get(waiting.pop(), ()):
            if parent not in out:
                out.add(parent)
                waiting.append(parent)
    return out


def _same_place(truth: Truth, finding: Found) -> bool:
    for name in _PLACES:
        mine, other = getattr(truth, name), getattr(finding, name)
        if mine is not None and other is not None and mine != other:
            return False
    return True


def _same_time(truth: Truth, finding: Found, rules: Rules) -> bool:
    at = finding.at_ms
    early = truth.start is not None and at < truth.start - rules.early_ms
    late = truth.end is not None and at > truth.end + rules.tolerance_ms
    return not early and not late


def _met(truth: Truth, finding: Found, rules: Rules) -> bool:
    """Return whether the condition behind a finding began, or was on before it was raised, within a truth."""
    begin = finding.at_ms if finding.start is None else min(finding.start, finding.at_ms)
    early = truth.start is not None and finding.at_ms < truth.start - rules.early_ms
    late = truth.end is not None and begin > truth.end + rules.tolerance_ms
    return not early and not late


def compare(truths: Sequence[Truth], findings: Iterable[Found], rules: Rules | None = None) -> Comparison:
    """Return what `findings` (of `raised`) make of `truths`.

    A truth's delay is that of its first finding of its own code, or of a parent where there is none.
    """
    rules = rules or Rules()
    out = Comparison()
    all_found = list(findings)
    by_site: dict[str | None, list[Found]] = defaultdict(list)
    for finding in all_found:
        by_site[finding.site].append(finding)
    used: set[int] = set()
    near: set[int] = set()
    for truth in truths:
        around = all_found if truth.site is None else by_site[truth.site] + by_site[None]
        met = [f for f in around if _same_place(truth, f) and _met(truth, f, rules)]
        here = [f for f in met if _same_time(truth, f, rules)]
        parents = _ancestors(truth.code)
        own = [f for f in here if f.code == truth.code]
        wider = [f for f in here if f.code in parents]
        used.update(id(f) for f in own)
        near.update(id(f) for f in met)
        cell = out.cells[truth.code].setdefault(truth.severity, Cell())
        cell.truths += 1
        if not own and not wider:
            out.missed.append(truth)
            continue
        cell.found += 1
        if truth.start is not None:
            first = min(f.at_ms for f in own or wider)
            cell.delays_s.append(max(0, first - truth.start) / 1000.0)
    for finding in all_found:
        if finding.tells and id(finding) not in used:
            (out.beside if id(finding) in near else out.false).append(finding)
    return out
